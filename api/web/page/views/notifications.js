// What others do with what is the viewer's, what happened last first.

import { api } from '../api.js';
import { on } from '../bus.js';
import { avatar, empty, h, userLink, webURL, when } from '../dom.js';
import { pager } from '../pager.js';
import { heard, setUnread } from '../told.js';

const others = (n) => `${n >= 98 ? '98 or more' : n} other${n === 1 ? '' : 's'}`;

// people names who did something: "anna, bob and 3 others".
function people(n) {
  const named = n.actors.slice(0, n.count > 2 ? 2 : n.actors.length);
  const rest = n.count - named.length;
  const parts = [];
  named.forEach((u, i) => {
    if (i > 0) parts.push(i === named.length - 1 && rest === 0 ? ' and ' : ', ');
    parts.push(userLink(u));
  });
  if (rest > 0) parts.push(` and ${others(rest)}`);
  return parts;
}

function text(n) {
  switch (n.kind) {
    case 'follow': return [people(n), n.count === 1 ? ' follows you' : ' follow you'];
    case 'request': return [people(n), n.count === 1 ? ' asks to follow you' : ' ask to follow you'];
    case 'like': return [people(n), n.comment ? ' liked your comment' : ' liked your photo'];
    case 'comment': return [people(n), n.comment?.parent_id ? ' replied' : ' commented', ': ', h('q', null, n.comment?.text)];
    case 'mention': return [people(n), n.comment ? [' mentioned you: ', h('q', null, n.comment.text)] : ' mentioned you with a photo'];
    default: return [userLink(n.actors[0]), n.count === 1 ? ' shared a photo' : ` shared ${n.count} photos`];
  }
}

function row(n) {
  const thumb = webURL(n.photo?.urls?.thumbnail);
  return h('li', { class: n.seen ? 'told' : 'told new', testid: 'notification', 'data-id': n.id, 'data-kind': n.kind },
    avatar(n.actors[0]),
    h('p', { class: 'told-text' }, text(n), ' ', h('span', { class: 'quiet' }, when(n.at))),
    n.kind === 'request' && h('a', { class: 'button small', href: '#/people', testid: 'to-requests' }, 'Answer'),
    n.photo && h('a', { href: `#/p/${n.photo.photo_id}`, 'aria-label': n.photo.alt || n.photo.title || 'The photo' },
      thumb && h('img', { class: 'told-photo', src: thumb, alt: '', width: 44, height: 44, loading: 'lazy' })));
}

export function notifications({ signal }) {
  const rows = h('ul', { class: 'tolds', testid: 'notifications' });
  const seen = (seq) => api.notificationsSeen(seq).then(() => setUnread(0)).catch(() => { /* they stay unread */ });
  const list = pager(rows, api.notifications(), row, {
    signal,
    first: (page) => {
      heard(page.seq);
      if (page.seq > 0) seen(page.seq);
    },
    empty: () => empty('bell', 'Nothing yet', 'Who likes, comments or follows shows up here.'),
  });
  on('told', signal, (n) => { // the newest goes to the front, instead of what it was before
    rows.querySelector(`[data-id="${CSS.escape(n.id)}"]`)?.remove();
    list.end.querySelector('.empty')?.remove();
    rows.prepend(row(n));
    if (rows.isConnected) seen(n.seq);
  });
  list.start();
  return { title: 'Notifications', node: h('div', { class: 'column' }, h('h1', null, 'Notifications'), rows, list.end) };
}
