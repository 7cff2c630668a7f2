package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" {
		fmt.Fprintln(os.Stderr, killedMain(dir))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

var bg = context.Background()

var testIdent = Identity{Volume: 7, Generation: 1, Class: ClassOriginals}

// newMem returns a crash file system with the directory /d.
func newMem(t testing.TB, seed uint64) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem(seed)
	if err := m.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	return m
}

// create makes a volume in /d of fs, with a small allocation chunk.
func create(t testing.TB, fs vfs.FS) *Volume {
	t.Helper()
	v, err := Create("/d", testIdent, Options{FS: fs, AllocChunk: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func reopen(t testing.TB, fs vfs.FS) *Volume {
	t.Helper()
	v, err := Open("/d", testIdent.Volume, Options{FS: fs, AllocChunk: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func closeVolume(t testing.TB, v *Volume) {
	t.Helper()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// testNeedle makes a needle whose bytes follow from its arguments.
func testNeedle(key id.ID, alt uint8, size int) Needle {
	rng := rand.New(rand.NewPCG(uint64(key), uint64(alt)))
	n := Needle{Key: key, Alt: alt, Cookie: id.Cookie(rng.Uint64() | 1), Data: make([]byte, size)}
	for i := range n.Data {
		n.Data[i] = byte(rng.Uint32())
	}
	if alt == 0 {
		n.Master = &MasterInfo{Photo: key + 1, Owner: key + 2, ContentType: "image/jpeg", Time: time.UnixMilli(int64(key)).UTC()}
	}
	return n
}

func mustAppend(t testing.TB, v *Volume, group ...Needle) {
	t.Helper()
	if err := v.Append(bg, group); err != nil {
		t.Fatal(err)
	}
}

// mustRead fails unless v returns exactly n.
func mustRead(t testing.TB, v *Volume, n Needle) {
	t.Helper()
	b, err := v.Read(bg, n.Key, n.Alt, n.Cookie)
	if err != nil {
		t.Fatalf("read %v/%d: %v", n.Key, n.Alt, err)
	}
	if !bytes.Equal(b.Data, n.Data) || !b.Master.equal(n.Master) {
		t.Fatalf("read %v/%d: other content", n.Key, n.Alt)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func readErr(v *Volume, n Needle) error {
	_, err := v.Read(bg, n.Key, n.Alt, n.Cookie)
	return err
}

func TestRoundTrip(t *testing.T) {
	systems := map[string]func(t *testing.T) (vfs.FS, string){
		"os":  func(t *testing.T) (vfs.FS, string) { return vfs.OS{}, t.TempDir() },
		"mem": func(t *testing.T) (vfs.FS, string) { return newMem(t, 1), "/d" },
	}
	for name, system := range systems {
		t.Run(name, func(t *testing.T) {
			fs, dir := system(t)
			v, err := Create(dir, testIdent, Options{FS: fs})
			if err != nil {
				t.Fatal(err)
			}
			sizes := []int{0, 1, 7, 8, 9, 4096, blocksAbove, blocksAbove + 1, 300 << 10, onePread - 200, onePread, 3<<20 + 5}
			var all []Needle
			for i, size := range sizes {
				group := []Needle{testNeedle(id.ID(100+i), 0, size), testNeedle(id.ID(100+i), 3, size/2)}
				mustAppend(t, v, group...)
				all = append(all, group...)
			}
			gone := testNeedle(999, 1, 50)
			mustAppend(t, v, gone)
			if err := v.Delete(bg, gone.Key); err != nil {
				t.Fatal(err)
			}
			check := func() {
				for _, n := range all {
					mustRead(t, v, n)
					wantErr(t, readErr(v, Needle{Key: n.Key, Alt: n.Alt, Cookie: n.Cookie + 1}), ErrNotFound)
				}
				wantErr(t, readErr(v, gone), ErrNotFound)
				wantErr(t, v.Append(bg, []Needle{gone}), ErrTombstoned)
				if !v.Has(100) || v.Has(999) || v.Has(5) {
					t.Fatal("Has is wrong")
				}
				s := v.Stats()
				if s.Needles != int64(len(all)) || s.Tombstones != 1 || s.Poisoned != nil {
					t.Fatalf("stats: %+v", s)
				}
			}
			check()
			before := v.Stats().FileBytes
			mustAppend(t, v, all[4:8]...)
			if v.Stats().FileBytes != before {
				t.Fatal("an equal put was written again")
			}
			other := all[6]
			other.Data = append([]byte{1}, other.Data[1:]...)
			wantErr(t, v.Append(bg, []Needle{other}), ErrConflict)
			closeVolume(t, v)
			if v, err = Open(dir, testIdent.Volume, Options{FS: fs}); err != nil {
				t.Fatal(err)
			}
			check()
			mustAppend(t, v, testNeedle(5000, 0, 10))
			closeVolume(t, v)
			wantErr(t, v.Append(bg, all[:1]), ErrClosed)
			wantErr(t, readErr(v, all[0]), ErrClosed)
			wantErr(t, v.Close(), ErrClosed)
		})
	}
}

// TestNewFileOutlivesThePower: once a put into a new volume is acknowledged, its
// file is found after any power cut, though the process that made it was killed
// before the directory was synced.
func TestNewFileOutlivesThePower(t *testing.T) {
	for seed := range uint64(50) {
		mem := newMem(t, seed)
		var unsynced *vfs.Mem
		fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpSyncDir && unsynced == nil {
				unsynced = mem.Kill() // the file has its name, and the device does not know
			}
			return vfs.Outcome{}
		}}
		closeVolume(t, create(t, fault))
		for _, image := range []*vfs.Mem{mem, unsynced} {
			v := reopen(t, image)
			mustAppend(t, v, testNeedle(1, 0, 100))
			after := reopen(t, image.Crash(seed))
			mustRead(t, after, testNeedle(1, 0, 100))
			closeVolume(t, after)
			closeVolume(t, v)
		}
	}
}
