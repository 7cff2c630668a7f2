// Lists that go on: the next page is fetched before the reader gets to the end,
// and by a button for those who do not scroll.

import { fill, h } from './dom.js';

// pager fills el from fetchPage(cursor, signal). row makes the element of one
// item. options: signal; empty, a function giving what to show for an empty
// list; first, told when the first page is there; manual, to wait for the button.
export function pager(el, fetchPage, row, { signal, empty, first, manual } = {}) {
  const end = h('div', { class: 'pager' });
  el.after(end);
  let cursor = '';
  let loading = false;
  let done = false;
  let rows = 0;

  async function more() {
    if (loading || done) return;
    loading = true;
    fill(end, h('span', { class: 'spinner', role: 'progressbar', 'aria-label': 'Loading' }));
    try {
      const page = await fetchPage(cursor, signal);
      el.append(...page.items.map(row));
      rows += page.items.length; // none is no end: a page may be short
      const started = cursor === '';
      cursor = page.next_cursor || '';
      done = !cursor;
      fill(end, done && rows === 0 && empty ? empty() : null);
      if (started && first) first(page);
    } catch (e) {
      if (e.name === 'AbortError') return;
      fill(end, h('p', { class: 'error', role: 'alert' }, e.message), h('button', { type: 'button', class: 'button', onclick: again }, 'Try again'));
      return;
    } finally {
      loading = false;
    }
    if (!done && manual) fill(end, h('button', { type: 'button', class: 'link', testid: 'more', onclick: more }, 'Show more'));
    else if (!done) watch();
  }

  // watch looks again whether the end is near: a page may have been shorter than the screen.
  function watch() {
    if (manual || !eye) return;
    eye.unobserve(end);
    eye.observe(end);
  }

  function again() {
    loading = false;
    more();
  }

  const eye = manual ? null : new IntersectionObserver((seen) => seen.some((s) => s.isIntersecting) && cursor && more(), { rootMargin: '1200px' });
  signal?.addEventListener('abort', () => eye?.disconnect());
  return { start: more, end };
}
