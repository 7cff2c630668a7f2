package server_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/directory"
	"hayloft/internal/clock"
	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/server"
)

// realHouse is a house on files of the machine, with its clock.
func realHouse(t *testing.T, o server.Options) *house {
	t.Helper()
	h := &house{t: t, opts: o}
	d, err := directory.Open(t.Context(), directory.Options{Dirs: []string{t.TempDir()}, Member: "m1", Clock: clock.Real{}})
	if err != nil {
		t.Fatal(err)
	}
	node, err := d.RegisterNode(t.Context(), directory.NodeSpec{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	h.dir, h.wire = d, &wire{d: d, node: node.ID, incarnation: 100}
	h.opts.FS, h.opts.Clock = vfs.OS{}, clock.Real{}
	h.opts.Events = func(e server.Event) {
		h.mu.Lock()
		h.events = append(h.events, e)
		h.mu.Unlock()
	}
	h.start()
	t.Cleanup(func() {
		h.stop()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// Pairs of six disks (every one with HAYLOFT_PAIRS=15) are emptied in turn under a running server that is read and
// written: no read fails, the directories are taken into use again, and every shard
// is made again, all by itself.
func TestPairsAreWipedUnderLoad(t *testing.T) {
	root := t.TempDir()
	o := server.Options{Coding: coding.Policy{Data: 4, Parity: 2}, SourceGrace: time.Millisecond, RepairDelay: time.Hour, WatchEvery: 20 * time.Millisecond,
		UpkeepEvery: 50 * time.Millisecond, Maintenance: 1 << 40, KeepFree: 1 << 20, AllocChunk: 64 << 10}
	for _, n := range []string{"a", "b", "c", "d", "e", "f"} {
		dir := filepath.Join(root, n)
		if err := os.Mkdir(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		o.Dirs = append(o.Dirs, dir)
	}
	h := realHouse(t, o)
	all := h.fill(originals, 48, 90_000)
	h.encodeAll()
	h.until("the release", func() bool {
		for _, i := range h.coded() {
			if i.State != lifecycle.Released {
				return false
			}
		}
		return true
	})
	for _, b := range all[:6] {
		h.delete(b)
	}
	dead, kept := all[:6], all[6:]

	var reads atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); load.Wait() })
	defer end()
	for n := range 3 {
		load.Go(func() {
			for i := n; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				h.check(kept[i%len(kept)])
				h.gone(dead[i%len(dead)])
				reads.Add(1)
			}
		})
	}
	load.Go(func() { // what is lost with a disk that has the only copy is not this test's
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			b, err := h.put(originals, 20_000, 1)
			if err == nil && i%3 == 0 {
				_ = h.s.Delete(context.Background(), b.blob)
			}
		}
	})
	pairs := 0
	for a := range o.Dirs {
		for b := range a {
			if pairs++; pairs > testenv.Times("HAYLOFT_PAIRS", 3) {
				continue
			}
			before, former := reads.Load(), h.uuids()
			for _, n := range []int{a, b} {
				empty(t, o.Dirs[n])
			}
			h.until("full redundancy", func() bool {
				for _, i := range h.coded() {
					if i.Survives != 2 || i.Work != "" {
						return false
					}
				}
				for dir, uuid := range h.uuids() {
					if wiped := dir == o.Dirs[a] || dir == o.Dirs[b]; uuid == "" || wiped == (uuid == former[dir]) {
						return false
					}
				}
				return reads.Load() > before+20
			})
			if t.Failed() {
				t.Fatalf("after %s and %s", o.Dirs[a], o.Dirs[b])
			}
		}
	}
	end()
	h.both(kept, dead)
	h.stop()
	h.start()
	h.both(kept, dead)
	testenv.Tell(t, "%d pairs of disks wiped under load, %d reads, none failed", min(pairs, testenv.Times("HAYLOFT_PAIRS", 3)), reads.Load())
}

// uuids are the disks in use, by their directories: "" for none.
func (h *house) uuids() map[string]string {
	out := make(map[string]string)
	for _, d := range h.s.Stats().Disks {
		if out[d.Dir] = d.UUID; d.State != server.DiskOK {
			out[d.Dir] = ""
		}
	}
	return out
}

// empty removes everything in a directory, as somebody would who has the wrong one.
func empty(t *testing.T, dir string) {
	t.Helper()
	for { // the server may make files meanwhile
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			return
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Log(err)
			}
		}
	}
}
