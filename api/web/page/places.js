// Places that photos were given before: they are offered while a name is typed, and the one
// that is chosen brings its position.

import { api } from './api.js';
import { fill, h } from './dom.js';

const pause = 250; // milliseconds without a key before the server is asked

// offerPlaces has the fields for a place's name and position help each other, and returns
// the list that belongs beside them. What it offers names the position, too: places of the
// same name are told apart by it.
export function offerPlaces(place, position) {
  const list = h('datalist', { id: `${place.id}-list`, testid: 'places-known' });
  const known = new Map(); // what is offered → the place
  let timer = 0;
  place.setAttribute('list', list.id);
  place.addEventListener('input', () => {
    clearTimeout(timer);
    const chosen = known.get(place.value);
    if (chosen) {
      place.value = chosen.name;
      position.value = `${chosen.lat}, ${chosen.lng}`;
      position.dispatchEvent(new Event('input'));
    } else if (place.value.trim()) {
      timer = setTimeout(look, pause, place.value);
    }
  });

  async function look(text) {
    try {
      const { items } = await api.search(text.trim(), 'places')('');
      if (place.value !== text) return; // typed on meanwhile
      known.clear();
      for (const p of items) known.set(`${p.name} (${p.lat}, ${p.lng})`, p);
      fill(list, [...known.keys()].map((value) => h('option', { value })));
    } catch { /* the fields do without */ }
  }
  return list;
}
