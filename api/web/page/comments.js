// The comments of a photo: newest first, with a form to add one.

import { api } from './api.js';
import { emit, on } from './bus.js';
import { avatar, busy, count, h, icon, userLink, when } from './dom.js';
import { pager } from './pager.js';
import { oops } from './toast.js';

const maxChars = 2200;

function line(c, photo, me, changed) {
  const mine = me && (me.id === c.author.id || me.id === photo.author.id);
  const el = h('li', { class: 'comment', testid: 'comment' },
    avatar(c.author, 'small'),
    h('div', { class: 'comment-body' },
      h('p', null, userLink(c.author), ' ', h('span', { class: 'comment-text', testid: 'comment-text' }, c.text)),
      h('p', { class: 'comment-foot' }, when(c.created_at), likes(c, me), mine && remove())));

  function remove() {
    return h('button', { type: 'button', class: 'link quiet', 'aria-label': `Delete comment by ${c.author.handle}`, testid: 'comment-delete',
      onclick: (e) => busy(e.currentTarget, async () => {
        try {
          await api.deleteComment(c.id);
          el.remove();
          changed(-1 - (c.reply_count || 0));
        } catch (err) {
          oops(err);
        }
      }) }, 'Delete');
  }
  return el;
}

// likes is how many like a comment, and for who is signed in the way to do so.
function likes(comment, me) {
  let c = comment;
  const number = h('span', { testid: 'comment-likes' });
  const heart = me && h('button', { type: 'button', class: 'like', testid: 'comment-like', 'aria-label': `Like comment by ${c.author.handle}`,
    onclick: (e) => busy(e.currentTarget, async () => {
      const to = !c.liked;
      try {
        await api.likeComment(c.id, to);
        c = { ...c, liked: to, like_count: Math.max(0, c.like_count + (to ? 1 : -1)) };
        show();
      } catch (err) {
        oops(err);
      }
    }) }, icon('heart'));
  function show() {
    heart?.setAttribute('aria-pressed', String(c.liked));
    number.textContent = c.like_count ? count(c.like_count) : '';
  }
  show();
  return h('span', { class: 'comment-likes' }, heart || icon('heart'), number);
}

// thread shows the comments of a photo. options: signal, me (null: reading
// only), focus: put the cursor into the form.
export function thread(photo, { signal, me, focus } = {}) {
  let total = photo.comment_count;
  const changed = (by) => emit('photo', { photo_id: photo.photo_id, comment_count: Math.max(0, total + by) });
  on('photo', signal, (p) => { if (p.photo_id === photo.photo_id) total = p.comment_count ?? total; });
  const none = h('p', { class: 'quiet none', testid: 'no-comments', hidden: true }, 'No comments yet.');
  const rows = h('ol', { class: 'comments', testid: 'comments' });
  const root = h('section', { class: 'thread', 'aria-label': 'Comments' }, rows);
  const { start } = pager(rows, api.comments(photo.photo_id), (c) => line(c, photo, me, changed),
    { signal, manual: true, first: (page) => { none.hidden = page.items.length > 0 || !!page.next_cursor; } });
  rows.before(none);
  if (me) {
    root.prepend(form(photo, (c) => {
      none.hidden = true;
      rows.prepend(line(c, photo, me, changed));
      changed(1);
    }, focus));
  }
  start();
  return root;
}

function form(photo, added, focus) {
  const field = h('textarea', { name: 'text', rows: 1, maxlength: maxChars, required: true, placeholder: 'Add a comment', 'aria-label': 'Add a comment', testid: 'comment-input' });
  const send = h('button', { class: 'button small', type: 'submit', testid: 'comment-send', disabled: true }, 'Post');
  const error = h('p', { class: 'error', role: 'alert' });
  const el = h('form', { class: 'comment-form' }, h('div', { class: 'comment-field' }, field, send), error);
  const fit = () => {
    send.disabled = field.value.trim() === '';
    field.style.height = 'auto';
    field.style.height = `${Math.min(field.scrollHeight + 2, 180)}px`;
  };
  field.addEventListener('input', fit);
  field.addEventListener('keydown', (e) => {
    if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return;
    e.preventDefault();
    if (field.value.trim()) el.requestSubmit(send);
  });
  el.addEventListener('submit', (e) => {
    e.preventDefault();
    busy(send, async () => {
      error.textContent = '';
      try {
        added(await api.comment(photo.photo_id, field.value.trim()));
        field.value = '';
      } catch (err) {
        error.textContent = err.message;
      }
    }).then(fit);
  });
  if (focus) queueMicrotask(() => field.focus({ preventScroll: true }));
  return el;
}

export const signInHint = () => h('p', { class: 'quiet hint' }, icon('comment'), h('a', { href: '#/signin' }, 'Sign in'), ' to like and comment.');
