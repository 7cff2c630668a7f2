package volume

import (
	"bytes"
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

// sent is a replica whose file goes to another disk.
type sent struct {
	ident      Identity
	rec        SealRecord
	bytes      []byte
	log        []Delete
	live, dead []Needle
}

// sendSample makes the second generation of a volume, over one delete of three, or
// its first one with what that has.
func sendSample(t testing.TB, generation uint32) sent {
	t.Helper()
	mem := newMem(t, 90)
	v, live, dead := sealSample(t, mem)
	if err := v.Delete(bg, live[4].Key); err != nil {
		t.Fatal(err)
	}
	s := sent{live: live[:4], dead: append(dead, live[4])}
	if generation > 1 {
		next := mustCompact(t, v, CompactOptions{Generation: generation, Deletes: 1})
		closeVolume(t, v)
		v = next
	}
	s.ident = v.Identity()
	var err error
	if s.rec, err = v.Copy(bg, nil, func(b []byte) error { s.bytes = append(s.bytes, b...); return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Deletes(bg, 0, func(d Delete) error { s.log = append(s.log, d); return nil }); err != nil || len(s.log) != 3 {
		t.Fatal(s.log, err)
	}
	closeVolume(t, v)
	return s
}

func (s *sent) expect() Expect {
	return Expect{Digest: s.rec.Digest, Bytes: s.rec.End, Deletes: s.log}
}

// receive takes the file in pieces.
func (s *sent) receive(fs vfs.FS, want Expect, b []byte) error {
	r, err := Receive("/d", s.ident, Options{FS: fs}, want)
	if err != nil {
		return err
	}
	for piece := range slices.Chunk(b, 3000) {
		if err = r.Write(bg, piece); err != nil {
			break
		}
	}
	if err == nil {
		err = r.Commit(bg)
	}
	return errors.Join(err, r.Abort())
}

// check opens what was received and compares it with the source.
func (s *sent) check(fs vfs.FS) error {
	b, err := vfs.ReadFile(fs, "/d/"+FileName(7, s.ident.Generation), 1<<30)
	if err != nil || !bytes.Equal(b, s.bytes) {
		return fmt.Errorf("other bytes than the source's: %w", err)
	}
	v, err := OpenGeneration("/d", 7, s.ident.Generation, Options{FS: fs})
	if err != nil {
		return err
	}
	err = checkNeedles(v, s.live, s.dead)
	var log []Delete
	_, logErr := v.Deletes(bg, 0, func(d Delete) error { log = append(log, d); return nil })
	if !slices.Equal(log, s.log) {
		err = errors.Join(err, fmt.Errorf("log %v, want %v", log, s.log))
	}
	if !v.recovery.Checkpoint {
		err = errors.Join(err, errors.New("it had no index"))
	}
	_, checkErr := v.Check(bg, func(f Finding) { err = errors.Join(err, f.Err) })
	return errors.Join(err, logErr, checkErr, v.Close())
}

// TestReceive: a disk without the volume gets a generation of another one, byte for
// byte, of any age.
func TestReceive(t *testing.T) {
	t.Parallel()
	for _, g := range []uint32{1, 2} {
		s := sendSample(t, g)
		mem := newMem(t, 1)
		want := s.expect()
		var asked int64
		want.Throttle = func(_ context.Context, n int64) error { asked += n; return nil }
		if err := s.receive(mem, want, s.bytes); err != nil {
			t.Fatal(err)
		}
		if asked < 2*s.rec.End-dataStart {
			t.Errorf("asked for %d bytes of %d", asked, s.rec.End)
		}
		if err := s.check(mem); err != nil {
			t.Fatal(err)
		}
		wantErr(t, s.receive(mem, want, s.bytes), ErrExists)
		if n := names(t, mem); len(n) != 3 {
			t.Errorf("left %v", n)
		}
	}
}

// TestReceiveRefuses lists what gets no name, and touches nothing that is there.
func TestReceiveRefuses(t *testing.T) {
	t.Parallel()
	s := sendSample(t, 2)
	mem := newMem(t, 1)
	v := create(t, mem)
	mustAppend(t, v, testNeedle(1, 0, 10))
	before := names(t, mem)
	flip := func(at int) []byte {
		b := bytes.Clone(s.bytes)
		b[at] ^= 1
		return b
	}
	other, short, long := s.expect(), s.expect(), s.expect()
	other.Digest[0]++
	short.Bytes -= 8
	long.Bytes += 8
	lacks, none := s.expect(), s.expect()
	lacks.Deletes, none.Deletes = []Delete{}, nil
	double := s.expect()
	double.Deletes = append(slices.Clone(s.log), s.log[0])
	stops := s.expect()
	stop := errors.New("enough")
	stops.Throttle = func(context.Context, int64) error { return stop }
	for i, c := range []struct {
		want Expect
		b    []byte
		err  error
	}{
		{other, s.bytes, ErrConflict},
		{short, s.bytes, ErrCorrupt},
		{long, s.bytes, ErrCorrupt},
		{s.expect(), s.bytes[:len(s.bytes)-8], ErrCorrupt},
		{s.expect(), flip(100), ErrCorrupt},
		{s.expect(), flip(superblockSize + 100), ErrCorrupt},
		{s.expect(), flip(dataStart + 5), ErrCorrupt},
		{s.expect(), flip(len(s.bytes) - 20), ErrCorrupt},
		{lacks, s.bytes, ErrInvalid},
		{none, s.bytes, ErrInvalid},
		{double, s.bytes, ErrInvalid},
		{stops, s.bytes, stop},
		{s.expect(), s.bytes, vfs.ErrLocked}, // the volume is open
		{Expect{Digest: s.rec.Digest, Bytes: 12}, s.bytes, ErrInvalid},
	} {
		if err := s.receive(mem, c.want, c.b); !errors.Is(err, c.err) {
			t.Errorf("case %d: %v, want %v", i, err, c.err)
		}
		if n := names(t, mem); !slices.Equal(n, before) {
			t.Fatalf("case %d: left %v", i, n)
		}
	}
	mustRead(t, v, testNeedle(1, 0, 10))
	closeVolume(t, v)
	r, err := Receive("/d", s.ident, Options{FS: mem}, s.expect())
	if err != nil {
		t.Fatal(err)
	}
	_, err = Receive("/d", s.ident, Options{FS: mem}, s.expect())
	wantErr(t, err, vfs.ErrLocked)
	if err := r.Abort(); err != nil {
		t.Fatal(err)
	}
	wantErr(t, r.Write(bg, nil), ErrClosed)
	wantErr(t, r.Commit(bg), ErrClosed)
}

// TestReceiveKeepsTheLog: without one that is sent, the log that is there stays.
func TestReceiveKeepsTheLog(t *testing.T) {
	t.Parallel()
	s := sendSample(t, 2)
	mem := newMem(t, 1)
	overwriteLog(t, mem, s.log)
	want := s.expect()
	want.Deletes = nil
	if err := errors.Join(s.receive(mem, want, s.bytes), s.check(mem)); err != nil {
		t.Fatal(err)
	}
}

// TestReceiveBesideTheOpenFormer: while a generation comes, the one that is there
// is sealed, opened and closed: that removes what crashes left, not what is coming.
func TestReceiveBesideTheOpenFormer(t *testing.T) {
	t.Parallel()
	s := sendSample(t, 2)
	mem := newMem(t, 1)
	v := create(t, mem)
	r, err := Receive("/d", s.ident, Options{FS: mem}, s.expect())
	if err != nil {
		t.Fatal(err)
	}
	mustSeal(t, v)
	closeVolume(t, v)
	closeVolume(t, reopen(t, mem))
	if err := errors.Join(r.Write(bg, s.bytes), r.Commit(bg), r.Abort(), s.check(mem)); err != nil {
		t.Fatal(err)
	}
}

// behindSample leaves a copy of the volume that fell behind: poisoned, of the same
// generation or an older one, with a log. It returns its bytes, as far as they are synced.
func behindSample(t testing.TB, mem *vfs.Mem) (file, marker []byte) {
	t.Helper()
	fault := &vfs.Fault{FS: mem}
	v, err := Create("/d", testIdent, Options{FS: fault, AllocChunk: 2048})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, v, testNeedle(9, 0, 300))
	fault.Before = func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpSync && op.Name == testFile {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}
	wantErr(t, v.Append(bg, []Needle{unstored}), ErrPoisoned)
	end := v.synced.Load()
	closeVolume(t, v)
	overwriteLog(t, mem, numbered([]id.ID{1000, 1001}))
	return fileOf(t, mem, testFile)[:end], fileOf(t, mem, "/d/"+markerName(7, 1))
}

// TestReceiveQuarantines: what another file takes the place of is kept, with its
// poison, until somebody decides that it may go.
func TestReceiveQuarantines(t *testing.T) {
	t.Parallel()
	for _, g := range []uint32{1, 2} {
		s := sendSample(t, g)
		mem := newMem(t, 1)
		file, marker := behindSample(t, mem)
		for i := range 3 {
			if err := errors.Join(s.receive(mem, s.expect(), s.bytes), s.check(mem)); err != nil {
				t.Fatal(err)
			}
			all, err := ListQuarantined(mem, "/d")
			if err != nil || len(all) != i+1 || all[0].Volume != 7 || all[0].Generation != 1 || all[0].Name != "00000007-00000001.q0000.vol" || all[0].Bytes < int64(len(file)) {
				t.Fatalf("%+v, %v", all, err)
			}
			if i == 2 {
				break
			}
			e := Entry{Volume: 7, Generation: g, Name: FileName(7, g)}
			if _, err := Quarantine("/d", e, Options{FS: mem}); err != nil {
				t.Fatal(err)
			}
			if _, err := Open("/d", 7, Options{FS: mem}); !errors.Is(err, ErrNoVolume) {
				t.Fatal(err)
			}
		}
		q := "/d/00000007-00000001.q0000"
		if !bytes.HasPrefix(fileOf(t, mem, q+".vol"), file) || !bytes.Equal(fileOf(t, mem, q+".poisoned"), marker) {
			t.Error("it was changed")
		}
		all, _ := ListQuarantined(mem, "/d")
		for _, q := range all {
			if err := errors.Join(RemoveQuarantined("/d", q, Options{FS: mem}), RemoveQuarantined("/d", q, Options{FS: mem})); err != nil {
				t.Fatal(err)
			}
		}
		if n := names(t, mem); len(n) != 3 {
			t.Errorf("left %v", n)
		}
		wantErr(t, RemoveQuarantined("/d", Quarantined{Volume: 7, Generation: g, Name: FileName(7, g)}, Options{FS: mem}), ErrInvalid)
		if err := s.check(mem); err != nil {
			t.Fatal(err)
		}
	}
}

// afterReceive looks at what a crash or failure in the middle left: the former copy,
// untouched, under its name or in quarantine, and the new one or nothing.
func afterReceive(fs vfs.FS, s *sent, file, marker []byte) error {
	kept, marked := 0, 0
	all, err := fs.ReadDir("/d")
	if err != nil {
		return err
	}
	for _, name := range all {
		b, err := vfs.ReadFile(fs, "/d/"+name, 1<<30)
		switch {
		case err != nil:
			return err
		case bytes.HasPrefix(b, file):
			kept++
		case bytes.Equal(b, marker):
			marked++
		}
	}
	if kept != 1 || marked != 1 {
		return fmt.Errorf("%d copies of the former file, %d markers: %v", kept, marked, all)
	}
	v, err := Open("/d", 7, Options{FS: fs})
	if errors.Is(err, ErrNoVolume) {
		return nil
	}
	if err != nil {
		return err
	}
	ident, _ := v.Identity(), v.Close()
	switch _, sealed := v.Sealed(); {
	case sealed:
		return s.check(fs)
	case ident.Generation != 1 || v.Poisoned() == nil:
		return fmt.Errorf("%+v opened, its poison: %w", ident, v.Poisoned())
	}
	return nil
}

// finishReceive does what comes next.
func finishReceive(fs vfs.FS, s *sent, file, marker []byte) error {
	if err := afterReceive(fs, s, file, marker); err != nil {
		return err
	}
	if err := s.receive(fs, s.expect(), s.bytes); err != nil && !errors.Is(err, ErrExists) {
		return err
	}
	if err := RemoveUnfinished("/d", Options{FS: fs}); err != nil {
		return err
	}
	return errors.Join(s.check(fs), afterReceive(fs, s, file, marker))
}

// TestReceiveCrashes cuts the power before every call while a copy that fell behind is
// replaced, and once more while that is finished.
func TestReceiveCrashes(t *testing.T) {
	t.Parallel()
	type cut struct {
		mem  *vfs.Mem
		what string
	}
	tries := max(2, testenv.Rounds(3))
	var mu sync.Mutex
	capture := func(mem *vfs.Mem, seed uint64, list *[]cut) func(vfs.Op) vfs.Outcome {
		return func(op vfs.Op) vfs.Outcome {
			if !mutates(op.Kind) {
				return vfs.Outcome{}
			}
			mu.Lock()
			defer mu.Unlock()
			for i := range uint64(tries) {
				m := mem.Kill
				if i > 0 {
					m = func() *vfs.Mem { return mem.Crash(seed<<20 + uint64(op.N)<<4 + i) }
				}
				*list = append(*list, cut{m(), fmt.Sprintf("call %d (%v of %s), try %d", op.N, op.Kind, op.Name, i)})
			}
			return vfs.Outcome{}
		}
	}
	points := 0
	for i, seed := range seeds(max(2, testenv.Rounds(2))) { // of both generations
		s := sendSample(t, uint32(1+i%2))
		mem := newMem(t, seed)
		file, marker := behindSample(t, mem)
		var cuts []cut
		if err := s.receive(&vfs.Fault{FS: mem, Before: capture(mem, seed, &cuts)}, s.expect(), s.bytes); err != nil {
			t.Fatal(err)
		}
		cuts = append(cuts, cut{mem.Crash(seed), "the end"})
		for i, c := range cuts {
			var again []cut
			fs := vfs.FS(c.mem)
			if i%37 == int(seed%37) {
				fs = &vfs.Fault{FS: c.mem, Before: capture(c.mem, seed, &again)}
			}
			if err := finishReceive(fs, &s, file, marker); err != nil {
				t.Fatalf("generation %d, %s: %v\n%v\n%s", s.ident.Generation, c.what, err, c.mem, repeatWith(t, seed))
			}
			for _, d := range again {
				if err := finishReceive(d.mem, &s, file, marker); err != nil {
					t.Fatalf("generation %d, %s, then %s: %v\n%v\n%s", s.ident.Generation, c.what, d.what, err, d.mem, repeatWith(t, seed))
				}
			}
			points += 1 + len(again)
		}
	}
	testenv.Tell(t, "%d crash points", points)
}

// TestReceiveFaults makes every call fail once.
func TestReceiveFaults(t *testing.T) {
	t.Parallel()
	for _, errno := range []error{unix.EIO, unix.ENOSPC} {
		for n := int64(1); ; n++ {
			s := sendSample(t, uint32(1+n%2))
			mem := newMem(t, uint64(n))
			file, marker := behindSample(t, mem)
			hit := false
			fs := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
				if op.N == n/2+1 {
					hit = true
					return vfs.Outcome{Err: errno, Short: op.Len / 3}
				}
				return vfs.Outcome{}
			}}
			if err := s.receive(fs, s.expect(), s.bytes); err == nil && hit && s.check(mem) != nil {
				t.Fatalf("%v at call %d: %v", errno, n, s.check(mem))
			}
			for i, image := range []*vfs.Mem{mem.Kill(), mem.Crash(uint64(n)), mem} {
				if err := finishReceive(image, &s, file, marker); err != nil {
					t.Fatalf("%v at call %d, image %d: %v\n%v", errno, n, i, err, image)
				}
			}
			if !hit {
				if n < 40 {
					t.Fatalf("only %d calls", n)
				}
				break
			}
		}
	}
}
