// The feed: the viewer's own uploads on their way, then the photos of those
// the viewer follows, newest first.

import { api } from '../api.js';
import { on } from '../bus.js';
import { empty, fill, h, icon } from '../dom.js';
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
  const list = pager(rows, api.feed(), show, { signal, empty: () => quietFeed() });
  const refresh = () => fill(top, all().map(waiting));
  on('upload', signal, refresh);
  on('ready', signal, (p) => {
    if (seen.has(p.photo_id)) return;
    rows.prepend(show(p));
    list.end.querySelector('.empty')?.remove();
  });
  refresh();
  list.start();
  return { title: 'Home', keep: true, node: h('div', { class: 'column' }, h('h1', { class: 'unseen' }, 'Home'), top, rows, list.end) };
}

function quietFeed() {
  return empty('photo', 'A quiet place, for now',
    'Photos from the people you follow appear here, newest first, and so do your own.',
    h('a', { class: 'button', href: '#/upload', testid: 'empty-upload' }, 'Share a photo'),
    h('a', { class: 'button plain', href: '#/people', testid: 'empty-people' }, 'Find people'));
}
