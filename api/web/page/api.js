// The HTTP API as the page uses it. The login is an HttpOnly cookie, so there
// is no secret in here; what is refused comes back as a Problem.

const base = '/api/v1';

export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(spell(body.errors) || body.detail || body.title || `The server answered ${status}.`);
    this.status = status;
    this.type = body.type || '';
    this.title = body.title || '';
    this.faults = faultsOf(body.errors).map((e) => ({ pointer: e.pointer || '', text: spell([e]) })); // of the body, in words
    this.retryAfter = retryAfter;
  }

  is(name) {
    return this.type === name || this.type.split(/[/:#]/).pop() === name;
  }
}

const faultsOf = (errors) => (Array.isArray(errors) ? errors : []);

// spell puts the faults of a request into words: "Handle is reserved."
function spell(errors) {
  return faultsOf(errors).map((e) => {
    const name = (e.pointer || e.parameter || '').replace(/^\//, '').replace(/[/_]/g, ' ');
    const text = `${name} ${e.detail}`.trim();
    return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
  }).join(' ');
}

// The largest Hayloft-Index seen, so that the page reads its own writes from
// whichever node answers.
let index = 0;

function noteIndex(value) {
  const n = Number(value);
  if (n > index) index = n;
}

function problemFrom(status, type, text, retryAfter) {
  let body = {};
  if (/json/.test(type || '')) {
    try {
      body = JSON.parse(text);
    } catch { /* the status has to speak for itself */ }
  }
  return new Problem(status, body, Number(retryAfter) || 0);
}

// call makes one API call and returns its JSON, or null when there is none.
export async function call(method, path, { body, signal, headers, query } = {}) {
  const url = new URL(base + path, location.origin);
  for (const [k, v] of Object.entries(query || {})) if (v) url.searchParams.set(k, v);
  const init = { method, signal, headers: { Accept: 'application/json', ...headers }, credentials: 'same-origin', cache: 'no-store' };
  if (index) init.headers['Hayloft-Index'] = String(index);
  if (body !== undefined) {
    init.headers['Content-Type'] = 'application/json';
    init.body = JSON.stringify(body);
  }
  let res;
  try {
    res = await fetch(url, init);
  } catch (e) {
    if (e.name === 'AbortError') throw e;
    throw new Problem(0, { title: 'The server cannot be reached. Check the connection and try again.' });
  }
  noteIndex(res.headers.get('Hayloft-Index'));
  const text = await res.text();
  if (!res.ok) throw problemFrom(res.status, res.headers.get('Content-Type'), text, res.headers.get('Retry-After'));
  return text ? JSON.parse(text) : null;
}

const seg = encodeURIComponent;
const get = (path, opts) => call('GET', path, opts);
const list = (path) => (cursor, signal) => get(path, { query: { cursor, limit: 24 }, signal });

export const api = {
  instance: () => get('/instance'),
  me: () => get('/users/me'),
  signUp: (form) => call('POST', '/accounts', { body: form }),
  signIn: (handle, password) => call('POST', '/sessions', { body: { handle, password, cookie: true } }),
  sessions: () => get('/sessions'),
  signOut: (id) => call('DELETE', id ? `/sessions/${seg(id)}` : '/sessions'),
  editMe: (change) => call('PATCH', '/users/me', { body: change }),
  setAvatar: (photo) => call('PUT', '/users/me/avatar', { body: { photo_id: photo } }),
  setPassword: (password, fresh) => call('PUT', '/users/me/password', { body: { password, new_password: fresh } }),
  deleteMe: () => call('DELETE', '/users/me'),
  takeAway: () => call('POST', '/exports'),
  keys: () => get('/api-keys'),
  createKey: (name, scopes) => call('POST', '/api-keys', { body: { name, scopes } }),
  deleteKey: (id) => call('DELETE', `/api-keys/${seg(id)}`),
  requests: () => list('/follow-requests'),
  answer: (user, yes) => call('POST', `/follow-requests/${seg(user)}/${yes ? 'approve' : 'decline'}`),
  block: (user, on) => call(on ? 'POST' : 'DELETE', `/users/${seg(user)}/block`),
  mute: (user, on) => call(on ? 'POST' : 'DELETE', `/users/${seg(user)}/mute`),
  blocks: () => list('/blocks'),
  mutes: () => list('/mutes'),
  listen: (user, on) => call(on ? 'POST' : 'DELETE', `/users/${seg(user)}/listen`),
  listening: () => list('/listening'),
  user: (name, signal) => get(`/users/${seg(name)}`, { signal }),
  follow: (user, on) => call(on ? 'POST' : 'DELETE', `/follow/${seg(user)}`),
  photosOf: (user) => list(`/users/${seg(user)}/photos`),
  followers: (user) => list(`/users/${seg(user)}/followers`),
  following: (user) => list(`/users/${seg(user)}/following`),
  feed: () => list('/feed'),
  news: (signal) => get('/feed/new', { signal }),
  seen: (photo) => call('POST', '/feed/seen', { body: { photo_id: photo } }),
  search: (q, type) => async (cursor, signal) => {
    const found = await get('/search', { query: { q, type, cursor, limit: type === 'photos' ? 24 : 6 }, signal });
    return { items: found[type], next_cursor: found.next_cursor };
  },
  tagged: (tag) => list(`/tags/${seg(tag)}/photos`),
  at: (place) => list(`/places/${seg(place)}/photos`),
  photo: (id, signal, wait) => get(`/photos/${seg(id)}`, { signal, headers: wait ? { Prefer: `wait=${wait}` } : {} }),
  edit: (id, change) => call('PATCH', `/photos/${seg(id)}`, { body: change }),
  like: (id, on) => call(on ? 'POST' : 'DELETE', `/photos/${seg(id)}/like`),
  notifications: () => list('/notifications'),
  preferences: () => get('/notifications/preferences'),
  setPreferences: (change) => call('PATCH', '/notifications/preferences', { body: change }),
  notificationsSeen: (seq) => call('POST', '/notifications/seen', { body: { seq } }),
  comments: (id) => list(`/photos/${seg(id)}/comments`),
  comment: (id, text, parent) => call('POST', `/photos/${seg(id)}/comments`, { body: { text, parent_id: parent } }),
  replies: (id) => list(`/comments/${seg(id)}/replies`),
  likeComment: (id, on) => call(on ? 'POST' : 'DELETE', `/comments/${seg(id)}/like`),
  deleteComment: (id) => call('DELETE', `/comments/${seg(id)}`),
  remove: (id) => call('DELETE', `/photos/${seg(id)}`),
  restore: (id) => call('POST', `/photos/${seg(id)}/restore`),
  deleted: () => list('/photos/deleted'),
  uploadURL: async (file, type) => call('POST', '/photos/upload-url', { body: { file_size: file.size, content_type: type, digest: await digest(file) } }),
  finalize: (details) => call('POST', '/photos', { body: details, headers: { Prefer: 'wait=10' } }),
};

// digest lets the server check that what arrives is what the browser read.
// Where the page came over plain HTTP browsers offer no hash; the TCP checksum
// has to do then.
async function digest(file) {
  if (!globalThis.crypto?.subtle) return undefined;
  const sum = new Uint8Array(await crypto.subtle.digest('SHA-256', await file.arrayBuffer()));
  return `sha256:${Array.from(sum, (b) => b.toString(16).padStart(2, '0')).join('')}`;
}

// put sends a file to its upload URL. XMLHttpRequest, because fetch tells
// nothing of how far a body has come. The URL is taken relative to the page:
// behind another host name than the public one it works all the same, and no
// other origin can ever be given the file.
export function put(uploadURL, file, type, onProgress, signal) {
  const to = new URL(uploadURL, location.origin);
  return new Promise((resolve, reject) => {
    const x = new XMLHttpRequest();
    x.open('PUT', to.pathname + to.search);
    x.setRequestHeader('Content-Type', type);
    x.setRequestHeader('Accept', 'application/json');
    x.upload.addEventListener('progress', (e) => e.lengthComputable && onProgress(e.loaded / e.total));
    x.addEventListener('load', () => {
      noteIndex(x.getResponseHeader('Hayloft-Index'));
      if (x.status >= 200 && x.status < 300) resolve();
      else reject(problemFrom(x.status, x.getResponseHeader('Content-Type'), x.responseText, x.getResponseHeader('Retry-After')));
    });
    x.addEventListener('error', () => reject(new Problem(0, { title: 'The upload was interrupted. Try again.' })));
    x.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')));
    signal?.addEventListener('abort', () => x.abort(), { once: true });
    x.send(file);
  });
}
