// The shell around the views: routes, navigation, focus, what is kept for the
// way back.

import { on } from './bus.js';
import { avatar, empty, fill, h, icon, retitle } from './dom.js';
import { load, viewer } from './state.js';
import { oops } from './toast.js';
import { unreadCount } from './told.js';
import { signIn, signUp } from './views/auth.js';
import { feed } from './views/feed.js';
import { notifications } from './views/notifications.js';
import { list, people } from './views/people.js';
import { photo } from './views/photo.js';
import { deleted, profile } from './views/profile.js';
import { at, search, tagged } from './views/search.js';
import { settings } from './views/settings.js';
import { dropAnywhere, upload } from './views/upload.js';

// A route: pattern of the hash, view, whether it needs a login.
const routes = [
  [/^\/$/, feed, true],
  [/^\/signin$/, signIn],
  [/^\/signup$/, signUp],
  [/^\/upload$/, upload, true],
  [/^\/people$/, people, true],
  [/^\/notifications$/, notifications, true],
  [/^\/deleted$/, deleted, true],
  [/^\/settings$/, settings, true],
  [/^\/p\/([0-9a-z]{1,26})$/, photo],
  [/^\/search(?:\/.*)?$/s, search],
  [/^\/t\/([^/]+)$/, tagged],
  [/^\/place\/([0-9a-z]{13})$/, at],
  [/^\/@([a-z0-9_.]{1,32})$/, profile],
  [/^\/@([a-z0-9_.]{1,32})\/(followers|following)$/, list],
];

const keepViews = 6; // left views kept for the way back
const kept = new Map(); // history key → {view, scroll}
let current = null; // {key, view, abort}
let shown = 0; // counts navigations; a late view of an earlier one is dropped

const shell = document.getElementById('shell');
const main = h('main', { id: 'content', tabindex: '-1' });
let shellFor; // undefined: not built yet
let shellGone = new AbortController(); // of the shell that is shown

function where() {
  const path = decodeURI(location.hash.replace(/^#/, '')) || '/';
  return path.startsWith('/') ? path : null;
}

// historyKey names this entry of the history; entries get theirs on the first
// visit, so one that has it already is a way back or forth.
function historyKey() {
  const seen = history.state?.key;
  if (seen) return [seen, true];
  const key = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
  history.replaceState({ key }, '');
  return [key, false];
}

function keepCurrent() {
  if (!current) return;
  if (current.view.keep) {
    kept.set(current.key, { view: current.view, abort: current.abort, scroll: scrollY });
    if (kept.size > keepViews) drop(kept.keys().next().value);
  } else {
    current.abort.abort();
  }
  current = null;
}

function drop(key) {
  kept.get(key)?.abort.abort();
  kept.delete(key);
}

function dropAll() {
  for (const key of [...kept.keys()]) drop(key);
  current?.abort.abort();
  current = null;
}

function match(path) {
  for (const [pattern, view, login] of routes) {
    const m = pattern.exec(path);
    if (m) return { view, login, args: m.slice(1) };
  }
  return null;
}

async function navigate() {
  let path;
  try {
    path = where();
  } catch {
    path = '/nowhere';
  }
  if (path === null) return; // the skip link
  const turn = ++shown;
  keepCurrent();
  const [key, visited] = historyKey();
  const back = visited && kept.get(key);
  if (back) {
    kept.delete(key);
    show(key, back.view, back.abort, back.scroll);
    return;
  }
  const route = match(path);
  if (route?.login && !viewer()) {
    location.replace(path === '/' ? '#/signup' : '#/signin');
    return;
  }
  const abort = new AbortController();
  const wait = setTimeout(() => turn === shown && fill(main, h('div', { class: 'loading' }, h('span', { class: 'spinner', role: 'progressbar', 'aria-label': 'Loading' }))), 200);
  let view;
  try {
    view = route ? await route.view({ me: viewer(), signal: abort.signal }, ...route.args) : missing();
  } catch (e) {
    view = failed(e);
  }
  clearTimeout(wait);
  if (turn !== shown) {
    abort.abort();
    return;
  }
  show(key, view, abort, 0);
}

function show(key, view, abort, scroll) {
  current = { key, view, abort };
  build(view.plain);
  fill(main, view.node);
  main.className = view.wide ? 'wide' : '';
  retitle(view.title);
  markNav();
  scrollTo(0, scroll);
  view.shown?.();
  if (!view.ownFocus) main.focus({ preventScroll: true });
}

const missing = () => ({ title: 'Not found', node: empty('photo', 'Nothing here', 'This page does not exist, or it is not for you to see.', h('a', { class: 'button', href: '#/' }, 'Go home')) });

function failed(e) {
  if (e.status === 404) return missing();
  if (e.status === 401) {
    load().catch(oops);
    return { title: 'Sign in', node: empty('lock', 'Please sign in', 'Your session has ended.', h('a', { class: 'button', href: '#/signin' }, 'Sign in')) };
  }
  return { title: 'Error', node: empty('warn', 'That did not work', e.message || 'Something went wrong.', h('button', { class: 'button', type: 'button', onclick: navigate }, 'Try again')) };
}

function navLink(href, drawing, text, testid) {
  return h('a', { class: 'nav-link', href, testid, onclick: (e) => again(e, href) }, drawing, h('span', null, text));
}

// again: a click on the place one is at loads it anew.
function again(e, href) {
  if (location.hash !== href) return;
  e.preventDefault();
  current?.abort.abort();
  current = null;
  navigate();
}

function build(plain) {
  const me = viewer();
  const want = plain ? 'plain' : me ? `me ${me.id} ${me.avatar_url || ''}` : 'guest';
  if (shellFor === want) return;
  shellFor = want;
  shellGone.abort();
  shellGone = new AbortController();
  const brand = h('a', { class: 'brand', href: '#/', 'aria-label': 'Hayloft, home', onclick: (e) => me && again(e, '#/') }, mark(), h('span', null, 'Hayloft'));
  const links = me
    ? [navLink('#/', icon('home'), 'Home', 'nav-home'), navLink('#/search', icon('search'), 'Search', 'nav-search'), navLink('#/people', icon('people'), 'People', 'nav-people'),
      bell(), navLink('#/upload', icon('add'), 'Upload', 'nav-upload'), navLink(`#/@${me.handle}`, avatar(me, 'tiny'), 'Profile', 'nav-profile')]
    : [navLink('#/search', icon('search'), 'Search', 'nav-search'), navLink('#/signin', icon('user'), 'Sign in', 'nav-signin'), navLink('#/signup', icon('add'), 'Sign up', 'nav-signup')];
  document.body.className = plain ? 'plain' : '';
  fill(shell, !plain && h('header', { class: 'bar' }, brand, h('nav', { 'aria-label': 'Main', class: 'nav' }, links)), main);
}

// bell leads to the notifications and says how many are unread.
function bell() {
  const n = h('b', { class: 'badge', testid: 'unread' });
  const a = navLink('#/notifications', h('span', { class: 'avatar bell' }, icon('bell'), n), 'Notifications', 'nav-notifications');
  const show = () => {
    const count = unreadCount();
    n.textContent = count >= 99 ? '99+' : count || '';
    n.hidden = !count;
    a.setAttribute('aria-label', count ? `Notifications, ${count} unread` : 'Notifications');
  };
  on('unread', shellGone.signal, show);
  show();
  return a;
}

// mark is the sign of the house: a gable with its hatch.
function mark() {
  const svg = icon('home');
  svg.setAttribute('class', 'mark');
  svg.firstChild.setAttribute('d', 'M12 2 22 9.500V22H2V9.500zM8 22v-8.500a4 4 0 0 1 8 0V22M8 16.500h8');
  return svg;
}

function markNav() {
  for (const a of shell.querySelectorAll('.nav-link')) {
    const href = a.getAttribute('href');
    const here = location.hash || '#/';
    if (href === here || (href === '#/search' && here.startsWith('#/search/'))) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
}

on('me', undefined, () => dropAll());
on('face', undefined, () => { // a new picture: the bar shows it, kept views are made anew
  for (const key of [...kept.keys()]) drop(key);
  shell.querySelector('[data-testid="nav-profile"] .avatar')?.replaceWith(avatar(viewer(), 'tiny'));
});
addEventListener('hashchange', navigate);
document.querySelector('.skip').addEventListener('click', (e) => {
  e.preventDefault();
  main.focus();
});
history.scrollRestoration = 'manual';
dropAnywhere();

load().catch(oops).finally(navigate);
