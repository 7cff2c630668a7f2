// Sign up and sign in.

import { api } from '../api.js';
import { busy, empty, h } from '../dom.js';
import { enter } from '../state.js';

let id = 0;

// field is a labelled input with an optional hint below.
function field(label, props, hint) {
  const key = `f${++id}`;
  return h('div', { class: 'field' },
    h('label', { for: key }, label),
    h('input', { id: key, 'aria-describedby': hint ? `${key}h` : null, ...props }),
    hint && h('p', { class: 'hint', id: `${key}h` }, hint));
}

// page is the frame of both forms. work gets the form's values.
function page({ title, lead, fields, action, testid, other, work }) {
  const error = h('p', { class: 'error', role: 'alert', testid: 'form-error' });
  const button = h('button', { class: 'button wide', type: 'submit', testid: 'submit' }, action);
  const form = h('form', { class: 'auth-form', testid }, h('h1', null, title), h('p', { class: 'lead' }, lead), fields, error, button, other);
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    busy(button, async () => {
      error.textContent = '';
      try {
        await work(Object.fromEntries(new FormData(form)));
        location.replace('#/');
      } catch (err) {
        error.textContent = err.message;
        form.querySelector('input').focus();
      }
    });
  });
  return {
    title, plain: true, ownFocus: true,
    shown: () => form.querySelector('input').focus({ preventScroll: true }),
    node: h('div', { class: 'auth' },
      h('div', { class: 'auth-side' }, h('p', { class: 'wordmark' }, 'Hayloft'), form),
      h('div', { class: 'auth-art', 'aria-hidden': 'true' })),
  };
}

const handleProps = {
  name: 'handle', required: true, autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false',
  maxlength: 33, pattern: '@?[a-z0-9_](\\.?[a-z0-9_])*', testid: 'handle',
};
const bare = (handle) => handle.trim().replace(/^@/, '');

export async function signUp() {
  const instance = await api.instance().catch(() => null); // without it the server refuses in its own words
  if (instance?.signup && instance.signup !== 'open') {
    return { title: 'Sign up', node: empty('lock', 'Sign-up is closed', 'The operator of this server makes the accounts.', h('a', { class: 'button', href: '#/signin' }, 'Sign in')) };
  }
  return page({
    title: 'Create your account', testid: 'signup', action: 'Create account',
    lead: 'Photos from the people you follow, newest first, and nothing in between.',
    fields: [
      field('Handle', { ...handleProps, title: 'Lower-case letters, digits, underscores and single dots' }, 'Lower-case letters, digits, underscores, dots.'),
      field('Name', { name: 'name', autocomplete: 'name', maxlength: 64, testid: 'name' }, 'Shown on your profile. May be left empty.'),
      field('Password', { name: 'password', type: 'password', required: true, minlength: 8, autocomplete: 'new-password', testid: 'password' }, 'At least 8 characters.'),
    ],
    other: h('p', { class: 'hint' }, 'Already here? ', h('a', { href: '#/signin', testid: 'to-signin' }, 'Sign in')),
    work: async (v) => {
      const handle = bare(v.handle);
      await api.signUp({ handle, password: v.password, ...(v.name.trim() && { name: v.name.trim() }) });
      await enter(handle, v.password);
    },
  });
}

export function signIn() {
  return page({
    title: 'Welcome back', testid: 'signin', action: 'Sign in', lead: 'Sign in to see what is new.',
    fields: [
      field('Handle', handleProps),
      field('Password', { name: 'password', type: 'password', required: true, autocomplete: 'current-password', testid: 'password' }),
    ],
    other: h('p', { class: 'hint' }, 'New here? ', h('a', { href: '#/signup', testid: 'to-signup' }, 'Create an account')),
    work: (v) => enter(bare(v.handle), v.password),
  });
}
