// What the viewer is told, as it happens: one stream of events for the page, and
// the number of unread notifications.

import { emit, on } from './bus.js';

let source = null;
let unread = 0;

export const unreadCount = () => unread;

export function setUnread(n) {
  if (n === unread) return;
  unread = n;
  emit('unread', n);
}

// follow opens the stream for who is signed in. A stream that is cut off is
// opened again by the browser, after the event that came last.
function follow(user) {
  source?.close();
  source = null;
  setUnread(0);
  if (!user) return;
  source = new EventSource('/api/v1/notifications/stream');
  source.addEventListener('unread', (e) => setUnread(JSON.parse(e.data).unread));
  source.addEventListener('notification', (e) => emit('told', JSON.parse(e.data)));
}

on('me', undefined, follow);
