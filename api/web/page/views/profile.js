// A profile: who it is, and the grid of photos. Also the viewer's own deleted
// photos, which can be brought back for a while.

import { api } from '../api.js';
import { emit, on } from '../bus.js';
import { avatar, busy, count, empty, fill, h, icon } from '../dom.js';
import { pager } from '../pager.js';
import { tile } from '../photo.js';
import { leave, setViewer, viewer } from '../state.js';
import { oops, toast } from '../toast.js';
import { followButton, listenButton } from './people.js';

function number(n, text, href, testid) {
  const inner = [h('strong', { testid }, count(n)), ` ${text}`];
  return h('li', null, href ? h('a', { href }, inner) : h('span', null, inner));
}

function counts(u) {
  return h('ul', { class: 'counts' },
    number(u.photo_count, u.photo_count === 1 ? 'photo' : 'photos', null, 'photo-count'),
    number(u.follower_count, u.follower_count === 1 ? 'follower' : 'followers', `#/@${u.handle}/followers`, 'follower-count'),
    number(u.following_count, 'following', `#/@${u.handle}/following`, 'following-count'));
}

function head(u, me, signal) {
  const own = me && me.id === u.id;
  const numbers = h('div', null, counts(u));
  const name = h('p', { class: 'name', testid: 'profile-name' }, u.name);
  const bio = h('p', { class: 'bio', testid: 'profile-bio' }, u.bio);
  on('user', signal, (v) => {
    if (v.id !== u.id) return;
    fill(numbers, counts(v));
    name.textContent = v.name;
    bio.textContent = v.bio;
  });
  const acts = h('div', { class: 'row' });
  if (own) acts.append(h('button', { class: 'button plain', type: 'button', testid: 'edit-profile', onclick: edit }, 'Edit profile'), signOut());
  else if (me) acts.append(...(u.viewer?.blocked ? [] : [followButton(u, signal), listenButton(u, signal)]), ...distance(u));
  else acts.append(h('a', { class: 'button', href: '#/signin' }, 'Sign in to follow'));
  return h('header', { class: 'profile' }, avatar(u, 'huge'),
    h('div', { class: 'profile-text' },
      h('div', { class: 'profile-top' }, h('h1', { testid: 'profile-handle' }, u.handle), acts),
      numbers, name, bio,
      u.viewer?.followed_by && h('p', { class: 'quiet', testid: 'follows-you' }, 'Follows you')));
}

// distance are the buttons to mute and to block somebody, and to end that.
function distance(u) {
  const make = (name, verb, undo, call) => {
    let on = !!u.viewer?.[name];
    const show = () => { button.textContent = on ? undo : verb; button.setAttribute('aria-pressed', String(on)); };
    const button = h('button', { class: 'button plain', type: 'button', testid: verb.toLowerCase(), onclick: (e) => busy(e.currentTarget, async () => {
      try {
        await call(u.id, !on);
        on = !on;
        show();
        if (name === 'blocked') location.reload(); // another profile altogether
      } catch (err) {
        oops(err);
      }
    }) });
    show();
    return button;
  };
  const block = make('blocked', 'Block', 'Unblock', api.block);
  return u.viewer?.blocked ? [block] : [make('muted', 'Mute', 'Unmute', api.mute), block];
}

function signOut() {
  return h('button', { class: 'button plain', type: 'button', testid: 'sign-out', onclick: (e) => busy(e.currentTarget, async () => {
    try {
      await leave();
      location.hash = '#/signin';
    } catch (err) {
      oops(err);
    }
  }) }, icon('out'), 'Sign out');
}

// edit opens the dialog for name and bio.
function edit() {
  const me = viewer();
  const error = h('p', { class: 'error', role: 'alert' });
  const save = h('button', { class: 'button', type: 'submit', testid: 'profile-save' }, 'Save');
  const form = h('form', { method: 'dialog' }, h('h2', null, 'Edit profile'),
    h('div', { class: 'field' }, h('label', { for: 'p-name' }, 'Name'), h('input', { id: 'p-name', name: 'name', maxlength: 64, value: me.name })),
    h('div', { class: 'field' }, h('label', { for: 'p-bio' }, 'Bio'), h('textarea', { id: 'p-bio', name: 'bio', rows: 3, maxlength: 150, value: me.bio })),
    error,
    h('div', { class: 'row end' }, h('button', { class: 'button plain', type: 'button', onclick: () => dialog.close() }, 'Cancel'), save));
  const dialog = h('dialog', { 'aria-label': 'Edit profile', onclose: () => dialog.remove() }, form);
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    const v = Object.fromEntries(new FormData(form));
    busy(save, async () => {
      try {
        const u = await api.editMe({ name: v.name.trim(), bio: v.bio.trim() });
        dialog.close();
        setViewer({ ...viewer(), ...u });
        emit('user', viewer());
      } catch (err) {
        error.textContent = err.message;
      }
    });
  });
  document.body.append(dialog);
  dialog.showModal();
}

export async function profile({ me, signal }, handle) {
  const u = await api.user(`@${handle}`, signal);
  const own = me && me.id === u.id;
  const grid = h('ul', { class: 'grid', testid: 'grid' });
  const pages = pager(grid, api.photosOf(u.id), (p) => tile(p, { signal }), { signal, empty: () => noPhotos(u, own) });
  on('ready', signal, (p) => { if (p.author.id === u.id) grid.prepend(tile(p, { signal })); });
  pages.start();
  return {
    title: u.name ? `${u.name} (@${u.handle})` : `@${u.handle}`, wide: true, keep: true,
    node: h('div', { class: 'gallery' }, head(u, me, signal), grid, pages.end,
      own && h('p', { class: 'after' }, h('a', { class: 'quiet', href: '#/deleted', testid: 'to-deleted' }, 'Recently deleted'), ' · ',
        h('a', { class: 'quiet', href: '#/settings', testid: 'to-settings' }, 'Settings'))),
  };
}

function noPhotos(u, own) {
  if (u.viewer?.blocked) return empty('lock', 'You have blocked this account', 'Neither of you sees what the other shares. Unblock it to see its photos.');
  if (own) return empty('photo', 'Your first photo goes here', 'Everything you share is kept on this page.', h('a', { class: 'button', href: '#/upload' }, 'Share a photo'));
  if (u.is_private && !u.viewer?.follows) return empty('lock', 'This account is private', 'Follow it to see its photos.');
  return empty('photo', 'No photos yet', `When ${u.handle} shares a photo it appears here.`);
}

export function deleted({ signal }) {
  const grid = h('ul', { class: 'grid', testid: 'deleted-grid' });
  const back = (p) => h('button', { class: 'button small', type: 'button', testid: 'restore', onclick: (e) => busy(e.currentTarget, async () => {
    try {
      const q = await api.restore(p.photo_id);
      grid.querySelector(`[data-photo="${p.photo_id}"]`)?.remove();
      emit('restored', q);
      toast('The photo is back.');
    } catch (err) {
      oops(err);
    }
  }) }, 'Restore');
  const pages = pager(grid, api.deleted(), (p) => tile(p, { extra: back, placeholder: true }), { signal, empty: () => empty('trash', 'Nothing deleted', 'Photos you delete stay here for a while and can be brought back.') });
  pages.start();
  return { title: 'Recently deleted', wide: true, node: h('div', { class: 'gallery' }, h('h1', null, 'Recently deleted'), h('p', { class: 'quiet' }, 'Nobody else sees these. After the grace period they are gone for good.'), grid, pages.end) };
}
