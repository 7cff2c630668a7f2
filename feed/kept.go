package feed

import (
	"reflect"
	"sync"
	"sync/atomic"

	"hayloft/internal/id"
)

// rows are decoded rows that views share: what most pages need, again and again
// (decision 219). They are exact. Each holds from a version on until it is dropped,
// and a view takes only what holds at the version that it shows at least:
//
//   - The machine drops what a batch changes before the batch can be seen, and counts
//     a version up once it can.
//   - A view takes the version first and its snapshot second, so it shows that version
//     or a later one. What is kept meanwhile has not changed since.
//   - A row read from a snapshot is kept only if nothing near it has changed after the
//     version of its view: an old row never comes back.
//
// Kept rows are shared: nobody changes them. Views use it from many goroutines; change,
// show and forget are the apply goroutine's.
type rows struct {
	shown    atomic.Uint64 // the version that every snapshot taken from now on shows, or a later one
	accounts keep[accountRow]
	photos   keep[photoRow]
	circles  keep[circle] // by their owner
	heads    keep[head]   // by their author
}

// limit bounds the memory, in bytes; 0: nothing is kept.
func (r *rows) limit(bytes int64) {
	part := bytes / 16
	r.photos.limit(6 * part)
	r.circles.limit(4 * part)
	r.accounts.limit(4 * part)
	r.heads.limit(2 * part)
}

// change drops what ops will change, once the batch that they go into is committed.
func (r *rows) change(ops []op) {
	at := r.shown.Load() + 1
	for _, o := range ops {
		if o.kind == opDeleteRange {
			r.changeRange(o.key[0], o.value[0])
			continue
		}
		switch o.key[0] {
		case tabAccount:
			r.accounts.drop(id.ID(parseBE(o.key[1:])), at)
		case tabPhoto:
			r.photos.drop(id.ID(parseBE(o.key[1:])), at)
		case tabFollow, tabBlock, tabBlockedBy, tabMute:
			r.circles.drop(id.ID(parseBE(o.key[1:])), at)
		case tabPosts:
			r.heads.drop(id.ID(parseBE(o.key[1:])), at)
		}
	}
}

// changeRange is change for all rows of some tables.
func (r *rows) changeRange(first, last byte) {
	for _, table := range []byte{tabAccount, tabPhoto, tabFollow, tabBlock, tabBlockedBy, tabMute, tabPosts} {
		if first <= table && table <= last {
			r.forget()
			return
		}
	}
}

// show tells that all changes can be seen.
func (r *rows) show() { r.shown.Add(1) }

// forget drops everything. What views that have begun read is not kept either, nor
// what others read until the next batch is applied: by then whoever takes a
// snapshot takes it of the instance that the machine was given last.
func (r *rows) forget() {
	at := r.shown.Load() + 1
	r.accounts.forget(at)
	r.photos.forget(at)
	r.circles.forget(at)
	r.heads.forget(at)
}

const (
	keepShards  = 16
	keepStripes = 64 // keys of a shard that share the version of their last change
)

// keep is the rows of one kind, by id. What was not asked for the longest goes
// first, roughly.
type keep[T any] struct{ shards [keepShards]keepShard[T] }

type keepShard[T any] struct {
	mu         sync.Mutex // guards all below
	room       int64      // bytes of each generation
	floor      uint64     // version from which on rows may be kept
	changed    [keepStripes]uint64
	young, old map[id.ID]kept[T] // old was young until that was full
	size       int64             // of young, in bytes
}

type kept[T any] struct {
	row   *T
	since uint64 // version
	size  int64
}

// place is where an id is kept.
func (k *keep[T]) place(of id.ID) (s *keepShard[T], changed *uint64) {
	hash := uint64(of) * 0x9e3779b97f4a7c15
	s = &k.shards[hash>>60]
	return s, &s.changed[hash>>54%keepStripes]
}

func (k *keep[T]) limit(bytes int64) {
	for i := range k.shards {
		s := &k.shards[i]
		s.mu.Lock()
		s.room, s.size, s.young, s.old = bytes/keepShards/2, 0, nil, nil
		s.mu.Unlock()
	}
}

// get returns a row for a view of version at; nil: it is not kept.
func (k *keep[T]) get(of id.ID, at uint64) *T {
	s, _ := k.place(of)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.young[of]
	if !ok {
		if e, ok = s.old[of]; ok {
			delete(s.old, of)
			s.add(of, e)
		}
	}
	if !ok || e.since > at {
		return nil
	}
	return e.row
}

// put keeps a row that a view of version at has read, in place of what is kept: that may
// say less. size is its memory in bytes.
func (k *keep[T]) put(of id.ID, at uint64, row *T, size int64) {
	s, changed := k.place(of)
	s.mu.Lock()
	defer s.mu.Unlock()
	since := max(*changed, s.floor)
	if since > at || size > s.room {
		return
	}
	if e, ok := s.young[of]; ok {
		s.size -= e.size
		delete(s.young, of)
	}
	delete(s.old, of)
	s.add(of, kept[T]{row, since, size})
}

// add is called under mu.
func (s *keepShard[T]) add(of id.ID, e kept[T]) {
	if s.size+e.size > s.room || s.young == nil {
		s.young, s.old, s.size = map[id.ID]kept[T]{}, s.young, 0
	}
	s.young[of] = e
	s.size += e.size
}

func (k *keep[T]) drop(of id.ID, at uint64) {
	s, changed := k.place(of)
	s.mu.Lock()
	defer s.mu.Unlock()
	*changed = at
	if e, ok := s.young[of]; ok {
		s.size -= e.size
		delete(s.young, of)
	}
	delete(s.old, of)
}

func (k *keep[T]) forget(at uint64) {
	for i := range k.shards {
		s := &k.shards[i]
		s.mu.Lock()
		s.floor, s.size, s.young, s.old = at, 0, nil, nil
		s.mu.Unlock()
	}
}

// entryBytes is what a kept row costs beside itself.
const entryBytes = 128

var (
	accountBytes = int64(reflect.TypeFor[accountRow]().Size()) + entryBytes
	photoBytes   = int64(reflect.TypeFor[photoRow]().Size()) + entryBytes
	variantBytes = int(reflect.TypeFor[Variant]().Size())
)

// memory is about how many bytes a row takes.
func (r *accountRow) memory() int64 {
	return accountBytes + int64(len(r.Handle)+len(r.Name)+len(r.Bio)+len(r.PasswordHash))
}

func (r *photoRow) memory() int64 {
	d, m := &r.Details, &r.Rendition
	n := len(d.Title) + len(d.Caption) + len(d.Alt) + 8*len(d.People) + len(r.Master.ContentType) +
		len(m.Placeholder) + len(m.Colour) + variantBytes*len(m.Variants)
	for _, tag := range d.Tags {
		n += 16 + len(tag)
	}
	if d.Location != nil {
		n += 32 + len(d.Location.Name)
	}
	if r.Failure != nil || r.Upload != nil {
		n += 256
	}
	return photoBytes + int64(n)
}

// shelf is where a view finds rows that others have read.
type shelf struct {
	rows *rows  // nil: nothing is kept
	at   uint64 // version that the view shows at least
}

// shelf is taken before the snapshot that it goes with.
func (r *rows) shelf() shelf { return shelf{r, r.shown.Load()} }

func (s shelf) account(user id.ID) *accountRow {
	if s.rows == nil {
		return nil
	}
	return s.rows.accounts.get(user, s.at)
}

func (s shelf) photo(photo id.ID) *photoRow {
	if s.rows == nil {
		return nil
	}
	return s.rows.photos.get(photo, s.at)
}

// keepAccount and keepPhoto take what was read from the snapshot; nil is not kept.
func (s shelf) keepAccount(a *accountRow) {
	if s.rows != nil && a != nil {
		s.rows.accounts.put(a.ID, s.at, a, a.memory())
	}
}

func (s shelf) keepPhoto(p *photoRow) {
	if s.rows != nil && p != nil {
		s.rows.photos.put(p.ID, s.at, p, p.memory())
	}
}
