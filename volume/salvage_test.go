package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
)

// unstored is what poisons the sample: it was never acknowledged.
var unstored = testNeedle(50, 0, 5000)

// poisonSample makes a volume with live and deleted needles whose next put fails
// in a call of the kind, and poisons it. The file system works again afterwards.
func poisonSample(t testing.TB, mem *vfs.Mem, kind vfs.OpKind) (v *Volume, fault *vfs.Fault, live, dead []Needle) {
	t.Helper()
	fault = &vfs.Fault{FS: mem}
	v, err := Create("/d", testIdent, Options{FS: fault, AllocChunk: 2048})
	if err != nil {
		t.Fatal(err)
	}
	live = []Needle{testNeedle(9, 0, 300), testNeedle(9, 1, 77), testNeedle(3, 2, 0), testNeedle(4, 0, blocksAbove+600), testNeedle(1, 0, 90)}
	dead = []Needle{testNeedle(2, 0, 200), testNeedle(5, 0, 10)}
	mustAppend(t, v, live[0], live[1])
	mustAppend(t, v, dead...)
	for i, n := range dead {
		if err := v.Delete(bg, n.Key); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, v, live[2+i])
	}
	mustAppend(t, v, live[4])
	fault.Before = func(op vfs.Op) vfs.Outcome {
		if op.Kind == kind && op.Name == testFile {
			return vfs.Outcome{Err: unix.EIO, Short: op.Len / 2}
		}
		return vfs.Outcome{}
	}
	wantErr(t, v.Append(bg, []Needle{unstored}), ErrPoisoned)
	fault.Before = nil
	return v, fault, live, dead
}

func salvageOf(g uint32) CompactOptions {
	return CompactOptions{Generation: g, Seal: testSeal, Secret: [32]byte{1}}
}

// checkPoisoned compares a poisoned volume with the sample.
func checkPoisoned(v *Volume, live, dead []Needle) error {
	if err := v.Delete(bg, 9); !errors.Is(err, ErrPoisoned) || v.Poisoned() == nil {
		return fmt.Errorf("a poisoned volume takes deletes: %w", err)
	}
	return checkNeedles(v, live, append(dead[:len(dead):len(dead)], unstored))
}

func checkNeedles(v *Volume, live, dead []Needle) error {
	for _, n := range live {
		b, err := v.Read(bg, n.Key, n.Alt, n.Cookie)
		if err != nil || !bytes.Equal(b.Data, n.Data) {
			return fmt.Errorf("generation %d, %v/%d: %d bytes, %w", v.Identity().Generation, n.Key, n.Alt, len(b.Data), err)
		}
		b.Release()
	}
	for _, n := range dead {
		if err := readErr(v, n); !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("generation %d, %v/%d is back: %w", v.Identity().Generation, n.Key, n.Alt, err)
		}
	}
	return nil
}

func names(t testing.TB, fs vfs.FS) []string {
	t.Helper()
	out, err := fs.ReadDir("/d")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSalvage: what was acknowledged before a write or sync failed goes on as the
// next generation, which takes deletes and is sealed. The process that met the
// failure makes it, or a later one, and that also when the marker was not written,
// or is damaged.
func TestSalvage(t *testing.T) {
	t.Parallel()
	for _, kind := range []vfs.OpKind{vfs.OpWrite, vfs.OpSync} {
		for _, how := range []string{"same process", "no marker", "later process", "after a power cut", "damaged marker"} {
			mem := newMem(t, 3)
			v, fault, live, dead := poisonSample(t, mem, kind)
			marker := "/d/" + markerName(7, 1)
			switch how {
			case "no marker":
				if err := mem.Remove(marker); err != nil {
					t.Fatal(err)
				}
			case "later process", "damaged marker":
				mem = mem.Kill()
			case "after a power cut":
				mem = mem.Crash(1)
			}
			if how == "damaged marker" {
				overwrite(t, mem, marker, 24, []byte{1})
			}
			if fs := fault.FS.(*vfs.Mem); fs != mem {
				closeVolume(t, v)
				v = reopen(t, mem)
			}
			late := how == "damaged marker" && readErr(v, unstored) == nil // then it is on the device, and whole
			if late {
				live = append(live, unstored)
			} else if err := checkPoisoned(v, live, dead); err != nil {
				t.Fatalf("%s: %v", how, err)
			}
			before := fileOf(t, mem, testFile)
			next := mustCompact(t, v, salvageOf(2))
			digest, n, found, err := v.Inventory(bg)
			if err != nil || len(found) > 0 {
				t.Fatalf("%v, %v", err, found)
			}
			rec, ok := next.Sealed()
			if !ok || rec.Source != 1 || rec.SourceDigest != digest || rec.Digest != digest || rec.Needles != n || rec.Deletes != 0 || !rec.equal(testSeal) {
				t.Fatalf("%s: %+v", how, rec)
			}
			checkSample(t, next, live, dead)
			noFindings(t, next)
			if err := next.Delete(bg, live[0].Key); err != nil {
				t.Fatal(err)
			}
			dead, live = append(dead, live[0], live[1]), live[2:]
			checkSample(t, next, live, dead)
			if after := fileOf(t, mem, testFile); !bytes.Equal(before[:v.synced.Load()], after[:v.synced.Load()]) {
				t.Fatalf("%s: the poisoned file was changed", how)
			}
			if m, err := decodeMarker(fileOf(t, mem, marker)); err != nil || m.SyncedTo != v.synced.Load() {
				t.Fatalf("%s: marker %+v, %v", how, m, err)
			}
			closeVolume(t, v)
			closeVolume(t, next)
			next = reopen(t, mem) // of the two, the one that was salvaged
			checkSample(t, next, live, dead)
			closeVolume(t, next)
			if err := RemoveSuperseded(bg, "/d", 7, 2, Options{FS: mem}, nil); err != nil {
				t.Fatal(err)
			}
			if n := names(t, mem); !slices.Equal(n, []string{"00000007-00000002.idx", "00000007-00000002.vol", "00000007.deletes"}) {
				t.Fatalf("%s: left %v", how, n)
			}
			next = reopen(t, mem)
			third := mustCompact(t, next, CompactOptions{Generation: 3, Deletes: 1})
			checkSample(t, third, live, dead)
			noFindings(t, third)
			closeVolume(t, next)
			closeVolume(t, third)
		}
	}
}

// TestSalvageMarksFirst: the marker got its name, and the sync of that failed.
// Nothing is made of the volume before the name is durable.
func TestSalvageMarksFirst(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	fault := &vfs.Fault{FS: mem}
	v := create(t, fault)
	mustAppend(t, v, testNeedle(1, 0, 100))
	fault.Before = func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpSyncDir || op.Kind == vfs.OpSync && op.Name == testFile {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}
	wantErr(t, v.Append(bg, []Needle{unstored}), ErrPoisoned)
	lost, made := 0, 0
	for seed := range uint64(20) {
		if !slices.Contains(names(t, mem.Crash(seed)), markerName(7, 1)) {
			lost++
		}
	}
	fault.Before = func(op vfs.Op) vfs.Outcome {
		for seed := range uint64(5) {
			if op.Kind == vfs.OpCreate && !slices.Contains(names(t, mem.Crash(seed)), markerName(7, 1)) {
				t.Errorf("%s is made, and the marker may be lost", op.Name)
			}
		}
		if op.Kind == vfs.OpCreate {
			made++
		}
		return vfs.Outcome{}
	}
	next := mustCompact(t, v, salvageOf(2))
	if lost == 0 || made == 0 {
		t.Errorf("the marker was lost %d times of 20, %d files were made", lost, made)
	}
	fault.Before = nil
	closeVolume(t, v)
	closeVolume(t, next)
}

// TestSalvageWhileSealing: a sync of the superblock fails when the volume is
// sealed. Whatever reached the device, the next generation is made.
func TestSalvageWhileSealing(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 8; n++ {
		mem := newMem(t, uint64(n))
		fault := &vfs.Fault{FS: mem}
		v := create(t, fault)
		live, dead := []Needle{testNeedle(1, 0, 500), testNeedle(3, 0, 700)}, []Needle{testNeedle(2, 0, 50)}
		mustAppend(t, v, live...)
		mustAppend(t, v, dead...)
		if err := v.Delete(bg, 2); err != nil {
			t.Fatal(err)
		}
		seen := 0
		fault.Before = func(op vfs.Op) vfs.Outcome {
			if op.Name == testFile && (op.Kind == vfs.OpSync || op.Kind == vfs.OpWrite) {
				if seen++; seen == n {
					return vfs.Outcome{Err: unix.EIO}
				}
			}
			return vfs.Outcome{}
		}
		_, err := v.Seal(bg, testSeal)
		fault.Before = nil
		if seen < n {
			if n < 6 {
				t.Fatalf("only %d calls", seen)
			}
			break
		}
		wantErr(t, err, ErrPoisoned)
		for _, later := range []*vfs.Mem{nil, mem.Kill(), mem.Crash(1), mem.Crash(2)} {
			w := v
			if later != nil {
				w = reopen(t, later)
				wantErr(t, w.Poisoned(), ErrPoisoned)
			}
			next := mustCompact(t, w, salvageOf(2))
			checkSample(t, next, live, dead)
			noFindings(t, next)
			if err := next.Delete(bg, 1); err != nil {
				t.Fatal(err)
			}
			closeVolume(t, w)
			closeVolume(t, next)
			if later != nil {
				if err := RemoveSuperseded(bg, "/d", 7, 2, Options{FS: later}, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestSalvageStops: what cannot be read is not left out, unless a replica gives
// it.
func TestSalvageStops(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{10, 200} { // the header, the data
		mem := newMem(t, 1)
		v, _, live, dead := poisonSample(t, mem, vfs.OpSync)
		p, _, _ := v.idx.Load().get(live[3].Key, live[3].Alt)
		if err := mem.Flip(testFile, p.off+at, 4); err != nil {
			t.Fatal(err)
		}
		o := salvageOf(2)
		stops := func() {
			t.Helper()
			_, err := v.Compact(bg, o)
			wantErr(t, err, ErrCorrupt)
			for _, n := range names(t, mem) {
				if n != FileName(7, 1) && n != markerName(7, 1) && n != DeleteLogName(7) {
					t.Fatalf("left: %v", n)
				}
			}
		}
		stops()
		o.Repair = func(context.Context, Damaged) (Needle, error) { return Needle{}, ErrNotFound }
		stops()
		o.Repair = func(context.Context, Damaged) (Needle, error) { return live[3], nil }
		if at == 10 {
			stops() // nobody knows what was there
			closeVolume(t, v)
			continue
		}
		next := mustCompact(t, v, o)
		checkSample(t, next, live, dead)
		noFindings(t, next)
		closeVolume(t, v)
		closeVolume(t, next)
	}
	mem := newMem(t, 1)
	v, _, _, _ := poisonSample(t, mem, vfs.OpWrite)
	for _, o := range []CompactOptions{{Generation: 1}, {Generation: 2, Seal: SealInfo{From: 2, To: 1}}, {Generation: 2, Deletes: 1}} {
		wantErr(t, mustCompactErr(v, o), ErrInvalid)
	}
	closeVolume(t, v)
	wantErr(t, mustCompactErr(v, salvageOf(2)), ErrClosed)
}

// TestSalvageOfWhatIsNotSeen: a volume that is read-only because the device did
// not give what may be acknowledged is not salvaged, and nothing says that there
// is no more; also when a sync at its opening failed.
func TestSalvageOfWhatIsNotSeen(t *testing.T) {
	t.Parallel()
	for _, alsoSync := range []bool{false, true} {
		mem := newMem(t, 1)
		v := create(t, mem)
		mustAppend(t, v, testNeedle(1, 0, 100))
		first := v.Stats().FileBytes
		mustAppend(t, v, testNeedle(2, 0, 10000))
		after := mem.Kill()
		closeVolume(t, v)
		bad := int64(pageSize) * ((first + 2*pageSize) / pageSize)
		fault := &vfs.Fault{FS: after, Before: func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpRead && op.Off < bad+pageSize && op.Off+op.Len > bad || alsoSync && op.Kind == vfs.OpSync && op.Name == testFile {
				return vfs.Outcome{Err: unix.EIO}
			}
			return vfs.Outcome{}
		}}
		v = reopen(t, fault)
		wantErr(t, v.Poisoned(), ErrPoisoned)
		wantErr(t, mustCompactErr(v, salvageOf(2)), ErrCorrupt)
		closeVolume(t, v)
		if n := names(t, after); !slices.Equal(n, []string{FileName(7, 1)}) {
			t.Fatalf("left: %v", n)
		}
		v = reopen(t, after) // the device has come back
		mustRead(t, v, testNeedle(2, 0, 10000))
		mustAppend(t, v, testNeedle(3, 0, 1))
		closeVolume(t, v)
	}
}

// TestSalvageOfATornBatch: a recovery that could not repair a hole in a batch
// that was never acknowledged does not hinder a salvage; a hole in one of which
// nothing was missing then, does.
func TestSalvageOfATornBatch(t *testing.T) {
	t.Parallel()
	for _, hole := range []bool{true, false} {
		c := newCrashed(t, 1)
		if hole {
			overwrite(t, c.mem, testFile, c.offsets[2]-8, make([]byte, 136)) // the end of 3/1 and both tombstones of 1
		}
		failing := true
		fault := &vfs.Fault{FS: c.mem, Before: func(op vfs.Op) vfs.Outcome {
			if failing && op.Kind == vfs.OpWrite && op.Name == testFile {
				return vfs.Outcome{Err: unix.EIO}
			}
			return vfs.Outcome{}
		}}
		v := reopen(t, fault)
		failing = false
		wantErr(t, v.Poisoned(), ErrPoisoned)
		live := []Needle{testNeedle(3, 0, 800), testNeedle(4, 0, 400)}
		dead := []Needle{testNeedle(2, 0, 900)}
		if hole {
			live = append(live, testNeedle(1, 0, 700), testNeedle(1, 1, 300))
		} else {
			live = append(live, testNeedle(3, 1, 1500))
			dead = append(dead, testNeedle(1, 0, 700))
		}
		for _, later := range []*vfs.Mem{nil, c.mem.Kill(), c.mem.Crash(1)} {
			w := v
			if later != nil {
				w = reopen(t, later)
			}
			next := mustCompact(t, w, salvageOf(2))
			checkSample(t, next, live, dead)
			noFindings(t, next)
			closeVolume(t, next)
			closeVolume(t, w)
		}
		if hole {
			continue
		}
		late := c.mem.Kill()
		if err := errors.Join(late.Remove("/d/"+FileName(7, 2)), late.Flip(testFile, c.offsets[1]+9, 1)); err != nil {
			t.Fatal(err)
		}
		w := reopen(t, late)
		wantErr(t, mustCompactErr(w, salvageOf(2)), ErrCorrupt)
		closeVolume(t, w)
	}
}

// finishSalvage is what a process does with what it finds: salvage, remove the
// source, delete. It may find each step done.
func finishSalvage(fs vfs.FS, live, dead []Needle) error {
	v, err := Open("/d", 7, Options{FS: fs, AllocChunk: 2048})
	if err != nil {
		return err
	}
	if v.Identity().Generation == 1 {
		if err := checkPoisoned(v, live, dead); err != nil {
			return errors.Join(err, v.Close())
		}
		next, err := v.Compact(bg, salvageOf(2))
		if err = errors.Join(err, v.Close()); err != nil {
			return err
		}
		v = next
	}
	gone := append(dead[:len(dead):len(dead)], unstored)
	// The key that is deleted last may be deleted already.
	err = checkNeedles(v, live[:4], gone)
	if err == nil {
		err = v.Delete(bg, live[4].Key)
	}
	if err == nil {
		err = checkNeedles(v, live[:4], append(gone, live[4]))
	}
	if _, checkErr := v.Check(bg, func(f Finding) { err = errors.Join(err, fmt.Errorf("finding %v: %w", f.Kind, f.Err)) }); checkErr != nil {
		err = errors.Join(err, checkErr)
	}
	if err = errors.Join(err, v.Close()); err != nil {
		return err
	}
	return RemoveSuperseded(bg, "/d", 7, 2, Options{FS: fs}, nil)
}

// salvageAll is the salvage in the process that met the failure, up to the end.
func salvageAll(fs vfs.FS, v *Volume, live []Needle) error {
	next, err := v.Compact(bg, salvageOf(2))
	if err = errors.Join(err, v.Close()); err != nil {
		return err
	}
	err = RemoveSuperseded(bg, "/d", 7, 2, Options{FS: fs}, nil)
	if err == nil {
		err = next.Delete(bg, live[4].Key)
	}
	return errors.Join(err, next.Close())
}

// TestSalvageCrashes cuts the power, and kills the process, before every call
// that changes the file system, several times each, and now and then once more
// while the next process goes on: nothing acknowledged is lost, nothing deleted is
// back, the source is what it was as long as it is needed.
func TestSalvageCrashes(t *testing.T) {
	t.Parallel()
	type cut struct {
		mem  *vfs.Mem
		what string
	}
	tries := max(2, testenv.Rounds(4))
	capture := func(mem *vfs.Mem, seed uint64, list *[]cut) func(vfs.Op) vfs.Outcome {
		return func(op vfs.Op) vfs.Outcome {
			if !mutates(op.Kind) {
				return vfs.Outcome{}
			}
			for i := range uint64(tries) {
				image := mem.Kill
				if i > 0 {
					image = func() *vfs.Mem { return mem.Crash(seed<<20 + uint64(op.N)<<4 + i) }
				}
				*list = append(*list, cut{image(), fmt.Sprintf("call %d (%v of %s), try %d", op.N, op.Kind, op.Name, i)})
			}
			return vfs.Outcome{}
		}
	}
	points := 0
	for n, seed := range seeds(testenv.Rounds(2)) {
		mem := newMem(t, seed)
		v, fault, live, dead := poisonSample(t, mem, []vfs.OpKind{vfs.OpSync, vfs.OpWrite}[n%2])
		var cuts []cut
		fault.Before = capture(mem, seed, &cuts)
		before, sound := fileOf(t, mem, testFile), v.synced.Load()
		if err := salvageAll(fault, v, live); err != nil {
			t.Fatal(err)
		}
		if len(cuts) < 20*tries {
			t.Fatalf("only %d cuts", len(cuts))
		}
		for i, c := range cuts {
			if b, err := vfs.ReadFile(c.mem, testFile, 1<<30); i%tries == 0 && err == nil && !bytes.Equal(b[:sound], before[:sound]) {
				t.Fatalf("%s: the source was changed\n%s", c.what, repeatWith(t, seed))
			}
			if n := names(t, c.mem); slices.Contains(n, FileName(7, 1)) && !slices.Contains(n, markerName(7, 1)) {
				t.Fatalf("%s: the source is there and its marker is not: %v\n%s", c.what, n, repeatWith(t, seed))
			}
			var again []cut
			fs := vfs.FS(c.mem)
			if i%17 == int(seed%17) {
				fs = &vfs.Fault{FS: c.mem, Before: capture(c.mem, seed, &again)}
			}
			if err := finishSalvage(fs, live, dead); err != nil {
				t.Fatalf("%s: %v\n%v\n%s", c.what, err, c.mem, repeatWith(t, seed))
			}
			for _, d := range again {
				if err := finishSalvage(d.mem, live, dead); err != nil {
					t.Fatalf("%s, then %s: %v\n%v\n%s", c.what, d.what, err, d.mem, repeatWith(t, seed))
				}
				c.mem = d.mem
			}
			if n := names(t, c.mem); !slices.Equal(n, []string{"00000007-00000002.idx", "00000007-00000002.vol", "00000007.deletes"}) {
				t.Fatalf("%s: left %v\n%s", c.what, n, repeatWith(t, seed))
			}
			points += 1 + len(again)
		}
	}
	testenv.Tell(t, "%d crash points", points)
}

// TestSalvageFaults makes every call of a salvage fail once, with EIO and with
// ENOSPC: the poisoned volume is served, or the new one, and whoever comes next
// ends well.
func TestSalvageFaults(t *testing.T) {
	t.Parallel()
	for _, errno := range []error{unix.EIO, unix.ENOSPC} {
		for n := int64(1); ; n++ {
			mem := newMem(t, uint64(n))
			v, fault, live, dead := poisonSample(t, mem, vfs.OpSync)
			hit, first := false, int64(0)
			fault.Before = func(op vfs.Op) vfs.Outcome {
				if op.Name == testFile && mutates(op.Kind) {
					t.Errorf("%v of the poisoned file", op.Kind)
				}
				if first == 0 {
					first = op.N
				}
				if op.N-first+1 == n {
					hit = true
					return vfs.Outcome{Err: errno, Short: op.Len / 3}
				}
				return vfs.Outcome{}
			}
			next, err := v.Compact(bg, salvageOf(2))
			fault.Before = nil
			failed := err != nil
			if !failed {
				err = errors.Join(next.Delete(bg, live[4].Key), next.Close())
			}
			if !failed && err != nil {
				t.Fatal(err)
			}
			if readable := checkPoisoned(v, live, dead); readable != nil {
				t.Fatalf("%v at call %d (%v): %v", errno, n, err, readable)
			}
			if failed { // the same process tries again
				next = mustCompact(t, v, salvageOf(2))
				checkSample(t, next, live, dead)
				closeVolume(t, next)
			}
			closeVolume(t, v)
			for i, image := range []*vfs.Mem{mem.Kill(), mem.Crash(uint64(n))} {
				if err := finishSalvage(image, live, dead); err != nil {
					t.Fatalf("%v at call %d, image %d: %v\n%v", errno, n, i, err, image)
				}
			}
			if !hit {
				if n < 30 {
					t.Fatalf("only %d calls", n)
				}
				break
			}
		}
	}
}

// TestVoidSalvage: a generation that was never committed goes, and the poisoned
// one it was made from stays, marker and all.
func TestVoidSalvage(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, _, live, dead := poisonSample(t, mem, vfs.OpSync)
	closeVolume(t, mustCompact(t, v, salvageOf(2)))
	wantErr(t, mustCompactErr(v, salvageOf(3)), ErrExists)
	void := Entry{Volume: 7, Generation: 2, Name: FileName(7, 2)}
	if err := RemoveVoid("/d", void, 1, Options{FS: mem}); err != nil {
		t.Fatal(err)
	}
	closeVolume(t, mustCompact(t, v, salvageOf(3)))
	closeVolume(t, v)
	if err := mem.Remove("/d/" + markerName(7, 1)); err != nil {
		t.Fatal(err)
	}
	void = Entry{Volume: 7, Generation: 3, Name: FileName(7, 3)}
	wantErr(t, RemoveVoid("/d", void, 1, Options{FS: mem}), ErrInvalid) // an open volume replaces nothing
	next := reopen(t, mem)
	checkSample(t, next, live, dead)
	closeVolume(t, next)
}

// TestDeletesOutliveTheSalvage: deletes that the next generation took count in the
// poisoned one too, should that be opened once more.
func TestDeletesOutliveTheSalvage(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, _, live, dead := poisonSample(t, mem, vfs.OpSync)
	next := mustCompact(t, v, salvageOf(2))
	if err := next.Delete(bg, 9); err != nil {
		t.Fatal(err)
	}
	closeVolume(t, v)
	closeVolume(t, next)
	v, err := OpenGeneration("/d", 7, 1, Options{FS: mem})
	if err != nil {
		t.Fatal(err)
	}
	if v.Has(9) {
		t.Error("the deleted key is there")
	}
	if err := checkPoisoned(v, live[2:], append(dead, live[:2]...)); err != nil {
		t.Fatal(err)
	}
	next = mustCompact(t, v, salvageOf(2)) // what is there is taken up
	checkSample(t, next, live[2:], append(dead, live[:2]...))
	closeVolume(t, v)
	closeVolume(t, next)
	// Nobody knows what a damaged log said.
	overwrite(t, mem, "/d/"+DeleteLogName(7), dataStart+10, []byte{1})
	v, err = OpenGeneration("/d", 7, 1, Options{FS: mem})
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, readErr(v, live[3]), ErrCorrupt)
	if v.Has(live[3].Key) {
		t.Error("has what may be deleted")
	}
	closeVolume(t, v)
	for _, at := range []int64{0, superblockSize} {
		if err := mem.Flip("/d/"+DeleteLogName(7), at, 1); err != nil {
			t.Fatal(err)
		}
	}
	_, err = OpenGeneration("/d", 7, 1, Options{FS: mem})
	wantErr(t, err, ErrCorrupt)
}
