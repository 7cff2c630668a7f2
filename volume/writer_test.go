package volume

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// gate is a Fault hook that holds calls of one kind until told.
type gate struct {
	kind    vfs.OpKind
	arrived chan struct{} // one value per held call
	pass    chan struct{} // one value lets one call through; closed: all
	mu      sync.Mutex
	on      bool
}

func newGate(kind vfs.OpKind) *gate {
	return &gate{kind: kind, arrived: make(chan struct{}, 100), pass: make(chan struct{})}
}

func (g *gate) set(on bool) {
	g.mu.Lock()
	g.on = on
	g.mu.Unlock()
}

func (g *gate) isOn() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.on
}

func (g *gate) before(op vfs.Op) vfs.Outcome {
	if g.isOn() && op.Kind == g.kind {
		g.arrived <- struct{}{}
		<-g.pass
	}
	return vfs.Outcome{}
}

// TestReadersDoNotWait: while a sync hangs, reads go on, what is being synced
// is not visible, and puts that queue up meanwhile share the next sync.
func TestReadersDoNotWait(t *testing.T) {
	g := newGate(vfs.OpSync)
	v := create(t, &vfs.Fault{FS: newMem(t, 1), Before: g.before})
	mustAppend(t, v, testNeedle(1, 0, 100))
	syncs := v.Stats().Syncs
	g.set(true)
	results := make(chan error, 20)
	put := func(n Needle) { results <- v.Append(bg, []Needle{n}) }
	go put(testNeedle(2, 0, 100))
	<-g.arrived
	for key := range id.ID(9) {
		go put(testNeedle(10+key, 0, 100))
	}
	for { // until all of them are queued
		v.queue.mu.Lock()
		n := len(v.queue.ops)
		v.queue.mu.Unlock()
		if n == 9 {
			break
		}
		runtime.Gosched()
	}
	mustRead(t, v, testNeedle(1, 0, 100))
	wantErr(t, readErr(v, testNeedle(2, 0, 100)), ErrNotFound)
	if v.Has(2) {
		t.Fatal("unsynced needle is visible")
	}
	select {
	case err := <-results:
		t.Fatalf("acknowledged before the sync: %v", err)
	default:
	}
	g.set(false)
	close(g.pass)
	for range 10 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	if got := v.Stats().Syncs - syncs; got != 2 {
		t.Fatalf("%d syncs, want 2", got)
	}
	mustRead(t, v, testNeedle(2, 0, 100))
	mustRead(t, v, testNeedle(18, 0, 100))
	closeVolume(t, v)
}

// TestCancel: a context that ends takes a queued put back; one that the writer
// has is waited for, since it still reads the caller's bytes.
func TestCancel(t *testing.T) {
	g := newGate(vfs.OpSync)
	v := create(t, &vfs.Fault{FS: newMem(t, 1), Before: g.before})
	g.set(true)
	ctx, cancel := context.WithCancel(bg)
	taken, queued := make(chan error, 1), make(chan error, 1)
	go func() { taken <- v.Append(ctx, []Needle{testNeedle(1, 0, 100)}) }()
	<-g.arrived
	go func() { queued <- v.Append(ctx, []Needle{testNeedle(2, 0, 100)}) }()
	for queuedOps := 0; queuedOps == 0; {
		v.queue.mu.Lock()
		queuedOps = len(v.queue.ops)
		v.queue.mu.Unlock()
	}
	cancel()
	wantErr(t, <-queued, context.Canceled)
	select {
	case err := <-taken:
		t.Fatalf("returned while the writer had the bytes: %v", err)
	default:
	}
	g.set(false)
	close(g.pass)
	if err := <-taken; err != nil {
		t.Fatalf("it was written: %v", err)
	}
	wantErr(t, v.Append(ctx, []Needle{testNeedle(3, 0, 1)}), context.Canceled)
	_, err := v.Read(ctx, 1, 0, 1)
	wantErr(t, err, context.Canceled)
	mustRead(t, v, testNeedle(1, 0, 100))
	wantErr(t, readErr(v, testNeedle(2, 0, 100)), ErrNotFound)
	closeVolume(t, v)
}

// TestOneBatch: ops that meet in one batch see one another in order.
func TestOneBatch(t *testing.T) {
	v := create(t, newMem(t, 1))
	other := testNeedle(1, 0, 100)
	other.Data = append([]byte(nil), other.Data...)
	other.Data[5] ^= 1
	cookie := testNeedle(1, 0, 100)
	cookie.Cookie++
	master := testNeedle(1, 0, 100)
	master.Master = nil
	type step struct {
		put  []Needle
		del  id.ID
		want error
	}
	steps := []step{
		{put: []Needle{testNeedle(1, 0, 100), testNeedle(1, 1, 50)}},
		{put: []Needle{testNeedle(1, 0, 100)}},
		{put: []Needle{other}, want: ErrConflict},
		{put: []Needle{cookie}, want: ErrConflict},
		{put: []Needle{master}, want: ErrConflict},
		{put: []Needle{testNeedle(3, 0, 10), other}, want: ErrConflict}, // takes none of the group
		{put: []Needle{testNeedle(2, 0, 10)}},
		{del: 2},
		{del: 2},
		{put: []Needle{testNeedle(2, 0, 10)}, want: ErrTombstoned},
		{del: 9}, // never was
		{put: []Needle{testNeedle(9, 0, 10)}, want: ErrTombstoned},
	}
	for round := range 2 { // the second time against the file
		var ops []*op
		for _, s := range steps {
			o := &op{key: s.del, bytes: 128, done: make(chan error, 1)}
			if s.del == 0 {
				var err error
				if o, err = newPut(s.put); err != nil {
					t.Fatal(err)
				}
			}
			ops = append(ops, o)
		}
		v.queue.mu.Lock()
		v.queue.ops = append(v.queue.ops, ops...)
		v.queue.mu.Unlock()
		v.queue.signal()
		for i, o := range ops {
			want := steps[i].want
			if round == 1 && len(steps[i].put) > 0 && steps[i].put[0].Key == 2 {
				want = ErrTombstoned
			}
			if err := <-o.done; !errors.Is(err, want) {
				t.Fatalf("round %d, step %d: %v, want %v", round, i, err, want)
			}
		}
		if b := v.Stats().Batches; b != 1 {
			t.Fatalf("round %d: %d batches", round, b)
		}
	}
	s := v.Stats()
	if s.Needles != 2 || s.Tombstones != 2 || s.Deleted != 2 || s.Appended != 3 {
		t.Fatalf("stats: %+v", s)
	}
	mustRead(t, v, testNeedle(1, 1, 50))
	wantErr(t, readErr(v, testNeedle(3, 0, 10)), ErrNotFound)
	closeVolume(t, v)
}

// TestFullToTheByte: a volume takes exactly MaxBytes of records; padding may lie
// behind them. Deletes still work then.
func TestFullToTheByte(t *testing.T) {
	for _, cache := range []bool{true, false} {
		mem := newMem(t, 1)
		n := testNeedle(1, 1, 1000) // 64 + 1000 bytes
		o := Options{FS: mem, MaxBytes: dataStart + 8*1064, PageCache: cache}
		if !cache { // each one alone in blocks of its own
			o.MaxBytes = dataStart + 7*pageSize + 1064
		}
		v, err := Create("/d", testIdent, o)
		if err != nil {
			t.Fatal(err)
		}
		for key := range id.ID(7) {
			mustAppend(t, v, testNeedle(10+key, 1, 1000))
		}
		wantErr(t, v.Append(bg, []Needle{testNeedle(2, 1, 1001)}), ErrFull)
		wantErr(t, v.Append(bg, []Needle{n, testNeedle(1, 2, 0)}), ErrFull)
		mustAppend(t, v, n)
		if s := v.Stats(); cache && s.FileBytes != s.MaxBytes || !cache && s.FileBytes != dataStart+8*pageSize {
			t.Fatalf("%d of %d bytes", s.FileBytes, s.MaxBytes)
		}
		wantErr(t, v.Append(bg, []Needle{testNeedle(3, 1, 0)}), ErrFull)
		mustAppend(t, v, n) // is there already
		if err := v.Delete(bg, 10); err != nil {
			t.Fatal(err)
		}
		closeVolume(t, v)
		if v, err = Open("/d", 7, o); err != nil {
			t.Fatal(err)
		}
		mustRead(t, v, n)
		wantErr(t, readErr(v, testNeedle(10, 1, 1000)), ErrNotFound)
		wantErr(t, v.Append(bg, []Needle{testNeedle(3, 1, 0)}), ErrFull)
		closeVolume(t, v)
	}
}

// TestNoSpace: a full disk is foreseen: the put fails clearly, nothing is
// written or poisoned, and puts work again when there is room.
func TestNoSpace(t *testing.T) {
	full := false
	fault := &vfs.Fault{FS: newMem(t, 1), Before: func(op vfs.Op) vfs.Outcome {
		if full && op.Kind == vfs.OpAllocate {
			return vfs.Outcome{Err: unix.ENOSPC}
		}
		return vfs.Outcome{}
	}}
	v, events := openNew(t, fault)
	mustAppend(t, v, testNeedle(1, 0, 100))
	full = true
	before := v.Stats()
	big := testNeedle(2, 0, 1<<17)
	wantErr(t, v.Append(bg, []Needle{big}), ErrNoSpace)
	wantErr(t, v.Append(bg, []Needle{big}), unix.ENOSPC)
	if after := v.Stats(); after.FileBytes != before.FileBytes || after.Poisoned != nil {
		t.Fatalf("stats: %+v", after)
	}
	mustRead(t, v, testNeedle(1, 0, 100))
	mustAppend(t, v, testNeedle(3, 0, 100)) // fits into what is reserved
	full = false
	mustAppend(t, v, big)
	mustRead(t, v, big)
	if count(*events, EventNoSpace) != 2 || count(*events, EventPoisoned) != 0 {
		t.Fatalf("events: %+v", *events)
	}
	closeVolume(t, v)
}

func openNew(t testing.TB, fs vfs.FS) (*Volume, *[]Event) {
	t.Helper()
	closeVolume(t, create(t, fs))
	return openWatched(t, fs)
}

// TestAllocationNearlyFull: when the disk has no room for a whole chunk, what
// is needed is enough.
func TestAllocationNearlyFull(t *testing.T) {
	fault := &vfs.Fault{FS: newMem(t, 1), Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpAllocate && op.Len > 4096 {
			return vfs.Outcome{Err: unix.ENOSPC}
		}
		return vfs.Outcome{}
	}}
	v := create(t, fault)
	mustAppend(t, v, testNeedle(1, 0, 100))
	mustAppend(t, v, testNeedle(2, 0, 3000))
	closeVolume(t, v)
}

// TestShortWrite: part of a batch reaches the file; the volume is poisoned,
// readable, and a later process serves what was acknowledged.
func TestShortWrite(t *testing.T) {
	for _, short := range []int64{0, 1, 63, 64, 200, 1063} {
		failing := false
		mem := newMem(t, 1)
		fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
			if failing && op.Kind == vfs.OpWrite && op.Name == testFile {
				return vfs.Outcome{Err: unix.ENOSPC, Short: short}
			}
			return vfs.Outcome{}
		}}
		v, events := openNew(t, fault)
		mustAppend(t, v, testNeedle(1, 0, 100))
		failing = true
		err := v.Append(bg, []Needle{testNeedle(2, 1, 1000)})
		wantErr(t, err, ErrPoisoned)
		wantErr(t, err, ErrNoSpace)
		failing = false
		wantErr(t, v.Append(bg, []Needle{testNeedle(3, 0, 1)}), ErrPoisoned)
		if count(*events, EventPoisoned) != 1 {
			t.Fatalf("events: %+v", *events)
		}
		mustRead(t, v, testNeedle(1, 0, 100))
		closeVolume(t, v)
		v = reopen(t, mem)
		mustRead(t, v, testNeedle(1, 0, 100))
		wantErr(t, readErr(v, testNeedle(2, 1, 1000)), ErrNotFound)
		wantErr(t, v.Append(bg, []Needle{testNeedle(3, 0, 1)}), ErrPoisoned)
		closeVolume(t, v)
	}
}

// TestBadArguments: each is refused and changes nothing.
func TestBadArguments(t *testing.T) {
	v := create(t, newMem(t, 1))
	before := v.Stats().FileBytes
	long := testNeedle(1, 0, 1)
	long.Master.ContentType = string(make([]byte, 128))
	orphan := testNeedle(1, 0, 1)
	orphan.Master.Photo = 0
	large := make([]Needle, MaxGroup/MaxData) // and the headers are too much
	for i, data := 0, make([]byte, MaxData); i < len(large); i++ {
		large[i] = Needle{Key: 1, Alt: uint8(i), Cookie: 1, Data: data}
	}
	for name, c := range map[string]struct {
		group []Needle
		want  error
	}{
		"large group":  {large, ErrTooLarge},
		"empty":        {nil, ErrInvalid},
		"key":          {[]Needle{{Cookie: 1}}, ErrInvalid},
		"cookie":       {[]Needle{{Key: 1}}, ErrInvalid},
		"alt":          {[]Needle{{Key: 1, Cookie: 1, Alt: 255}}, ErrInvalid},
		"twice":        {[]Needle{testNeedle(1, 1, 1), testNeedle(2, 1, 1), testNeedle(1, 1, 1)}, ErrInvalid},
		"too large":    {[]Needle{{Key: 1, Cookie: 1, Data: make([]byte, MaxData+1)}}, ErrTooLarge},
		"content type": {[]Needle{long}, ErrTooLarge},
		"no photo":     {[]Needle{orphan}, ErrInvalid},
	} {
		if err := v.Append(bg, c.group); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if o := mustPut(t, large[1:]...); o.bytes > MaxGroup {
		t.Errorf("a group of %d bytes", o.bytes)
	}
	wantErr(t, v.Delete(bg, 0), ErrInvalid)
	_, err := v.ReadRange(bg, 1, 0, 1, -1, 5)
	wantErr(t, err, ErrInvalid)
	if v.Stats().FileBytes != before {
		t.Fatal("bad arguments wrote something")
	}
	closeVolume(t, v)
	wantErr(t, Options{MaxBytes: 5, AllocChunk: -1}.Validate(), ErrInvalid)
	for _, ident := range []Identity{{}, {Volume: 1, Generation: 1}, {Volume: 1, Class: ClassVariants}, {Generation: 1, Class: 2}} {
		_, err := Create("/d", ident, Options{FS: newMem(t, 1)})
		wantErr(t, err, ErrInvalid)
	}
}

// TestTogether: many goroutines put, read, delete and check at once.
func TestTogether(t *testing.T) {
	v, err := Create(t.TempDir(), testIdent, Options{})
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 40
	var wg sync.WaitGroup
	fail := make(chan error, 100)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				key := id.ID(1 + w*each + i)
				group := []Needle{testNeedle(key, 1, 3000), testNeedle(key, 2, 500)}
				if err := v.Append(bg, group); err != nil {
					fail <- err
					return
				}
				if err := readErr(v, group[1]); err != nil {
					fail <- err
					return
				}
				if i%4 == 3 {
					if err := v.Delete(bg, key-1); err != nil {
						fail <- err
						return
					}
				}
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			if _, err := v.Check(bg, func(f Finding) { fail <- f.Err }); err != nil {
				fail <- err
			}
		}
	})
	wg.Wait()
	select {
	case err := <-fail:
		t.Fatal(err)
	default:
	}
	if s := v.Stats(); s.Needles != 2*writers*each*3/4 || s.Syncs > s.Appended {
		t.Fatalf("stats: %+v", s)
	}
	closeVolume(t, v)
}
