// Building blocks of the page. Every text from outside goes through text nodes
// or attributes set one by one; nothing here parses markup.

const SVG = 'http://www.w3.org/2000/svg';

// h makes an element. Props: class, testid, on* listeners, boolean attributes;
// everything else becomes an attribute. Children: nodes, texts, nested lists;
// null and false are left out.
export function h(tag, props, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) setProp(el, name, value);
  el.append(...flat(children));
  return el;
}

function setProp(el, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith('on')) el.addEventListener(name.slice(2), value);
  else if (name === 'testid') el.dataset.testid = value;
  else if (name === 'value') el.value = value;
  else el.setAttribute(name, value === true ? '' : value);
}

function flat(children) {
  return children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false);
}

export function fill(el, ...children) {
  el.replaceChildren(...flat(children));
  return el;
}

// retitle names the window of the browser after what is shown.
export function retitle(title) {
  document.title = title ? `${title} · Hayloft` : 'Hayloft';
}

// Drawn for Hayloft on a 24 by 24 grid.
const drawings = {
  home: 'M3.5 11 12 4l8.5 7v9h-6v-5.5h-5V20h-6z',
  people: 'M9 11.5a3.75 3.75 0 1 0 0-7.5 3.75 3.75 0 0 0 0 7.5zM2.5 20c.4-3.6 3-5.5 6.5-5.5s6.1 1.9 6.5 5.500M16 4.400a3.6 3.6 0 0 1 0 6.800M18 15c2 .7 3.2 2.4 3.5 5',
  search: 'M10.500 17a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13zM15.500 15.500 20.500 20.500',
  add: 'M5.5 3.500h13a2 2 0 0 1 2 2v13a2 2 0 0 1-2 2h-13a2 2 0 0 1-2-2v-13a2 2 0 0 1 2-2zM12 8v8M8 12h8',
  user: 'M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20.500c.5-4 3.5-6 7.5-6s7 2 7.5 6',
  heart: 'M12 20.300C5.5 15.8 3 12.5 3 9.1 3 6.4 5.1 4.4 7.6 4.400c1.8 0 3.4.9 4.4 2.5 1-1.6 2.6-2.5 4.4-2.5 2.5 0 4.6 2 4.6 4.7 0 3.4-2.5 6.7-9 11.200z',
  comment: 'M4 20l1.3-4.200A8 8 0 1 1 8.5 19z',
  bell: 'M6 16.500V11a6 6 0 0 1 12 0v5.500l1.500 2h-15zM10 21h4',
  edit: 'M4 20l1-4.500L16 4.500l3.500 3.500L8.500 19zM13.500 7l3.500 3.500',
  trash: 'M4 6.500h16M9.5 6.500V4h5v2.500M6 6.5 7 20h10l1-13.500M10 10.500v6M14 10.500v6',
  photo: 'M4.5 4.500h15a1 1 0 0 1 1 1v13a1 1 0 0 1-1 1h-15a1 1 0 0 1-1-1v-13a1 1 0 0 1 1-1zM3.5 16.500l5-5 4 4 3-3 5 4.500M15.5 9.500a1 1 0 1 0 0-2 1 1 0 0 0 0 2z',
  lock: 'M6 10.500h12v9.500H6zM8.5 10.500V7.500a3.5 3.5 0 0 1 7 0v3',
  out: 'M14 4.500H5v15h9M10 12h10.500M17 8.500l3.5 3.5-3.5 3.5',
  place: 'M12 21c-4.5-4.5-6.5-8-6.5-11a6.5 6.5 0 0 1 13 0c0 3-2 6.5-6.5 11zM12 12.300a2.3 2.3 0 1 0 0-4.6 2.3 2.3 0 0 0 0 4.600z',
  warn: 'M12 4 2.8 20h18.400zM12 10v4.500M12 17.300v.2',
};

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', drawings[name]);
  svg.append(path);
  return svg;
}

const ago = new Intl.RelativeTimeFormat('en', { numeric: 'auto', style: 'narrow' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'short' });
const day = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });

// when shows a time: relative while it is fresh, else the day.
export function when(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return '';
  const s = (at.getTime() - Date.now()) / 1000;
  const steps = [[60, 1, 'second'], [3600, 60, 'minute'], [86400, 3600, 'hour'], [7 * 86400, 86400, 'day']];
  const step = steps.find(([below]) => -s < below);
  let text = day.format(at);
  if (step && s > -20) text = 'just now';
  else if (step) text = ago.format(Math.round(s / step[1]), step[2]);
  return h('time', { datetime: iso, title: full.format(at) }, text);
}

const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
export const count = (n) => compact.format(n || 0);
export const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;

// avatar is the picture of a user, or the first letter of the handle on a
// colour that stays with the handle.
export function avatar(user, size = '') {
  const box = h('span', { class: `avatar ${size}`, 'aria-hidden': 'true' });
  const url = webURL(user.avatar_url);
  if (url) {
    box.append(h('img', { src: url, alt: '', width: 40, height: 40 }));
    return box;
  }
  let sum = 7;
  for (const c of user.handle || '') sum = (Math.imul(sum, 31) + c.codePointAt(0)) >>> 0;
  box.style.setProperty('--hue', Math.round((sum * 137.508) % 360));
  box.append((user.handle || '?').replace(/^_+/, '').charAt(0) || '_');
  return box;
}

// webURL lets through what may stand in src and href.
export function webURL(url) {
  if (!url) return '';
  try {
    const u = new URL(url, location.origin);
    return u.protocol === 'http:' || u.protocol === 'https:' ? u.href : '';
  } catch {
    return '';
  }
}

export const userLink = (user, ...children) =>
  h('a', { class: 'handle', href: `#/@${user.handle}` }, children.length ? children : user.handle);

// said is a text of somebody with the handles in it as links to their profiles. A
// handle is what the server takes for one when it tells people that they are named.
export function said(text) {
  const parts = [];
  let from = 0;
  for (const m of text.matchAll(/(?<![A-Za-z0-9_.])@([A-Za-z0-9_](?:\.?[A-Za-z0-9_])*)/g)) {
    if (m[1].length > 32) continue;
    parts.push(text.slice(from, m.index), h('a', { class: 'named', href: `#/@${m[1].toLowerCase()}` }, m[0]));
    from = m.index + m[0].length;
  }
  return [...parts, text.slice(from)];
}

export function empty(drawing, title, text, ...actions) {
  return h('section', { class: 'empty', testid: 'empty' },
    h('span', { class: 'empty-art' }, icon(drawing)),
    h('h2', null, title), h('p', null, text),
    actions.length > 0 && h('p', { class: 'row center' }, actions));
}

// busy keeps a button from being pressed twice while its work is under way. A browser takes
// the focus from what is disabled; the button gets it back if nothing else has it by then.
export async function busy(button, work) {
  if (button.disabled) return;
  const focused = document.activeElement === button;
  button.disabled = true;
  button.setAttribute('aria-busy', 'true');
  try {
    await work();
  } finally {
    button.disabled = false;
    button.removeAttribute('aria-busy');
    if (focused && document.activeElement === document.body) button.focus({ preventScroll: true });
  }
}
