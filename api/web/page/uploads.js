// The viewer's own photos on their way: sending, being prepared, failed. They
// are kept here, not in a view, so that an upload goes on while the viewer looks
// around; those the server knows are remembered over a reload.

import { api, put } from './api.js';
import { emit } from './bus.js';

const storeKey = 'hayloft.pending';
const items = new Map(); // key → upload

// all returns the uploads, newest first: {key, state: sending | preparing |
// failed, progress, preview, caption, photo, error}.
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
  const u = { key: crypto.getRandomValues(new Uint32Array(2)).join('-'), state: 'sending', progress: 0, preview, caption: details.caption };
  items.set(u.key, u);
  emit('upload', u);
  try {
    const to = await api.uploadURL(file, type);
    await put(to.upload_url, file, type, (p) => change(u, { progress: p }));
    const photo = await api.finalize({ photo_id: to.photo_id, ...details });
    change(u, { state: 'preparing', progress: 1, photoID: to.photo_id, photo });
    remember();
  } catch (e) {
    dismiss(u);
    throw e;
  }
  settle(u);
}

// settle waits until a photo is ready. The server holds each call for a while;
// the pause between calls grows should it answer at once.
async function settle(u) {
  for (let pause = 150; items.get(u.key) === u; pause = Math.min(pause * 1.6, 4000)) {
    try {
      const p = await api.photo(u.photoID, undefined, 10);
      if (p.status === 'ready') {
        emit('ready', p);
        dismiss(u);
        return;
      }
      if (p.status === 'failed') {
        change(u, { state: 'failed', photo: p, error: p.failure?.title || 'This photo could not be prepared.' });
        remember();
        return;
      }
      change(u, { photo: p });
    } catch (e) {
      if (e.status === 404 || e.status === 401) {
        dismiss(u);
        return;
      }
    }
    await new Promise((done) => { setTimeout(done, pause); });
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
