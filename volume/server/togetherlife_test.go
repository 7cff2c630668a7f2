package server_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// A replica that was away for a delete comes back when the deleted bytes are gone
// everywhere else: it serves nothing before it is filled, and the photo stays deleted.
func TestMissedDeleteStaysDeleted(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	away := x.members[1]
	away.stop()
	x.leave(2)
	x.delete(6)
	x.compactWithout(2)
	away.start()
	for _, p := range []int{6, 4} {
		_, err := away.server().Replicas().Read(t.Context(), 2, x.v, x.key(p), 0, trioCookie)
		if !errors.Is(err, server.ErrUnavailable) && !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("the replica that was away says of a deleted blob: %v", err)
		}
	}
	x.settle()
	x.check()
}

// compactWithout is compact while a replica is away.
func (x *trio) compactWithout(disk uint32) {
	x.t.Helper()
	x.until("the others have the next generation", func() bool {
		row := x.row()
		if row.Volume.Generation > 1 {
			return row.Attempt == nil
		}
		if row.InSync[0] != disk {
			_, _ = x.of(row.InSync[0]).server().Compact(shortly(x.t), x.v, nil)
		}
		return false
	})
}

// A put that not all replicas got was never acknowledged: after the seal all have it or
// none has, and what was acknowledged before is on all.
func TestMissedPutIsUnited(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantUnequal()
	x.members[2].mem = vfs.NewMem(7) // one that has nothing
	for i, m := range x.members[:2] {
		vol, err := volume.Open("/d0/volumes", x.v, volume.Options{FS: m.mem, Clock: x.clock, AllocChunk: 4096})
		if err != nil {
			t.Fatal(i, err)
		}
		x.put(vol, 20+i, 500)
		if err := vol.Close(); err != nil {
			t.Fatal(err)
		}
	}
	x.maybe = append(x.maybe, planted{x.key(20), 500}, planted{x.key(21), 500})
	x.members[0].start()
	x.members[1].start()
	x.until("two are sealed", func() bool { return x.row().State == server.StateSealed })
	if row := x.row(); !slices.Equal(row.InSync, []uint32{1, 2}) || row.Seal.Needles != 2*(4+2+2) {
		t.Errorf("the row is %+v, seal %+v", row, row.Seal)
	}
	x.check()
}

// The disk of a node is replaced by an empty one, which is another disk: its replicas
// are made again on it, and the lost ones are given up then.
func TestNodeWithAnEmptyDisk(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	m := x.members[2]
	m.stop()
	m.mem = vfs.NewMem(99)
	m.start()
	if d := m.disks(); len(d) != 2 {
		t.Fatalf("node 3 has disks %v", d)
	}
	n := &fakeNode{d: x.dir, node: 9}
	row, err := n.AddReplica(t.Context(), x.v, 4, x.row().Sync)
	if err != nil {
		t.Fatal(err)
	}
	x.delete(6)
	x.until("the new disk is in sync", func() bool { row = x.row(); return slices.Contains(row.InSync, 4) })
	if _, err := n.RemoveReplica(t.Context(), x.v, 3, row.Sync); err != nil {
		t.Fatal(err)
	}
	x.settle()
	if row := x.row(); !slices.Equal(row.InSync, []uint32{1, 2, 4}) {
		t.Errorf("in sync are %v", row.InSync)
	}
	x.check()
}

// A replica that hangs while it joins holds up deletes for a second at most.
func TestAdmissionHangs(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	x.members[2].stop()
	x.leave(3)
	x.delete(6)
	var mu sync.Mutex
	hangs := 0
	x.fault(x.members[0], x.members[2], func(ctx context.Context, method string, call func(context.Context) error) error {
		if method != "LogDeletes" {
			return call(ctx)
		}
		mu.Lock()
		hangs++
		n := hangs
		mu.Unlock()
		if n == 1 {
			return call(ctx) // before the gate is shut
		}
		<-ctx.Done()
		return server.ErrUnavailable
	})
	x.members[2].start()
	hanging := func() bool { mu.Lock(); defer mu.Unlock(); return hangs > 1 }
	for limit := time.Now().Add(testenv.Patience); !hanging(); <-time.After(time.Millisecond) {
		if x.clock.Advance(100 * time.Millisecond); time.Now().After(limit) {
			t.Fatal("nobody joins")
		}
	}
	began, done := x.clock.Now(), make(chan error, 1)
	go func() { done <- x.tryDelete(1) }()
	for waiting := true; waiting; {
		select {
		case err := <-done:
			if waiting = false; err != nil {
				t.Error(err)
			}
		case <-time.After(time.Millisecond):
			x.clock.Advance(10 * time.Millisecond)
		}
	}
	if d := x.clock.Now().Sub(began); d > time.Second {
		t.Errorf("a delete waited %v", d)
	}
	if row := x.row(); slices.Contains(row.InSync, 3) {
		t.Errorf("it joined: %v", row.InSync)
	}
}

// While it is not known whether a replica has joined, nothing is acknowledged that it
// might miss.
func TestJoinInDoubt(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	x.members[2].stop()
	x.leave(3)
	primary := x.members[0]
	var mu sync.Mutex
	doubt := true
	x.setAround(func(n *fakeNode, what string, do func() error) error {
		err := do()
		mu.Lock()
		defer mu.Unlock()
		if what == "join" && doubt {
			go primary.wire.cut(errAway) // the row cannot be asked for either
			<-time.After(time.Millisecond)
			return errAway
		}
		return err
	})
	x.members[2].start()
	x.until("the join is committed", func() bool { return slices.Contains(x.row().InSync, 3) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := primary.server().Replicas().Delete(ctx, 1, x.v, x.key(1))
	if !errors.Is(err, server.ErrUnavailable) {
		t.Fatalf("a delete in doubt: %v", err)
	}
	mu.Lock()
	doubt = false
	mu.Unlock()
	primary.wire.cut(nil)
	x.delete(1)
	x.settle()
	x.check()
}

// A coordinator that was paused before its commit, while another one sealed, and a
// replica missed a delete, changes nothing when it wakes up.
func TestPausedCoordinator(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantUnequal()
	pause, held := make(chan struct{}), make(chan struct{})
	var once sync.Once
	x.setAround(func(n *fakeNode, what string, do func() error) error {
		if n.node == 1 && what == "seal" {
			once.Do(func() { close(held); <-pause })
		}
		return do()
	})
	x.start()
	x.until("the first one is about to commit", func() bool {
		select {
		case <-held:
			return true
		default:
			return false
		}
	})
	go func() { _ = x.members[1].server().Seal(context.Background(), x.v, nil) }()
	x.until("another one seals", func() bool { return x.row().State == server.StateSealed })
	x.leave(3)
	x.delete(4)
	before := x.row()
	close(pause)
	x.until("it is awake", func() bool {
		all, err := x.members[0].server().Volumes()
		return err == nil && len(all) > 0 && all[0].Work == ""
	})
	if row := x.row(); row.State != before.State || row.Seal.Digest != before.Seal.Digest {
		t.Errorf("the row was %+v and is %+v", before, row)
	}
	x.settle()
	x.check()
}

// Several coordinators at once come to one end.
func TestSeveralCoordinators(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with -seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	for range testenv.Rounds(12) {
		x := newTrio(t, server.Options{})
		x.plantUnequal()
		x.start()
		x.arm(1+r.IntN(30), faultMode(r.IntN(int(faultModes))), r.Uint64())
		var wg sync.WaitGroup
		for _, m := range x.members {
			if s := m.server(); s != nil {
				wg.Go(func() { _ = s.Seal(shortly(t), x.v, nil) })
			}
		}
		wg.Wait()
		x.delete(5)
		x.settle()
		x.check()
		x.stopAll()
		if t.Failed() {
			t.FailNow()
		}
	}
}

// A file of a replica that lost its place is kept until the others are complete.
func TestStrayIsKept(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	x.members[2].stop()
	n := &fakeNode{d: x.dir, node: 9}
	row, err := n.RemoveReplica(t.Context(), x.v, 3, x.row().Sync)
	if err != nil {
		t.Fatal(err)
	}
	m := x.members[2]
	m.start()
	state := func() string {
		all, err := m.server().Volumes()
		if err != nil || len(all) != 1 {
			return fmt.Sprint(all, err)
		}
		return all[0].State
	}
	x.noSteward = true
	until := x.clock.Now().Add(2 * time.Minute)
	x.until("some time has passed", func() bool { return x.clock.Now().After(until) })
	if s := state(); s != "quarantined" {
		t.Errorf("the stray is %s", s)
	}
	if err := x.dir.change(func(tb *table) error {
		r := tb.rows[x.v]
		r.Target = 2
		tb.rows[x.v] = r
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	x.until("it is removed", func() bool {
		files, err := m.mem.ReadDir("/d0/volumes")
		return err == nil && len(files) == 0
	})
	if got := x.row(); !slices.Equal(got.InSync, row.InSync) {
		t.Errorf("in sync are %v", got.InSync)
	}
}

// An open volume whose writer is gone is closed and sealed when its lease is over.
func TestOrphanIsSealed(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantUnequal()
	leased := x.orphan(9)
	x.start()
	x.settle()
	if at := x.row().Closed; at < leased {
		t.Errorf("it was closed at %d, leased until %d", at, leased)
	}
	x.check()
}

// orphan has the trio's volume be open, and a process of a node that is not there any
// more hold its slot for two minutes.
func (x *trio) orphan(node uint32) (leased id.Millis) {
	x.t.Helper()
	leased = x.began + 120_000
	if err := x.dir.change(func(tb *table) error {
		r := tb.rows[x.v]
		r.State, r.To, r.Closed = server.StateOpen, 0, 0
		tb.rows[x.v] = r
		tb.tiles[x.slot] = []fakeTile{{x.began - 5000, 0, x.v}}
		tb.windows[x.slot] = id.Window{Node: node, Holder: 1, From: x.began - 5000, To: leased}
		return nil
	}); err != nil {
		x.t.Fatal(err)
	}
	return leased
}

// An open volume that lacks a replica is closed as soon as the next process of the node
// of its writer sees it, be it by a replica that is not in sync: the lease and a minute
// without appends are not waited for.
func TestShortOrphanIsClosedAtOnce(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantUnequal()
	x.orphan(1)
	x.leave(1)
	x.start()
	x.until("it is closed", func() bool { return x.row().State != server.StateOpen })
	if at := x.row().Closed; at > x.began+20_000 {
		t.Errorf("it was closed after %d ms", at-x.began)
	}
	x.settle()
	x.check()
}

// An open volume of which a replica is away for longer than the repair delay is closed,
// to have another one.
func TestOpenVolumeWithALostReplicaIsClosed(t *testing.T) {
	x := newTrio(t, server.Options{RepairDelay: 10 * time.Second})
	x.plantUnequal()
	x.orphan(9)
	if err := x.dir.change(func(tb *table) error {
		w := tb.windows[x.slot]
		w.Released, w.To = true, x.began
		tb.windows[x.slot] = w
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	x.members[0].start()
	x.members[1].start()
	x.until("it is closed", func() bool { return x.row().State != server.StateOpen })
	if at := x.row().Closed; at < x.began+10_000 || at > x.began+40_000 {
		t.Errorf("it was closed after %d ms", at-x.began)
	}
	x.members[2].start()
	x.settle()
	x.check()
}

// A replica that removes what it does not need keeps the generation that it is told to
// make at that very moment, though the row that it goes by does not name it.
func TestGenerationMadeMeanwhileIsKept(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	x.stopAll()
	for _, m := range x.members {
		m.opts.NoUpkeep = true
	}
	x.start()
	ctx := context.Background()
	first, m := x.members[0], x.members[1]
	if _, err := first.server().Compact(ctx, x.v, nil); err != nil {
		t.Fatal(err)
	}
	rows := 0
	m.wire.whenTold(func() {
		if rows++; rows != 2 {
			return // the first one is for the generation that was committed
		}
		row := x.row()
		row, err := first.wire.BeginCompaction(ctx, x.v, row.Volume.Generation, row.Seal.Digest, row.Seal.Deletes)
		if err == nil {
			_, err = m.server().Replicas().Make(ctx, m.disks()[0], x.v, row.Attempt.Generation)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if _, err := m.server().Compact(ctx, x.v, nil); err != nil {
		t.Error(err)
	}
	m.wire.whenTold(nil)
	row := x.row()
	if row.Attempt == nil {
		t.Fatalf("nothing is under way: %+v", row)
	}
	if _, err := m.mem.Stat("/d0/volumes/" + volume.FileName(x.v, row.Attempt.Generation)); err != nil {
		t.Errorf("what was made is gone: %v", err)
	}
	st, err := m.server().Replicas().Standing(ctx, m.disks()[0], x.v)
	if err != nil || st.Made == nil {
		t.Errorf("%+v, %v", st, err)
	}
}

// What the directory does not list any more is kept as long as the replicas that it
// lists do not say that they are good: one of them is away here.
func TestStrayIsKeptWhileOthersAreAway(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	x.noSteward = true
	m, away := x.members[2], x.members[1]
	m.stop()
	away.stop()
	n := &fakeNode{d: x.dir, node: 9}
	if _, err := n.RemoveReplica(t.Context(), x.v, 3, x.row().Sync); err != nil {
		t.Fatal(err)
	}
	if err := x.dir.change(func(tb *table) error {
		r := tb.rows[x.v]
		r.Target = 2
		tb.rows[x.v] = r
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	m.start()
	until := x.clock.Now().Add(2 * time.Minute)
	x.until("some time has passed", func() bool { return x.clock.Now().After(until) })
	if _, err := m.mem.Stat("/d0/volumes/" + volume.FileName(x.v, 1)); err != nil {
		t.Errorf("the stray is gone: %v", err)
	}
	away.start()
	x.until("it is removed", func() bool {
		files, err := m.mem.ReadDir("/d0/volumes")
		return err == nil && len(files) == 0
	})
}

// A volume that is just being made is not taken from its writer, however long ago that
// writer's clock says it was begun; one that nobody confirms is, in the end.
func TestVolumeOfASlowClockIsNotAbandoned(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantUnequal()
	if err := x.dir.change(func(tb *table) error {
		r := tb.rows[x.v]
		r.State, r.Unconfirmed, r.To, r.Closed = server.StateOpen, true, 0, 0
		r.Opened = id.MillisOf(x.clock.Now().Add(-time.Hour))
		tb.rows[x.v] = r
		tb.tiles[x.slot] = []fakeTile{{r.From, 0, x.v}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	x.start()
	until := x.clock.Now().Add(30 * time.Second)
	x.until("half a minute has passed", func() bool { return x.clock.Now().After(until) })
	if row := x.row(); !row.Unconfirmed {
		t.Errorf("it was given up: %+v", row)
	}
	x.until("it is given up", func() bool { return !x.row().Unconfirmed })
}
