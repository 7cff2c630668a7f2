// Sharing a photo: choose or drop a file, look at it, say something, send.

import { api } from '../api.js';
import { busy, count, fill, h, icon } from '../dom.js';
import { start } from '../uploads.js';

const types = { jpg: 'image/jpeg', jpeg: 'image/jpeg', png: 'image/png', webp: 'image/webp', gif: 'image/gif', avif: 'image/avif', heic: 'image/heic', heif: 'image/heif' };
const names = { 'image/webp': 'WebP' };
const maxCaption = 2200;
const maxTags = 30;
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

function details() {
  const left = h('span', { class: 'quiet small-text', 'aria-hidden': 'true' });
  const caption = h('textarea', { id: 'u-caption', name: 'caption', rows: 4, maxlength: maxCaption, placeholder: 'Say something about it', testid: 'caption-input', oninput: () => { left.textContent = caption.value.length > maxCaption - 300 ? `${maxCaption - caption.value.length} left` : ''; } });
  return [
    h('div', { class: 'field' }, h('label', { for: 'u-caption' }, 'Caption'), caption, left),
    h('div', { class: 'field' }, h('label', { for: 'u-tags' }, 'Tags'),
      h('input', { id: 'u-tags', name: 'tags', maxlength: 1000, placeholder: 'sea, holiday', autocapitalize: 'none', 'aria-describedby': 'u-tags-h', testid: 'tags-input' }),
      h('p', { class: 'hint', id: 'u-tags-h' }, 'Single words by which it is found, with spaces or commas between them.')),
    h('div', { class: 'field' }, h('label', { for: 'u-alt' }, 'Description'),
      h('input', { id: 'u-alt', name: 'alt', maxlength: 500, 'aria-describedby': 'u-alt-h', testid: 'alt-input' }),
      h('p', { class: 'hint', id: 'u-alt-h' }, 'What is to be seen, for people who cannot see it.')),
    h('div', { class: 'field' }, h('label', { for: 'u-vis' }, 'Who can see it'),
      h('select', { id: 'u-vis', name: 'visibility' },
        h('option', { value: 'public' }, 'Everybody'), h('option', { value: 'followers' }, 'Followers'), h('option', { value: 'only_me' }, 'Only you'))),
  ];
}

// words is what the form says about the photo.
function words(form) {
  const v = Object.fromEntries(new FormData(form));
  return { caption: v.caption.trim(), tags: v.tags.split(/[\s,]+/).filter(Boolean), alt: v.alt.trim(), visibility: v.visibility };
}

// mistagged says what is wrong with tags before a byte is sent: the server knows them by
// their number alone.
function mistagged(tags) {
  const bad = tags.find((t) => !/^#?[\p{L}\p{M}\p{Nd}_]{1,64}$/u.test(t));
  if (bad) return `“${bad}” cannot be a tag: letters, digits and _ only, 64 at most.`;
  return tags.length > maxTags ? `A photo has at most ${maxTags} tags.` : '';
}

// composer shows the chosen photo and the form around it.
function composer(file, { restart, fail }) {
  const preview = URL.createObjectURL(file);
  const error = h('p', { class: 'error', role: 'alert', testid: 'form-error' });
  const send = h('button', { class: 'button wide', type: 'submit', testid: 'share' }, 'Share');
  const shot = h('img', { src: preview, alt: 'The photo you chose', class: 'preview', testid: 'preview', onerror: () => shot.replaceWith(h('p', { class: 'stage-note' }, icon('photo'), file.name)) });
  const form = h('form', { class: 'compose', testid: 'compose' },
    h('div', { class: 'compose-photo' }, shot,
      h('button', { class: 'button small plain over-photo', type: 'button', testid: 'choose-another', onclick: () => { URL.revokeObjectURL(preview); restart(words(form)); } }, 'Choose another')),
    h('div', { class: 'compose-text' }, details(), error, send));
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    const said = words(form);
    error.textContent = mistagged(said.tags);
    if (error.textContent) return;
    busy(send, async () => {
      error.textContent = '';
      location.hash = '#/'; // the feed shows how far it has come
      try {
        await start(file, typeOf(file), said, preview);
      } catch (err) {
        fail(file, said, err);
      }
    });
  });
  return { form, error };
}

export function upload({ signal }) {
  const note = h('p', { class: 'error', role: 'alert', testid: 'form-error' });
  const box = h('div');
  let kept = {}; // what was written for a photo that was put back
  const reset = () => fill(box, chooser(chosen), note);

  function chosen(file, said, problem) {
    note.textContent = refusal(file);
    if (note.textContent) {
      reset();
      return;
    }
    const c = composer(file, { restart: (said) => { kept = said; note.textContent = ''; reset(); }, fail: refused });
    for (const [name, value] of Object.entries(said || kept)) c.form.elements[name].value = Array.isArray(value) ? value.join(' ') : value;
    c.error.textContent = problem || '';
    fill(box, c.form);
    c.form.elements.caption.focus({ preventScroll: true });
  }

  reset();
  open = { signal, chosen };
  const first = returned || (dropped && { file: dropped });
  returned = null;
  dropped = null;
  if (first) chosen(first.file, first.said, first.problem);
  learnLimits().then(() => { if (!signal.aborted && box.querySelector('.chooser')) reset(); });
  return { title: 'Upload', node: h('div', { class: 'column roomy' }, h('h1', null, 'Share a photo'), box) };
}

let returned = null; // a refused upload, to be mended
let open = null; // the upload view that is shown: {signal, chosen}

// refused brings a refused upload back with its words, so nothing has to be
// typed again.
function refused(file, said, err) {
  if (open && !open.signal.aborted) {
    open.chosen(file, said, err.message);
    return;
  }
  returned = { file, said, problem: err.message };
  location.hash = '#/upload';
}
