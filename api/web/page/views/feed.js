// The feed: the viewer's own uploads on their way, then the photos of those
// the viewer follows, newest first.

import { api } from '../api.js';
import { on } from '../bus.js';
import { empty, fill, h, icon, plural } from '../dom.js';
import { pager } from '../pager.js';
import { card } from '../photo.js';
import { all, dismiss } from '../uploads.js';

// waiting is one upload on its way.
function waiting(u) {
  const label = { sending: `Sending, ${Math.round(u.progress * 100)} %`, preparing: 'Preparing your photo', failed: u.error }[u.state];
  return h('div', { class: `waiting ${u.state}`, testid: 'pending', 'data-state': u.state, 'data-photo': u.photoID },
    u.preview ? h('img', { src: u.preview, alt: '', width: 56, height: 56 }) : h('span', { class: 'waiting-blank' }, icon('photo')),
    h('div', { class: 'waiting-text' },
      h('p', { class: 'strong' }, label),
      u.caption && h('p', { class: 'quiet one-line' }, u.caption),
      u.state === 'sending' && h('progress', { max: 100, value: Math.round(u.progress * 100), 'aria-label': 'Upload' })),
    u.state === 'preparing' && h('span', { class: 'spinner', 'aria-hidden': 'true' }),
    u.state === 'failed' && h('button', { class: 'button small', type: 'button', onclick: () => dismiss(u) }, 'Dismiss'));
}

const lookEvery = 60_000; // milliseconds

// news tells, while the view is there, that there is more than it shows. shown is
// the newest photo of it.
function news(box, signal, shown) {
  const timer = setInterval(async () => {
    if (document.hidden) return;
    try {
      const n = await api.news(signal);
      const fresh = n.count > 0 && n.latest_id !== shown();
      fill(box, fresh && h('button', { class: 'button wide', type: 'button', testid: 'news', onclick: () => location.reload() },
        n.count > 98 ? 'Many new photos' : `${plural(n.count, 'new photo', 'new photos')}`));
    } catch { /* it is only a hint: the next look may succeed */ }
  }, lookEvery);
  signal.addEventListener('abort', () => clearInterval(timer));
}

export function feed({ me, signal }) {
  const top = h('div', { class: 'waitings', 'aria-live': 'polite' });
  const rows = h('div', { class: 'cards', testid: 'feed' });
  const seen = new Set();
  let number = 0;
  const show = (p) => {
    if (seen.has(p.photo_id)) return h('span', { hidden: true }); // came by itself while the page was open
    seen.add(p.photo_id);
    return card(p, { signal, me, eager: number++ < 2 });
  };
  const above = h('div', { 'aria-live': 'polite' });
  let newest = '';
  const first = (page) => {
    newest = page.items[0]?.photo_id || '';
    if (newest) api.seen(newest).catch(() => {}); // gone meanwhile: the next visit tells
  };
  const list = pager(rows, api.feed(), show, { signal, first, empty: () => quietFeed() });
  news(above, signal, () => newest);
  const refresh = () => fill(top, all().map(waiting));
  on('upload', signal, refresh);
  on('ready', signal, (p) => {
    if (seen.has(p.photo_id)) return;
    rows.prepend(show(p));
    list.end.querySelector('.empty')?.remove();
  });
  refresh();
  list.start();
  return { title: 'Home', keep: true, node: h('div', { class: 'column' }, h('h1', { class: 'unseen' }, 'Home'), above, top, rows, list.end) };
}

function quietFeed() {
  return empty('photo', 'A quiet place, for now',
    'Photos from the people you follow appear here, newest first, and so do your own.',
    h('a', { class: 'button', href: '#/upload', testid: 'empty-upload' }, 'Share a photo'),
    h('a', { class: 'button plain', href: '#/people', testid: 'empty-people' }, 'Find people'));
}
