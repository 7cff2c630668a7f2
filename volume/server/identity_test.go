package server_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
	"hayloft/volume/server"
)

func TestIdentityIsKept(t *testing.T) {
	dir := t.TempDir()
	h := newHouse(t, server.Options{FS: vfs.OS{}, Dirs: []string{dir}})
	first := h.s.Stats().Disks[0]
	if len(first.UUID) != 32 || first.Disk == 0 || first.Total == 0 {
		t.Errorf("%+v", first)
	}
	b, err := vfs.ReadFile(vfs.OS{}, filepath.Join(dir, "disk.id"), 4096)
	if err != nil || !strings.HasPrefix(string(b), "hayloft disk 1\nuuid "+first.UUID+"\n") {
		t.Errorf("%q, %v", b, err)
	}
	a := h.mustPut(variants, 1000, 4)
	// A second process on the same directory.
	if _, err := h.tryStart(); !errors.Is(err, server.ErrDisk) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("two processes: %v", err)
	}
	h.stop()
	h.start()
	h.check(a)
	if again := h.s.Stats().Disks[0]; again.UUID != first.UUID || again.Disk != first.Disk {
		t.Errorf("%+v, before %+v", again, first)
	}
}

// Each directory that is not ours to use is refused with one line that says
// which and why, and is left as it was.
func TestForeignDirectories(t *testing.T) {
	h := newHouse(t, server.Options{Dirs: []string{"/a"}})
	h.mustPut(variants, 100, 1)
	h.stop()
	good, err := vfs.ReadFile(h.mem, "/a/disk.id", 4096)
	if err != nil {
		t.Fatal(err)
	}
	files := func() string { return h.mem.String() }
	for name, c := range map[string]struct {
		content string
		says    string
	}{
		"newer":      {strings.Replace(string(good), "disk 1", "disk 2", 1), "version"},
		"foreign":    {"something else\n", "not Hayloft's"},
		"empty":      {"", "not Hayloft's"},
		"cut":        {string(good[:len(good)-3]), "damaged"},
		"longer":     {string(good) + "x", "damaged"},
		"flipped":    {strings.Replace(string(good), "created 2026", "created 2025", 1), "damaged"},
		"upper case": {strings.ToUpper(string(good)), "not Hayloft's"},
	} {
		if err := vfs.WriteFile(h.mem, "/a/disk.id", []byte(c.content)); err != nil {
			t.Fatal(err)
		}
		before := files()
		s, err := h.tryStart()
		if err == nil {
			t.Errorf("%s: accepted", name)
			h.s = s
			h.stop()
			continue
		}
		if !errors.Is(err, server.ErrDisk) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "/a") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if files() != before {
			t.Errorf("%s: the directory was changed", name)
		}
	}
	if err := h.mem.Remove("/a/disk.id"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.tryStart(); !errors.Is(err, server.ErrDisk) || !strings.Contains(err.Error(), "identity") {
		t.Errorf("volumes without identity: %v", err)
	}
	if err := vfs.WriteFile(h.mem, "/a/disk.id", good); err != nil {
		t.Fatal(err)
	}
	h.start()
}

func TestCopyOfADisk(t *testing.T) {
	h := newHouse(t, server.Options{Dirs: []string{"/a"}})
	h.stop()
	good, err := vfs.ReadFile(h.mem, "/a/disk.id", 4096)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.mem.MkdirAll("/b"); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFile(h.mem, "/b/disk.id", good); err != nil {
		t.Fatal(err)
	}
	h.opts.Dirs = []string{"/a", "/b"}
	if _, err := h.tryStart(); !errors.Is(err, server.ErrDisk) || !strings.Contains(err.Error(), "copy") {
		t.Errorf("%v", err)
	}
	h.opts.Dirs = []string{"/a"}
	h.start() // nothing stayed locked
}

// A disk that cannot even be read is out of service; the process is not.
func TestDeadDisk(t *testing.T) {
	mem := vfs.NewMem(1)
	dead := false
	fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		if dead && strings.HasPrefix(op.Name, "/a") {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
	h := newHouse(t, server.Options{FS: fault, Dirs: []string{"/a", "/b"}})
	one, two := h.mustPut(variants, 100, 1), h.mustPut(variants, 100, 1)
	h.stop()
	dead = true
	h.start()
	served, unavailable := 0, 0
	for _, b := range []stored{one, two} {
		switch got, err := h.s.Read(t.Context(), b.blob, 0, b.cookie); {
		case err == nil:
			served++
			got.Release()
		case errors.Is(err, server.ErrUnavailable):
			unavailable++
		default:
			t.Error(err)
		}
	}
	if served != 1 || unavailable != 1 {
		t.Errorf("%d served, %d unavailable", served, unavailable)
	}
	h.check(h.mustPut(variants, 100, 1))
	if st := h.s.Stats(); len(st.Disks) != 2 || st.Disks[1].Dir != "/a" || st.Disks[1].Failing == nil {
		t.Errorf("%+v", st.Disks)
	}
	h.stop()
	h.opts.Dirs = []string{"/a"}
	if _, err := h.tryStart(); !errors.Is(err, server.ErrDisk) {
		t.Errorf("the only disk is dead: %v", err)
	}
}
