// What the viewer is told, as it happens: one stream of events for the page, and
// the number of unread notifications.

import { emit, on } from './bus.js';

let source = null;
let me = null; // whose stream it is
let last = 0; // the seq up to which everything was heard
let unread = 0;

export const unreadCount = () => unread;

export function setUnread(n) {
  if (n === unread) return;
  unread = n;
  emit('unread', n);
}

// heard notes that a list showed everything up to seq.
export function heard(seq) {
  last = Math.max(last, seq);
}

// listen opens the stream, which goes on after what was heard. A stream that is cut
// off is opened again by the browser, one that was refused when the page is shown again.
function listen() {
  if (!me || document.hidden || (source && source.readyState !== EventSource.CLOSED)) return;
  source = new EventSource(`/api/v1/notifications/stream${last ? `?after=${last}` : ''}`);
  source.addEventListener('unread', (e) => setUnread(JSON.parse(e.data).unread));
  source.addEventListener('notification', (e) => {
    heard(Number(e.lastEventId));
    emit('told', JSON.parse(e.data));
  });
}

function hush() {
  source?.close();
  source = null;
}

on('me', undefined, (user) => {
  hush();
  me = user;
  last = 0;
  setUnread(0);
  listen();
});

// A browser has six connections to a server that it does not speak HTTP/2 with, for all
// tabs together, and pages that are kept for the way back hold theirs. So only a page that
// is seen has a stream.
document.addEventListener('visibilitychange', () => (document.hidden ? hush() : listen()));
addEventListener('pagehide', hush);
addEventListener('pageshow', listen);
