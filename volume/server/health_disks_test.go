package server_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

const second = time.Second

// A bad block is one blob that cannot be read, again and again, and a disk that
// stays in service.
func TestBadBlockLeavesTheDisk(t *testing.T) {
	h, w, c := watched(t, server.Options{})
	var all []stored
	for range 6 {
		all = append(all, h.putOn("/a", variants, 50_000))
	}
	w.falls("/a", func(op vfs.Op) illness {
		if op.Kind == vfs.OpRead && strings.HasSuffix(op.Name, ".vol") && op.Off < 150_512 && 150_000 < op.Off+op.Len {
			return illness{err: unix.EIO}
		}
		return illness{}
	})
	for range 30 {
		bad := 0
		for _, b := range all {
			got, err := h.s.Read(t.Context(), b.blob, 0, b.cookie)
			if got.Release(); err != nil {
				bad++
			}
		}
		if bad != 1 {
			t.Fatalf("%d blobs are bad", bad)
		}
		h.tick()
	}
	h.waitFor("/a", server.DiskSuspect, server.ReasonErrors)
	if d := h.disk("/a"); d.Why == nil || d.Failing != nil || len(c.were()) != 0 {
		t.Errorf("%+v", d)
	}
	h.wait("it is forgotten", func() bool { return h.disk("/a").State == server.DiskOK })
}

// A disk that fails its reads is taken out, with what lies on it and nothing
// else, and comes back when it is sound.
func TestDiskFails(t *testing.T) {
	h, w, c := watched(t, server.Options{})
	a, b := h.putOn("/a", variants, 5000), h.putOn("/b", variants, 5000)
	w.falls("/a", dead)
	h.waitFor("/a", server.DiskOut, server.ReasonErrors)
	h.unavailable(a, "/a", "errors")
	h.check(b)
	for range 10 {
		n := h.mustPut(variants, 1000, 2)
		h.check(n)
		if p, _ := h.wire.Locate(n.blob); p.Disks[0] != h.disk("/b").Disk {
			t.Errorf("written to disk %d", p.Disks[0])
		}
	}
	if d := h.disk("/a"); d.Failing == nil || d.Volumes != 0 || len(d.Sick) != 1 || d.Since.IsZero() {
		t.Errorf("%+v", d)
	}
	for _, i := range h.volumes() {
		if (i.Dir == "/a") != (i.State == "sick") {
			t.Errorf("%+v", i)
		}
	}
	v := h.info(func(i server.VolumeInfo) bool { return i.Dir == "/a" }).Volume
	if err := h.s.Seal(t.Context(), v, nil); !errors.Is(err, server.ErrDiskOut) {
		t.Errorf("seal: %v", err)
	}
	if err := h.s.Use(v, 0, func(*volume.Volume) error { return nil }); !errors.Is(err, server.ErrDiskOut) {
		t.Errorf("use: %v", err)
	}
	w.falls("/a", nil)
	h.wait("it is back", func() bool { return h.disk("/a").State != server.DiskOut })
	h.check(a)
	h.wait("it is sound", func() bool { return h.disk("/a").State == server.DiskOK })
	h.putOn("/a", variants, 100)
	if e, n := h.said(server.EventDiskOut, "/a"); n != 1 || e.Reason != server.ReasonErrors || e.Err == nil {
		t.Errorf("%d, %+v", n, e)
	}
	if e, n := h.said(server.EventDiskBack, "/a"); n != 1 || e.Reason != server.ReasonErrors {
		t.Errorf("%d, %+v", n, e)
	}
	if got := c.were(); !slices.Equal(got, []bool{false, true}) {
		t.Errorf("told %v", got)
	}
}

// A disk that fails writes is read as before, and written to no more for a while.
func TestDiskFailsWrites(t *testing.T) {
	w, c := newWard(), &changes{}
	h := newHouse(t, server.Options{FS: w, Dirs: []string{"/a"}, WatchEvery: second, DiskChanged: c.tell, NoUpkeep: true})
	a := h.mustPut(variants, 5000, 1)
	var syncs atomic.Int64
	w.falls("/a", func(op vfs.Op) illness {
		if op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".vol") {
			syncs.Add(1)
			return illness{err: unix.EIO}
		}
		return illness{}
	})
	h.wait("nothing is written there", func() bool {
		_, err := h.put(variants, 100, 1)
		return err != nil && strings.Contains(err.Error(), "none goes there")
	})
	before := syncs.Load()
	for range 50 {
		if _, err := h.put(variants, 100, 1); !errors.Is(err, server.ErrUnavailable) || errors.Is(err, server.ErrNoSpace) {
			t.Error(err)
		}
	}
	if h.check(a); syncs.Load() != before || len(c.were()) != 0 {
		t.Errorf("%d syncs more, told %v", syncs.Load()-before, c.were())
	}
	if d := h.disk("/a"); d.State != server.DiskSuspect || d.Reason != server.ReasonWrites || d.ReadOnly == 0 {
		t.Errorf("%+v", d)
	}
	w.falls("/a", nil)
	h.waitFor("/a", server.DiskOK, server.ReasonNone)
	h.check(h.mustPut(variants, 100, 1))
}

// Photos go to a disk that errs or was slow only when no other one takes them.
func TestSuspectDiskIsTheLast(t *testing.T) {
	h, w, _ := watched(t, server.Options{NoUpkeep: true})
	h.putOn("/a", variants, 5000)
	w.falls("/a", func(op vfs.Op) illness {
		if op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".vol") {
			return illness{err: unix.EIO}
		}
		return illness{}
	})
	h.until("it meets a write", func() bool {
		h.mustPut(variants, 100, 1)
		return h.disk("/a").State == server.DiskSuspect
	})
	w.falls("/a", nil)
	number := func(b stored) uint32 {
		p, _ := h.wire.Locate(b.blob)
		return p.Disks[0]
	}
	for range 20 {
		if n := number(h.mustPut(variants, 100, 1)); n != h.disk("/b").Disk {
			t.Errorf("written to disk %d", n)
		}
	}
	w.falls("/b", hang)
	h.wait("the other one is out", func() bool { return h.disk("/b").State == server.DiskOut })
	if n := number(h.mustPut(variants, 100, 1)); n != h.disk("/a").Disk {
		t.Errorf("written to disk %d", n)
	}
	w.falls("/b", nil)
}

// A disk that does not answer is taken out: who writes to it goes elsewhere, in
// the middle of a call too, who reads is told, Close does not wait; and when it
// answers everything is there again.
func TestDiskHangs(t *testing.T) {
	h, w, c := watched(t, server.Options{DirectoryTimeout: time.Minute})
	a, b := h.putOn("/a", variants, 5000), h.putOn("/b", variants, 5000)
	writes := make(chan error, 20)
	w.falls("/a", hang)
	for range cap(writes) {
		go func() {
			_, err := h.put(variants, 2000, 2)
			writes <- err
		}()
	}
	read := make(chan error, 1)
	go func() {
		got, err := h.s.Read(context.Background(), a.blob, 0, a.cookie)
		got.Release()
		read <- err
	}()
	deleted := make(chan error, 1)
	go func() { deleted <- h.s.Delete(context.Background(), a.blob) }()
	h.until("calls hang", func() bool { return w.hanging("/a") > 1 })
	h.waitFor("/a", server.DiskOut, server.ReasonHangs)
	for range cap(writes) {
		if err := <-writes; err != nil {
			t.Errorf("a write that met the hanging disk: %v", err)
		}
	}
	if err := <-deleted; !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("a delete that met it: %v", err)
	}
	h.check(b)
	h.check(h.mustPut(variants, 100, 1))
	_, err := h.s.Read(context.Background(), a.blob, 0, a.cookie)
	if !errors.Is(err, server.ErrDiskOut) || !strings.Contains(err.Error(), "/a (hangs)") {
		t.Error(err)
	}
	w.falls("/a", nil)
	if err := <-read; err != nil && !errors.Is(err, server.ErrUnavailable) && !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("the read that hung: %v", err)
	}
	h.wait("it is sound", func() bool { return h.disk("/a").State == server.DiskOK })
	h.putOn("/a", variants, 100)
	if got := c.were(); !slices.Equal(got, []bool{false, true}) {
		t.Errorf("told %v", got)
	}
}

// Close does not wait for a disk that is out, and closes the other one well.
func TestCloseBesideAHangingDisk(t *testing.T) {
	for _, reading := range []bool{false, true} {
		h, w, _ := watched(t, server.Options{})
		a, b := h.putOn("/a", variants, 5000), h.putOn("/b", variants, 5000)
		w.falls("/a", hang)
		read := make(chan error, 1)
		if reading {
			go func() {
				got, err := h.s.Read(context.Background(), a.blob, 0, a.cookie)
				got.Release()
				read <- err
			}()
			h.until("it hangs", func() bool { return w.hanging("/a") > 0 })
		}
		h.waitFor("/a", server.DiskOut, server.ReasonHangs)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := h.s.Close(ctx)
		cancel()
		if reading != errors.Is(err, server.ErrLate) || !reading && err != nil {
			t.Errorf("with a read under way %v: %v", reading, err)
		}
		h.until("the sound disk is given back", func() bool {
			f, err := w.mem.OpenWrite("/b/disk.id")
			if err == nil {
				err = f.Close()
			}
			return err == nil
		})
		w.falls("/a", nil)
		if reading {
			<-read
		}
		h.until("the other one is given back", func() bool {
			f, err := w.mem.OpenWrite("/a/disk.id")
			if err == nil {
				err = f.Close()
			}
			return err == nil
		})
		h.start()
		h.check(a)
		h.check(b)
		h.stop()
	}
}

// While the first file of a volume is being made the disk hangs: whoever asked
// for an id gets one elsewhere.
func TestDiskHangsAtABirth(t *testing.T) {
	h, w, _ := watched(t, server.Options{})
	w.falls("/a", func(op vfs.Op) illness { return illness{hangs: op.Kind == vfs.OpCreate} })
	ids := make(chan error, 10)
	for range cap(ids) {
		go func() {
			_, err := h.put(originals, 100, 1)
			ids <- err
		}()
	}
	h.until("a creation hangs", func() bool { return w.hanging("/a") == 1 })
	w.falls("/a", nil)
	w.falls("/a", hang)
	h.waitFor("/a", server.DiskOut, server.ReasonHangs)
	for range cap(ids) {
		if err := <-ids; err != nil {
			t.Error(err)
		}
	}
	w.falls("/a", nil)
	h.wait("it is sound", func() bool { return h.disk("/a").State == server.DiskOK })
	h.putOn("/a", originals, 100)
}
