// What the views tell one another, so that a like given on a photo's page shows
// in the feed behind it. Events: photo (its id and what has changed of it), edited (a
// photo object of which something else is said), gone (a photo id), restored (a photo object), user (a changed user object), me (the
// login changed), told (a notification), unread (how many there are), upload (an
// upload on its way), ready (a photo object).

const target = new EventTarget();

export function emit(name, detail) {
  target.dispatchEvent(new CustomEvent(name, { detail }));
}

export function on(name, signal, fn) {
  target.addEventListener(name, (e) => fn(e.detail), { signal });
}
