// People: open a profile by its handle; whom one follows and who follows one.

import { api } from '../api.js';
import { emit, on } from '../bus.js';
import { avatar, busy, empty, h, icon } from '../dom.js';
import { pager } from '../pager.js';
import { oops, toast } from '../toast.js';

// followButton follows and unfollows; changed gets the user as it is then.
export function followButton(user, signal) {
  let u = user;
  const button = h('button', { type: 'button', testid: 'follow', onclick: toggle });
  const show = () => {
    const v = u.viewer || {};
    const on = v.follows || v.requested;
    button.textContent = v.follows ? 'Following' : v.requested ? 'Requested' : 'Follow';
    button.className = on ? 'button plain' : 'button';
    button.setAttribute('aria-pressed', String(!!on));
    button.setAttribute('aria-label', `${on ? 'Unfollow' : 'Follow'} ${u.handle}`);
  };

  function toggle() {
    const want = !(u.viewer?.follows || u.viewer?.requested);
    return busy(button, async () => {
      try {
        await api.follow(u.id, want);
        emit('user', await api.user(u.id)); // accepted at once, or requested: the server knows
      } catch (e) {
        oops(e);
      }
    });
  }
  on('user', signal, (v) => {
    if (v.id !== u.id) return;
    u = v;
    show();
  });
  show();
  return button;
}

// listenButton asks to be told when somebody shares a photo, and shows whether one is. Only
// who follows can be told.
export function listenButton(user, signal) {
  let u = user;
  const text = h('span');
  const button = h('button', { type: 'button', class: 'button plain listen', testid: 'listen', onclick: toggle }, icon('bell'), text);
  const show = () => {
    const on = !!u.viewer?.listens;
    button.hidden = !u.viewer?.follows;
    text.textContent = on ? 'Notified' : 'Notify me';
    button.setAttribute('aria-pressed', String(on));
    button.setAttribute('aria-label', `${text.textContent} when ${u.handle} shares a photo`);
  };

  function toggle() {
    const want = !u.viewer?.listens;
    return busy(button, async () => {
      try {
        let text = want ? `You are told when ${u.handle} shares a photo.` : `You are told of photos by ${u.handle} no more.`;
        await api.listen(u.id, want).catch((e) => {
          if (!e.is?.('conflict')) throw e;
          text = `You do not follow ${u.handle} any more.`; // ended elsewhere, or by them
        });
        emit('user', await api.user(u.id));
        toast(text);
      } catch (e) {
        oops(e);
      }
    });
  }
  on('user', signal, (v) => {
    if (v.id !== u.id) return;
    u = v;
    show();
  });
  show();
  return button;
}

// person is somebody in a list of people.
export function person(u, { me, signal }) {
  return h('li', { class: 'person', testid: 'person' },
    h('a', { class: 'person-link', href: `#/@${u.handle}` }, avatar(u),
      h('span', { class: 'person-text' }, h('span', { class: 'handle' }, u.handle), u.name && h('span', { class: 'quiet' }, u.name))),
    me && me.id !== u.id && u.viewer && followButton(u, signal));
}

// request is somebody who asks to follow.
function request(u) {
  const el = h('li', { class: 'person', testid: 'request' },
    h('a', { class: 'person-link', href: `#/@${u.handle}` }, avatar(u),
      h('span', { class: 'person-text' }, h('span', { class: 'handle' }, u.handle), u.name && h('span', { class: 'quiet' }, u.name))),
    answer('Approve', true, 'button small'), answer('Decline', false, 'button small plain'));
  function answer(text, yes, style) {
    return h('button', { type: 'button', class: style, 'aria-label': `${text} ${u.handle}`, testid: text.toLowerCase(), onclick: (e) => busy(e.currentTarget, async () => {
      try {
        await api.answer(u.id, yes);
        el.remove();
      } catch (err) {
        oops(err);
      }
    }) }, text);
  }
  return el;
}

// listing is a titled list of people.
function listing(title, fetchPage, ctx, none) {
  const rows = h('ul', { class: 'persons' });
  const box = h('section', { class: 'panel' }, h('h2', null, title), rows);
  pager(rows, fetchPage, (u) => person(u, ctx), { signal: ctx.signal, manual: true, empty: () => h('p', { class: 'quiet none' }, none) }).start();
  return box;
}

// requests lists those who ask to follow. An account that was made public may have some, too.
function requests(ctx) {
  const rows = h('ul', { class: 'persons' });
  const box = h('section', { class: 'panel', hidden: !ctx.me.is_private }, h('h2', null, 'Asking to follow you'), rows);
  const first = (page) => { if (page.items.length > 0 || page.next_cursor) box.hidden = false; };
  pager(rows, api.requests(), request, { signal: ctx.signal, manual: true, first, empty: () => h('p', { class: 'quiet none' }, 'Nobody at the moment.') }).start();
  return box;
}

export function people(ctx) {
  const input = h('input', {
    name: 'handle', id: 'find', placeholder: 'handle', required: true, autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', maxlength: 33, testid: 'find-input',
  });
  const error = h('p', { class: 'error', role: 'alert', testid: 'form-error' });
  const button = h('button', { class: 'button', type: 'submit', testid: 'find-submit' }, 'Open');
  const form = h('form', { class: 'find', role: 'search' },
    h('label', { for: 'find' }, 'Open a profile'), h('div', { class: 'find-row' }, h('span', { class: 'at', 'aria-hidden': 'true' }, '@'), input, button), error);
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    const handle = input.value.trim().toLowerCase().replace(/^@/, '');
    busy(button, async () => {
      error.textContent = '';
      try {
        const u = await api.user(`@${handle}`, ctx.signal);
        location.hash = `#/@${u.handle}`;
      } catch (err) {
        if (err.name === 'AbortError') return;
        error.textContent = err.status === 404 || err.status === 400 ? `Nobody here is called @${handle}.` : err.message;
        input.select();
      }
    });
  });
  return {
    title: 'People', keep: true,
    node: h('div', { class: 'column' }, h('h1', null, 'People'), form,
      requests(ctx),
      listing('You follow', api.following('me'), ctx, 'Nobody yet. Open a profile by its handle and press Follow.'),
      listing('Following you', api.followers('me'), ctx, 'Nobody yet. Share a photo and tell your friends your handle.')),
  };
}

// list is the page of somebody's followers or of whom they follow.
export async function list(ctx, handle, which) {
  const u = await api.user(`@${handle}`, ctx.signal);
  const title = which === 'followers' ? `Who follows ${u.handle}` : `Whom ${u.handle} follows`;
  const rows = h('ul', { class: 'persons' });
  const pages = pager(rows, which === 'followers' ? api.followers(u.id) : api.following(u.id), (v) => person(v, ctx),
    { signal: ctx.signal, empty: () => empty('people', 'Nobody yet', 'This list is still empty.') });
  pages.start();
  return { title, keep: true, node: h('div', { class: 'column' }, h('p', null, h('a', { href: `#/@${u.handle}` }, `@${u.handle}`)), h('h1', null, title), rows, pages.end) };
}
