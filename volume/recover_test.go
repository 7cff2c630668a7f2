package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

const (
	testFile       = "/d/00000007-00000001.vol"
	testCheckpoint = "/d/00000007-00000001.ckpt"
)

// crashed is a volume with two acknowledged batches and a third, of several
// records and a delete, that was written and not synced.
type crashed struct {
	mem     *vfs.Mem
	model   *model
	offsets []int64 // of the third batch's records, and where its padding begins
	end     int64   // of the padding
}

func newCrashed(t testing.TB, seed uint64) *crashed {
	t.Helper()
	c := &crashed{mem: newMem(t, seed), model: newModel()}
	hit := false
	fault := &vfs.Fault{FS: c.mem}
	v := create(t, fault)
	h := &history{model: c.model, v: v}
	put := func(group ...Needle) *op {
		o, err := newPut(group)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	for _, o := range []*op{
		put(testNeedle(1, 0, 700), testNeedle(1, 1, 300)),
		put(testNeedle(2, 0, 900)),
		{key: 2, bytes: 128, done: make(chan error, 1)},
	} {
		v.queue.add(o)
		if err := h.settle(o, <-o.done); err != nil {
			t.Fatal(err)
		}
	}
	fault.Before = func(op vfs.Op) vfs.Outcome {
		if op.Kind != vfs.OpSync {
			return vfs.Outcome{}
		}
		if !hit {
			hit = true
			c.mem = c.mem.Kill() // as it is in the middle of the batch
		}
		return vfs.Outcome{Err: unix.EIO}
	}
	last := []*op{put(testNeedle(3, 0, 800), testNeedle(3, 1, 1500)), {key: 1, bytes: 128, done: make(chan error, 1)},
		put(testNeedle(4, 0, 400))}
	for _, o := range last {
		for i := range o.needles {
			c.model.tried[pair{o.needles[i].Key, o.needles[i].Alt}] = o.needles[i]
		}
		if o.key != 0 {
			c.model.dying[o.key] = true
		}
	}
	submitTogether(v, last...)
	for _, o := range last {
		wantErr(t, <-o.done, ErrPoisoned)
	}
	closeVolume(t, v)
	var l int64
	if _, err := Scan(c.mem, testFile, func(r Record) error {
		if r.SyncedTo > l {
			l, c.offsets = r.SyncedTo, nil
		}
		if c.end = r.Offset + r.Size; r.Kind == KindPadding {
			return nil
		}
		c.offsets = append(c.offsets, r.Offset)
		if r.Offset+r.Size > c.offsets[0] {
			c.offsets = append(c.offsets[:len(c.offsets):len(c.offsets)], r.Offset+r.Size)
			c.offsets = slices.Compact(c.offsets)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(c.offsets) != 6 { // two needles, tombstone and twin, needle, end
		t.Fatalf("the last batch's offsets: %v", c.offsets)
	}
	return c
}

// TestCrashInRecovery: a torn batch is recovered, and every call of that
// recovery is cut in turn, and so on.
func TestCrashInRecovery(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds(60) {
		c := newCrashed(t, seed)
		rng := rand.New(rand.NewPCG(seed, 2))
		queue := []capture{{mem: c.mem.Crash(rng.Uint64()), model: c.model, what: "the torn batch"}}
		for n := 0; len(queue) > 0 && n < 40; n++ {
			cut := queue[0]
			queue = queue[1:]
			h := newHistory(cut.mem, cut.model.clone(), rng, cut.depth+1)
			v, err := Open("/d", testIdent.Volume, h.options())
			if err == nil {
				h.at = map[int]bool{} // no more pictures
				err = h.model.check(v)
				if n := len(v.damage.rot); n > 0 {
					err = errors.Join(err, fmt.Errorf("%d parts of a torn batch were taken for rot", n))
				}
				err = errors.Join(err, v.Close())
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", cut.what, err, repeatWith(t, seed))
			}
			queue = append(queue, h.captures...)
		}
	}
}

// overwrite puts bytes into the stored file, synced.
func overwrite(t testing.TB, m *vfs.Mem, name string, off int64, b []byte) {
	t.Helper()
	f, err := m.OpenWrite(name)
	if err == nil {
		_, err = f.WriteVAt([][]byte{b}, off)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// openWith opens the volume and collects its events.
func openWatched(t testing.TB, fs vfs.FS) (*Volume, *[]Event) {
	t.Helper()
	var events []Event
	v, err := Open("/d", testIdent.Volume, Options{FS: fs, AllocChunk: 1 << 16, Events: func(e Event) { events = append(events, e) }})
	if err != nil {
		t.Fatal(err)
	}
	return v, &events
}

// forget removes the checkpoint, so that the next Open walks the whole file.
func forget(t testing.TB, fs vfs.FS) {
	t.Helper()
	if err := fs.Remove(testCheckpoint); err != nil {
		t.Fatal(err)
	}
}

func count(events []Event, kind EventKind) (n int) {
	for _, e := range events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// TestHoleInTheMiddle: a record of the last batch is torn, those behind it are
// whole: they are kept, a void record closes the hole, and appending goes on.
func TestHoleInTheMiddle(t *testing.T) {
	c := newCrashed(t, 1)
	overwrite(t, c.mem, testFile, c.offsets[1]+500, make([]byte, 700)) // in the data of 3/1
	v, events := openWatched(t, c.mem)
	if count(*events, EventVoid) != 1 || count(*events, EventRecovered) != 1 || count(*events, EventRot) != 0 {
		t.Fatalf("events: %+v", *events)
	}
	mustRead(t, v, testNeedle(3, 0, 800))
	mustRead(t, v, testNeedle(4, 0, 400))
	wantErr(t, readErr(v, testNeedle(3, 1, 1500)), ErrNotFound)
	wantErr(t, readErr(v, testNeedle(1, 0, 700)), ErrNotFound) // the delete is kept
	mustAppend(t, v, testNeedle(3, 1, 1500))
	closeVolume(t, v)
	v, events = openWatched(t, c.mem.Crash(1))
	if len(*events) != 0 {
		t.Fatalf("events of a clean open: %+v", *events)
	}
	mustRead(t, v, testNeedle(3, 1, 1500))
	mustRead(t, v, testNeedle(4, 0, 400))
	closeVolume(t, v)
	var kinds []Kind
	if _, err := Scan(c.mem, testFile, func(r Record) error {
		kinds = append(kinds, r.Kind)
		return r.Err
	}); err != nil {
		t.Fatal(err)
	}
	want := []Kind{1, 1, 5, 1, 5, 2, 2, 5, 1, 3, 2, 2, 1, 5, 4, 5, 1, 5, 4, 5}
	if !slices.Equal(kinds, want) {
		t.Fatalf("records: %v, want %v", kinds, want)
	}
}

// TestGarbageTail: what lies behind the last whole record is cut off.
func TestGarbageTail(t *testing.T) {
	c := newCrashed(t, 1)
	garbage := make([]byte, 5000)
	for i := range garbage {
		garbage[i] = byte(i*7 + 1)
	}
	overwrite(t, c.mem, testFile, c.offsets[4], garbage)
	v, events := openWatched(t, c.mem)
	if count(*events, EventVoid) != 1 {
		t.Fatalf("events: %+v", *events)
	}
	wantErr(t, readErr(v, testNeedle(4, 0, 400)), ErrNotFound)
	mustAppend(t, v, testNeedle(4, 0, 400))
	closeVolume(t, v)
	v, events = openWatched(t, c.mem)
	mustRead(t, v, testNeedle(4, 0, 400))
	if len(*events) != 0 {
		t.Fatalf("events: %+v", *events)
	}
	closeVolume(t, v)
}

// TestStaleHeader: where the last batch begins, old blocks show a header of an
// earlier batch at the same offset, which spans all records of the last one.
// They are found all the same, and so is the L they know.
func TestStaleHeader(t *testing.T) {
	c := newCrashed(t, 1)
	v := reopen(t, c.mem.Kill())
	h := header{Kind: KindNeedle, Key: 99, Cookie: 1, SyncedTo: dataStart, DataCRC: 1,
		Length: c.end - c.offsets[0] - headerSize}
	var b [headerSize]byte
	v.seal.putHeader(b[:], &h, c.offsets[0])
	closeVolume(t, v)
	overwrite(t, c.mem, testFile, c.offsets[0], b[:])
	v, events := openWatched(t, c.mem)
	if count(*events, EventVoid) != 1 || count(*events, EventRecovered) != 1 || len(*events) != 2 {
		t.Fatalf("events: %+v", *events)
	}
	mustRead(t, v, testNeedle(3, 1, 1500))
	mustRead(t, v, testNeedle(4, 0, 400))
	wantErr(t, readErr(v, testNeedle(3, 0, 800)), ErrNotFound)
	wantErr(t, readErr(v, testNeedle(1, 0, 700)), ErrNotFound)
	mustAppend(t, v, testNeedle(3, 0, 800))
	closeVolume(t, v)
}

// TestRecoveredIsProtected: what a recovery kept, and what a clean close left,
// is below L from then on: damage to it is rot, and never cut off.
func TestRecoveredIsProtected(t *testing.T) {
	c := newCrashed(t, 1)
	v, _ := openWatched(t, c.mem)
	closeVolume(t, v)
	if err := c.mem.Flip(testFile, c.offsets[4]+20, 4); err != nil { // header of 4/0, the last needle
		t.Fatal(err)
	}
	v, events := openWatched(t, c.mem)
	if count(*events, EventRot) != 1 || count(*events, EventVoid) != 0 {
		t.Fatalf("events: %+v", *events)
	}
	wantErr(t, readErr(v, testNeedle(4, 0, 400)), ErrCorrupt)
	mustRead(t, v, testNeedle(3, 1, 1500))
	wantErr(t, readErr(v, testNeedle(1, 0, 700)), ErrNotFound) // deleted is certain
	mustAppend(t, v, testNeedle(5, 0, 100))
	closeVolume(t, v)
	if err := c.mem.Flip(testFile, c.offsets[4]+20, 4); err != nil {
		t.Fatal(err)
	}
	forget(t, c.mem)
	v, events = openWatched(t, c.mem)
	if len(*events) != 0 {
		t.Fatalf("events: %+v", *events)
	}
	mustRead(t, v, testNeedle(4, 0, 400)) // it was kept all the time
	mustRead(t, v, testNeedle(5, 0, 100))
	closeVolume(t, v)
}

// TestLostTombstone: when both copies of a tombstone are gone, nothing that it
// may have deleted is served; when one is left, nothing happens.
func TestLostTombstone(t *testing.T) {
	mem := newMem(t, 1)
	v := create(t, mem)
	mustAppend(t, v, testNeedle(1, 0, 100))
	mustAppend(t, v, testNeedle(2, 0, 100))
	at := v.Stats().FileBytes
	if err := v.Delete(bg, 1); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, v, testNeedle(3, 0, 100))
	closeVolume(t, v)

	damage := func(off int64) {
		t.Helper()
		if err := mem.Flip(testFile, off, 1); err != nil {
			t.Fatal(err)
		}
	}
	damage(at + 17)
	forget(t, mem)
	v, events := openWatched(t, mem)
	if count(*events, EventRot) != 1 {
		t.Fatalf("events: %+v", *events)
	}
	wantErr(t, readErr(v, testNeedle(1, 0, 100)), ErrNotFound)
	mustRead(t, v, testNeedle(2, 0, 100))
	closeVolume(t, v)

	damage(at + headerSize + 17)
	v, _ = openWatched(t, mem) // the checkpoint knew the tombstone
	wantErr(t, readErr(v, testNeedle(1, 0, 100)), ErrNotFound)
	mustRead(t, v, testNeedle(2, 0, 100))
	closeVolume(t, v)
	forget(t, mem)
	for range 2 { // also from a checkpoint, after more was written behind it
		v, _ = openWatched(t, mem)
		wantErr(t, readErr(v, testNeedle(1, 0, 100)), ErrCorrupt)
		wantErr(t, readErr(v, testNeedle(2, 0, 100)), ErrCorrupt)
		mustRead(t, v, testNeedle(3, 0, 100))
		mustAppend(t, v, testNeedle(id.ID(10+v.Stats().Needles), 0, 100))
		closeVolume(t, v)
	}
}

// TestLostTombstoneAtL: the same when the gap reaches up to a torn batch.
func TestLostTombstoneAtL(t *testing.T) {
	c := newCrashed(t, 1)
	overwrite(t, c.mem, testFile, c.offsets[0]-pageSize, make([]byte, pageSize)) // the batch of both tombstones of 2
	overwrite(t, c.mem, testFile, c.offsets[0]+200, []byte{1, 2, 3, 4})          // and data of the record that carries L
	overwrite(t, c.mem, testFile, c.offsets[1], make([]byte, 8192))              // and everything behind
	for range 2 {
		v, events := openWatched(t, c.mem)
		if count(*events, EventRot) != 1 {
			t.Fatalf("events: %+v", *events)
		}
		wantErr(t, readErr(v, testNeedle(2, 0, 900)), ErrCorrupt) // deleted, not back
		mustAppend(t, v, testNeedle(id.ID(10+v.Stats().Needles), 0, 100))
		closeVolume(t, v)
	}
}

// TestEvidenceOfTheLastSyncIsKept: the header that tells how far the file is
// synced may belong to the torn batch that a recovery cuts off. It is said again:
// damage below is rot from then on, and nothing deleted comes back by it.
func TestEvidenceOfTheLastSyncIsKept(t *testing.T) {
	c := newCrashed(t, 1)
	overwrite(t, c.mem, testFile, c.offsets[0]+200, make([]byte, 16384)) // of the torn batch one header is left
	v, events := openWatched(t, c.mem)
	if count(*events, EventVoid) != 1 {
		t.Fatalf("events: %+v", *events)
	}
	killed := c.mem.Kill()
	closeVolume(t, v)
	overwrite(t, killed, testFile, c.offsets[0]-pageSize, make([]byte, 128)) // both tombstones of 2, the last batch
	v, events = openWatched(t, killed)
	if count(*events, EventRot) != 1 || count(*events, EventVoid) != 0 {
		t.Fatalf("events: %+v", *events)
	}
	wantErr(t, readErr(v, testNeedle(2, 0, 900)), ErrCorrupt)
	closeVolume(t, v)
}

// TestUnfinishedRecoveryGoesOnServing: a torn batch with a hole in it, whose
// repair fails, poisons the volume. What was acknowledged before it is served,
// also by later processes: the tombstones that the hole held were never
// acknowledged.
func TestUnfinishedRecoveryGoesOnServing(t *testing.T) {
	c := newCrashed(t, 1)
	overwrite(t, c.mem, testFile, c.offsets[2]-8, make([]byte, 136)) // the end of 3/1 and both tombstones of 1
	failing := true
	fault := &vfs.Fault{FS: c.mem, Before: func(op vfs.Op) vfs.Outcome {
		if failing && op.Kind == vfs.OpWrite && op.Name == testFile {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
	v, events := openWatched(t, fault)
	if count(*events, EventPoisoned) != 1 {
		t.Fatalf("events: %+v", *events)
	}
	for _, fs := range []vfs.FS{nil, c.mem.Kill(), c.mem.Crash(1), c.mem.Crash(2)} {
		if fs != nil {
			v, events = openWatched(t, fs)
			if count(*events, EventPoisoned) != 1 || count(*events, EventRot) != 1 {
				t.Fatalf("events: %+v", *events)
			}
		}
		mustRead(t, v, testNeedle(1, 0, 700))
		mustRead(t, v, testNeedle(3, 0, 800))
		mustRead(t, v, testNeedle(4, 0, 400))
		wantErr(t, readErr(v, testNeedle(2, 0, 900)), ErrNotFound)
		closeVolume(t, v)
	}
}

// TestUnreadableTail: sectors behind the last known sync that cannot be read
// may hold something acknowledged: the file is not touched.
func TestUnreadableTail(t *testing.T) {
	mem := newMem(t, 1)
	v := create(t, mem)
	mustAppend(t, v, testNeedle(1, 0, 100))
	first := v.Stats().FileBytes
	mustAppend(t, v, testNeedle(2, 0, 10000))
	after := mem.Kill() // as the next process finds it
	closeVolume(t, v)

	before, err := vfs.ReadFile(after, testFile, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	bad := int64(pageSize) * ((first + 2*pageSize) / pageSize)
	fault := &vfs.Fault{FS: after, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead && op.Off < bad+pageSize && op.Off+op.Len > bad {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
	v, events := openWatched(t, fault)
	if count(*events, EventPoisoned) != 1 {
		t.Fatalf("events: %+v", *events)
	}
	mustRead(t, v, testNeedle(1, 0, 100))
	wantErr(t, v.Append(bg, []Needle{testNeedle(3, 0, 1)}), ErrPoisoned)
	closeVolume(t, v)
	now, err := vfs.ReadFile(after, testFile, 1<<20)
	if err != nil || !slices.Equal(before, now) {
		t.Fatalf("the file was changed (%v)", err)
	}
	v, _ = openWatched(t, after) // the device has come back
	mustRead(t, v, testNeedle(2, 0, 10000))
	mustAppend(t, v, testNeedle(3, 0, 1))
	closeVolume(t, v)
}

// TestUnreadableBelow: one bad page below L takes its needle and no other.
func TestUnreadableBelow(t *testing.T) {
	mem := newMem(t, 1)
	v := create(t, mem)
	for key := range id.ID(20) {
		mustAppend(t, v, testNeedle(key+1, 0, 6000))
	}
	closeVolume(t, v)
	bad := int64(dataStart + 5*pageSize)
	fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead && op.Off < bad+pageSize && op.Off+op.Len > bad {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
	v, _ = openWatched(t, fault)
	corrupt := 0
	for key := range id.ID(20) {
		if err := readErr(v, testNeedle(key+1, 0, 6000)); err != nil {
			wantErr(t, err, ErrCorrupt)
			corrupt++
		}
	}
	if corrupt == 0 || corrupt > 2 {
		t.Fatalf("one bad page made %d needles unreadable", corrupt)
	}
	mustAppend(t, v, testNeedle(100, 0, 10))
	closeVolume(t, v)
}

// TestSuperblocks: one copy is enough, none is corrupt, a newer format is
// unsupported and a file under another's name is refused.
func TestSuperblocks(t *testing.T) {
	mem := newMem(t, 1)
	v := create(t, mem)
	mustAppend(t, v, testNeedle(1, 0, 100))
	closeVolume(t, v)
	for i := range int64(2) {
		m := mem.Kill()
		if err := m.Flip(testFile, i*superblockSize+40, 1); err != nil {
			t.Fatal(err)
		}
		v, events := openWatched(t, m)
		if count(*events, EventSuperblock) != 1 {
			t.Fatalf("events: %+v", *events)
		}
		mustRead(t, v, testNeedle(1, 0, 100))
		var found []Finding
		if _, err := v.Check(bg, func(f Finding) { found = append(found, f) }); err != nil {
			t.Fatal(err)
		}
		if len(found) != 1 || found[0].Kind != FindingSuperblock {
			t.Fatalf("findings: %+v", found)
		}
		closeVolume(t, v)
		if err := m.Flip(testFile, (1-i)*superblockSize+40, 1); err != nil {
			t.Fatal(err)
		}
		_, err := Open("/d", 7, Options{FS: m})
		wantErr(t, err, ErrCorrupt)
	}
	newer := encodeSuperblock(superblock{Identity: testIdent, Sequence: 2})
	newer[8] = 2
	reseal(newer, 4092)
	m := mem.Kill()
	overwrite(t, m, testFile, 0, newer)
	_, err := Open("/d", 7, Options{FS: m})
	wantErr(t, err, ErrUnsupported)
	if errors.Is(err, ErrCorrupt) {
		t.Fatalf("a newer format is called corrupt: %v", err)
	}
	m = mem.Kill()
	if err := m.Rename(testFile, filepath.Join("/d", FileName(8, 1))); err != nil {
		t.Fatal(err)
	}
	_, err = Open("/d", 8, Options{FS: m})
	wantErr(t, err, ErrCorrupt)
	_, err = Open("/d", 9, Options{FS: m})
	wantErr(t, err, ErrNoVolume)
	_, err = Create("/d", Identity{Volume: 8, Generation: 2, Class: ClassVariants}, Options{FS: m})
	wantErr(t, err, ErrExists)
}

// TestUnsupportedRecord: an intact record of an unknown kind is not cut off as
// garbage.
func TestUnsupportedRecord(t *testing.T) {
	mem := newMem(t, 1)
	v := create(t, mem)
	mustAppend(t, v, testNeedle(1, 0, 100))
	end := v.Stats().FileBytes
	h := header{Kind: 9, SyncedTo: end}
	var b [headerSize]byte
	v.seal.putHeader(b[:], &h, end)
	m := mem.Kill()
	closeVolume(t, v)
	overwrite(t, m, testFile, end, b[:])
	_, err := Open("/d", 7, Options{FS: m})
	wantErr(t, err, ErrUnsupported)
}

// TestMisdirected: a valid record at the wrong place, or of an older
// generation, is no record.
func TestMisdirected(t *testing.T) {
	mem := newMem(t, 1)
	v := create(t, mem)
	mustAppend(t, v, testNeedle(1, 0, 1000))
	mustAppend(t, v, testNeedle(2, 0, 1000))
	mustAppend(t, v, testNeedle(3, 0, 1000))
	closeVolume(t, v)
	p, _, _ := v.idx.Load().get(1, 0)
	q, _, _ := v.idx.Load().get(2, 0)
	all, err := vfs.ReadFile(mem, testFile, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, mem, testFile, q.off, all[p.off:q.off]) // 1 written over 2
	v = reopen(t, mem)
	mustRead(t, v, testNeedle(1, 0, 1000))
	mustRead(t, v, testNeedle(3, 0, 1000))
	wantErr(t, readErr(v, testNeedle(2, 0, 1000)), ErrCorrupt)
	closeVolume(t, v)
}

// FuzzOpen opens files with arbitrary changes: nothing panics, and whatever is
// read has the right bytes.
func FuzzOpen(f *testing.F) {
	c := newCrashed(f, 1)
	image, err := vfs.ReadFile(c.mem, testFile, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	image = image[:c.offsets[5]+1000]
	f.Add(uint16(0), []byte{})
	f.Add(uint16(c.offsets[1]), make([]byte, 100))
	f.Add(uint16(c.offsets[0]-64), image[c.offsets[0]:c.offsets[1]])
	f.Add(uint16(dataStart+40), []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(uint16(len(image)), image[dataStart:dataStart+900])
	f.Fuzz(func(t *testing.T, off uint16, change []byte) {
		mem := newMem(t, 1)
		b := append([]byte(nil), image...)
		b = append(b[:min(int(off), len(b))], append(change, b[min(int(off)+len(change), len(b)):]...)...)
		if err := vfs.WriteFile(mem, testFile, b); err != nil {
			t.Fatal(err)
		}
		v, err := Open("/d", 7, Options{FS: mem})
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		m := c.model.clone()
		m.rotten = true
		for p, n := range m.acked {
			if there, err := m.probe(v, n); err != nil || there && m.deleted[p.key] {
				t.Fatal(p, there, err)
			}
		}
		for _, n := range m.tried {
			if _, err := m.probe(v, n); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := v.Check(bg, func(Finding) {}); err != nil {
			t.Fatal(err)
		}
		closeVolume(t, v)
	})
}

// TestOpeningTellsWhatItDid: how long it took, whether it had a checkpoint, what
// it went through, kept and dropped.
func TestOpeningTellsWhatItDid(t *testing.T) {
	c := newCrashed(t, 1)
	overwrite(t, c.mem, testFile, c.offsets[1]+500, make([]byte, 700)) // a hole: 3/1 is gone
	v, events := openWatched(t, c.mem)
	r := v.Stats().Recovery
	if r.Checkpoint || r.Walked < c.offsets[5]-dataStart || r.Kept != 4 || r.Voided != 1 || r.Elapsed <= 0 {
		t.Errorf("%+v", r)
	}
	told := false
	for _, e := range *events {
		if e.Kind == EventRecovered {
			told = e.Recovery.Kept == 4 && e.Recovery.Voided == 1 && e.Elapsed > 0 && e.Length > 0
		}
	}
	if !told {
		t.Errorf("events: %+v", *events)
	}
	steps := v.Steps()
	if steps.Open.Count != 1 || steps.Open.Sum != r.Elapsed || steps.Walked.Sum != r.Walked {
		t.Errorf("steps: %+v", steps)
	}
	closeVolume(t, v)

	v = reopen(t, c.mem)
	if r := v.Stats().Recovery; !r.Checkpoint || r.Walked != 0 || r.Kept+r.Voided != 0 {
		t.Errorf("after a clean stop: %+v", r)
	}
	end := v.Stats().FileBytes
	closeVolume(t, v)
	if err := c.mem.Flip(testCheckpoint, 200, 1); err != nil {
		t.Fatal(err)
	}
	v, events = openWatched(t, c.mem)
	if e := (*events)[0]; len(*events) != 1 || e.Kind != EventIndexRebuilt || e.Length != end-dataStart || e.Elapsed <= 0 || e.Err == nil {
		t.Errorf("events without a checkpoint: %+v", *events)
	}
	mustSeal(t, v)
	if err := v.Delete(bg, 4); err != nil {
		t.Fatal(err)
	}
	if s := v.Stats(); s.DeleteLogBytes < dataStart+2*headerSize {
		t.Errorf("the delete log has %d bytes", s.DeleteLogBytes)
	}
	closeVolume(t, v)
	v = reopen(t, c.mem)
	if r := v.Stats().Recovery; !r.Checkpoint || r.Walked != 0 {
		t.Errorf("sealed: %+v", r)
	}
	end = v.Stats().FileBytes
	closeVolume(t, v)
	if err := c.mem.Remove("/d/" + IndexName(7, 1)); err != nil {
		t.Fatal(err)
	}
	v = reopen(t, c.mem)
	if r := v.Stats().Recovery; r.Checkpoint || r.Walked != end-dataStart {
		t.Errorf("sealed, without index: %+v", r)
	}
	closeVolume(t, v)
}
