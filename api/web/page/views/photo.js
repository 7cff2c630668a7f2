// One photo, large, with everything said about it.

import { api } from '../api.js';
import { emit, on } from '../bus.js';
import { signInHint, thread } from '../comments.js';
import { avatar, busy, empty, fill, h, icon, retitle, userLink, webURL } from '../dom.js';
import { edit } from '../edit.js';
import { byline, caption, image, likeButton, likesText, retell } from '../photo.js';
import { setViewer, viewer } from '../state.js';
import { oops, toast } from '../toast.js';

// act is a button beside the author's name.
const act = (drawing, label, testid, work) =>
  h('button', { class: 'act', type: 'button', 'aria-label': label, title: label, testid, onclick: (e) => busy(e.currentTarget, work) }, icon(drawing));

// remove deletes at once and offers the way back.
const remove = (p) => act('trash', 'Delete photo', 'delete', async () => {
  try {
    await api.remove(p.photo_id);
  } catch (err) {
    oops(err);
    return;
  }
  emit('gone', p.photo_id);
  toast('Photo deleted.', 'Undo', async () => {
    try {
      const q = await api.restore(p.photo_id);
      emit('restored', q);
      location.hash = `#/p/${q.photo_id}`;
      toast('The photo is back.');
    } catch (err) {
      oops(err);
    }
  });
  location.hash = `#/@${p.author.handle}`;
});

// face shows the photo as the viewer's picture.
const face = (p) => act('user', 'Use as profile picture', 'use-as-avatar', async () => {
  try {
    const u = await api.setAvatar(p.photo_id);
    setViewer({ ...viewer(), ...u });
    toast('This is your picture now.');
  } catch (err) {
    oops(err);
  }
});

const titleOf = (p) => p.title || `Photo by ${p.author.handle}`;

function stage(p) {
  const box = h('div', { class: 'stage' });
  const full = webURL(p.urls?.original) || webURL(p.urls?.large);
  const shot = image(p, { sizes: '(min-width: 1000px) calc(100vw - 640px), 100vw', eager: true });
  box.append(full ? h('a', { class: 'stage-link', href: full, target: '_blank', rel: 'noopener', title: 'Open the photo by itself' }, shot) : shot);
  return box;
}

function pendingStage(p) {
  return h('div', { class: 'stage' }, h('div', { class: 'stage-note', testid: 'photo-pending', role: 'status' },
    p.status === 'failed'
      ? [icon('warn'), h('p', null, p.failure?.title || 'This photo could not be prepared.')]
      : [h('span', { class: 'spinner' }), h('p', null, 'This photo is being prepared.')]));
}

export async function photo({ me, signal }, id) {
  let p = await api.photo(id, signal);
  if (p.status === 'deleted') {
    return { title: 'Deleted photo', node: empty('trash', 'This photo is deleted', 'It can be restored from Recently deleted.', h('a', { class: 'button', href: '#/deleted' }, 'Recently deleted')) };
  }
  const own = me && me.id === p.author.id;
  const like = likeButton(p, signal);
  const likes = h('p', { class: 'likes', testid: 'likes' }, likesText(p.like_count));
  const left = h('div', { class: 'stage-box' });
  const head = h('div');
  const words = h('div', { class: 'words' });
  const picture = own && face(p);
  const show = (was) => {
    retell(left, was, p, () => fill(left, p.status === 'ready' ? stage(p) : pendingStage(p)));
    fill(head, h('h1', { class: 'side-name' }, userLink(p.author)), byline(p));
    fill(words, caption(p));
    if (own) picture.hidden = p.status !== 'ready' || p.visibility !== 'public';
  };
  const root = h('article', { class: 'photo-page', testid: 'photo-page', 'data-photo': p.photo_id },
    left,
    h('div', { class: 'side' },
      h('header', { class: 'card-head' }, h('a', { href: `#/@${p.author.handle}`, tabindex: '-1', 'aria-hidden': 'true' }, avatar(p.author)),
        head, own && [picture, act('edit', 'Edit photo', 'edit-photo', async () => edit(p, signal)), remove(p)]),
      words,
      me && h('div', { class: 'acts' }, like.button, likes),
      !me && likes,
      !me && signInHint(),
      thread(p, { signal, me })));
  on('photo', signal, (q) => { if (q.photo_id === id && q.like_count !== undefined) likes.textContent = likesText(q.like_count); });
  for (const news of ['ready', 'edited']) {
    on(news, signal, (q) => {
      if (q.photo_id !== id) return;
      const was = p;
      p = q;
      show(was);
      retitle(titleOf(p));
    });
  }
  show(p);
  return { title: titleOf(p), wide: true, node: root };
}
