package search

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/feed/derived"
	"hayloft/internal/id"
	"hayloft/internal/testenv"
)

// fake is a source over plain maps.
type fake struct {
	mu      sync.Mutex
	photos  map[id.ID]*Photo
	names   map[id.ID]string
	changes map[id.ID]Change // by subject
	last    uint64
	partial bool // the list is not whole
	changed chan struct{}
}

func newFake() *fake {
	return &fake{photos: map[id.ID]*Photo{}, names: map[id.ID]string{}, changes: map[id.ID]Change{}, changed: make(chan struct{})}
}

// put makes or changes a photo; its position is its id.
func (f *fake) put(p Photo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.Pos = p.ID
	f.photos[p.ID] = &p
	f.note(Change{Kind: PhotoChanged, ID: p.ID, Pos: p.Pos})
}

func (f *fake) remove(photo id.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.photos, photo)
	f.note(Change{Kind: PhotoChanged, ID: photo, Pos: photo})
}

func (f *fake) name(user id.ID, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names[user] = name
	f.note(Change{Kind: AccountChanged, ID: user})
}

func (f *fake) note(c Change) {
	f.last++
	c.Seq = f.last
	f.changes[c.ID] = c
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fake) Snapshot() (Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fakeSnapshot{fake{photos: maps.Clone(f.photos), names: maps.Clone(f.names), changes: maps.Clone(f.changes), last: f.last, partial: f.partial}}, nil
}

type fakeSnapshot struct{ fake }

func (s *fakeSnapshot) Changes(after uint64, limit int) (out []Change, err error) {
	for _, c := range slices.SortedFunc(maps.Values(s.changes), func(a, b Change) int { return int(a.Seq) - int(b.Seq) }) {
		if c.Seq > after && len(out) < limit {
			out = append(out, c)
		}
	}
	return out, nil
}

func (s *fakeSnapshot) LastChange() (uint64, bool, error) { return s.last, !s.partial, nil }
func (s *fakeSnapshot) Photo(photo id.ID) (*Photo, error) { return s.photos[photo], nil }
func (s *fakeSnapshot) Name(user id.ID) (string, error)   { return s.names[user], nil }
func (s *fakeSnapshot) Close() error                      { return nil }

// rig is a store over a fake source.
type rig struct {
	t     *testing.T
	src   *fake
	fs    *vfs.MemFS
	s     *Store
	wiped []error
	stop  func()
}

func newRig(t *testing.T, tune tuning) *rig {
	r := &rig{t: t, src: newFake(), fs: vfs.NewCrashableMem()}
	r.open(tune)
	t.Cleanup(func() {
		r.halt()
		if err := r.s.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) open(tune tuning) {
	s, err := Open(Options{Dirs: []string{"one", "two"}, Source: r.src, FS: r.fs, CacheBytes: 1 << 20, MemoryBytes: 1 << 20, tune: tune, Notify: func(n derived.Notice) {
		if n.Kind == derived.Wiped {
			r.wiped = append(r.wiped, n.Err)
		}
	}})
	r.must(err)
	r.s = s
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.s.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.t.Errorf("Run: %v", err)
		}
	}
}

func (r *rig) halt() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// settle takes the writer to where it has nothing to do.
func (r *rig) settle() {
	r.t.Helper()
	for worked := true; worked; {
		var err error
		worked, err = r.s.step()
		r.must(err)
	}
}

func (r *rig) await(ok func() bool) {
	r.t.Helper()
	for limit := time.After(testenv.Patience); !ok(); <-time.After(time.Millisecond) {
		select {
		case <-limit:
			r.t.Fatal("it does not happen")
		default:
		}
	}
}

// find returns all photos for a query, and in how many pages they came.
func (r *rig) find(text string) (found []id.ID, pages int, err error) {
	for before := id.ID(0); ; pages++ {
		var next id.ID
		err = r.s.View(func(x *Index) error {
			snap, _ := r.src.Snapshot()
			if err := x.Join(snap); err != nil {
				return err
			}
			next, err = x.Photos(ParseQuery(text), before, func(_, photo id.ID) (bool, error) {
				found = append(found, photo)
				return false, nil
			})
			return err
		})
		if err != nil || next == 0 {
			return found, pages + 1, err
		}
		before = next
	}
}
