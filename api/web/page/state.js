// Who is signed in. One place, because the cookie itself cannot be read.

import { api } from './api.js';
import { emit } from './bus.js';
import { forget, recover } from './uploads.js';

let me = null;

export const viewer = () => me;

export function setViewer(user) {
  const before = me?.id;
  const face = me?.avatar_url;
  me = user;
  if (before && before !== user?.id) forget();
  if (user && before !== user.id) recover();
  if (before !== user?.id) emit('me', user);
  else if (user && face !== user.avatar_url) emit('face', user);
}

// load asks the server who is signed in; nobody is no error.
export async function load() {
  try {
    setViewer(await api.me());
  } catch (e) {
    if (e.status !== 401) throw e;
    setViewer(null);
  }
}

// enter opens a session for this browser.
export async function enter(handle, password) {
  await api.signIn(handle, password);
  await load();
}

// leave closes this browser's session. Other devices stay signed in when the
// server says which session this is.
export async function leave() {
  let id = '';
  try {
    const list = await api.sessions();
    id = (list.items || []).find((s) => s.current)?.id || '';
  } catch (e) {
    if (e.status === 401) {
      setViewer(null);
      return;
    }
  }
  try {
    await api.signOut(id);
  } catch (e) {
    if (e.status !== 401) throw e;
  }
  setViewer(null);
}
