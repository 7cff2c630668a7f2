package volume

import (
	"errors"
	"testing"

	"hayloft/internal/vfs"
)

var testSeal = SealInfo{Slot: 5, From: 100, To: 90000, Replicas: []byte("disk-a disk-b"), Policy: []byte("r2")}

func mustSeal(t testing.TB, v *Volume) SealRecord {
	t.Helper()
	rec, err := v.Seal(bg, testSeal)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// noFindings fails on anything Check finds.
func noFindings(t testing.TB, v *Volume) Report {
	t.Helper()
	rep, err := v.Check(bg, func(f Finding) { t.Errorf("%v at %d of %q: %v", f.Kind, f.Offset, f.File, f.Err) })
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// sealSample makes a sealed volume with live, corruptible and deleted needles.
func sealSample(t testing.TB, fs vfs.FS) (v *Volume, live, dead []Needle) {
	t.Helper()
	v, err := Create("/d", testIdent, Options{FS: fs, AllocChunk: 2048})
	if err != nil {
		t.Fatal(err)
	}
	live = []Needle{testNeedle(9, 0, 300), testNeedle(9, 1, 77), testNeedle(3, 2, 0), testNeedle(4, 0, 600), testNeedle(1, 0, 90)}
	dead = []Needle{testNeedle(2, 0, 200), testNeedle(5, 0, 10), testNeedle(6, 1, 40), testNeedle(7, 0, 50)}
	mustAppend(t, v, live[0], live[1])
	for _, n := range dead {
		mustAppend(t, v, n)
	}
	if err := v.Delete(bg, 2); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, v, live[2])
	if err := v.Delete(bg, 5); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, v, live[3])
	mustAppend(t, v, live[4])
	mustSeal(t, v)
	for _, key := range []Needle{dead[2], dead[3]} {
		if err := v.Delete(bg, key.Key); err != nil {
			t.Fatal(err)
		}
	}
	return v, live, dead
}

func checkSample(t testing.TB, v *Volume, live, dead []Needle) {
	t.Helper()
	for _, n := range live {
		mustRead(t, v, n)
		wantErr(t, readErr(v, Needle{Key: n.Key, Alt: n.Alt, Cookie: n.Cookie + 1}), ErrNotFound)
		wantErr(t, readErr(v, Needle{Key: n.Key, Alt: n.Alt + 50, Cookie: n.Cookie}), ErrNotFound)
		if !v.Has(n.Key) {
			t.Fatalf("Has(%v) is false", n.Key)
		}
	}
	for _, n := range dead {
		wantErr(t, readErr(v, n), ErrNotFound)
		if v.Has(n.Key) {
			t.Fatalf("Has(%v) of a deleted key", n.Key)
		}
	}
	wantErr(t, readErr(v, testNeedle(1000, 0, 1)), ErrNotFound)
	wantErr(t, v.Append(bg, []Needle{testNeedle(1000, 0, 1)}), ErrSealed)
	wantErr(t, v.Fill(bg, []Needle{testNeedle(1000, 0, 1)}), ErrSealed)
	if s := v.Stats(); s.Needles != int64(len(live)) || s.Poisoned != nil {
		t.Fatalf("stats: %+v", s)
	}
}

func TestSeal(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, live, dead := sealSample(t, mem)
	checkSample(t, v, live, dead)
	noFindings(t, v)
	rec, _ := v.Sealed()
	if rec.Needles != int64(len(live)+2) || !rec.equal(testSeal) || rec.Deletes != 0 {
		t.Fatalf("%+v", rec)
	}
	if again := mustSeal(t, v); again.Digest != rec.Digest {
		t.Fatal("sealing again gives another digest")
	}
	other := testSeal
	other.Slot++
	_, err := v.Seal(bg, other)
	wantErr(t, err, ErrConflict)
	closeVolume(t, v)
	for range 2 { // with the index, and without
		v = reopen(t, mem)
		checkSample(t, v, live, dead)
		noFindings(t, v)
		if got, ok := v.Sealed(); !ok || got.Digest != rec.Digest || !got.equal(testSeal) || !got.Sealed.Equal(rec.Sealed) {
			t.Fatalf("%+v, want %+v", got, rec)
		}
		digest, n, findings, err := v.Inventory(bg)
		if err != nil || digest != rec.Digest || n != rec.Needles || len(findings) > 0 {
			t.Fatalf("inventory: %x, %d, %v, %v", digest, n, findings, err)
		}
		closeVolume(t, v)
		if err := mem.Remove("/d/" + IndexName(7, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := mem.Remove("/d/" + DeleteLogName(7)); err != nil {
		t.Fatal(err)
	}
	_, err = Open("/d", 7, Options{FS: mem})
	wantErr(t, err, ErrCorrupt)
}

// TestDigestIsOfTheSet: replicas that hold the same needles in another order,
// with other garbage between them, have the same digest; any difference shows.
func TestDigestIsOfTheSet(t *testing.T) {
	t.Parallel()
	a, b := create(t, newMem(t, 1)), create(t, newMem(t, 2))
	x, y, z := testNeedle(1, 0, 100), testNeedle(2, 1, 200), testNeedle(3, 0, 300)
	mustAppend(t, a, x)
	mustAppend(t, a, y, z)
	mustAppend(t, b, z)
	mustAppend(t, b, testNeedle(9, 0, 500))
	if err := b.Delete(bg, 9); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, b, y)
	early, _, _, err := b.Inventory(bg)
	if err != nil {
		t.Fatal(err)
	}
	// The union: what a has is filled into the fenced b.
	if err := b.Fence(bg); err != nil {
		t.Fatal(err)
	}
	wantErr(t, b.Append(bg, []Needle{x}), ErrSealed)
	if err := b.Fill(bg, []Needle{x}); err != nil {
		t.Fatal(err)
	}
	ra, rb := mustSeal(t, a), mustSeal(t, b)
	if ra.Digest != rb.Digest || ra.Digest == early || ra.DataBytes != 600 {
		t.Fatalf("%x, %x, %x", ra.Digest, rb.Digest, early)
	}
	closeVolume(t, a)
	closeVolume(t, b)
}

// TestFenceHolds: a fence survives a restart, and deletes pass it.
func TestFenceHolds(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v := create(t, mem)
	mustAppend(t, v, testNeedle(1, 0, 100), testNeedle(1, 1, 50))
	mustAppend(t, v, testNeedle(2, 0, 100))
	if err := errors.Join(v.Fence(bg), v.Fence(bg), v.Delete(bg, 2)); err != nil {
		t.Fatal(err)
	}
	crashed := mem.Crash(3)
	closeVolume(t, v)
	v = reopen(t, crashed)
	wantErr(t, v.Append(bg, []Needle{testNeedle(3, 0, 1)}), ErrSealed)
	if !v.Fenced() {
		t.Fatal("not fenced")
	}
	wantErr(t, readErr(v, testNeedle(2, 0, 100)), ErrNotFound)
	mustSeal(t, v)
	mustRead(t, v, testNeedle(1, 1, 50))
	wantErr(t, readErr(v, testNeedle(2, 0, 100)), ErrNotFound)
	closeVolume(t, v)
}
