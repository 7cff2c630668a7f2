// The comments of a photo: newest first, with a form to add one. Under each what was
// replied to it, oldest first, when somebody asks for that.

import { api } from './api.js';
import { emit, on } from './bus.js';
import { avatar, busy, count, fill, h, icon, plural, said, userLink, when } from './dom.js';
import { pager } from './pager.js';
import { oops } from './toast.js';

const maxChars = 2200;

// line is one comment. ctx: me, signal, and changed, told by how much the photo has
// more. A reply has gone instead of replies of its own: told when it was deleted.
function line(c, photo, ctx, gone) {
  const { me } = ctx;
  const talk = gone ? null : replies(c, photo, ctx);
  const mine = me && (me.id === c.author.id || me.id === photo.author.id);
  const el = h('li', { class: 'comment', testid: 'comment' },
    avatar(c.author, 'small'),
    h('div', { class: 'comment-body' },
      h('p', null, userLink(c.author), ' ', h('span', { class: 'comment-text', testid: 'comment-text' }, said(c.text))),
      h('p', { class: 'comment-foot' }, when(c.created_at), likes(c, me), talk?.answer, mine && remove()),
      talk?.box));

  function remove() {
    return h('button', { type: 'button', class: 'link quiet', 'aria-label': `Delete comment by ${c.author.handle}`, testid: 'comment-delete',
      onclick: (e) => busy(e.currentTarget, async () => {
        try {
          await api.deleteComment(c.id);
          el.remove();
          ctx.changed(-1 - (talk ? talk.count() : 0));
          gone?.();
        } catch (err) {
          oops(err);
        }
      }) }, 'Delete');
  }
  return el;
}

// replies are what was replied to a comment, and for who is signed in the way to do so.
function replies(c, photo, ctx) {
  let total = c.reply_count || 0;
  let rows = null; // not asked for yet
  const there = new Set(); // what one wrote may come again with a later page
  const list = h('div', { class: 'replies' });
  const writing = h('div');
  const more = h('button', { type: 'button', class: 'link quiet', testid: 'replies-show', onclick: () => open() });
  const answer = ctx.me && h('button', { type: 'button', class: 'link quiet', testid: 'reply', 'aria-label': `Reply to ${c.author.handle}`, onclick: write }, 'Reply');
  const show = () => {
    more.hidden = total < 1 || rows !== null;
    more.textContent = `Show ${plural(total, 'reply', 'replies')}`;
  };
  const row = (r) => {
    if (there.has(r.id)) return h('li', { hidden: true });
    there.add(r.id);
    return line(r, photo, ctx, () => { total--; show(); });
  };

  async function open() {
    if (rows) return;
    rows = h('ol', { class: 'comments', testid: 'replies' });
    fill(list, rows);
    show();
    if (total > 0) await pager(rows, api.replies(c.id), row, { signal: ctx.signal, manual: true }).start();
  }

  function write() {
    if (writing.firstChild) {
      fill(writing);
      return;
    }
    fill(writing, form('Reply', (text) => api.comment(photo.photo_id, text, c.id), async (r) => {
      fill(writing);
      await open(); // before it is counted: the first one needs no call
      rows.append(row(r));
      total++;
      ctx.changed(1);
    }, true));
  }
  show();
  return { answer, box: h('div', { class: 'talked' }, more, list, writing), count: () => total };
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
  const ctx = { me, signal, changed: (by) => emit('photo', { photo_id: photo.photo_id, comment_count: Math.max(0, total + by) }) };
  on('photo', signal, (p) => { if (p.photo_id === photo.photo_id) total = p.comment_count ?? total; });
  const none = h('p', { class: 'quiet none', testid: 'no-comments', hidden: true }, 'No comments yet.');
  const rows = h('ol', { class: 'comments', testid: 'comments' });
  const root = h('section', { class: 'thread', 'aria-label': 'Comments' }, rows);
  const { start } = pager(rows, api.comments(photo.photo_id), (c) => line(c, photo, ctx),
    { signal, manual: true, first: (page) => { none.hidden = page.items.length > 0 || !!page.next_cursor; } });
  rows.before(none);
  if (me) {
    root.prepend(form('Add a comment', (text) => api.comment(photo.photo_id, text), (c) => {
      none.hidden = true;
      rows.prepend(line(c, photo, ctx));
      ctx.changed(1);
    }, focus));
  }
  start();
  return root;
}

// form is where a comment is written. make sends it, added gets it.
function form(label, make, added, focus) {
  const field = h('textarea', { name: 'text', rows: 1, maxlength: maxChars, required: true, placeholder: label, 'aria-label': label, testid: label === 'Reply' ? 'reply-input' : 'comment-input' });
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
        added(await make(field.value.trim()));
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
