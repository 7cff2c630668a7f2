// Sharing a photo: choose or drop a file, look at it, say something, send.

import { api } from '../api.js';
import { busy, count, fill, h, icon } from '../dom.js';
import { start } from '../uploads.js';
import { blank, form, said } from '../words.js';

const types = { jpg: 'image/jpeg', jpeg: 'image/jpeg', png: 'image/png', webp: 'image/webp', gif: 'image/gif', avif: 'image/avif', heic: 'image/heic', heif: 'image/heif' };
const names = { 'image/webp': 'WebP' };
const touch = matchMedia('(pointer: coarse)'); // nothing to drop with
let dropped = null; // a file dropped while another view was open
let maxBytes = 32 << 20; // until the server has said
let formats = 'JPEG, PNG, WebP, GIF';

// typeOf: browsers leave the type of some formats empty, HEIC among them.
function typeOf(file) {
  return file.type || types[file.name.split('.').pop().toLowerCase()] || 'application/octet-stream';
}

// dropAnywhere opens the upload view when a file is dropped anywhere else.
export function dropAnywhere() {
  addEventListener('dragover', (e) => e.dataTransfer?.types.includes('Files') && e.preventDefault());
  addEventListener('drop', (e) => {
    const file = e.dataTransfer?.files[0];
    if (!file) return;
    e.preventDefault(); // or the browser would leave the page and show the file
    if (location.hash === '#/upload') return;
    dropped = file;
    location.hash = '#/upload';
  });
}

async function learnLimits() {
  try {
    const i = await api.instance();
    maxBytes = i.limits?.photo_bytes || maxBytes;
    if (i.formats?.length) formats = i.formats.map((t) => names[t] || t.replace('image/', '').toUpperCase()).join(', ');
  } catch { /* the server checks all the same */ }
}

// chooser is the drop area; chosen gets a file.
function chooser(chosen) {
  const input = h('input', { type: 'file', id: 'file', class: 'unseen', accept: 'image/*', testid: 'file', onchange: () => input.files[0] && chosen(input.files[0]) });
  const area = h('label', { class: 'drop', for: 'file', testid: 'drop' },
    h('span', { class: 'empty-art' }, icon('photo')),
    h('strong', null, touch.matches ? 'Choose a photo' : 'Drop a photo here'),
    !touch.matches && h('span', { class: 'quiet' }, 'or choose one from this device'),
    h('span', { class: 'quiet small-text' }, `${formats}, up to ${Math.round(maxBytes / (1 << 20))} MiB`));
  for (const name of ['dragenter', 'dragover']) area.addEventListener(name, () => area.classList.add('over'));
  for (const name of ['dragleave', 'drop']) area.addEventListener(name, () => area.classList.remove('over'));
  area.addEventListener('drop', (e) => e.dataTransfer.files[0] && chosen(e.dataTransfer.files[0]));
  return h('div', { class: 'chooser' }, input, area);
}

function refusal(file) {
  if (file.size === 0) return 'This file is empty.';
  if (file.size > maxBytes) return `This file has ${count(file.size / (1 << 20))} MiB; at most ${Math.round(maxBytes / (1 << 20))} MiB can be shared.`;
  if (!typeOf(file).startsWith('image/')) return 'This file is not a photo.';
  return '';
}

// composer shows the chosen photo and the form around it, with what was written before and
// the problem that brought it back.
function composer(file, v, problem, { restart, fail }) {
  const words = form(v);
  const preview = URL.createObjectURL(file);
  const error = h('p', { class: 'error', role: 'alert', testid: 'form-error' });
  const send = h('button', { class: 'button wide', type: 'submit', testid: 'share' }, 'Share');
  const shot = h('img', { src: preview, alt: 'The photo you chose', class: 'preview', testid: 'preview', onerror: () => shot.replaceWith(h('p', { class: 'stage-note' }, icon('photo'), file.name)) });
  const el = h('form', { class: 'compose', testid: 'compose' },
    h('div', { class: 'compose-photo' }, shot,
      h('button', { class: 'button small plain over-photo', type: 'button', testid: 'choose-another', onclick: () => { URL.revokeObjectURL(preview); restart(words.values()); } }, 'Choose another')),
    h('div', { class: 'compose-text' }, words.nodes, error, send));
  el.addEventListener('submit', (e) => {
    e.preventDefault();
    error.textContent = '';
    if (!words.check()) return;
    const now = words.values();
    busy(send, async () => {
      location.hash = '#/'; // the feed shows how far it has come
      try {
        await start(file, typeOf(file), said(now), preview);
      } catch (err) {
        fail(file, now, err);
      }
    });
  });
  const shown = () => { // the fields are in the page
    words.focus();
    if (problem) error.textContent = words.blame(problem);
  };
  return { el, shown };
}

export function upload({ signal }) {
  const note = h('p', { class: 'error', role: 'alert', testid: 'form-error' });
  const box = h('div');
  let kept = blank; // what was written for a photo that was put back
  const reset = () => fill(box, chooser(chosen), note);

  function chosen(file, v, problem) {
    note.textContent = refusal(file);
    if (note.textContent) {
      reset();
      return null;
    }
    const c = composer(file, v || kept, problem, { restart: (now) => { kept = now; note.textContent = ''; reset(); }, fail: refused });
    fill(box, c.el);
    if (box.isConnected) c.shown();
    return c;
  }

  reset();
  open = { signal, chosen };
  const first = returned || (dropped && { file: dropped });
  returned = null;
  dropped = null;
  const c = first && chosen(first.file, first.v, first.problem);
  learnLimits().then(() => { if (!signal.aborted && box.querySelector('.chooser')) reset(); });
  return { title: 'Upload', ownFocus: !!c, shown: () => c?.shown(), node: h('div', { class: 'column roomy' }, h('h1', null, 'Share a photo'), box) };
}

let returned = null; // a refused upload, to be mended
let open = null; // the upload view that is shown: {signal, chosen}

// refused brings a refused upload back with its words, so nothing has to be
// typed again.
function refused(file, v, problem) {
  if (open && !open.signal.aborted) {
    open.chosen(file, v, problem);
    return;
  }
  returned = { file, v, problem };
  location.hash = '#/upload';
}
