// The viewer's own photos on their way: sending, being prepared, failed. They
// are kept here, not in a view, so that an upload goes on while the viewer looks
// around; those the server knows are remembered over a reload.

import { api, put } from './api.js';
import { emit } from './bus.js';

const storeKey = 'hayloft.pending';
const items = new Map(); // key → upload

// all returns the uploads, newest first: {key, state: sending | preparing |
// failed, progress, preview, caption, photoID, error}.
export const all = () => [...items.values()].reverse();

function change(u, fields) {
  Object.assign(u, fields);
  if (items.get(u.key) === u) emit('upload', u);
}

export function dismiss(u) {
  items.delete(u.key);
  if (u.preview) URL.revokeObjectURL(u.preview);
  remember();
  emit('upload', u);
}

function remember() {
  try {
    const ids = all().filter((u) => u.state === 'preparing').map((u) => u.photoID);
    localStorage.setItem(storeKey, JSON.stringify(ids.slice(0, 50)));
  } catch { /* without storage a reload merely forgets */ }
}

// start sends a file in the background. The promise is fulfilled once the
// server has the bytes and the words; it is rejected when it refused either.
export async function start(file, type, details, preview) {
  const u = { key: crypto.getRandomValues(new Uint32Array(2)).join('-'), state: 'sending', progress: 0, preview, caption: details.title || details.caption };
  items.set(u.key, u);
  emit('upload', u);
  try {
    const to = await api.uploadURL(file, type);
    await persist(() => put(to.upload_url, file, type, (p) => change(u, { progress: p })), 'upload-already-stored');
    change(u, { state: 'preparing', progress: 1, photoID: to.photo_id });
    remember();
    // Held by the server for a while: most photos are ready when it answers.
    const photo = await persist(() => api.finalize({ photo_id: to.photo_id, ...details }));
    if (!settled(u, photo)) settle(u);
  } catch (e) {
    dismiss(u);
    throw e;
  }
}

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

// persist repeats a call that may be made twice when the connection or the
// server fails it for the moment. done names the problem by which a repetition
// learns that the first call had arrived.
async function persist(work, done) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (e) {
      if (attempt > 1 && done && e.is?.(done)) return undefined;
      const passing = [0, 429, 502, 503, 504].includes(e.status);
      if (!passing || attempt === 5 || e.retryAfter > 30) throw e;
      await pause(Math.max(e.retryAfter * 1000, 400 * 2 ** attempt));
    }
  }
}

// settled takes the photo as the server sees it and reports whether that is
// its last word.
function settled(u, p) {
  if (p.status === 'ready') {
    emit('ready', p);
    dismiss(u);
  } else if (p.status === 'failed') {
    change(u, { state: 'failed', error: p.failure?.title || 'This photo could not be prepared.' });
    remember();
  } else if (p.status !== 'pending') {
    dismiss(u);
  }
  return p.status !== 'pending';
}

// settle waits until a photo is ready. The server holds each call for a while;
// the pause between calls grows should it answer at once.
async function settle(u) {
  for (let wait = 150; items.get(u.key) === u; wait = Math.min(wait * 1.6, 4000)) {
    try {
      if (settled(u, await api.photo(u.photoID, undefined, 10))) return;
    } catch (e) {
      if (e.status === 404 || e.status === 401) {
        dismiss(u);
        return;
      }
    }
    await pause(wait);
  }
}

// recover takes up what was being prepared when the page was last open.
export function recover() {
  let ids = [];
  try {
    ids = JSON.parse(localStorage.getItem(storeKey) || '[]');
  } catch { /* nothing to take up */ }
  for (const id of Array.isArray(ids) ? ids : []) {
    if (typeof id !== 'string' || [...items.values()].some((u) => u.photoID === id)) continue;
    const u = { key: id, state: 'preparing', progress: 1, photoID: id, caption: '' };
    items.set(u.key, u);
    settle(u);
  }
}

// forget drops everything, on signing out.
export function forget() {
  for (const u of all()) dismiss(u);
}
