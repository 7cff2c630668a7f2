package server_test

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// ward is a file system in memory whose directories fall ill one by one.
type ward struct {
	*vfs.Fault
	mem *vfs.Mem

	mu      sync.Mutex // guards all below
	cond    *sync.Cond
	ill     map[string]func(vfs.Op) illness // by data directory
	in      map[string]int                  // calls that hang
	looks   map[string]int                  // reads of the identity file
	devices map[string]uint64               // of data directories, others are on 1
}

// illness is what becomes of a call.
type illness struct {
	hangs bool // until the directory is cured
	err   error
}

func newWard() *ward {
	w := &ward{mem: vfs.NewMem(1), ill: make(map[string]func(vfs.Op) illness), in: make(map[string]int), looks: make(map[string]int), devices: make(map[string]uint64)}
	w.cond = sync.NewCond(&w.mu)
	w.Fault = &vfs.Fault{FS: w.mem, Before: w.before}
	return w
}

func (w *ward) before(op vfs.Op) vfs.Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	if op.Kind == vfs.OpRead && path.Base(op.Name) == "disk.id" {
		w.looks[path.Dir(op.Name)]++
	}
	for dir, ill := range w.ill {
		if op.Name != dir && !strings.HasPrefix(op.Name, dir+"/") {
			continue
		}
		got := ill(op)
		if !got.hangs {
			return vfs.Outcome{Err: got.err}
		}
		w.in[dir]++
		w.cond.Broadcast()
		for w.ill[dir] != nil {
			w.cond.Wait()
		}
		w.in[dir]--
		return vfs.Outcome{}
	}
	return vfs.Outcome{}
}

// Stat tells the device of whatever lies in a data directory.
func (w *ward) Stat(name string) (vfs.Info, error) {
	i, err := w.Fault.Stat(name)
	w.mu.Lock()
	defer w.mu.Unlock()
	for dir, device := range w.devices {
		if err == nil && (name == dir || strings.HasPrefix(name, dir+"/")) {
			i.ID.Device = device
		}
	}
	return i, err
}

// falls has a directory fall ill, or with nil be cured.
func (w *ward) falls(dir string, ill func(vfs.Op) illness) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.ill, dir)
	if ill != nil {
		w.ill[dir] = ill
	}
	w.cond.Broadcast()
}

func (w *ward) mount(dir string, device uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.devices[dir] = device
}

// hanging returns how many calls hang.
func (w *ward) hanging(dir string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.in[dir]
}

func hang(vfs.Op) illness { return illness{hangs: true} }
func dead(vfs.Op) illness { return illness{err: unix.EIO} }

// wipe removes what lies in a directory, and then the directory.
func (w *ward) wipe(t testing.TB, dir string) {
	t.Helper()
	names, err := w.mem.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		full := path.Join(dir, n)
		if st, err := w.mem.Stat(full); err == nil && st.Dir {
			w.wipe(t, full)
		} else if err := w.mem.Remove(full); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.mem.Remove(dir); err != nil {
		t.Fatal(err)
	}
}

// tick lets a second go by, and the disks that answer be looked at, so that the
// clock does not run away from them.
func (h *house) tick() {
	w := h.ward
	if w == nil {
		h.clock.Advance(second)
		return
	}
	looks := func(dir string) (n int, answers bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.looks[dir], w.ill[dir] == nil
	}
	before := make(map[string]int)
	for _, dir := range h.opts.Dirs {
		if n, answers := looks(dir); answers && h.disk(dir).State != server.DiskOut {
			before[dir] = n
		}
	}
	h.clock.Advance(second)
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for dir, was := range before {
		for i := 0; i < 50; i++ { // the last look may have ended just before this second
			if n, answers := looks(dir); n > was || !answers {
				break
			}
			<-again.C
		}
	}
}

// changes notes what Options.DiskChanged was told.
type changes struct {
	mu  sync.Mutex
	all []error
}

func (c *changes) tell(dir string, out error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if out != nil && (!errors.Is(out, server.ErrDiskOut) || !strings.Contains(out.Error(), dir)) {
		out = errors.New("not said so: " + out.Error())
	}
	c.all = append(c.all, out)
}

// were returns whether each change was one into service.
func (c *changes) were() (in []bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, err := range c.all {
		in = append(in, err == nil)
	}
	return in
}

// watched is a house with two disks, /a and /b, each with a volume of a class.
func watched(t *testing.T, o server.Options) (h *house, w *ward, c *changes) {
	w, c = newWard(), &changes{}
	o.FS, o.Dirs, o.WatchEvery, o.DiskChanged = w, []string{"/a", "/b"}, second, c.tell
	return newHouse(t, o), w, c
}

func (h *house) disk(dir string) server.DiskStats {
	h.t.Helper()
	all := h.s.Stats().Disks
	i := slices.IndexFunc(all, func(d server.DiskStats) bool { return d.Dir == dir })
	if i < 0 {
		h.t.Fatalf("no disk in %s", dir)
	}
	return all[i]
}

func (h *house) waitFor(dir string, state server.DiskState, reason server.Reason) {
	h.t.Helper()
	h.wait(dir+" is "+state.String()+" for "+reason.String(), func() bool {
		d := h.disk(dir)
		return d.State == state && d.Reason == reason
	})
}

// unavailable checks that a blob is refused for its disk.
func (h *house) unavailable(b stored, dir, why string) {
	h.t.Helper()
	_, err := h.s.Read(context.Background(), b.blob, 0, b.cookie)
	if !errors.Is(err, server.ErrUnavailable) || !errors.Is(err, server.ErrDiskOut) || errors.Is(err, volume.ErrNotFound) ||
		errors.Is(err, volume.ErrCorrupt) || !strings.Contains(err.Error(), dir+" ("+why+")") {
		h.t.Errorf("a read of %s: %v", dir, err)
	}
	if err := h.s.Delete(context.Background(), b.blob); !errors.Is(err, server.ErrUnavailable) || !errors.Is(err, server.ErrDiskOut) {
		h.t.Errorf("a delete on %s: %v", dir, err)
	}
}

// said returns the last event of a kind about a directory.
func (h *house) said(kind server.EventKind, dir string) (last server.Event, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e.Kind == kind && e.Dir == dir {
			last = e
			n++
		}
	}
	return last, n
}
