package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
)

// keysFrom returns n keys that follow one another.
func keysFrom(first id.ID, n int) []id.ID {
	out := make([]id.ID, n)
	for i := range out {
		out[i] = first + id.ID(i)
	}
	return out
}

// logOf returns the keys of a delete log, which must be numbered without a hole.
func logOf(v *Volume) (keys []id.ID, err error) {
	newest, err := v.Deletes(bg, 0, func(d Delete) error {
		if keys = append(keys, d.Key); int(d.Number) != len(keys) {
			return fmt.Errorf("delete %d has number %d", len(keys), d.Number)
		}
		return nil
	})
	if err == nil && int(newest) != len(keys) {
		err = fmt.Errorf("%d deletes, the newest is number %d", len(keys), newest)
	}
	if n, nErr := v.NewestDelete(); n != newest {
		err = errors.Join(err, nErr, fmt.Errorf("newest %d and %d", n, newest))
	}
	return keys, err
}

func wantLog(t testing.TB, v *Volume, want []id.ID) {
	t.Helper()
	if got, err := logOf(v); err != nil || !slices.Equal(got, want) {
		t.Fatalf("log of %v, want %v: %v", got, want, err)
	}
}

func numbered(keys []id.ID) (out []Delete) {
	for i, key := range keys {
		out = append(out, Delete{Number: uint32(i) + 1, Key: key})
	}
	return out
}

// TestLogDeletes: a replica's log follows another one number for number, in a
// fenced volume and in a sealed one, and says so when it cannot.
func TestLogDeletes(t *testing.T) {
	t.Parallel()
	for _, sealed := range []bool{false, true} {
		mem := newMem(t, 1)
		v := create(t, mem)
		mustAppend(t, v, testNeedle(3, 0, 100), testNeedle(4, 0, 100))
		_, err := v.LogDeletes(bg, 0, []id.ID{1})
		wantErr(t, err, ErrNotFenced)
		_, err = v.AppendDeletes(bg, []id.ID{1})
		wantErr(t, err, ErrNotFenced)
		_, err = v.NewestDelete()
		wantErr(t, err, ErrNotFenced)
		if sealed {
			mustSeal(t, v)
		} else if err := v.Fence(bg); err != nil {
			t.Fatal(err)
		}
		log := func(after uint32, newest uint32, keys ...id.ID) {
			t.Helper()
			if n, err := v.LogDeletes(bg, after, keys); err != nil || n != newest {
				t.Fatalf("%v behind %d: newest %d, want %d: %v", keys, after, n, newest, err)
			}
		}
		log(0, 0)
		log(0, 3, 1, 2, 3)
		log(0, 3, 1, 2, 3)    // again
		log(1, 5, 2, 3, 5, 6) // one part of it again
		log(7, 5, 8, 9)       // too early
		log(5, 5)             // a question
		log(2, 5, 3)          // long there
		log(5, 7, 7, 8)       // behind
		log(3, 9, 5, 6, 7, 8, 9, 10)
		for _, bad := range []struct {
			after uint32
			keys  []id.ID
			err   error
		}{
			{0, []id.ID{2}, ErrConflict},               // number 1 is another
			{8, []id.ID{10, 1}, ErrConflict},           // 1 has number 1
			{9, []id.ID{11, 2}, ErrConflict},           // 2 has number 2
			{9, []id.ID{0}, ErrInvalid},                //
			{9, []id.ID{11, 11}, ErrInvalid},           // one key has one number
			{maxDeletes - 1, []id.ID{11, 12}, ErrFull}, // there is no such number
		} {
			_, err := v.LogDeletes(bg, bad.after, bad.keys)
			wantErr(t, err, bad.err)
		}
		numbers, err := v.AppendDeletes(bg, []id.ID{20, 2, 21, 10})
		if err != nil || !slices.Equal(numbers, []uint32{10, 2, 11, 9}) {
			t.Fatalf("%v, %v", numbers, err)
		}
		wantErr(t, v.Entomb(bg, 4), ErrSealed)
		want := []id.ID{1, 2, 3, 5, 6, 7, 8, 9, 10, 20, 21}
		for range 2 {
			wantLog(t, v, want)
			wantErr(t, readErr(v, testNeedle(3, 0, 100)), ErrNotFound)
			mustRead(t, v, testNeedle(4, 0, 100))
			noFindings(t, v)
			closeVolume(t, v)
			v = reopen(t, mem)
		}
		closeVolume(t, v)
	}
}

// TestLogDeletesInLargeBatches: a batch of deletes may be larger than what is
// written at once.
func TestLogDeletesInLargeBatches(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v := create(t, mem)
	if err := v.Fence(bg); err != nil {
		t.Fatal(err)
	}
	keys := keysFrom(1, batchBytes/(2*headerSize)+500)
	half := len(keys) - 300
	if n, err := v.LogDeletes(bg, 0, keys[:half]); err != nil || int(n) != half {
		t.Fatal(n, err)
	}
	for range 2 {
		if n, err := v.LogDeletes(bg, uint32(half), keys[half:]); err != nil || int(n) != len(keys) {
			t.Fatal(n, err)
		}
	}
	closeVolume(t, v)
	v = reopen(t, mem)
	wantLog(t, v, keys)
	closeVolume(t, v)
}

// logPicture is what a crash left of a log, and what was acknowledged by then.
type logPicture struct {
	mem   *vfs.Mem
	acked int
	what  string
}

// logPictures takes pictures before every call that changes the file system.
type logPictures struct {
	mem   *vfs.Mem
	seed  uint64
	tries int
	mu    sync.Mutex // guards all below
	acked int
	list  []logPicture
}

func (p *logPictures) before(op vfs.Op) vfs.Outcome {
	if !mutates(op.Kind) {
		return vfs.Outcome{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.tries {
		m := p.mem.Kill
		if i > 0 {
			m = func() *vfs.Mem { return p.mem.Crash(p.seed<<20 + uint64(op.N)<<6 + uint64(i)) }
		}
		p.list = append(p.list, logPicture{m(), p.acked, fmt.Sprintf("call %d (%v of %s), try %d", op.N, op.Kind, op.Name, i)})
	}
	return vfs.Outcome{}
}

func (p *logPictures) store(acked int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acked = acked
}

// TestLogDeletesCrashes cuts the power at every moment of a log that follows
// another: it is always the beginning of that, without a hole, with all that was
// acknowledged, and goes on from there.
func TestLogDeletesCrashes(t *testing.T) {
	t.Parallel()
	points := 0
	keys := keysFrom(1000, 300)
	steps := []int{0, 1, 2, 70, 71, 170, 290, 300} // several blocks in one batch
	for _, seed := range seeds(testenv.Rounds(3)) {
		mem := newMem(t, seed)
		p := &logPictures{mem: mem, seed: seed, tries: 8}
		v := create(t, &vfs.Fault{FS: mem, Before: p.before})
		if err := v.Fence(bg); err != nil {
			t.Fatal(err)
		}
		p.list = nil
		for i, from := range steps[:len(steps)-1] {
			if n, err := v.LogDeletes(bg, uint32(from), keys[from:steps[i+1]]); err != nil || int(n) != steps[i+1] {
				t.Fatal(n, err)
			}
			p.store(steps[i+1])
		}
		closeVolume(t, v)
		for _, c := range p.list {
			points++
			v, err := Open("/d", 7, Options{FS: c.mem, AllocChunk: 4096})
			if err != nil {
				t.Fatalf("%s: %v\n%s", c.what, err, repeatWith(t, seed))
			}
			got, err := logOf(v)
			if err != nil || len(got) < c.acked || !slices.Equal(got, keys[:len(got)]) {
				t.Fatalf("%s: log of %d, %d were acknowledged, %v\n%v\n%s", c.what, len(got), c.acked, err, c.mem, repeatWith(t, seed))
			}
			if n, err := v.LogDeletes(bg, uint32(len(got)), keys[len(got):]); err != nil || int(n) != len(keys) {
				t.Fatalf("%s: %d, %v\n%s", c.what, n, err, repeatWith(t, seed))
			}
			wantLog(t, v, keys)
			if _, err := v.deleteLog().upTo(bg, uint32(len(keys))); err != nil {
				t.Fatal(err)
			}
			closeVolume(t, v)
		}
	}
	testenv.Tell(t, "%d crash points", points)
}

// TestCutOffRecordsStayCutOff: a recovery cut a torn batch off, of which the second
// delete was whole. The next batch is shorter, and the power goes before the file
// has its size: blocks of the old one show behind it. What was found not to be
// deleted stays so.
func TestCutOffRecordsStayCutOff(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v := create(t, mem)
	if err := v.Fence(bg); err != nil {
		t.Fatal(err)
	}
	logTo := func(v *Volume, after uint32, keys ...id.ID) {
		t.Helper()
		if n, err := v.LogDeletes(bg, after, keys); err != nil || int(n) != int(after)+len(keys) {
			t.Fatal(n, err)
		}
	}
	logTo(v, 0, 1000)
	at := v.deleteLog().cur.Load().v.synced.Load()
	logTo(v, 1, 1001, 1002)
	closeVolume(t, v)

	whole, err := vfs.ReadFile(mem, "/d/00000007.deletes", 1<<20)
	if err == nil {
		err = vfs.WriteFile(mem, "/d/00000007.deletes", whole[:at]) // as a recovery does
	}
	if err != nil {
		t.Fatal(err)
	}
	v = reopen(t, mem)
	wantLog(t, v, []id.ID{1000})
	logTo(v, 1, 1003)
	end := v.deleteLog().cur.Load().v.synced.Load()
	closeVolume(t, v)
	const copies = 2 // of each delete, one behind the other
	if kept := int64(copies+1) * headerSize; end != at+kept {
		t.Fatalf("a mark and a delete take %d bytes, want %d", end-at, kept)
	}
	overwrite(t, mem, "/d/00000007.deletes", end, whole[end:at+2*copies*headerSize])
	v = reopen(t, mem)
	wantLog(t, v, []id.ID{1000, 1003})
	closeVolume(t, v)
}

// TestNumbersARecoveryGaveUp: logs of earlier programs kept what stood behind a
// hole of a torn batch. The numbers of the hole stand for nothing, and hinder no
// compaction; a log that takes its place has the same.
func TestNumbersARecoveryGaveUp(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, live, dead := sealSample(t, mem)
	want := []Delete{{1, dead[2].Key}, {2, dead[3].Key}, {5, 77}, {6, 78}, {9, 79}}
	if err := v.ReplaceDeleteLog(bg, want); err != nil {
		t.Fatal(err)
	}
	checkSample(t, v, live, dead)
	closeVolume(t, v)
	v = reopen(t, mem)
	for _, after := range []uint32{0, 2, 4, 5, 9} {
		var got []Delete
		if n, err := v.Deletes(bg, after, func(d Delete) error { got = append(got, d); return nil }); err != nil || n != 9 ||
			!slices.Equal(got, slices.DeleteFunc(slices.Clone(want), func(d Delete) bool { return d.Number <= after })) {
			t.Fatalf("behind %d: %v, %d, %v", after, got, n, err)
		}
	}
	_, err := v.LogDeletes(bg, 2, []id.ID{75})
	wantErr(t, err, ErrConflict)
	noFindings(t, v)
	for g, n := range []uint32{2, 4, 9} {
		next := mustCompact(t, v, CompactOptions{Generation: uint32(g) + 2, Deletes: n})
		checkSample(t, next, live, dead)
		closeVolume(t, v)
		v = next
	}
	if n, err := v.AppendDeletes(bg, []id.ID{80}); err != nil || n[0] != 10 {
		t.Fatal(n, err)
	}
	closeVolume(t, v)
}

// TestReplaceDeleteLog: the log of another replica takes the place of one that went
// another way, lost its end, or is poisoned, in all generations that are open.
func TestReplaceDeleteLog(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	fault := &vfs.Fault{FS: mem}
	v, live, dead := sealSample(t, fault) // log: 6, 7
	next := mustCompact(t, v, CompactOptions{Generation: 2, Deletes: 1})
	wantErr(t, v.ReplaceDeleteLog(bg, []Delete{{1, 6}, {1, 7}}), ErrInvalid)
	wantErr(t, v.ReplaceDeleteLog(bg, []Delete{{1, 6}, {2, 6}}), ErrInvalid)
	wantErr(t, v.ReplaceDeleteLog(bg, []Delete{{0, 6}}), ErrInvalid)
	list := []id.ID{6, 7, live[0].Key}
	if err := v.ReplaceDeleteLog(bg, numbered(list)); err != nil {
		t.Fatal(err)
	}
	dead, live = append(dead, live[0], live[1]), live[2:]
	for _, w := range []*Volume{v, next} {
		checkSample(t, w, live, dead)
		wantLog(t, w, list)
	}
	if err := next.Delete(bg, 500); err != nil {
		t.Fatal(err)
	}
	wantLog(t, v, append(list, 500))

	// Poisoned: what was stored stays, and a new log takes deletes again.
	fault.Before = func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpSync && op.Name == "/d/"+DeleteLogName(7) {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}
	wantErr(t, v.Delete(bg, 501), ErrPoisoned)
	fault.Before = nil
	wantErr(t, v.Delete(bg, 502), ErrPoisoned)
	if v.Stats().Poisoned == nil {
		t.Error("not told")
	}
	list = []id.ID{6, 7, live[0].Key, 9} // shorter than it was, and another order of things
	if err := next.ReplaceDeleteLog(bg, numbered(list)); err != nil {
		t.Fatal(err)
	}
	dead, live = append(dead, live[0]), live[1:]
	for _, w := range []*Volume{v, next} {
		checkSample(t, w, live, dead)
		if w.Stats().Poisoned != nil {
			t.Error(w.Stats().Poisoned)
		}
	}
	if err := v.Delete(bg, 502); err != nil {
		t.Fatal(err)
	}
	closeVolume(t, v)
	closeVolume(t, next)

	// The end is lost: nothing is served until there is a log that goes so far.
	if err := RemoveSuperseded(bg, "/d", 7, 2, Options{FS: mem}, nil); err != nil {
		t.Fatal(err)
	}
	overwriteLog(t, mem, nil)
	v = reopen(t, mem)
	wantErr(t, readErr(v, live[0]), ErrCorrupt)
	if err := v.ReplaceDeleteLog(bg, numbered(list)); err != nil {
		t.Fatal(err)
	}
	checkSample(t, v, live, dead)
	noFindings(t, v)
	closeVolume(t, v)
	v = reopen(t, mem)
	wantLog(t, v, list)
	checkSample(t, v, live, dead)
	closeVolume(t, v)
}

func overwriteLog(t testing.TB, fs vfs.FS, list []Delete) {
	t.Helper()
	content, err := encodeDeletes(7, list, id.Epoch)
	if err == nil {
		err = vfs.WriteFile(fs, "/d/"+DeleteLogName(7), content)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// replaceSample makes a fenced volume with a log, poisoned or not, and returns what
// it is to be replaced by.
func replaceSample(t testing.TB, mem *vfs.Mem, fault *vfs.Fault, poisoned bool) (v *Volume, old, list []id.ID) {
	t.Helper()
	v = create(t, fault)
	mustAppend(t, v, testNeedle(1, 0, 100), testNeedle(2, 0, 100), testNeedle(3, 0, 100))
	old, list = append(keysFrom(100, 90), 1), append(keysFrom(50, 140), 2)
	if err := v.Fence(bg); err != nil {
		t.Fatal(err)
	}
	if _, err := v.AppendDeletes(bg, old); err != nil {
		t.Fatal(err)
	}
	if poisoned {
		fault.Before = func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpSync && op.Name == "/d/"+DeleteLogName(7) {
				return vfs.Outcome{Err: unix.EIO}
			}
			return vfs.Outcome{}
		}
		wantErr(t, v.Delete(bg, 4), ErrPoisoned)
		fault.Before = nil
	}
	return v, old, list
}

// wantEither fails unless the log is one of the two; of a poisoned one a delete that
// was not acknowledged may be there.
func wantEither(v *Volume, old, list []id.ID) (isNew bool, err error) {
	got, err := logOf(v)
	if n := len(old); err == nil && len(got) == n+1 && got[n] == 4 {
		got = got[:n]
	}
	switch {
	case err != nil:
		return false, err
	case slices.Equal(got, list):
		err = errors.Join(wantGone(v, 2), wantThere(v, 1), wantThere(v, 3))
		return true, err
	case slices.Equal(got, old):
		return false, errors.Join(wantGone(v, 1), wantThere(v, 2), wantThere(v, 3))
	}
	return false, fmt.Errorf("a log of %d deletes: %v", len(got), got)
}

func wantGone(v *Volume, key id.ID) error {
	if err := readErr(v, testNeedle(key, 0, 100)); !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%v %w: %w", key, errBack, err)
	}
	return nil
}

func wantThere(v *Volume, key id.ID) error {
	if err := readErr(v, testNeedle(key, 0, 100)); err != nil {
		return fmt.Errorf("%v %w: %w", key, errLost, err)
	}
	return nil
}

// TestReplaceDeleteLogCrashes cuts the power before every call of a replacement: the
// log is the old one or the new one, and replacing it again ends well.
func TestReplaceDeleteLogCrashes(t *testing.T) {
	t.Parallel()
	points := 0
	for _, poisoned := range []bool{false, true} {
		for _, seed := range seeds(testenv.Rounds(4)) {
			mem := newMem(t, seed)
			fault := &vfs.Fault{FS: mem}
			v, old, list := replaceSample(t, mem, fault, poisoned)
			p := &logPictures{mem: mem, seed: seed, tries: 12}
			fault.Before = p.before
			if err := v.ReplaceDeleteLog(bg, numbered(list)); err != nil {
				t.Fatal(err)
			}
			fault.Before = nil
			p.list = append(p.list, logPicture{mem.Crash(seed), len(list), "the end"})
			closeVolume(t, v)
			for _, c := range p.list {
				points++
				v, err := Open("/d", 7, Options{FS: c.mem, AllocChunk: 4096})
				if err != nil {
					t.Fatalf("%s: %v\n%v\n%s", c.what, err, c.mem, repeatWith(t, seed))
				}
				isNew, err := wantEither(v, old, list)
				if err != nil || c.what == "the end" && !isNew {
					t.Fatalf("%s: new %v, %v\n%v\n%s", c.what, isNew, err, c.mem, repeatWith(t, seed))
				}
				if err := v.ReplaceDeleteLog(bg, numbered(list)); err != nil {
					t.Fatal(err)
				}
				mustSeal(t, v)
				if err := v.Delete(bg, 3); err != nil {
					t.Fatal(err)
				}
				wantLog(t, v, append(slices.Clone(list), 3))
				closeVolume(t, v)
			}
		}
	}
	testenv.Tell(t, "%d crash points", points)
}

// TestReplaceDeleteLogFaults makes every call of a replacement fail once: the log is
// the old one or the new one, no delete that is taken afterwards is lost, and
// replacing it again ends well.
func TestReplaceDeleteLogFaults(t *testing.T) {
	t.Parallel()
	for _, errno := range []error{unix.EIO, unix.ENOSPC} {
		for n := int64(1); ; n++ {
			mem := newMem(t, uint64(n))
			fault := &vfs.Fault{FS: mem}
			v, old, list := replaceSample(t, mem, fault, n%2 == 0)
			hit, first := false, int64(0)
			fault.Before = func(op vfs.Op) vfs.Outcome {
				if first == 0 {
					first = op.N
				}
				if op.N-first+1 == n/2+1 {
					hit = true
					return vfs.Outcome{Err: errno, Short: op.Len / 3}
				}
				return vfs.Outcome{}
			}
			err := v.ReplaceDeleteLog(bg, numbered(list))
			fault.Before = nil
			isNew, readable := wantEither(v, old, list)
			if readable != nil || err == nil && !isNew {
				t.Fatalf("%v at call %d (%v): %v", errno, n, err, readable)
			}
			acked := v.Delete(bg, 3) == nil
			if err == nil && !acked {
				t.Fatalf("%v at call %d: the new log takes no deletes", errno, n)
			}
			for i, image := range []*vfs.Mem{mem.Kill(), mem.Crash(uint64(n))} {
				w, err := Open("/d", 7, Options{FS: image})
				if err != nil {
					t.Fatalf("%v at call %d, image %d: %v\n%v", errno, n, i, err, image)
				}
				if acked {
					if err := wantGone(w, 3); err != nil {
						t.Fatalf("%v at call %d, image %d: %v\n%v", errno, n, i, err, image)
					}
				} else if _, err := wantEither(w, old, list); err != nil && wantGone(w, 3) != nil {
					t.Fatalf("%v at call %d, image %d: %v\n%v", errno, n, i, err, image)
				}
				closeVolume(t, w)
			}
			if err := v.ReplaceDeleteLog(bg, numbered(list)); err != nil {
				t.Fatalf("%v at call %d: again: %v", errno, n, err)
			}
			wantLog(t, v, list)
			if err := errors.Join(v.Delete(bg, 3), wantGone(v, 3)); err != nil {
				t.Fatal(err)
			}
			closeVolume(t, v)
			if !hit {
				if n < 20 {
					t.Fatalf("only %d calls", n)
				}
				break
			}
		}
	}
}

// TestLogsFollowUnderLoad: many goroutines delete at a primary, which hands the
// numbers on; its follower has the same log, while both are read, and while the
// follower's log is replaced over and over.
func TestLogsFollowUnderLoad(t *testing.T) {
	t.Parallel()
	const deletes = 400
	vols := [2]*Volume{create(t, newMem(t, 1)), create(t, newMem(t, 2))}
	for _, v := range vols {
		var group []Needle
		for key := id.ID(1); key <= deletes; key++ {
			group = append(group, testNeedle(key, 0, 20))
		}
		mustAppend(t, v, group...)
		if err := v.Fence(bg); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(bg)
	var readers, writers sync.WaitGroup
	for _, v := range vols {
		readers.Go(func() {
			for key := id.ID(1); ctx.Err() == nil; key = key%deletes + 1 {
				if err := readErr(v, testNeedle(key, 0, 20)); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
				v.Stats()
			}
		})
	}
	readers.Go(func() { // replaced by what the primary has
		for ctx.Err() == nil {
			var list []Delete
			if _, err := vols[0].Deletes(bg, 0, func(d Delete) error { list = append(list, d); return nil }); err != nil {
				t.Error(err)
			}
			if err := vols[1].ReplaceDeleteLog(bg, list); err != nil {
				t.Error(err)
			}
		}
	})
	for g := range 8 {
		writers.Go(func() {
			for key := id.ID(g + 1); key <= deletes; key += 8 {
				if err := handOn(vols, key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Add(1)
	go func() { // a seal in the middle of it
		defer writers.Done()
		for _, v := range vols {
			if _, err := v.Seal(bg, testSeal); err != nil {
				t.Error(err)
			}
		}
	}()
	writers.Wait()
	stop()
	readers.Wait()
	var list []Delete
	if _, err := vols[0].Deletes(bg, 0, func(d Delete) error { list = append(list, d); return nil }); err != nil || len(list) != deletes {
		t.Fatal(len(list), err)
	}
	if err := catchUp(vols); err != nil {
		t.Fatal(err)
	}
	want, _ := logOf(vols[0])
	wantLog(t, vols[1], want)
	for _, v := range vols {
		if s := v.Stats(); s.Needles != 0 || s.Tombstones != deletes {
			t.Errorf("%+v", s)
		}
		closeVolume(t, v)
	}
}

// handOn deletes a key at the primary and then at the follower.
func handOn(vols [2]*Volume, key id.ID) error {
	numbers, err := vols[0].AppendDeletes(bg, []id.ID{key})
	if err != nil {
		return err
	}
	newest, err := vols[1].LogDeletes(bg, numbers[0]-1, []id.ID{key})
	if err == nil && newest < numbers[0]-1 {
		err = catchUp(vols)
	}
	return err
}

// catchUp sends the follower what it lacks.
func catchUp(vols [2]*Volume) error {
	for {
		newest, err := vols[1].NewestDelete()
		if err != nil {
			return err
		}
		var keys []id.ID
		if _, err := vols[0].Deletes(bg, newest, func(d Delete) error { keys = append(keys, d.Key); return nil }); err != nil {
			return err
		}
		got, err := vols[1].LogDeletes(bg, newest, keys)
		if err != nil || got >= newest {
			return err
		}
	}
}
