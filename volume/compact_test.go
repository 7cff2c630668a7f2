package volume

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

func mustCompact(t testing.TB, v *Volume, o CompactOptions) *Volume {
	t.Helper()
	next, err := v.Compact(bg, o)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func fileOf(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	b, err := vfs.ReadFile(fs, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCompact(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, live, dead := sealSample(t, mem)
	next := mustCompact(t, v, CompactOptions{Generation: 2, Deletes: 1})
	checkSample(t, v, live, dead)
	checkSample(t, next, live, dead)
	noFindings(t, next)
	old, _ := v.Sealed()
	rec, ok := next.Sealed()
	if !ok || rec.Needles != int64(len(live)+1) || rec.Source != 1 || rec.SourceDigest != old.Digest || rec.Deletes != 1 || !rec.equal(testSeal) {
		t.Fatalf("%+v", rec)
	}
	// A delete through either counts in both.
	if err := errors.Join(v.Delete(bg, live[0].Key), next.Delete(bg, live[4].Key)); err != nil {
		t.Fatal(err)
	}
	dead = append(dead, live[0], live[1], live[4])
	live = live[2:4]
	checkSample(t, v, live, dead)
	checkSample(t, next, live, dead)
	var numbers []Delete
	if n, err := next.Deletes(bg, 1, func(d Delete) error { numbers = append(numbers, d); return nil }); err != nil || n != 4 ||
		!slices.Equal(numbers, []Delete{{2, 7}, {3, 9}, {4, 1}}) {
		t.Fatalf("%d, %v, %v", n, numbers, err)
	}
	wantErr(t, RemoveSuperseded(bg, "/d", 7, 2, Options{FS: mem}, nil), vfs.ErrLocked)
	closeVolume(t, v)
	checkSample(t, next, live, dead)
	if err := RemoveSuperseded(bg, "/d", 7, 2, Options{FS: mem}, nil); err != nil {
		t.Fatal(err)
	}
	names, _ := mem.ReadDir("/d")
	if !slices.Equal(names, []string{"00000007-00000002.idx", "00000007-00000002.vol", "00000007.deletes"}) {
		t.Fatalf("left: %v", names)
	}
	closeVolume(t, next)
	next = reopen(t, mem)
	checkSample(t, next, live, dead)
	third := mustCompact(t, next, CompactOptions{Generation: 5, Deletes: 4})
	closeVolume(t, next)
	noFindings(t, third)
	checkSample(t, third, live, dead)
	var keys []id.ID
	_, err := Scan(mem, "/d/"+FileName(7, 5), func(r Record) error { keys = append(keys, r.Key); return r.Err })
	if err != nil || !slices.Equal(keys, []id.ID{3, 4}) {
		t.Fatalf("%v, %v", keys, err)
	}
	closeVolume(t, third)
	third = reopen(t, mem)
	if third.Identity().Generation != 5 {
		t.Fatalf("opened %+v", third.Identity())
	}
	closeVolume(t, third)
}

// TestCompactedReplicasAreEqual: the same needles in another order, compacted
// with the same secret and time, give the same bytes.
func TestCompactedReplicasAreEqual(t *testing.T) {
	t.Parallel()
	needles := []Needle{testNeedle(3, 0, 100), testNeedle(1, 2, 200), testNeedle(2, 0, blocksAbove+10), testNeedle(1, 1, 0)}
	var files [][]byte
	for i := range uint64(2) {
		mem := newMem(t, i)
		v := create(t, mem)
		for _, n := range needles {
			mustAppend(t, v, n)
		}
		slices.Reverse(needles)
		mustSeal(t, v)
		next := mustCompact(t, v, CompactOptions{Generation: 2, Secret: [32]byte{1, 2}, Time: id.Epoch})
		for _, n := range needles {
			mustRead(t, next, n)
		}
		closeVolume(t, v)
		closeVolume(t, next)
		files = append(files, fileOf(t, mem, "/d/"+FileName(7, 2)), fileOf(t, mem, "/d/"+IndexName(7, 2)))
	}
	if !bytes.Equal(files[0], files[2]) || !bytes.Equal(files[1], files[3]) {
		t.Fatal("replicas differ")
	}
}

// TestCompactRepairs: a damaged needle ends the compaction unless a good copy
// is provided; a copy that is not the needle that was sealed is refused.
func TestCompactRepairs(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{10, 200} { // the header, the data
		mem := newMem(t, 1)
		v, live, dead := sealSample(t, mem)
		p, _ := v.sealing.part.Load().idx.get(live[3].Key, live[3].Alt)
		if err := mem.Flip(testFile, p.off+at, 4); err != nil {
			t.Fatal(err)
		}
		o := CompactOptions{Generation: 2, Deletes: 2}
		fails := func() {
			t.Helper()
			_, err := v.Compact(bg, o)
			wantErr(t, err, ErrCorrupt)
			if names, _ := mem.ReadDir("/d"); len(names) != 3 {
				t.Fatalf("left: %v", names)
			}
		}
		fails()
		o.Repair = func(context.Context, Damaged) (Needle, error) { return Needle{}, ErrNotFound }
		fails()
		o.Repair = func(_ context.Context, d Damaged) (Needle, error) {
			n := live[3]
			n.Data = append([]byte{9}, n.Data[1:]...)
			return n, nil
		}
		fails()
		o.Repair = func(_ context.Context, d Damaged) (Needle, error) {
			n := live[3]
			n.Cookie++
			return n, nil
		}
		fails()
		asked := 0
		o.Repair = func(_ context.Context, d Damaged) (Needle, error) {
			if asked++; d.Key != live[3].Key || d.Alt != live[3].Alt || d.Err == nil || (d.ETag == 0) != (at == 10) {
				t.Errorf("asked for %+v", d)
			}
			return live[3], nil
		}
		next := mustCompact(t, v, o)
		if asked != 1 {
			t.Fatalf("asked %d times", asked)
		}
		checkSample(t, next, live, dead)
		noFindings(t, next)
		closeVolume(t, v)
		closeVolume(t, next)
	}
}

// TestCompactRefuses lists what cannot be compacted.
func TestCompactRefuses(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	open := create(t, mem)
	_, err := open.Compact(bg, CompactOptions{Generation: 2})
	wantErr(t, err, ErrNotSealed)
	closeVolume(t, open)
	mem = newMem(t, 1)
	v, live, dead := sealSample(t, mem)
	for _, o := range []CompactOptions{{Generation: 1}, {}, {Generation: 2, Deletes: 3}} {
		_, err := v.Compact(bg, o)
		wantErr(t, err, ErrInvalid)
	}
	ctx, cancel := context.WithCancel(bg)
	o := CompactOptions{Generation: 2, Throttle: func(context.Context, int64) error { cancel(); return nil }}
	_, err = v.Compact(ctx, o)
	wantErr(t, err, context.Canceled)
	next := mustCompact(t, v, CompactOptions{Generation: 2, Deletes: 2})
	again := mustCompactErr(v, CompactOptions{Generation: 2, Deletes: 1})
	wantErr(t, again, ErrExists)
	wantErr(t, mustCompactErr(v, CompactOptions{Generation: 3, Deletes: 2}), ErrExists)
	closeVolume(t, next)
	next = mustCompact(t, v, CompactOptions{Generation: 2, Deletes: 2}) // as after a crash
	checkSample(t, next, live, dead)
	closeVolume(t, next)
	closeVolume(t, v)
	// Two generations that do not follow from one another: nobody guesses.
	b := fileOf(t, mem, testFile)
	if err := vfs.WriteFile(mem, "/d/"+FileName(7, 9), b); err != nil {
		t.Fatal(err)
	}
	_, err = Open("/d", 7, Options{FS: mem})
	wantErr(t, err, ErrInvalid)
	wantErr(t, RemoveSuperseded(bg, "/d", 7, 2, Options{FS: mem}, nil), nil)
	wantErr(t, RemoveSuperseded(bg, "/d", 7, 9, Options{FS: mem}, nil), ErrInvalid)
}

// TestRemoveSupersededKeepsAnAttempt: what lies above the committed generation is let
// alone, and replaces nothing; nor does one that is not there.
func TestRemoveSupersededKeepsAnAttempt(t *testing.T) {
	mem := newMem(t, 1)
	v, _, _ := sealSample(t, mem)
	second := mustCompact(t, v, CompactOptions{Generation: 2, Deletes: 1})
	closeVolume(t, v)
	closeVolume(t, mustCompact(t, second, CompactOptions{Generation: 3, Deletes: 1}))
	closeVolume(t, second)
	for _, c := range []struct {
		committed uint32
		want      error
		left      []uint32
	}{
		{1, nil, []uint32{1, 2, 3}},
		{4, ErrInvalid, []uint32{1, 2, 3}},
		{2, nil, []uint32{2, 3}},
		{1, nil, []uint32{2, 3}},
		{3, nil, []uint32{3}},
		{2, nil, []uint32{3}},
	} {
		wantErr(t, RemoveSuperseded(bg, "/d", 7, c.committed, Options{FS: mem}, nil), c.want)
		all, err := List(mem, "/d")
		var left []uint32
		for _, e := range all {
			left = append(left, e.Generation)
		}
		if err != nil || !slices.Equal(left, c.left) {
			t.Errorf("generation %d is committed: %v are left, want %v: %v", c.committed, left, c.left, err)
		}
	}
}

func mustCompactErr(v *Volume, o CompactOptions) error {
	_, err := v.Compact(bg, o)
	return err
}

// TestCompactFaults makes every call of a compaction fail in turn, with EIO
// and ENOSPC: the old generation is served, or in the end the new one, and the
// next attempt succeeds.
func TestCompactFaults(t *testing.T) {
	t.Parallel()
	for _, errno := range []error{unix.EIO, unix.ENOSPC} {
		for n := int64(1); ; n++ {
			mem := newMem(t, uint64(n))
			sealed, live, dead := sealSample(t, mem)
			closeVolume(t, sealed)
			armed, hit, base := false, false, int64(0)
			fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
				if armed && base == 0 {
					base = op.N
				}
				if armed && op.N-base+1 == n {
					hit = true
					return vfs.Outcome{Err: errno, Short: op.Len / 2}
				}
				return vfs.Outcome{}
			}}
			v := reopen(t, fault)
			armed = true
			next, err := v.Compact(bg, CompactOptions{Generation: 2, Deletes: 2})
			armed = false
			if err == nil {
				closeVolume(t, next)
			}
			if hit && errno == unix.ENOSPC && err != nil && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrPoisoned) {
				t.Fatalf("call %d: %v", n, err)
			}
			checkSample(t, v, live, dead)
			// A process that comes after finds one or the other, and goes on.
			for _, image := range []*vfs.Mem{mem.Kill(), mem.Crash(uint64(n))} {
				w := reopen(t, image)
				checkSample(t, w, live, dead)
				if w.Identity().Generation == 1 {
					third := mustCompact(t, w, CompactOptions{Generation: 2, Deletes: 2})
					checkSample(t, third, live, dead)
					closeVolume(t, third)
				}
				closeVolume(t, w)
			}
			next = mustCompact(t, v, CompactOptions{Generation: 2, Deletes: 2})
			checkSample(t, next, live, dead)
			noFindings(t, next)
			closeVolume(t, next)
			closeVolume(t, v)
			if !hit {
				if n < 30 {
					t.Fatalf("only %d calls", n)
				}
				break
			}
		}
	}
}

// TestSealedLifeOnDisk goes the whole way on the machine's file system.
func TestSealedLifeOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	v, err := Create(dir, testIdent, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all []Needle
	for i, size := range []int{0, 100, 5000, blocksAbove + 1, onePread + 1, 3 << 20} {
		group := []Needle{testNeedle(id.ID(90-i), 0, size), testNeedle(id.ID(90-i), 1, size/3)}
		mustAppend(t, v, group...)
		all = append(all, group...)
	}
	mustAppend(t, v, testNeedle(5, 1, 700))
	mustSeal(t, v)
	if err := v.Delete(bg, 5); err != nil {
		t.Fatal(err)
	}
	next := mustCompact(t, v, CompactOptions{Generation: 2, Deletes: 1})
	closeVolume(t, v)
	if err := RemoveSuperseded(bg, dir, 7, 2, Options{}, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, n := range all {
			mustRead(t, next, n)
		}
		wantErr(t, readErr(next, testNeedle(5, 1, 700)), ErrNotFound)
		noFindings(t, next)
		r, err := next.ReadRange(bg, 85, 0, testNeedle(85, 0, 1).Cookie, 70000, 10)
		if err != nil || !bytes.Equal(r.Data, testNeedle(85, 0, 3<<20).Data[70000:70010]) {
			t.Fatal(err)
		}
		closeVolume(t, next)
		if next, err = Open(dir, 7, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	closeVolume(t, next)
}
