package timeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"hayloft/internal/clock"
	"hayloft/internal/id"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	reader = id.ID(11)
	author = id.ID(22)
)

// at is the n-th position.
func at(n int) id.ID { return id.Make(id.Millis(5000+n), 3, 0) }

func post(n int, by id.ID) Post { return Post{Pos: at(n), Photo: at(n) + 1, Author: by} }

type fixture struct {
	t     *testing.T
	m     *model
	clock *clock.Fake
	fs    *vfs.MemFS
	o     Options
	s     *Store
	saw   []Notice
}

func newFixture(t *testing.T, change func(*Options)) *fixture {
	f := &fixture{t: t, m: newModel(), clock: clock.NewFake(id.Epoch.Add(time.Hour)), fs: vfs.NewMem()}
	f.o = Options{
		Dirs: []string{"a/t"}, Source: f.m, Clock: f.clock, FS: f.fs, Cap: 3, MemoryBytes: 256 << 10, CacheBytes: 1 << 20,
		Notify: func(n Notice) { f.saw = append(f.saw, n) },
	}
	if change != nil {
		change(&f.o)
	}
	f.open()
	t.Cleanup(func() {
		if err := f.s.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	s, err := Open(f.o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.s = s
}

func (f *fixture) reopen() {
	f.t.Helper()
	if err := f.s.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.open()
}

// rest steps the writer until there is nothing left to do.
func (f *fixture) rest() {
	f.t.Helper()
	for {
		worked, err := f.s.step()
		if err != nil {
			f.t.Fatal(err)
		}
		if !worked {
			return
		}
	}
}

// see checks the reader's feed against the model.
func (f *fixture) see() {
	f.t.Helper()
	got, next, err := f.s.Page(context.Background(), reader, 0, 100, f.m.visible(reader))
	if err != nil || next != 0 {
		f.t.Fatalf("next %v, %v", next, err)
	}
	want := f.m.feed(reader)
	same := func(a, b Post) bool { return a.Pos == b.Pos && a.Photo == b.Photo && a.Author == b.Author }
	if !slices.EqualFunc(got, want, same) {
		f.t.Fatalf("got%s, want%s", show(got), show(want))
	}
}

// built makes the reader, who follows the author of n posts, have a timeline.
func (f *fixture) built(n int) {
	f.t.Helper()
	f.m.follow(reader, author)
	for i := range n {
		f.m.publish(post(i, author))
	}
	f.rest()
	f.see()
	f.rest()
	if _, ok := f.s.readers[reader]; !ok {
		f.t.Fatal("a page did not lead to a timeline")
	}
	f.see()
}

func (f *fixture) rows(kind byte) (n int) {
	f.t.Helper()
	if err := scan(f.s.in.db, kind, func(_, _ []byte) error { n++; return nil }); err != nil {
		f.t.Fatal(err)
	}
	return n
}

func TestOnlyPushToBuiltReaders(t *testing.T) {
	f := newFixture(t, nil)
	f.m.follow(reader+1, author) // never comes
	f.built(2)
	f.m.publish(post(2, author))
	pull := post(3, author)
	pull.Pull = true
	f.m.publish(pull)
	f.rest()
	f.see()
	r, err := readTimeline(f.s.in.db, reader)
	if err != nil {
		t.Fatal(err)
	}
	if want := []id.ID{at(2), at(1), at(0)}; !slices.Equal(r.pos, want) || r.floor != 0 {
		t.Errorf("timeline %v above %v, want %v above 0", r.pos, r.floor, want)
	}
	if n := f.rows(keyTimeline); n != 1 {
		t.Errorf("%d timelines, want 1", n)
	}
	if st := f.s.Stats(); st.Skipped != 1 || st.Deliveries != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestAbsentReaderIsForgottenAndComesBack(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.ActiveWindow = 10 * time.Hour })
	f.built(2)
	f.clock.Advance(9 * time.Hour)
	f.see() // here: stays
	f.rest()
	f.clock.Advance(9 * time.Hour)
	f.rest()
	if f.rows(keyTimeline) != 1 {
		t.Fatal("forgotten though it was here nine hours ago")
	}
	f.clock.Advance(12 * time.Hour)
	f.rest()
	if f.rows(keyTimeline) != 0 || f.rows(keyReader) != 0 || f.s.Stats().Readers != 0 {
		t.Fatal("an absent reader keeps a timeline")
	}
	f.m.publish(post(5, author))
	f.rest()
	if d := f.s.Stats().Deliveries; d != 0 {
		t.Errorf("%d deliveries to nobody", d)
	}
	f.see()
	f.rest()
	if f.rows(keyTimeline) != 1 {
		t.Error("not built on return")
	}
	f.see()
}

func TestTooManyFolloweesPull(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxFollowees = 4 })
	f.built(2)
	for i := range 5 { // six in all: above 4 + 4/4
		f.m.follow(reader, author+id.ID(i)+1)
	}
	f.rest()
	f.see()
	f.rest()
	if n := f.rows(keyTimeline); n != 0 {
		t.Errorf("%d timelines, want none", n)
	}
	f.see()
	f.rest()
	if n := f.rows(keyTimeline); n != 0 {
		t.Errorf("built for one who pulls")
	}
}

// TestDamage: whatever is wrong with the instance, pages are right and the
// writer mends it.
func TestDamage(t *testing.T) {
	timelineKey := key8(keyTimeline, uint64(reader))
	tests := []struct {
		name   string
		damage func(f *fixture) error
		wipes  bool
	}{
		{"format", func(f *fixture) error { return f.s.in.db.Set(key1(keyFormat), encodeU64(9), pebble.NoSync) }, true},
		{"state", func(f *fixture) error { return f.s.in.db.Set(key1(keyState), []byte{1}, pebble.NoSync) }, true},
		{"reader row", func(f *fixture) error { return f.s.in.db.Set(key8(keyReader, uint64(reader)), nil, pebble.NoSync) }, true},
		{"timeline", func(f *fixture) error { return f.s.in.db.Set(timelineKey, []byte("nonsense"), pebble.NoSync) }, false},
		{"no base", func(f *fixture) error {
			return f.s.in.db.Set(timelineKey, appendRun(nil, run{pos: []id.ID{at(1)}}), pebble.NoSync)
		}, false},
		{"post row", func(f *fixture) error { return f.s.in.db.Delete(key8(keyPost, uint64(at(1))), pebble.NoSync) }, false},
		{"blocks", func(f *fixture) error { return flipBlocks(f) }, true},
		{"missing file", func(f *fixture) error { return removeTables(f) }, true},
		{"cursor of another feed", func(f *fixture) error {
			return f.s.in.db.Set(key1(keyState), encodeState(state{cursor: 99}), pebble.NoSync)
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.built(2)
			if err := tt.damage(f); err != nil {
				t.Fatal(err)
			}
			f.reopen()
			f.see()
			f.rest()
			f.see()
			f.m.publish(post(7, author))
			f.see()
			f.rest()
			f.see()
			f.rest()
			f.see()
			if r, err := readTimeline(f.s.in.db, reader); err != nil || len(r.pos) != 3 {
				t.Errorf("timeline not mended: %v, %v", r, err)
			}
			wiped := slices.ContainsFunc(f.saw, func(n Notice) bool { return n.Kind == Wiped })
			if wiped != tt.wipes {
				t.Errorf("wiped %v, want %v: %v", wiped, tt.wipes, f.saw)
			}
		})
	}
}

func tables(f *fixture) ([]string, error) {
	if err := f.s.in.db.Flush(); err != nil {
		return nil, err
	}
	names, err := f.fs.List("a/t/db")
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".sst") })
	if err == nil && len(names) == 0 {
		err = errors.New("no tables")
	}
	return names, err
}

// flipBlocks damages the data of every table, but not what is read at open.
func flipBlocks(f *fixture) error {
	names, err := tables(f)
	for _, n := range names {
		file, oerr := f.fs.OpenReadWrite("a/t/db/"+n, vfs.WriteCategoryUnspecified)
		if oerr != nil {
			return oerr
		}
		_, werr := file.WriteAt([]byte{0x55, 0xaa, 0x55}, 8)
		err = errors.Join(err, werr, file.Close())
	}
	return err
}

func removeTables(f *fixture) error {
	names, err := tables(f)
	for _, n := range names {
		err = errors.Join(err, f.fs.Remove("a/t/db/"+n))
	}
	return err
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll("d/db", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dirs: []string{"d"}, Source: newModel(), FS: mem}); err == nil {
		t.Fatal("opened in somebody else's directory")
	}
	if _, err := mem.Stat("d/db"); errors.Is(err, fs.ErrNotExist) {
		t.Fatal("somebody else's directory was touched")
	}
}

// TestSourceErrors: an error of the source is the caller's, and no damage.
func TestSourceErrors(t *testing.T) {
	boom := fmt.Errorf("boom: %w", pebble.ErrCorruption) // over there, not here
	for _, call := range []string{"Events", "LastSeq", "Followers", "Followees", "Posts", "HasPull"} {
		t.Run(call, func(t *testing.T) {
			f := newFixture(t, nil)
			f.built(2)
			f.m.publish(post(4, author))
			f.m.follow(reader, author+1)
			f.m.fail = func(c string) error {
				if c == call {
					return boom
				}
				return nil
			}
			pageErr := second3(f.s.Page(context.Background(), reader, 0, 9, f.m.visible(reader)))
			_, stepErr := f.s.step()
			if !errors.Is(pageErr, boom) && !errors.Is(stepErr, boom) {
				t.Errorf("page: %v, step: %v, want boom", pageErr, stepErr)
			}
			f.m.fail = nil
			f.see()
			f.rest()
			f.see()
			if w := f.s.Stats().Wipes; w != 0 {
				t.Errorf("wiped %d times", w)
			}
		})
	}
	f := newFixture(t, nil)
	f.built(2)
	_, _, err := f.s.Page(context.Background(), reader, 0, 9, func([]Post, []bool) error { return boom })
	if !errors.Is(err, boom) {
		t.Errorf("visible's error became %v", err)
	}
}

func second3[A, B any](_ A, _ B, err error) error { return err }

func TestPageRefuses(t *testing.T) {
	f := newFixture(t, nil)
	f.built(2)
	if _, _, err := f.s.Page(context.Background(), reader, 0, 0, nil); err == nil {
		t.Error("limit 0 was taken")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := f.s.Page(ctx, reader, 0, 5, f.m.visible(reader)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := f.s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.s.Page(context.Background(), reader, 0, 5, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	f.open()
}

func TestValidate(t *testing.T) {
	err := Options{Cap: -1, MaxFollowees: -2, CacheBytes: -3}.Validate()
	for _, want := range []string{"Dir", "Source", "Cap", "MaxFollowees", "CacheBytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// watched tells when the writer goes to sleep, and with which cursor.
type watched struct {
	*model
	asleep chan uint64
}

func (w watched) Wait(done <-chan struct{}, seq uint64) error {
	select {
	case w.asleep <- seq:
	case <-done:
		return errDone
	}
	return w.model.Wait(done, seq)
}

func TestRun(t *testing.T) {
	asleep := make(chan uint64)
	f := newFixture(t, func(o *Options) {
		o.Source = watched{o.Source.(*model), asleep}
		o.tune.flushEvery = time.Minute
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- f.s.Run(ctx) }()
	until := func(seq uint64) {
		t.Helper()
		for got := <-asleep; got < seq; got = <-asleep {
		}
	}
	until(0)
	if err := f.s.Run(ctx); err == nil {
		t.Error("Run ran twice")
	}
	f.m.follow(reader, author)
	f.m.publish(post(1, author))
	until(2)
	f.see() // asks for a timeline
	f.m.publish(post(2, author))
	until(3) // asleep, so the wish was granted
	if st := f.s.Stats(); st.Builds != 1 || st.Readers != 1 || st.Cursor != 3 {
		t.Errorf("stats %+v", st)
	}
	f.m.publish(post(3, author))
	until(4)
	f.see()
	if st := f.s.Stats(); st.Deliveries == 0 || st.PulledPages != 1 {
		t.Errorf("stats %+v", st)
	}
	if d := f.s.DurableCursor(); d != 0 {
		t.Errorf("durable %d before any flush", d)
	}
	for f.clock.Waiters() == 0 {
		runtime.Gosched()
	}
	f.clock.Advance(2 * time.Minute)
	for f.s.DurableCursor() != 4 {
		runtime.Gosched()
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	f.reopen()
	if f.s.DurableCursor() != 4 {
		t.Errorf("durable %d after a clean stop", f.s.DurableCursor())
	}
	f.see()
}

func TestRunReportsTheSourcesError(t *testing.T) {
	f := newFixture(t, nil)
	f.m.fail = func(string) error { return errors.New("boom") }
	if err := f.s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("Run returned %v", err)
	}
	f.m.fail = nil
}

func TestRequestsAreBounded(t *testing.T) {
	var r requests
	r.init(2)
	if !r.add(1, touch) || !r.add(2, build) || r.add(3, build) || !r.add(1, rebuild) {
		t.Fatal("not bounded by readers")
	}
	if who, w, ok := r.take(); who != 1 || w != rebuild || !ok {
		t.Errorf("took %v %v %v", who, w, ok)
	}
	if !r.add(3, drop) || r.len() != 2 {
		t.Error("no room after take")
	}
}
