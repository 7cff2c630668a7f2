package server_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// copyFile copies a file of the machine.
func (h *house) copyFile(from, to string) {
	h.t.Helper()
	b, err := vfs.ReadFile(h.mem, from, 64<<20)
	if err == nil {
		err = vfs.WriteFile(h.mem, to, b)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// A sealed volume whose file is another's, or that of an earlier day, is out of
// service: the directory knows what was sealed.
func TestFileIsNotWhatWasSealed(t *testing.T) {
	h := newHouse(t, server.Options{})
	a := h.mustPut(variants, 3000, 2)
	v := h.info(writing).Volume
	name, early := "/data/volumes/"+volume.FileName(v, 1), "/data/early"
	h.stop()
	h.copyFile(name, early)
	h.start()
	h.mustPut(variants, 3000, 2)
	if err := h.s.Seal(t.Context(), v, nil); err != nil {
		t.Fatal(err)
	}
	h.stop()
	h.copyFile(name, "/data/good")
	refused := func(why string) {
		t.Helper()
		h.start()
		if i := h.info(is(v)); i.State != "sick" || !errors.Is(i.Sick, volume.ErrConflict) || !strings.Contains(i.Sick.Error(), why) {
			t.Errorf("%+v", i)
		}
		if _, err := h.s.Read(t.Context(), a.blob, 0, a.cookie); !errors.Is(err, server.ErrUnavailable) {
			t.Error(err)
		}
		h.stop()
	}
	h.copyFile(early, name)
	refused("earlier day")

	if err := h.mem.Remove(name); err != nil {
		t.Fatal(err)
	}
	other, err := volume.Create("/data/volumes", volume.Identity{Volume: v, Generation: 1, Class: variants}, volume.Options{FS: h.mem})
	if err != nil {
		t.Fatal(err)
	}
	_, sealed := other.Seal(t.Context(), volume.SealInfo{Slot: a.blob.Slot(), From: 1, To: id.Millis(2)})
	if err := errors.Join(sealed, other.Close()); err != nil {
		t.Fatal(err)
	}
	refused("does not hold what")

	for _, n := range h.files("00000001-00000001") {
		if err := h.mem.Remove("/data/volumes/" + n); err != nil {
			t.Fatal(err)
		}
	}
	h.copyFile("/data/good", name)
	h.start()
	h.check(a)
}

// A copy of a volume on a disk that the directory does not have it on is not
// sealed, nor is its tile closed.
func TestSealOfACopy(t *testing.T) {
	h := newHouse(t, server.Options{Dirs: []string{"/a", "/b"}})
	a := h.mustPut(variants, 3000, 2)
	i := h.info(writing)
	other := map[string]string{"/a": "/b", "/b": "/a"}[i.Dir]
	h.stop()
	h.copyFile(i.Dir+"/volumes/"+volume.FileName(i.Volume, 1), other+"/volumes/"+volume.FileName(i.Volume, 1))
	h.opts.Dirs = []string{other}
	h.start()
	if err := h.s.Seal(t.Context(), i.Volume, nil); !errors.Is(err, volume.ErrConflict) || !strings.Contains(err.Error(), "on other disks") {
		t.Error(err)
	}
	if row := h.row(i.Volume); row.Seal != nil || row.Closed != 0 {
		t.Errorf("%+v", row)
	}
	h.stop()
	h.opts.Dirs = []string{i.Dir}
	h.start()
	h.check(a)
}

// A disk whose files could not be listed once does not fail for ever.
func TestListFailsOnce(t *testing.T) {
	var broken atomic.Bool
	fault := &vfs.Fault{FS: vfs.NewMem(1), Before: func(op vfs.Op) vfs.Outcome {
		if broken.Load() && op.Kind == vfs.OpReadDir {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
	h := newHouse(t, server.Options{FS: fault})
	a := h.mustPut(variants, 100, 1)
	failing := func() bool {
		h.clock.Advance(2 * time.Minute)
		return h.s.Stats().Disks[0].Failing != nil
	}
	broken.Store(true)
	h.until("the failure", failing)
	broken.Store(false)
	h.until("its end", func() bool { return !failing() })
	h.check(a)
}
