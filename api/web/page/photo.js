// A photo on the page: its image with placeholder, its like button, its card in
// the feed, its tile in a grid.

import { api } from './api.js';
import { paint } from './blurhash.js';
import { emit, on } from './bus.js';
import { thread } from './comments.js';
import { avatar, count, fill, h, icon, plural, said, userLink, webURL, when } from './dom.js';
import { oops } from './toast.js';

// The renditions that keep the photo's shape; the thumbnail is cropped.
const shapes = ['small', 'medium', 'large'];

// sources returns [{url, width, height}] of one format by rising width, each
// width once: photos are never enlarged, so large may be no larger than small.
function sources(urls, format) {
  const seen = new Set();
  const out = [];
  for (const name of shapes) {
    const r = urls[name];
    const url = webURL(format ? r?.formats?.[format] : r?.url);
    if (!url || seen.has(r.width)) continue;
    seen.add(r.width);
    out.push({ url, width: r.width, height: r.height });
  }
  return out;
}

const srcset = (list) => list.map((s) => `${s.url} ${s.width}w`).join(', ');

// describe is the text for those who do not see the photo.
export function describe(p) {
  return p.alt || p.title || (p.caption ? `Photo by ${p.author.handle}: ${p.caption.slice(0, 120)}` : `Photo by ${p.author.handle}`);
}

// image makes the box of a photo. ratio fixes the box's width over height (the
// image then covers it); without it the box has the photo's own shape. Either
// way the box has its height before a byte of the image is there. placeholder
// shows no more than that: the bytes of a deleted photo are not served.
export function image(p, { sizes, ratio, eager, placeholder } = {}) {
  const m = p.media?.[0] || {};
  const list = placeholder ? [] : sources(m.urls || {});
  const box = h('div', { class: 'frame' });
  const best = list[list.length - 1];
  const shape = ratio || (m.width && m.height ? m.width / m.height : 1);
  box.style.setProperty('--ratio', shape);
  if (/^#[0-9a-f]{6}$/i.test(m.colour)) box.style.backgroundColor = m.colour;
  const canvas = h('canvas', { 'aria-hidden': 'true' });
  if (paint(canvas, m.placeholder)) box.append(canvas);
  if (!best) {
    box.classList.add('blank');
    return box;
  }
  const img = h('img', {
    alt: describe(p), width: best.width, height: best.height, decoding: 'async',
    loading: eager ? 'eager' : 'lazy', testid: 'photo-image',
    onload: () => box.classList.add('loaded'),
    onerror: () => box.classList.add('broken'),
  });
  const picture = h('picture');
  for (const format of ['avif', 'webp']) {
    const some = sources(m.urls, format);
    if (some.length === list.length) picture.append(h('source', { type: `image/${format}`, srcset: srcset(some), sizes }));
  }
  // Only now, so that the sizes are known before the choice is made.
  img.setAttribute('sizes', sizes);
  img.setAttribute('srcset', srcset(list));
  img.setAttribute('src', best.url);
  picture.append(img);
  box.append(picture);
  return box;
}

// retell has the image of a photo within el tell what is said about it now. anew is called
// when its addresses are others, too: who may see a photo is part of them.
export function retell(el, was, now, anew) {
  const img = el.querySelector('img');
  if (img && JSON.stringify(was.media) === JSON.stringify(now.media)) img.setAttribute('alt', describe(now));
  else anew();
}

// likeButton changes at once and goes back when the server refuses.
export function likeButton(photo, signal) {
  let p = photo;
  let wanted = p.liked;
  let under = false;
  const number = h('span', { class: 'count', testid: 'like-count' });
  const button = h('button', { type: 'button', class: 'act like', testid: 'like', 'aria-label': 'Like', onclick: toggle }, icon('heart'));
  const show = () => {
    button.setAttribute('aria-pressed', String(wanted));
    number.textContent = count(p.like_count + (wanted === p.liked ? 0 : wanted ? 1 : -1));
  };

  async function toggle() {
    wanted = !wanted;
    show();
    if (under) return; // the call under way looks again when it ends
    under = true;
    try {
      while (wanted !== p.liked) {
        const to = wanted;
        await api.like(p.photo_id, to);
        const now = { photo_id: p.photo_id, liked: to, like_count: Math.max(0, p.like_count + (to ? 1 : -1)) };
        p = { ...p, ...now }; // here, too: the view may have been left meanwhile, and with it its ear
        emit('photo', now);
      }
    } catch (e) {
      wanted = p.liked;
      oops(e);
    } finally {
      under = false;
      show();
    }
  }

  on('photo', signal, (q) => {
    if (q.photo_id !== p.photo_id) return;
    p = { ...p, ...q };
    if (!under) wanted = p.liked;
    show();
  });
  show();
  return { button, number };
}

export const href = (p) => `#/p/${p.photo_id}`;

// place and audience: what stands under the author's name.
export function byline(p) {
  const bits = [when(p.published_at || p.created_at)];
  if (p.location?.place_id) bits.push(h('a', { class: 'place', href: placeHref(p.location.place_id), testid: 'place' }, icon('place'), p.location.name));
  if (p.visibility && p.visibility !== 'public') {
    bits.push(h('span', { class: 'place' }, icon('lock'), p.visibility === 'followers' ? 'Followers' : 'Only you'));
  }
  return h('span', { class: 'byline' }, bits);
}

export const tagHref = (tag) => `#/t/${encodeURIComponent(tag)}`;
export const placeHref = (place) => `#/place/${place}`;

// caption shows the author's words; tags lead to their photos.
export function caption(p, clamp) {
  if (!p.title && !p.caption && !p.tags?.length) return null;
  return h('div', { class: clamp ? 'caption clamp' : 'caption', testid: 'caption' },
    p.title && h('strong', { class: 'title' }, p.title),
    p.caption && h('p', null, said(p.caption)),
    p.tags?.length > 0 && h('p', { class: 'tags' }, p.tags.map((t) => h('a', { class: 'tag', href: tagHref(t), testid: 'tag' }, `#${t}`))));
}

// card is a photo in the feed.
export function card(photo, { signal, me, eager }) {
  let p = photo;
  const like = likeButton(photo, signal);
  const talk = h('div', { class: 'talk', hidden: true });
  // Very tall photos are cropped to 4:5 here and whole on their own page.
  const shot = (q) => image(q, { sizes: '(min-width: 720px) 620px, 100vw', ratio: Math.max(0.8, shapeOf(q)), eager });
  const link = h('a', { class: 'shot', href: href(photo), testid: 'photo-link' }, shot(photo));
  const head = h('div', null, userLink(photo.author), byline(photo));
  const words = h('div', { class: 'words' }, caption(photo, true));
  const toggle = h('button', { type: 'button', class: 'act', testid: 'comments-toggle', 'aria-expanded': 'false', 'aria-label': 'Comments', onclick: open }, icon('comment'));
  const number = h('span', { class: 'count', testid: 'comment-count' }, count(photo.comment_count));
  const el = h('article', { class: 'card', testid: 'card', 'data-photo': photo.photo_id, 'aria-label': describe(photo) },
    h('header', { class: 'card-head' }, h('a', { href: `#/@${photo.author.handle}`, tabindex: '-1', 'aria-hidden': 'true' }, avatar(photo.author)), head),
    link,
    h('div', { class: 'acts' }, like.button, like.number, toggle, number),
    words, talk);

  function open() {
    const show = talk.hidden;
    talk.hidden = !show;
    toggle.setAttribute('aria-expanded', String(show));
    if (!show || talk.firstChild) return;
    talk.append(thread(photo, { signal, me, focus: true }));
  }
  on('photo', signal, (p) => { if (p.photo_id === photo.photo_id && p.comment_count !== undefined) number.textContent = count(p.comment_count); });
  on('edited', signal, (q) => {
    if (q.photo_id !== p.photo_id) return;
    retell(link, p, q, () => fill(link, shot(q)));
    p = q;
    fill(head, userLink(q.author), byline(q));
    fill(words, caption(q, true));
    el.setAttribute('aria-label', describe(q));
  });
  on('gone', signal, (id) => { if (id === photo.photo_id) el.hidden = true; });
  on('restored', signal, (p) => { if (p.photo_id === photo.photo_id) el.hidden = false; });
  return el;
}

function shapeOf(p) {
  const m = p.media?.[0];
  return m?.width && m?.height ? m.width / m.height : 1;
}

// tile is a photo in a grid.
export function tile(photo, { signal, extra, placeholder } = {}) {
  let p = photo;
  const shot = (q) => image(q, { sizes: '(min-width: 960px) 300px, 33vw', ratio: 1, placeholder });
  const over = h('span', { class: 'tile-over', 'aria-hidden': 'true' },
    h('span', null, icon('heart'), count(p.like_count)), h('span', null, icon('comment'), count(p.comment_count)));
  const link = h('a', { href: href(p) }, shot(p), over);
  const el = h('li', { class: 'tile', testid: 'tile', 'data-photo': p.photo_id }, link, extra && extra(p));
  on('edited', signal, (q) => {
    if (q.photo_id !== p.photo_id) return;
    retell(link, p, q, () => fill(link, shot(q), over));
    p = q;
  });
  on('gone', signal, (id) => { if (id === p.photo_id) el.hidden = true; });
  on('restored', signal, (q) => { if (q.photo_id === p.photo_id) el.hidden = false; });
  return el;
}

export const likesText = (n) => plural(n, 'like', 'likes');
