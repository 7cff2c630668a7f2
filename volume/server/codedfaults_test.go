package server_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coded"
	"hayloft/volume/coding"
	"hayloft/volume/server"
)

// threeDisks are the data directories of a machine that codes 2+1.
func threeDisks() server.Options {
	o := sixDisks()
	o.Dirs, o.Coding = o.Dirs[:3], coding.Policy{Data: 2, Parity: 1}
	return o
}

// loseShards removes the shards of an epoch on some disks, and leaves the delete logs.
func (h *house) loseShards(epoch uint32, disks ...int) {
	h.t.Helper()
	for _, n := range disks {
		for _, f := range h.shardFiles(fmt.Sprintf("/disk%d", n)) {
			if strings.Contains(f, fmt.Sprintf("-%08x/", epoch)) {
				if err := h.mem.Remove(f); err != nil {
					h.t.Fatal(err)
				}
			}
		}
	}
}

// A second epoch whose shards are lost before its source was released gives way to
// the first one, with the deletes that only the second one's logs have.
func TestRevokedEpochKeepsDeletes(t *testing.T) {
	o := threeDisks()
	h := newHouse(t, o)
	all := h.fill(originals, 12, 40_000)
	h.encodeAll()
	h.released()
	for _, b := range all[:3] {
		h.delete(b)
	}
	for _, i := range h.coded() {
		if _, err := h.s.Compact(t.Context(), i.Volume, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range all[3:6] {
		h.delete(b) // in the grace of the second epochs
	}
	h.stop()
	h.loseShards(2, 1, 2)
	h.start()
	h.until("the revocation", func() bool {
		h.clock.Advance(time.Second)
		return h.saw(server.EventRevoked) == 3
	})
	h.until("service", func() bool {
		for _, i := range h.coded() {
			if i.Sick != nil {
				return false
			}
		}
		return true
	})
	h.both(all[6:], all[:6])
}

// Deletes are taken again by themselves when too many copies of the log had failed.
func TestFailedDeleteLogIsOpenedAgain(t *testing.T) {
	w := newWard()
	o := threeDisks()
	o.FS = w
	h := newHouse(t, o)
	h.mem = w.mem
	all := h.fill(originals, 9, 40_000)
	h.encodeAll()
	h.released()
	logs := func(op vfs.Op) illness {
		if op.Kind != vfs.OpRead && strings.HasSuffix(op.Name, ".deletes") && strings.Contains(op.Name, "/shards/") {
			return illness{err: unix.EIO}
		}
		return illness{}
	}
	w.falls("/disk1", logs)
	w.falls("/disk2", logs)
	for _, b := range all[:3] {
		if err := h.s.Delete(t.Context(), b.blob); !errors.Is(err, server.ErrUnavailable) {
			t.Fatalf("a delete with one copy of the log: %v", err)
		}
	}
	w.falls("/disk1", nil)
	w.falls("/disk2", nil)
	h.until("deletes", func() bool {
		h.clock.Advance(10 * time.Second)
		for _, b := range all[:6] {
			if err := h.s.Delete(context.Background(), b.blob); err != nil {
				return false
			}
		}
		return true
	})
	h.both(all[6:], all[:6])
}

// Shards of an epoch in its grace that were away, as the source still is, serve again
// when they are back.
func TestShardsComeBackInTheGrace(t *testing.T) {
	w := newWard()
	o := sixDisks()
	o.FS, o.WatchEvery = w, second
	h := newHouse(t, o)
	h.mem = w.mem
	b := h.putOn("/disk1", originals, 40_000)
	p, _ := h.wire.Locate(b.blob)
	if err := h.s.Encode(t.Context(), p.Volume.Volume, nil); err != nil {
		t.Fatal(err)
	}
	h.stop()
	for _, dir := range o.Dirs[:3] {
		w.falls(dir, dead)
	}
	h.start()
	if _, err := h.s.Read(t.Context(), b.blob, 0, b.cookie); !errors.Is(err, server.ErrUnavailable) {
		t.Fatalf("a read with three disks away: %v", err)
	}
	for _, dir := range o.Dirs[1:3] {
		w.falls(dir, nil)
	}
	h.wait("service", func() bool {
		got, err := h.s.Read(context.Background(), b.blob, 0, b.cookie)
		got.Release()
		return err == nil
	})
	if n := h.saw(server.EventRevoked); n != 0 {
		t.Errorf("%d epochs were revoked", n)
	}
	w.falls("/disk1", nil)
}

// What a release finds damaged is made again at once.
func TestDamageFoundByReleaseIsRepaired(t *testing.T) {
	h := newHouse(t, sixDisks())
	all := h.fill(originals, 6, 40_000)
	h.encodeAll()
	for _, f := range h.shardFiles("/disk1") {
		h.flip(f, 8192+20_000)
	}
	h.clock.Advance(61 * time.Minute)
	began := h.clock.Now()
	h.until("the repair", func() bool {
		h.clock.Advance(time.Second)
		return h.saw(server.EventRepaired)+h.saw(server.EventRebuilt) >= 6
	})
	if took := h.clock.Now().Sub(began); took > 30*time.Minute {
		t.Errorf("the repair came after %v", took)
	}
	h.checkAll(all)
}

// An epoch that was revoked, of which the answer was lost, is not served any more.
func TestAnswerToARevocationIsLost(t *testing.T) {
	h := newHouse(t, threeDisks())
	all := h.fill(originals, 6, 40_000)
	h.opts.CodeAfter = 1000 * time.Hour
	h.encodeAll()
	h.stop()
	h.loseShards(1, 1, 2)
	h.lose("revoke") // by the server that is started next
	h.start()
	h.until("service", func() bool {
		h.clock.Advance(10 * time.Second)
		for _, b := range all {
			got, err := h.s.Read(context.Background(), b.blob, 0, b.cookie)
			if got.Release(); err != nil {
				return false
			}
		}
		return true
	})
	for _, b := range all[:3] {
		h.delete(b)
	}
	h.both(all[3:], all[:3])
}

// A look for what is due lists each disk once, and so may the job that is done then and
// the look after it, however many volumes there are.
func TestLooksListEachDiskOnce(t *testing.T) {
	w := newWard()
	o := sixDisks()
	o.FS = w
	h := newHouse(t, o)
	h.mem = w.mem
	h.fill(originals, 12, 20_000)
	h.encodeAll()
	h.released()
	var lists atomic.Int64
	w.falls("/disk1", func(op vfs.Op) illness {
		if op.Kind == vfs.OpReadDir && op.Name == "/disk1/shards" {
			lists.Add(1)
		}
		return illness{}
	})
	before := h.wire.listed.Load()
	h.until("some looks", func() bool {
		h.clock.Advance(time.Minute)
		return lists.Load() >= 20
	})
	if looks := h.wire.listed.Load() - before; lists.Load() > 3*looks {
		t.Errorf("a disk was listed %d times in %d looks", lists.Load(), looks)
	}
	w.falls("/disk1", nil)
}

// A disk goes out while an epoch is opened that has a shard there: the shard is made
// again like any other.
func TestDiskGoesOutWhileShardsAreOpened(t *testing.T) {
	w := newWard()
	o := sixDisks()
	o.FS, o.WatchEvery, o.RepairDelay = w, second, 20*second
	h := newHouse(t, o)
	h.mem = w.mem
	b := h.putOn("/disk3", originals, 40_000)
	p, _ := h.wire.Locate(b.blob)
	var opens atomic.Int64
	w.falls("/disk2", func(op vfs.Op) illness {
		// The third time is when the shards are open and the logs are read.
		log := op.Kind == vfs.OpOpenWrite && strings.HasSuffix(op.Name, ".deletes") && strings.Contains(op.Name, "/shards/")
		return illness{hangs: log && opens.Add(1) == 3}
	})
	ended := make(chan error, 1)
	go func() { ended <- h.s.Encode(context.Background(), p.Volume.Volume, nil) }()
	h.until("the logs", func() bool { return w.hanging("/disk2") > 0 })
	w.falls("/disk1", func(op vfs.Op) illness {
		if strings.HasSuffix(op.Name, "/disk.id") {
			return illness{err: unix.EIO}
		}
		return illness{} // its shard is sound
	})
	h.waitFor("/disk1", server.DiskOut, server.ReasonErrors)
	w.falls("/disk2", nil)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	h.wait("all shards on other disks", func() bool {
		all := h.coded()
		for _, i := range all {
			for _, s := range i.Shards {
				if s.Away != nil || s.Dir == "/disk1" {
					return false
				}
			}
		}
		return len(all) == 1
	})
	h.check(b)
	w.falls("/disk1", nil)
}

// A disk has the whole delete log before the directory knows that it has a shard.
func TestLogIsThereBeforeTheShardMoves(t *testing.T) {
	o := sixDisks()
	o.Dirs, o.Coding = o.Dirs[:4], coding.Policy{Data: 2, Parity: 1}
	h := newHouse(t, o)
	b, other := h.putOn("/disk1", originals, 40_000), h.putOn("/disk1", originals, 40_000)
	p, _ := h.wire.Locate(b.blob)
	if err := h.s.Encode(t.Context(), p.Volume.Volume, nil); err != nil {
		t.Fatal(err)
	}
	h.released()
	h.delete(b)
	spare, lost := "", ""
	for _, dir := range o.Dirs {
		if len(h.shardFiles(dir)) == 0 {
			spare = dir
		} else {
			lost = dir
		}
	}
	h.stop()
	h.wipe(lost)
	h.start()
	h.wire.mu.Lock()
	h.wire.stopAt = "move"
	h.wire.mu.Unlock()
	h.clock.Advance(11 * time.Minute)
	h.until("a move that fails", func() bool {
		h.clock.Advance(time.Second)
		return h.saw(server.EventUpkeepFailed) > 0
	})
	at := spare
	if len(h.shardFiles(at)) == 0 {
		at = lost // it is empty, and another disk by now
	}
	deletes, err := coded.ReadLog(h.mem, fmt.Sprintf("%s/shards/%08x-00000001", at, uint32(p.Volume.Volume)), p.Volume.Volume)
	if err != nil || len(deletes) != 1 || deletes[0].Key != b.blob {
		t.Errorf("%s has the deletes %v, %v", at, deletes, err)
	}
	h.wire.mu.Lock()
	h.wire.stopAt = ""
	h.wire.mu.Unlock()
	h.until("the move", func() bool {
		h.clock.Advance(time.Minute)
		return h.coded()[0].Survives == 1
	})
	h.both([]stored{other}, []stored{b})
}

// Two shards are lost and there is room for one: that one is made.
func TestOneOfTwoShardsFindsRoom(t *testing.T) {
	const keep = 1 << 20
	var full atomic.Bool
	o := sixDisks()
	o.KeepFree = keep
	o.Space = func(dir string) (server.Space, error) {
		s := server.Space{Free: 1 << 30, Capacity: 1 << 31}
		if full.Load() {
			if s.Free = keep; dir == "/disk3" {
				s.Free += 150_000 // a shard takes half of it, and a bit more
			}
		}
		return s, nil
	}
	h := newHouse(t, o)
	b := h.putOn("/disk1", originals, 40_000)
	p, _ := h.wire.Locate(b.blob)
	if err := h.s.Encode(t.Context(), p.Volume.Volume, nil); err != nil {
		t.Fatal(err)
	}
	h.released()
	if n := h.coded()[0].ShardBytes; n > 150_000 || 2*n < 150_000 {
		t.Fatalf("shards of %d bytes", n)
	}
	h.stop()
	h.wipe("/disk5")
	h.wipe("/disk6")
	full.Store(true)
	h.start()
	h.clock.Advance(11 * time.Minute)
	h.until("one more shard", func() bool {
		h.clock.Advance(time.Second)
		there := 0
		for _, s := range h.coded()[0].Shards {
			if s.Away == nil {
				there++
			}
		}
		return there == 5
	})
	h.check(b)
}

// A disk hangs for good: the shards on others answer whatever was begun on it.
func TestReadsOfOtherShardsWhileADiskHangs(t *testing.T) {
	w := newWard()
	o := sixDisks()
	o.FS, o.WatchEvery, o.MaxReads = w, second, 4
	h := newHouse(t, o)
	h.mem = w.mem
	all := h.fill(originals, 24, 40_000)
	h.encodeAll()
	w.falls("/disk1", func(op vfs.Op) illness {
		return illness{hangs: op.Kind == vfs.OpRead && strings.Contains(op.Name, "/shards/")}
	})
	var reads sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	ok := make(chan error, 100)
	for range 3 {
		for _, b := range all {
			reads.Go(func() {
				got, err := h.s.Read(ctx, b.blob, 0, b.cookie)
				got.Release()
				ok <- err
			})
		}
	}
	n, bad := 0, 0
	h.wait("all reads", func() bool {
		for {
			select {
			case err := <-ok:
				n++
				if err != nil {
					bad++
					t.Log(err)
				}
				continue
			default:
			}
			break
		}
		return n == 72
	})
	if bad > 0 || w.hanging("/disk1") == 0 {
		t.Errorf("%d of %d reads failed, %d hang", bad, n, w.hanging("/disk1"))
	}
	w.falls("/disk1", nil)
	reads.Wait()
}

// A disk that hangs while shards are written to it does not stop the coder: it is
// left when it is out of service, and the volume is coded on others.
func TestCodingLeavesAHangingDisk(t *testing.T) {
	w := newWard()
	o := sixDisks()
	o.FS, o.WatchEvery = w, second
	h := newHouse(t, o)
	h.mem = w.mem
	all := h.fill(originals, 12, 40_000)
	var v volume.ID
	for _, i := range h.volumes() {
		if i.Dir == "/disk1" {
			v = i.Volume
		}
	}
	w.falls("/disk6", func(op vfs.Op) illness {
		return illness{hangs: op.Kind == vfs.OpWrite && strings.Contains(op.Name, "/shards/")}
	})
	encode := func() (err error) {
		ended := make(chan error, 1)
		go func() { ended <- h.s.Encode(t.Context(), v, nil) }()
		h.wait("the end of the coding", func() bool {
			select {
			case err = <-ended:
				return true
			default:
				return false
			}
		})
		return err
	}
	if err := encode(); !errors.Is(err, server.ErrDiskOut) || w.hanging("/disk6") == 0 {
		t.Fatalf("the first attempt: %v, %d calls hang", err, w.hanging("/disk6"))
	}
	if err := encode(); err != nil {
		t.Fatal(err)
	}
	for _, i := range h.coded() {
		for _, s := range i.Shards {
			if s.Dir == "/disk6" || s.Away != nil {
				t.Errorf("%+v", s)
			}
		}
		if i.Survives != 1 { // one of five disks has two
			t.Errorf("%+v", i)
		}
	}
	w.falls("/disk6", nil)
	h.wait("the disk", func() bool { return h.disk("/disk6").State != server.DiskOut })
	h.checkAll(all)
}
