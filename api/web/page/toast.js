// Short messages at the foot of the page, read out by screen readers.

import { fill, h } from './dom.js';

const stay = 7000; // milliseconds; long enough to reach "Undo" by keyboard

// toast shows text, with an action when label and act are given. It stays while
// the pointer or the focus is on it.
export function toast(text, label, act) {
  const root = document.getElementById('toasts');
  const el = h('div', { class: 'toast', testid: 'toast' }, h('span', null, text));
  let timer = 0;
  const close = () => {
    clearTimeout(timer);
    el.remove();
  };
  const arm = () => {
    clearTimeout(timer);
    timer = setTimeout(close, stay);
  };
  if (act) {
    el.append(h('button', { class: 'toast-act', type: 'button', testid: 'toast-action', onclick: () => { close(); act(); } }, label));
  }
  for (const name of ['pointerenter', 'focusin']) el.addEventListener(name, () => clearTimeout(timer));
  for (const name of ['pointerleave', 'focusout']) el.addEventListener(name, arm);
  fill(root, el);
  arm();
}

// oops shows what went wrong, unless it is only that the view was left.
export function oops(error) {
  if (error.name === 'AbortError') return;
  toast(error.message || 'Something went wrong.');
}
