// What an author says about a photo: the fields for it, before it is shared and later.

import { h } from './dom.js';
import { offerPlaces } from './places.js';

const limits = { title: 100, caption: 2200, place: 100, alt: 2200 }; // characters, as the server counts them
const maxTags = 30;
const audiences = { public: 'Everybody', followers: 'Followers', only_me: 'Only you' };
const length = (text) => [...text].length;

export const blank = { title: '', caption: '', tags: '', place: '', position: '', alt: '', visibility: 'public' };

// written is what the fields hold for a photo that is there.
export const written = (p) => ({
  title: p.title, caption: p.caption, tags: p.tags.join(', '), alt: p.alt, visibility: p.visibility,
  place: p.location?.name || '', position: p.location ? `${p.location.lat}, ${p.location.lng}` : '',
});

// degrees reads "52.37, 4.89" as maps write it. null: it is no position.
function degrees(text) {
  const parts = text.replace(/°/g, '').replace(/−/g, '-').split(/[\s,;]+/).filter(Boolean);
  if (parts.length !== 2 || !parts.every((n) => /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(n))) return null;
  const [lat, lng] = parts.map(Number);
  return Math.abs(lat) <= 90 && Math.abs(lng) <= 180 ? { lat, lng } : null;
}

const tagsOf = (text) => text.split(/[\s,]+/).filter(Boolean);

// said is what the server is told when the fields hold v.
export function said(v) {
  const at = degrees(v.position);
  return {
    title: v.title.trim(), caption: v.caption.trim(), tags: tagsOf(v.tags), alt: v.alt.trim(), visibility: v.visibility,
    location: at && { ...at, name: v.place.trim() },
  };
}

// changed is what of it is another thing than before. What nobody touched is left out, so
// that it stays what others have made of it meanwhile.
export function changed(before, v) {
  const was = said(before);
  return Object.fromEntries(Object.entries(said(v)).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(was[name])));
}

// wrong is what the server would refuse, by field, in words that say how to mend it.
function wrong(v) {
  const faults = {};
  for (const [name, most] of Object.entries(limits)) {
    const n = length(v[name].trim());
    if (n > most) faults[name] = `This has ${n} characters; at most ${most} are allowed.`;
  }
  const tags = tagsOf(v.tags);
  const bad = tags.find((t) => !/^#?[\p{L}\p{M}\p{Nd}_]{1,64}$/u.test(t));
  if (bad) faults.tags = `“${bad}” cannot be a tag: letters, digits and _ only, 64 at most.`;
  else if (tags.length > maxTags) faults.tags = `A photo has at most ${maxTags} tags.`;
  if (v.position.trim() && !degrees(v.position)) faults.position = 'Latitude (at most 90) and longitude (at most 180), in degrees.';
  else if (v.place.trim() && !v.position.trim()) faults.position = 'A place needs its position, too.';
  return faults;
}

// fieldOf is the field that a fault in the server's answer is about.
function fieldOf(pointer) {
  if (pointer === '/location/name') return 'place';
  if (pointer.startsWith('/location')) return 'position';
  return pointer.split('/')[1];
}

// fieldMaker makes the fields of one form, each with its label, what explains it and the
// place for its fault. v is what they hold at first.
function fieldMaker(v) {
  const inputs = {};
  const errors = {};
  const mark = (name, text) => {
    errors[name].textContent = text;
    if (text) inputs[name].setAttribute('aria-invalid', 'true');
    else inputs[name].removeAttribute('aria-invalid');
  };
  const field = (name, label, tag, props, hint, hintID = hint && `w-${name}-h`) => {
    const id = `w-${name}`;
    errors[name] = h('p', { class: 'error', role: 'alert', id: `${id}-e`, testid: `${name}-error` });
    inputs[name] = h(tag, { id, name, testid: `${name}-input`, 'aria-describedby': `${hintID || ''} ${id}-e`.trim(), ...props });
    inputs[name].addEventListener('input', () => mark(name, ''));
    if (tag === 'select') inputs[name].append(...Object.entries(audiences).map(([value, text]) => h('option', { value }, text)));
    inputs[name].value = v[name];
    return h('div', { class: 'field' }, h('label', { for: id }, label), inputs[name], errors[name], hint && h('p', { class: 'hint', id: hintID }, hint));
  };
  return { inputs, mark, field };
}

// captionField says how much more can be written when it is little.
function captionField(field) {
  const left = h('p', { class: 'hint', 'aria-hidden': 'true' });
  const countdown = (e) => {
    const n = limits.caption - length(e.currentTarget.value);
    left.hidden = n >= 300;
    left.textContent = `${n} left`;
  };
  left.hidden = true;
  const el = field('caption', 'Caption', 'textarea', { rows: 4, placeholder: 'Say something about it', oninput: countdown });
  el.append(left);
  return el;
}

// form makes the fields with v in them. nodes are to be shown; values is what they hold;
// check says beside each what is wrong with it and reports whether nothing is; blame puts
// a refusal of the server beside its fields and returns the words that fit none; focus
// goes to the first field.
export function form(v) {
  const { inputs, mark, field } = fieldMaker(v);
  const nodes = [
    field('title', 'Title', 'input', {}),
    captionField(field),
    field('tags', 'Tags', 'input', { placeholder: 'sea, holiday', autocapitalize: 'none' }, 'Single words by which it is found, with spaces or commas between them.'),
    h('div', { class: 'field' },
      h('div', { class: 'pair' },
        field('place', 'Place', 'input', { placeholder: 'Amsterdam', autocomplete: 'off' }, null, 'w-where-h'),
        field('position', 'Position', 'input', { placeholder: '52.37, 4.89', autocomplete: 'off' }, null, 'w-where-h')),
      h('p', { class: 'hint', id: 'w-where-h' }, 'Its name, and its latitude and longitude in degrees, as a map shows them. Places that photos have already are offered.')),
    field('alt', 'Description', 'textarea', { rows: 2 }, 'What is to be seen, for people who cannot see it.'),
    field('visibility', 'Who can see it', 'select', {}),
  ];
  inputs.place.after(offerPlaces(inputs.place, inputs.position));
  const values = () => Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value]));
  const show = (faults) => {
    for (const name of Object.keys(inputs)) mark(name, faults[name] || '');
    const first = Object.keys(inputs).find((name) => faults[name]);
    if (first) inputs[first].focus();
  };

  function check() {
    const faults = wrong(values());
    show(faults);
    return Object.keys(faults).length === 0;
  }

  function blame(err) {
    const faults = {};
    const rest = [];
    for (const f of err.faults || []) {
      const name = fieldOf(f.pointer);
      if (inputs[name]) faults[name] = `${faults[name] || ''} ${f.text}`.trim();
      else rest.push(f.text);
    }
    show(faults);
    return err.faults?.length ? rest.join(' ') : err.message;
  }
  return { nodes, values, check, blame, focus: () => inputs.title.focus({ preventScroll: true }) };
}
