// Search: one field, and what it finds. Also the pages of a tag and of a place.

import { api } from '../api.js';
import { empty, fill, h, icon } from '../dom.js';
import { pager } from '../pager.js';
import { placeHref, tagHref, tile } from '../photo.js';
import { person } from './people.js';

// asked is what the address asks for. It is read as it stands: a % that was typed is
// written %25 there.
function asked() {
  try {
    return decodeURIComponent(location.hash.replace(/^#\/search\/?/, ''));
  } catch {
    return '';
  }
}

function field(text) {
  const input = h('input', {
    name: 'q', id: 'q', type: 'search', value: text, placeholder: 'Words, #tag, @handle or a place', required: true, maxlength: 200, autocomplete: 'off', autocapitalize: 'none', testid: 'search-input',
  });
  const form = h('form', { class: 'find', role: 'search' }, h('label', { for: 'q' }, 'Search'),
    h('div', { class: 'find-row' }, icon('search'), input, h('button', { class: 'button', type: 'submit', testid: 'search-submit' }, 'Search')));
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    const q = input.value.trim();
    if (q) location.hash = `#/search/${encodeURIComponent(q)}`;
  });
  return { form, input };
}

// part is one kind of what was found; it shows when there is something.
function part(title, testid, list, fetchPage, row, signal) {
  const box = h('section', { class: 'panel', hidden: true, testid }, h('h2', null, title), list);
  const pages = pager(list, fetchPage, row, { signal, manual: true, first: (page) => { box.hidden = page.items.length === 0 && !page.next_cursor; } });
  pages.start();
  return box;
}

function results(q, ctx) {
  const { signal } = ctx;
  const grid = h('ul', { class: 'grid', testid: 'found-photos' });
  const photos = pager(grid, api.search(q, 'photos'), (p) => tile(p, { signal }), {
    signal, empty: () => h('p', { class: 'quiet none', testid: 'no-photos' }, 'No photos with all of these words.'),
  });
  photos.start();
  const chip = (href, drawing, text) => h('li', null, h('a', { class: 'chip', href }, drawing, text));
  return [
    part('People', 'found-people', h('ul', { class: 'persons' }), api.search(q, 'users'), (u) => person(u, ctx), signal),
    part('Tags', 'found-tags', h('ul', { class: 'chips' }), api.search(q, 'tags'), (t) => chip(tagHref(t.tag), null, `#${t.tag}`), signal),
    part('Places', 'found-places', h('ul', { class: 'chips' }), api.search(q, 'places'), (p) => chip(placeHref(p.id), icon('place'), p.name), signal),
    h('section', { class: 'found' }, h('h2', null, 'Photos'), grid, photos.end),
  ];
}

export function search(ctx) {
  const q = asked();
  const { form, input } = field(q);
  const found = h('div', { class: 'found' });
  fill(found, q ? results(q, ctx) : h('p', { class: 'quiet' }, 'Photos by the words of their titles, captions and tags; people by handle or name; tags and places by how they begin.'));
  return {
    title: q ? `${q} · Search` : 'Search', wide: true, keep: true, ownFocus: !q,
    shown: () => { if (!q) input.focus(); },
    node: h('div', { class: 'gallery' }, h('h1', null, 'Search'), form, found),
  };
}

// gallery is a page of nothing but photos.
async function gallery(fetchPage, title, drawing, { signal }) {
  const grid = h('ul', { class: 'grid', testid: 'grid' });
  const pages = pager(grid, fetchPage, (p) => tile(p, { signal }), { signal, empty: () => empty('photo', 'No photos', 'None that you may see.') });
  pages.start();
  return { title, wide: true, keep: true, node: h('div', { class: 'gallery' }, h('h1', { class: 'about', testid: 'gallery-title' }, drawing, title), grid, pages.end) };
}

export const tagged = (ctx, tag) => gallery(api.tagged(tag), `#${tag}`, null, ctx);

// at is the page of a place. It has the name that the newest photo gives it.
export async function at(ctx, place) {
  const first = await api.at(place)('', ctx.signal);
  const name = first.items[0]?.location?.name || 'A place';
  const rest = api.at(place);
  return gallery((cursor, signal) => (cursor ? rest(cursor, signal) : Promise.resolve(first)), name, icon('place'), ctx);
}
