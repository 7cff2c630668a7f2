package server_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/server"
)

// sixDisks are the data directories of a machine that codes 4+2.
func sixDisks() server.Options {
	var dirs []string
	for i := range 6 {
		dirs = append(dirs, fmt.Sprintf("/disk%d", i+1))
	}
	return server.Options{Dirs: dirs, Coding: coding.Policy{Data: 4, Parity: 2}, SourceGrace: time.Hour, RepairDelay: 10 * time.Minute,
		Maintenance: 1 << 40, CompactBytes: 1 << 40}
}

// fill stores blobs until there are n, on every disk in turn.
func (h *house) fill(class volume.Class, n, size int) (out []stored) {
	h.t.Helper()
	for range n {
		out = append(out, h.mustPut(class, size, 1))
	}
	return out
}

// encodeAll seals and codes every volume there is.
func (h *house) encodeAll() {
	h.t.Helper()
	for _, i := range h.volumes() {
		if i.Disk == 0 || i.State == "void" {
			continue
		}
		if err := h.s.Encode(context.Background(), i.Volume, nil); err != nil {
			h.t.Fatalf("encode volume %d: %v", i.Volume, err)
		}
	}
}

// coded returns what is known of the coded volumes.
func (h *house) coded() []server.CodedInfo { return h.s.Coded() }

// released lets the grace pass and waits until no source is left.
func (h *house) released() {
	h.t.Helper()
	h.clock.Advance(61 * time.Minute)
	h.until("the release of all sources", func() bool {
		h.clock.Advance(time.Second)
		for _, i := range h.coded() {
			if i.State != lifecycle.Released {
				return false
			}
		}
		for _, i := range h.volumes() {
			if i.Disk != 0 && i.State == "sealed" {
				return false
			}
		}
		return true
	})
}

func (h *house) checkAll(all []stored) {
	h.t.Helper()
	for _, b := range all {
		h.check(b)
	}
}

// shardFiles lists the shards on a disk.
func (h *house) shardFiles(dir string) (out []string) {
	epochs, _ := h.mem.ReadDir(dir + "/shards")
	for _, e := range epochs {
		names, err := h.mem.ReadDir(dir + "/shards/" + e)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			h.t.Fatal(err)
		}
		for _, n := range names {
			if strings.HasSuffix(n, ".shard") {
				out = append(out, dir+"/shards/"+e+"/"+n)
			}
		}
	}
	return out
}

func TestCodedLife(t *testing.T) {
	h := newHouse(t, sixDisks())
	all := h.fill(originals, 24, 40_000)
	h.encodeAll()
	if n := h.saw(server.EventCoded); n != 6 {
		t.Fatalf("%d volumes were coded", n)
	}
	for _, i := range h.coded() {
		if i.State != lifecycle.Coded || i.Survives != 2 || len(i.Shards) != 6 || i.Sick != nil {
			t.Errorf("%+v", i)
		}
	}
	h.checkAll(all)
	h.delete(all[0]) // in the grace: the shards' logs have it, the source's has not
	h.released()
	h.gone(all[0])
	h.checkAll(all[1:])
	h.delete(all[1])
	h.stop()
	h.start()
	h.gone(all[0])
	h.gone(all[1])
	h.checkAll(all[2:])
	for _, i := range h.coded() {
		if i.State != lifecycle.Released || i.Survives != 2 {
			t.Errorf("after a restart: %+v", i)
		}
	}
}

// Any two disks may go, and what is lost is made again elsewhere by itself.
func TestPairsOfDisksAreLost(t *testing.T) {
	h := newHouse(t, sixDisks())
	all := h.fill(originals, 18, 30_000)
	h.encodeAll()
	h.released()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	for range 4 {
		a, b := 1+rng.IntN(6), 1+rng.IntN(6)
		h.stop()
		for _, n := range []int{a, b} {
			h.wipe(fmt.Sprintf("/disk%d", n))
		}
		h.start()
		h.checkAll(all) // degraded
		h.clock.Advance(11 * time.Minute)
		h.until("full redundancy", func() bool {
			h.clock.Advance(time.Second)
			for _, i := range h.coded() {
				if i.Survives != 2 {
					return false
				}
			}
			return true
		})
		h.checkAll(all)
	}
}

// wipe removes everything below a data directory.
func (h *house) wipe(dir string) {
	h.t.Helper()
	names, err := h.mem.ReadDir(dir)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, n := range names {
		path := dir + "/" + n
		if st, err := h.mem.Stat(path); err == nil && st.Dir {
			h.wipe(path)
		}
		if err := h.mem.Remove(path); err != nil {
			h.t.Fatal(err)
		}
	}
}

// More shards than m are lost: an explicit error, nothing guessed, nothing removed.
func TestMoreThanParityIsLost(t *testing.T) {
	h := newHouse(t, sixDisks())
	all := h.fill(originals, 12, 30_000)
	h.encodeAll()
	h.released()
	h.stop()
	for n := range 3 {
		h.wipe(fmt.Sprintf("/disk%d", n+1))
	}
	left := len(h.shardFiles("/disk4")) + len(h.shardFiles("/disk5")) + len(h.shardFiles("/disk6"))
	h.start()
	h.clock.Advance(time.Hour)
	for _, b := range all {
		got, err := h.s.Read(context.Background(), b.blob, 0, b.cookie)
		if !errors.Is(err, server.ErrUnavailable) {
			t.Fatalf("%d bytes, %v", len(got.Data), err)
		}
	}
	for _, i := range h.coded() {
		if i.Sick == nil || i.Survives != 0 {
			t.Errorf("%+v", i)
		}
	}
	if n := len(h.shardFiles("/disk4")) + len(h.shardFiles("/disk5")) + len(h.shardFiles("/disk6")); n != left {
		t.Errorf("%d shards of %d are left", n, left)
	}
}

// A flipped bit is served right, reported, and repaired by itself.
func TestDamagedShardIsRepaired(t *testing.T) {
	h := newHouse(t, sixDisks())
	all := h.fill(originals, 12, 30_000)
	h.encodeAll()
	h.released()
	for _, f := range h.shardFiles("/disk1") {
		h.flip(f, 8192+20_000) // of the first needle in shard 0
	}
	h.checkAll(all)
	for _, b := range all { // of the data shards on the disk at least
		h.check(b)
	}
	h.until("the repair", func() bool {
		h.clock.Advance(time.Second)
		for _, i := range h.coded() {
			for _, s := range i.Shards {
				if s.Damage > 0 {
					return false
				}
			}
		}
		return h.saw(server.EventShardDamaged) > 0
	})
	if h.saw(server.EventRepaired) == 0 {
		t.Error("nothing was repaired")
	}
}

// flip inverts a bit of a file, on the device.
func (h *house) flip(name string, at int64) {
	h.t.Helper()
	f, err := h.mem.OpenWrite(name)
	if err != nil {
		h.t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		h.t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteVAt([][]byte{b}, at); err != nil {
		h.t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		h.t.Fatal(err)
	}
}

// Space of what is deleted comes back: a new generation out of the shards, coded
// again, and the older epoch goes.
func TestReclaim(t *testing.T) {
	o := sixDisks()
	o.CompactBytes, o.CompactShare = 20_000, 0.2
	h := newHouse(t, o)
	all := h.fill(originals, 24, 40_000)
	h.encodeAll()
	h.released()
	dead := func(i int) bool { return i/6%2 == 0 } // some on every disk
	var kept []stored
	for i, b := range all {
		if dead(i) {
			h.delete(b)
		} else {
			kept = append(kept, b)
		}
	}
	h.until("the second epochs", func() bool {
		h.clock.Advance(time.Minute)
		for _, i := range h.coded() {
			if i.Epoch < 2 || i.State != lifecycle.Released {
				return false
			}
		}
		return true
	})
	h.until("the removal of the first epochs", func() bool {
		h.clock.Advance(time.Second)
		for n := range 6 {
			for _, f := range h.shardFiles(fmt.Sprintf("/disk%d", n+1)) {
				if strings.Contains(f, "-00000001-0") && strings.Contains(f, "/shards/") && strings.Contains(f, "-00000001/") {
					return false
				}
			}
		}
		return true
	})
	h.checkAll(kept)
	for i, b := range all {
		if dead(i) {
			h.gone(b)
		}
	}
	h.stop()
	h.start()
	h.checkAll(kept)
}

// Shards that were crowded on the disks that were left spread again when there are
// more.
func TestShardsSpreadAgain(t *testing.T) {
	h := newHouse(t, sixDisks())
	all := h.fill(originals, 12, 30_000)
	h.encodeAll()
	h.released()
	h.stop()
	six := h.opts.Dirs
	h.wipe(six[0])
	h.wipe(six[1])
	survive := func(disks int) {
		t.Helper()
		h.until(fmt.Sprintf("%d disks to be spare", disks), func() bool {
			h.clock.Advance(time.Second)
			for _, i := range h.coded() {
				for _, s := range i.Shards {
					if s.Away != nil {
						return false
					}
				}
				if i.Survives != disks || i.Work != "" {
					return false
				}
			}
			return true
		})
	}
	h.opts.Dirs = six[2:]
	h.start()
	h.clock.Advance(11 * time.Minute)
	survive(1) // two of the four have two shards each
	h.checkAll(all)
	h.stop()
	h.opts.Dirs = six
	h.start()
	survive(2)
	h.checkAll(all)
}

// A released source that somebody reads when the server stops is closed all the same.
func TestReleasedSourceIsClosed(t *testing.T) {
	h := newHouse(t, sixDisks())
	h.fill(originals, 6, 20_000)
	h.encodeAll()
	var source server.VolumeInfo
	for _, i := range h.volumes() {
		if i.Disk != 0 && i.State == "sealed" {
			source = i
		}
	}
	held, let := make(chan struct{}), make(chan struct{})
	go h.s.Use(source.Volume, source.Disk, func(*volume.Volume) error { //nolint:errcheck // it returns nil
		close(held)
		<-let
		return nil
	})
	<-held
	h.clock.Advance(2 * time.Hour)
	h.wait("the release", func() bool {
		for _, i := range h.volumes() {
			if i.Volume == source.Volume && i.Disk == source.Disk {
				return false
			}
		}
		return true
	})
	stopped := make(chan struct{})
	s := h.s
	go func() {
		defer close(stopped)
		h.stop()
	}()
	h.until("the stop to begin", func() bool { return errors.Is(s.ScrubStart(), server.ErrClosed) })
	close(let)
	<-stopped
	f, err := h.mem.OpenWrite(source.Dir + "/volumes/" + volume.FileName(source.Volume, source.Generation))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
