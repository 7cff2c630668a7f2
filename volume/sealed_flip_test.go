package volume

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
)

// TestEverySealedBitFlip flips one bit in every byte of a sealed volume, its
// index and its delete log, with the index there and without. Every live needle
// then has its right bytes or the explicit error "corrupt", never "not found";
// no deleted one comes back; nothing keeps the volume shut; one flipped bit
// costs one needle at most; and Check sees what reads see.
func TestEverySealedBitFlip(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, live, dead := sealSample(t, mem)
	killed := mem.Kill()
	closeVolume(t, v)
	compacted := mem.Kill()
	v = reopen(t, compacted)
	next := mustCompact(t, v, CompactOptions{Generation: 2, Deletes: 1})
	closeVolume(t, v)
	closeVolume(t, next)
	if err := RemoveSuperseded(bg, "/d", 7, 2, Options{FS: compacted}, nil); err != nil {
		t.Fatal(err)
	}
	bare := mem.Kill()
	if err := bare.Remove("/d/" + IndexName(7, 1)); err != nil {
		t.Fatal(err)
	}
	step := int64(1)
	if testenv.Rounds(100) < 100 {
		step = 13 // the race detector is not after bits
	}
	for name, image := range map[string]*vfs.Mem{"closed": mem, "killed": killed, "compacted": compacted, "without index": bare} {
		files, err := image.ReadDir("/d")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			st, err := image.Stat("/d/" + file)
			if err != nil {
				t.Fatal(err)
			}
			idle := func(int64) bool { return false }
			if strings.HasSuffix(file, volumeExt) {
				idle = bodiesOfPadding(t, image, "/d/"+file)
			}
			for off := int64(0); off < st.Size; off += step {
				if idle(off) || off > 600 && off < 4000 || off > superblockSize+600 && off < dataStart-100 {
					continue // reserved bytes of a superblock
				}
				m := image.Kill()
				if err := m.Flip("/d/"+file, off, 1<<(off%8)); err != nil {
					t.Fatal(err)
				}
				flipped(t, m, live, dead, name, file, off)
			}
		}
	}
}

func flipped(t *testing.T, m *vfs.Mem, live, dead []Needle, name, file string, off int64) {
	t.Helper()
	v, err := Open("/d", 7, Options{FS: m, AllocChunk: 2048})
	if err != nil {
		t.Fatalf("%s, byte %d of %s: one flipped bit keeps the volume shut: %v", name, off, file, err)
	}
	corrupt := 0
	for _, n := range live {
		b, err := v.Read(bg, n.Key, n.Alt, n.Cookie)
		switch {
		case err == nil && bytes.Equal(b.Data, n.Data) && b.Master.equal(n.Master):
		case errors.Is(err, ErrCorrupt):
			corrupt++
		default:
			t.Fatalf("%s, byte %d of %s: %v/%d: wrong bytes or error %v", name, off, file, n.Key, n.Alt, err)
		}
	}
	for _, n := range dead {
		if err := readErr(v, n); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s, byte %d of %s: deleted %v: %v", name, off, file, n.Key, err)
		}
	}
	findings := 0
	if _, err := v.Check(bg, func(Finding) { findings++ }); err != nil {
		t.Fatal(err)
	}
	if corrupt > 1 || corrupt > 0 && findings == 0 {
		t.Fatalf("%s, byte %d of %s: %d needles corrupt, %d findings", name, off, file, corrupt, findings)
	}
	closeVolume(t, v)
}

// TestLostDeletes: when rot takes both copies of a tombstone in the delete log,
// nobody guesses whom it meant.
func TestLostDeletes(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, live, dead := sealSample(t, mem)
	closeVolume(t, v)
	overwrite(t, mem, "/d/"+DeleteLogName(7), dataStart, make([]byte, 2*headerSize))
	v = reopen(t, mem)
	for _, n := range live {
		wantErr(t, readErr(v, n), ErrCorrupt)
	}
	wantErr(t, readErr(v, dead[2]), ErrCorrupt)
	wantErr(t, readErr(v, dead[3]), ErrNotFound) // its tombstone is there
	wantErr(t, readErr(v, dead[0]), ErrNotFound) // was deleted before sealing
	_, err := v.Compact(bg, CompactOptions{Generation: 2, Deletes: 2})
	wantErr(t, err, ErrCorrupt)
	closeVolume(t, v)
	// The same in the volume file, when the index is lost too.
	mem = newMem(t, 1)
	v, live, dead = sealSample(t, mem)
	var at int64
	_, err = Scan(mem, testFile, func(r Record) error {
		if r.Kind == KindTombstone && r.Key == 5 && at == 0 {
			at = r.Offset
		}
		return nil
	})
	if err != nil || at == 0 {
		t.Fatal(at, err)
	}
	closeVolume(t, v)
	overwrite(t, mem, testFile, at, make([]byte, 2*headerSize))
	v = reopen(t, mem) // the index knows
	mustRead(t, v, live[0])
	wantErr(t, readErr(v, dead[1]), ErrNotFound)
	closeVolume(t, v)
	if err := mem.Remove("/d/" + IndexName(7, 1)); err != nil {
		t.Fatal(err)
	}
	v = reopen(t, mem)
	wantErr(t, readErr(v, dead[1]), ErrCorrupt)
	wantErr(t, readErr(v, live[0]), ErrCorrupt)
	closeVolume(t, v)
}

// TestCutDeleteLog: a delete log that lost its end, and no record tells of it, is
// found out by a generation that goes by more deletes. Later ones may be lost as
// well, so no needle is served; Check says why, and nothing is compacted.
func TestCutDeleteLog(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, live, dead := sealSample(t, mem)
	next := mustCompact(t, v, CompactOptions{Generation: 2, Deletes: 1})
	closeVolume(t, v)
	closeVolume(t, next)
	if err := RemoveSuperseded(bg, "/d", 7, 2, Options{FS: mem}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := mem.OpenWrite("/d/" + DeleteLogName(7))
	if err == nil {
		err = errors.Join(f.Truncate(dataStart), f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	v, events := openWatched(t, mem)
	if count(*events, EventRot) != 1 {
		t.Errorf("%+v", *events)
	}
	for _, n := range live {
		wantErr(t, readErr(v, n), ErrCorrupt)
	}
	wantErr(t, readErr(v, dead[3]), ErrCorrupt) // its delete is lost, and it was not compacted away
	var found []Finding
	if _, err := v.Check(bg, func(f Finding) { found = append(found, f) }); err != nil || len(found) != 1 ||
		found[0].Kind != FindingDeletes || found[0].File != DeleteLogName(7) {
		t.Errorf("%+v, %v", found, err)
	}
	_, err = v.Compact(bg, CompactOptions{Generation: 3})
	wantErr(t, err, ErrCorrupt)
	closeVolume(t, v)
}
