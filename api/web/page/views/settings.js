// Settings: privacy, what one is told, password, sessions, keys for programs, whom one has
// blocked or muted, the archive, and the end of the account.

import { api } from '../api.js';
import { emit } from '../bus.js';
import { avatar, busy, fill, h, when } from '../dom.js';
import { pager } from '../pager.js';
import { setViewer, viewer } from '../state.js';
import { oops, toast } from '../toast.js';

const panel = (title, ...inner) => h('section', { class: 'panel settings' }, h('h2', null, title), inner);

// press is a button that does something and says what went wrong.
function press(text, testid, work, style = 'button small plain') {
  return h('button', { class: style, type: 'button', testid, onclick: (e) => busy(e.currentTarget, async () => {
    try {
      await work();
    } catch (err) {
      oops(err);
    }
  }) }, text);
}

function privacy() {
  const box = h('input', { type: 'checkbox', id: 's-private', testid: 'private', checked: viewer().is_private });
  box.addEventListener('change', async () => {
    box.disabled = true;
    try {
      setViewer({ ...viewer(), ...await api.editMe({ is_private: box.checked }) });
      emit('user', viewer());
      toast(box.checked ? 'Only followers you approve see your photos now.' : 'Everybody sees your public photos now.');
    } catch (err) {
      box.checked = !box.checked;
      oops(err);
    } finally {
      box.disabled = false;
    }
  });
  return panel('Privacy', h('p', { class: 'row' }, box, h('label', { for: 's-private' }, 'Private account: people ask before they follow you')));
}

const kinds = {
  follow: 'Somebody follows you',
  request: 'Somebody asks to follow you',
  like: 'Somebody likes a photo or a comment of yours',
  comment: 'Somebody comments on a photo of yours, or replies to you',
  mention: 'Somebody names you',
  post: 'Somebody you asked to hear from shares a photo',
};

// told is what one is told of. The boxes wait for what they are.
function told(signal) {
  const error = h('p', { class: 'error', role: 'alert' });
  const choices = Object.keys(kinds).map(choice);
  api.preferences()
    .then((now) => choices.forEach((c) => c.know(now)))
    .catch((e) => { if (!signal.aborted) error.textContent = e.message; });
  return panel('Notifications', h('p', { class: 'quiet', id: 's-told' }, 'Tell me when'),
    h('div', { class: 'choices', role: 'group', 'aria-labelledby': 's-told' }, choices.map((c) => c.node)), error);
}

// choice is the box of one kind. It may be pressed again while a change is under way; the
// call looks again when it ends.
function choice(kind) {
  const id = `s-told-${kind}`;
  let saved = false;
  let under = false;
  const error = h('p', { class: 'error', role: 'alert', id: `${id}-e` });
  const box = h('input', { type: 'checkbox', id, disabled: true, testid: `told-${kind}`, 'aria-describedby': `${id}-e`, onchange: save });
  const know = (now) => {
    saved = now[kind];
    box.checked = saved;
    box.disabled = false;
  };

  async function save() {
    if (under) return;
    under = true;
    error.textContent = '';
    try {
      while (box.checked !== saved) {
        const to = box.checked;
        await api.setPreferences({ [kind]: to });
        saved = to;
      }
    } catch (e) {
      box.checked = saved;
      error.textContent = e.message;
    } finally {
      under = false;
    }
  }
  return { know, node: h('div', null, h('p', { class: 'row' }, box, h('label', { for: id }, kinds[kind])), error) };
}

function password() {
  const error = h('p', { class: 'error', role: 'alert' });
  const save = h('button', { class: 'button', type: 'submit', testid: 'password-save' }, 'Change password');
  const field = (id, name, label, auto) => h('div', { class: 'field' }, h('label', { for: id }, label),
    h('input', { id, name, type: 'password', required: true, autocomplete: auto, testid: id }));
  const who = h('input', { hidden: true, name: 'username', autocomplete: 'username', value: viewer().handle, readonly: true }); // for keepers of passwords
  const form = h('form', null, who, field('s-old', 'old', 'Password until now', 'current-password'), field('s-new', 'fresh', 'New password', 'new-password'), error, save);
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    const v = Object.fromEntries(new FormData(form));
    busy(save, async () => {
      error.textContent = '';
      try {
        await api.setPassword(v.old, v.fresh);
        form.reset();
        toast('The password is changed, and other devices are signed out.');
      } catch (err) {
        error.textContent = err.status === 401 ? 'That is not your password.' : err.message;
      }
    });
  });
  return panel('Password', form);
}

function sessions(signal) {
  const rows = h('ul', { class: 'persons', testid: 'sessions' });
  const show = async () => {
    const { items } = await api.sessions();
    fill(rows, items.map((s) => h('li', { class: 'person' },
      h('span', { class: 'person-text' }, s.current ? 'This browser' : s.cookie ? 'A browser' : 'A program', h('span', { class: 'quiet' }, 'signed in ', when(s.created_at))),
      !s.current && press('Sign out', 'session-end', async () => { await api.signOut(s.id); await show(); }))));
  };
  show().catch((e) => signal.aborted || oops(e));
  return panel('Where you are signed in', rows);
}

function keys(signal) {
  const rows = h('ul', { class: 'persons', testid: 'keys' });
  const fresh = h('p', { class: 'quiet', testid: 'key-shown', 'aria-live': 'polite' });
  const name = h('input', { id: 's-key', maxlength: 64, required: true, placeholder: 'What it is for', testid: 'key-name' });
  const write = h('input', { type: 'checkbox', id: 's-write', testid: 'key-write' });
  const make = h('button', { class: 'button small', type: 'submit', testid: 'key-make' }, 'Make a key');
  const form = h('form', null, h('div', { class: 'field' }, h('label', { for: 's-key' }, 'New key'), name),
    h('p', { class: 'row' }, write, h('label', { for: 's-write' }, 'It may change things, too')), make);
  const show = async () => {
    const { items } = await api.keys();
    fill(rows, items.map((k) => h('li', { class: 'person' },
      h('span', { class: 'person-text' }, k.name, h('span', { class: 'quiet' }, k.scopes.join(' and '), ', made ', when(k.created_at))),
      press('Delete', 'key-delete', async () => { await api.deleteKey(k.id); await show(); }))));
  };
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    busy(make, async () => {
      try {
        const k = await api.createKey(name.value.trim(), write.checked ? ['read', 'write'] : ['read']);
        fill(fresh, 'Copy it now, it is not shown again: ', h('code', null, k.key));
        form.reset();
        await show();
      } catch (err) {
        oops(err);
      }
    });
  });
  show().catch((e) => signal.aborted || oops(e));
  return panel('Keys for programs', rows, fresh, form);
}

// away is a list of people one keeps away from, with the way to end that.
function away(title, fetchPage, end, text, none, signal, testid) {
  const rows = h('ul', { class: 'persons' });
  const row = (u) => {
    const el = h('li', { class: 'person' }, h('a', { class: 'person-link', href: `#/@${u.handle}` }, avatar(u), h('span', { class: 'handle' }, u.handle)),
      press(text, testid, async () => { await end(u.id, false); el.remove(); }));
    return el;
  };
  const box = panel(title, rows);
  pager(rows, fetchPage, row, { signal, manual: true, empty: () => h('p', { class: 'quiet none' }, none) }).start();
  return box;
}

// archive gives a link to everything that the account has.
function archive() {
  const link = h('p', { 'aria-live': 'polite', testid: 'export-link' });
  return panel('Take everything with you', h('p', { class: 'quiet' }, 'One zip file with your original photos, what you wrote about them, your comments, likes, and the people you follow.'),
    h('p', { class: 'row' }, press('Prepare a download', 'export', async () => {
      const e = await api.takeAway();
      fill(link, h('a', { class: 'button small', href: e.download_url, rel: 'noreferrer', testid: 'export-download' }, 'Download'),
        h('span', { class: 'quiet' }, ' Whoever has this link can download it, for about an hour.'));
    })), link);
}

function end() {
  const sure = h('input', { id: 's-sure', autocomplete: 'off', autocapitalize: 'none', testid: 'delete-sure' });
  const act = press('Delete my account', 'delete-account', async () => {
    if (sure.value.trim().replace(/^@/, '') !== viewer().handle) {
      toast('Type your handle to say that you are sure.');
      return;
    }
    await api.deleteMe();
    setViewer(null);
    location.hash = '#/signup';
  }, 'button plain');
  return panel('Delete the account', h('p', { class: 'quiet' }, 'Your photos, comments, likes and follows are removed for good. Nobody can bring them back.'),
    h('div', { class: 'field' }, h('label', { for: 's-sure' }, 'Your handle'), sure), act);
}

export function settings({ signal }) {
  const picture = viewer().avatar_url && panel('Profile picture', h('p', { class: 'row' }, avatar(viewer()),
    press('Remove', 'avatar-remove', async () => { setViewer({ ...viewer(), ...await api.setAvatar(null) }); picture.remove(); toast('Your picture is removed.'); })));
  return {
    title: 'Settings',
    node: h('div', { class: 'column' }, h('h1', null, 'Settings'), privacy(), picture, told(signal), password(), sessions(signal), keys(signal),
      away('You hear of new photos from', api.listening(), api.listen, 'Stop', 'Nobody. Press “Notify me” on the profile of somebody you follow.', signal, 'listen-end'),
      away('Blocked', api.blocks(), api.block, 'Unblock', 'Nobody.', signal), away('Muted', api.mutes(), api.mute, 'Unmute', 'Nobody.', signal),
      archive(), end()),
  };
}
