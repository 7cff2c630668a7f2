package volume

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// TestFencedFile: from the fence on nothing that a user does changes the file, or the
// set that is sealed; reads go by the log all the same, now and after a restart.
func TestFencedFile(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v := create(t, mem)
	mustAppend(t, v, testNeedle(1, 0, 100), testNeedle(1, 1, 50), testNeedle(2, 0, 100), testNeedle(3, 0, 100))
	if err := v.Entomb(bg, 3); err != nil {
		t.Fatal(err)
	}
	wantErr(t, v.Bury(bg, []id.ID{1}), ErrNotFenced)
	wantErr(t, v.Holdings(bg, nil, func(Holding) error { return nil }), ErrNotFenced)
	if err := v.Fence(bg); err != nil {
		t.Fatal(err)
	}
	before := fileOf(t, mem, testFile)
	digest, _, _, err := v.Inventory(bg)
	if err := errors.Join(err, v.Delete(bg, 1), v.Delete(bg, 99), v.Delete(bg, 1), v.Delete(bg, 3)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, v.Entomb(bg, 2), ErrSealed)
	if !bytes.Equal(before, fileOf(t, mem, testFile)) {
		t.Fatal("a delete changed the file")
	}
	check := func(v *Volume) {
		t.Helper()
		wantErr(t, readErr(v, testNeedle(1, 1, 50)), ErrNotFound)
		wantErr(t, readErr(v, testNeedle(3, 0, 100)), ErrNotFound)
		mustRead(t, v, testNeedle(2, 0, 100))
		if v.Has(1) || !v.Has(2) {
			t.Error("Has does not go by the log")
		}
		if p, err := v.Probe(bg, 1); err != nil || !p.Deleted {
			t.Errorf("%+v, %v", p, err)
		}
		n := testNeedle(2, 0, 100)
		one, _ := newNeedle(&n)
		if s := v.Stats(); s.Needles != 1 || s.Tombstones != 3 || s.DeleteLogBytes == 0 || s.LiveBytes != one.size() {
			t.Errorf("%+v", s)
		}
		noFindings(t, v)
		var exported int
		if err := v.Export(bg, nil, func(Needle) error { exported++; return nil }, func(f Finding) { t.Error(f) }); err != nil || exported != 1 {
			t.Errorf("%d exported, %v", exported, err)
		}
	}
	check(v)
	for _, image := range []*vfs.Mem{mem.Kill(), mem.Crash(1)} {
		w := reopen(t, image)
		check(w)
		closeVolume(t, w)
	}
	closeVolume(t, v)
	v = reopen(t, mem)
	check(v)
	rec := mustSeal(t, v)
	if rec.Digest != digest || rec.Deletes != 0 || rec.Needles != 3 {
		t.Errorf("%+v", rec)
	}
	wantLog(t, v, []id.ID{1, 99, 3})
	wantErr(t, readErr(v, testNeedle(1, 1, 50)), ErrNotFound)
	wantErr(t, v.Bury(bg, []id.ID{2}), ErrSealed)
	closeVolume(t, v)
	if b := fileOf(t, mem, testFile); binary.LittleEndian.Uint32(b[12:]) != 0 {
		t.Error("a sealed file asks for more than former programs know")
	}
}

// TestFenceNeedsItsLog: a fenced volume whose log is gone may have lost deletes.
func TestFenceNeedsItsLog(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v := create(t, mem)
	if err := v.Fence(bg); err != nil {
		t.Fatal(err)
	}
	closeVolume(t, v)
	if err := mem.Remove("/d/" + DeleteLogName(7)); err != nil {
		t.Fatal(err)
	}
	_, err := Open("/d", 7, Options{FS: mem})
	wantErr(t, err, ErrCorrupt)
}

// TestFencedFeature: a program that does not know the bit of a fenced file must not
// serve it, and an unknown bit, or this one in another state, is a newer program's.
func TestFencedFeature(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v := create(t, mem)
	if err := v.Fence(bg); err != nil {
		t.Fatal(err)
	}
	closeVolume(t, v)
	b := fileOf(t, mem, testFile)[:superblockSize]
	le := binary.LittleEndian
	if b[11] != stateFenced || le.Uint32(b[12:]) != 1 {
		t.Fatalf("state %d, features %d", b[11], le.Uint32(b[12:]))
	}
	for _, c := range []struct {
		state    byte
		features uint32
		err      error
	}{{1, 1, nil}, {1, 0, nil}, {0, 0, nil}, {0, 1, ErrUnsupported}, {2, 1, ErrUnsupported}, {1, 2, ErrUnsupported}, {1, 3, ErrUnsupported}} {
		b[11] = c.state
		le.PutUint32(b[12:], c.features)
		le.PutUint32(b[4092:], crc32.Checksum(b[:4092], castagnoli))
		sb, err := decodeSuperblock(b)
		if !errors.Is(err, c.err) || err == nil && sb.Logged != (c.features == 1) {
			t.Errorf("%+v: %+v, %v", c, sb, err)
		}
		if err == nil && !bytes.Equal(encodeSuperblock(sb), b) {
			t.Errorf("%+v is not what it was", c)
		}
	}
}

// formerFence fences as programs did before there was a log beside a fenced file.
func formerFence(t testing.TB, v *Volume) {
	t.Helper()
	err := v.onWriter(bg, func() error {
		sb := v.sealing.head
		sb.State = stateFenced
		return v.writeSuperblock(sb)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFormerFence: a file that a former program fenced, and in which it put deletes
// after that, opens, goes on, and is sealed.
func TestFormerFence(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"seal", "delete", "fence", "fill"} {
		mem := newMem(t, 1)
		v := create(t, mem)
		mustAppend(t, v, testNeedle(1, 0, 100), testNeedle(2, 0, 100), testNeedle(3, 0, 100), testNeedle(4, 0, 100))
		formerFence(t, v)
		if err := v.Delete(bg, 1); err != nil { // this handle knows of no fence
			t.Fatal(err)
		}
		closeVolume(t, v)
		if _, err := mem.Stat("/d/" + DeleteLogName(7)); err == nil {
			t.Fatal("there is a log")
		}
		v = reopen(t, mem)
		if !v.Fenced() {
			t.Fatal("not fenced")
		}
		wantErr(t, v.Append(bg, []Needle{testNeedle(9, 0, 1)}), ErrSealed)
		wantErr(t, readErr(v, testNeedle(1, 0, 100)), ErrNotFound)
		end := v.synced.Load()
		var err error
		switch first {
		case "seal":
			mustSeal(t, v)
		case "delete":
			err = v.Delete(bg, 2)
		case "fence":
			err = v.Fence(bg)
		case "fill":
			err = errors.Join(v.Fill(bg, []Needle{testNeedle(5, 0, 10), testNeedle(1, 0, 100)}), v.Bury(bg, []id.ID{4}))
			end = v.synced.Load()
		}
		if err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if err := v.Delete(bg, 2); err != nil {
			t.Fatal(err)
		}
		if first != "seal" && v.synced.Load() != end {
			t.Errorf("%s: a delete went to the file", first)
		}
		wantLog(t, v, []id.ID{2})
		mem = mem.Crash(1)
		closeVolume(t, v)
		v = reopen(t, mem)
		rec := mustSeal(t, v)
		want := int64(3)
		wantErr(t, readErr(v, testNeedle(1, 0, 100)), ErrNotFound)
		wantErr(t, readErr(v, testNeedle(2, 0, 100)), ErrNotFound)
		mustRead(t, v, testNeedle(3, 0, 100))
		if first == "fill" {
			mustRead(t, v, testNeedle(5, 0, 10))
			wantErr(t, readErr(v, testNeedle(4, 0, 100)), ErrNotFound)
		} else {
			mustRead(t, v, testNeedle(4, 0, 100))
		}
		if rec.Needles != want {
			t.Errorf("%s: %d needles", first, rec.Needles)
		}
		closeVolume(t, v)
	}
}

// TestFillFenced: what another replica holds goes into a fenced file, however full
// it is; a tombstone there wins, one in the log does not, another content never.
func TestFillFenced(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, err := Create("/d", testIdent, Options{FS: mem, MaxBytes: minMaxBytes, AllocChunk: 4096})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, v, testNeedle(1, 0, 100), testNeedle(2, 0, 100))
	wantErr(t, v.Append(bg, []Needle{testNeedle(3, 0, 8000)}), ErrFull)
	if err := errors.Join(v.Delete(bg, 2), v.Fence(bg), v.Delete(bg, 4), v.Bury(bg, []id.ID{5, 6}), v.Bury(bg, []id.ID{6, 2}), v.Bury(bg, nil)); err != nil {
		t.Fatal(err)
	}
	group := []Needle{testNeedle(1, 0, 100), testNeedle(2, 1, 30), testNeedle(3, 0, 8000), testNeedle(4, 0, 60), testNeedle(5, 0, 70)}
	for range 2 {
		if err := v.Fill(bg, group); err != nil {
			t.Fatal(err)
		}
	}
	other := testNeedle(1, 0, 100)
	other.Cookie++
	wantErr(t, v.Fill(bg, []Needle{other}), ErrConflict)
	wantErr(t, v.Bury(bg, []id.ID{7, 7}), ErrInvalid)
	mustRead(t, v, testNeedle(3, 0, 8000))
	for _, n := range []Needle{group[1], group[3], group[4]} {
		wantErr(t, readErr(v, n), ErrNotFound)
	}
	var got []Holding
	if err := v.Holdings(bg, nil, func(h Holding) error { got = append(got, h); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []pair{{1, 0}, {2, altTombstone}, {3, 0}, {4, 0}, {5, altTombstone}, {6, altTombstone}}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i, h := range got {
		alt := h.Alt
		if h.Tombstone {
			alt = altTombstone
		}
		if n := testNeedle(h.Key, h.Alt, int(h.Length)); (pair{h.Key, alt}) != want[i] ||
			!h.Tombstone && (h.Cookie != n.Cookie || h.ETag != crc32.Checksum(n.Data, castagnoli)) {
			t.Errorf("%+v", h)
		}
	}
	var fetched []pair
	err = v.Fetch(bg, []id.ID{4, 9, 5, 1}, func(n Needle) error {
		if w := testNeedle(n.Key, n.Alt, len(n.Data)); !bytes.Equal(n.Data, w.Data) || n.Cookie != w.Cookie || !n.Master.equal(w.Master) {
			t.Errorf("%v/%d is wrong", n.Key, n.Alt)
		}
		fetched = append(fetched, pair{n.Key, n.Alt})
		return nil
	})
	if err != nil || len(fetched) != 2 || fetched[0] != (pair{4, 0}) || fetched[1] != (pair{1, 0}) {
		t.Errorf("%v, %v", fetched, err)
	}
	stop := errors.New("enough")
	wantErr(t, v.Fetch(bg, []id.ID{1}, func(Needle) error { return stop }), stop)
	wantErr(t, v.Holdings(bg, nil, func(Holding) error { return stop }), stop)
	wantErr(t, v.Holdings(bg, func(context.Context, int64) error { return stop }, func(Holding) error { return nil }), stop)
	noFindings(t, v)
	rec := mustSeal(t, v)
	if rec.Needles != 3 {
		t.Errorf("%+v", rec)
	}
	fetched = nil
	if err := v.Fetch(bg, []id.ID{4, 5, 1}, func(n Needle) error { fetched = append(fetched, pair{n.Key, n.Alt}); return nil }); err != nil || len(fetched) != 2 {
		t.Errorf("sealed: %v, %v", fetched, err)
	}
	closeVolume(t, v)
}

// TestFillMendsDamage: a needle that is damaged in a fenced file counts as not held.
// Filled, it is stored once more, and that record counts: at once, after restarts
// with a checkpoint and without, and in the sealed file.
func TestFillMendsDamage(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{10, headerSize + 60} { // the header, the data
		mem := newMem(t, 1)
		v := create(t, mem)
		all := []Needle{testNeedle(1, 0, 500), testNeedle(2, 0, 500), testNeedle(2, 1, 500), testNeedle(3, 0, 500)}
		for _, n := range all {
			mustAppend(t, v, n)
		}
		sound := create(t, newMem(t, 2))
		mustAppend(t, sound, all...)
		if err := errors.Join(v.Fence(bg), sound.Fence(bg)); err != nil {
			t.Fatal(err)
		}
		p, _, _ := v.idx.Load().get(2, 0)
		if err := mem.Flip(testFile, p.off+at, 4); err != nil {
			t.Fatal(err)
		}
		held := func(v *Volume) (n int) {
			t.Helper()
			if err := v.Holdings(bg, nil, func(h Holding) error { n++; return nil }); err != nil {
				t.Fatal(err)
			}
			return n
		}
		if n := held(v); n != 3 {
			t.Fatalf("%d are held", n)
		}
		for _, n := range all {
			if err := sound.Fetch(bg, []id.ID{n.Key}, func(n Needle) error { return v.Fill(bg, []Needle{n}) }); err != nil {
				t.Fatal(err)
			}
		}
		check := func(v *Volume) {
			t.Helper()
			for _, n := range all {
				mustRead(t, v, n)
			}
			if s := v.Stats(); held(v) != 4 || s.Needles != 4 {
				t.Fatalf("%d are held, %d counted", held(v), s.Needles)
			}
			if err := v.Fill(bg, all); err != nil {
				t.Fatal(err)
			}
		}
		check(v)
		end := v.synced.Load()
		for _, how := range []string{"killed", "checkpoint", "walk"} {
			image := mem.Kill()
			if how != "killed" {
				w := reopen(t, image)
				closeVolume(t, w)
			}
			if how == "walk" {
				forget(t, image)
			}
			w := reopen(t, image)
			if at > headerSize || how == "checkpoint" { // a header that is lost is a gap
				check(w)
			}
			closeVolume(t, w)
		}
		if v.synced.Load() != end {
			t.Error("stored again and again")
		}
		info := testSeal
		info.United = true
		rec, err := v.Seal(bg, info)
		if err != nil {
			t.Fatal(err)
		}
		if want := mustSeal(t, sound); rec.Digest != want.Digest || rec.Needles != 4 {
			t.Fatalf("%+v, want %+v", rec, want)
		}
		for _, n := range all {
			mustRead(t, v, n)
		}
		next := mustCompact(t, v, CompactOptions{Generation: 2})
		noFindings(t, next)
		closeVolume(t, next)
		closeVolume(t, v)
		closeVolume(t, sound)
	}
}

// TestFillOfAnotherContent: where a header survives, a damaged needle is not replaced
// by another one.
func TestFillOfAnotherContent(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v := create(t, mem)
	mustAppend(t, v, testNeedle(1, 0, 500))
	if err := v.Fence(bg); err != nil {
		t.Fatal(err)
	}
	if err := mem.Flip(testFile, dataStart+headerSize+60, 4); err != nil {
		t.Fatal(err)
	}
	other := testNeedle(1, 0, 500)
	other.Data[0] ^= 1
	wantErr(t, v.Fill(bg, []Needle{other}), ErrConflict)
	if err := v.Fill(bg, []Needle{testNeedle(1, 0, 500)}); err != nil {
		t.Fatal(err)
	}
	mustRead(t, v, testNeedle(1, 0, 500))
	closeVolume(t, v)
}

// TestSalvageOfAFencedVolume: the deletes in the log of a poisoned volume count for
// the generation that is salvaged from it, as they do in itself.
func TestSalvageOfAFencedVolume(t *testing.T) {
	t.Parallel()
	for _, later := range []bool{false, true} {
		mem := newMem(t, 1)
		fault := &vfs.Fault{FS: mem}
		v := create(t, fault)
		live, dead := []Needle{testNeedle(1, 0, 100), testNeedle(2, 0, 200)}, []Needle{testNeedle(3, 0, 100), testNeedle(4, 0, 50), unstored}
		mustAppend(t, v, live...)
		mustAppend(t, v, dead[:2]...)
		if err := errors.Join(v.Delete(bg, 3), v.Fence(bg), v.Delete(bg, 4)); err != nil {
			t.Fatal(err)
		}
		fault.Before = func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpSync && op.Name == testFile {
				return vfs.Outcome{Err: unix.EIO}
			}
			return vfs.Outcome{}
		}
		wantErr(t, v.Fill(bg, []Needle{unstored}), ErrPoisoned)
		fault.Before = nil
		if later {
			closeVolume(t, v)
			mem = mem.Crash(3)
			v = reopen(t, mem)
		}
		if err := checkPoisoned(v, live, dead); err != nil {
			t.Fatal(err)
		}
		held := 0
		if err := v.Holdings(bg, nil, func(Holding) error { held++; return nil }); err != nil || held != 4 {
			t.Fatal(held, err)
		}
		next := mustCompact(t, v, salvageOf(2))
		if err := errors.Join(checkNeedles(next, live, dead), next.Delete(bg, 1), checkNeedles(next, live[1:], dead)); err != nil {
			t.Fatal(err)
		}
		wantErr(t, readErr(v, live[0]), ErrNotFound) // it goes by the same log
		wantLog(t, next, []id.ID{4, 1})
		closeVolume(t, v)
		closeVolume(t, next)
		for range 2 {
			next = reopen(t, mem)
			if g := next.Identity().Generation; g != 2 {
				t.Fatal(g)
			}
			if err := checkNeedles(next, live[1:], append(dead, live[0])); err != nil {
				t.Fatal(err)
			}
			noFindings(t, next)
			closeVolume(t, next)
			if err := RemoveSuperseded(bg, "/d", 7, 2, Options{FS: mem}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}
