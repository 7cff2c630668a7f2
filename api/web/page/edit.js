// The dialog in which an author says something else about a photo.

import { api } from './api.js';
import { emit } from './bus.js';
import { busy, h } from './dom.js';
import { toast } from './toast.js';
import { changed, form, written } from './words.js';

// edit opens it for a photo. It closes with the view that it belongs to, by signal.
export function edit(p, signal) {
  const before = written(p);
  const words = form(before);
  const error = h('p', { class: 'error', role: 'alert', testid: 'form-error' });
  const save = h('button', { class: 'button', type: 'submit', testid: 'photo-save' }, 'Save');
  const el = h('form', { method: 'dialog', testid: 'photo-edit' }, h('h2', null, 'Edit photo'), words.nodes, error,
    h('div', { class: 'row end' }, h('button', { class: 'button plain', type: 'button', testid: 'photo-cancel', onclick: () => dialog.close() }, 'Cancel'), save));
  const dialog = h('dialog', { 'aria-label': 'Edit photo', onclose: () => dialog.remove() }, el);
  el.addEventListener('submit', (e) => {
    e.preventDefault();
    error.textContent = '';
    if (!words.check()) return;
    const change = changed(before, words.values());
    if (Object.keys(change).length === 0) {
      dialog.close();
      return;
    }
    busy(save, async () => {
      try {
        const q = await api.edit(p.photo_id, change);
        dialog.close();
        emit('edited', q);
        toast('Saved.');
      } catch (err) {
        error.textContent = words.blame(err);
      }
    });
  });
  signal.addEventListener('abort', () => dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}
