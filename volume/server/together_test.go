package server_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// Replicas that differ in what was never acknowledged are made equal, and sealed.
func TestSealTogether(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantUnequal()
	x.start()
	x.settle()
	x.check()
	if row := x.row(); row.Sync != 1 || row.Seal.Needles != 2*7 {
		t.Errorf("the row is %+v, seal %+v", row, row.Seal)
	}
}

// enumerate runs a life without a fault, and then with each fault at each call of it.
func enumerate(t *testing.T, life func(t *testing.T, at int, mode faultMode, seed uint64) (calls int, hit string)) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with -seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 9))
	calls, _ := life(t, 0, 0, 1)
	faults := 0
	for at := 1; at <= calls; at++ {
		for mode := range faultModes {
			if testenv.Rounds(1) == 1 && testenv.Rounds(10) < 10 && r.IntN(10) > 0 {
				continue
			}
			faults++
			if _, hit := life(t, at, mode, r.Uint64()); t.Failed() {
				t.Fatalf("call %d of %d, %s: %v", at, calls, hit, mode)
			}
		}
	}
	testenv.Tell(t, "%d faults at %d calls", faults, calls)
}

func TestSealFaults(t *testing.T) {
	enumerate(t, func(t *testing.T, at int, mode faultMode, seed uint64) (int, string) {
		x := newTrio(t, server.Options{})
		defer x.stopAll()
		x.plantUnequal()
		x.arm(at, mode, seed)
		x.start()
		x.settle()
		x.check()
		return x.calls, x.hit
	})
}

// compact has the volume compacted, and lets time go by until all serve the next
// generation.
func (x *trio) compact() {
	x.t.Helper()
	want := x.row().Volume.Generation + 1
	x.until("it is compacted", func() bool {
		row := x.row()
		if row.Volume.Generation >= want && row.Attempt == nil {
			return true
		}
		if m := x.of(row.InSync[0]); m.server() != nil && !x.down(m) && row.State == server.StateSealed {
			_, _ = m.server().Compact(shortly(x.t), x.v, nil)
		}
		return false
	})
}

// Replicas that lie in another order are the same byte for byte when they were
// compacted.
func TestCompactTogether(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	x.compact()
	x.settle()
	x.check()
	x.same()
	if row := x.row(); row.Volume.Generation != 2 || row.Seal.Deletes != 2 || row.Sync != 1 {
		t.Errorf("the row is %+v", row)
	}
}

// same checks that the files of all replicas are the same.
func (x *trio) same() {
	x.t.Helper()
	x.stopAll()
	name := "/d0/volumes/" + volume.FileName(x.v, x.row().Volume.Generation)
	var first []byte
	for _, m := range x.members {
		b, err := vfs.ReadFile(m.mem, name, 1<<20)
		if err != nil {
			x.t.Fatal(err)
		}
		if first == nil {
			first = b
		}
		if string(first) != string(b) {
			x.t.Errorf("%s has another file", m.name)
		}
	}
}

func TestCompactFaultsOfReplicas(t *testing.T) {
	enumerate(t, func(t *testing.T, at int, mode faultMode, seed uint64) (int, string) {
		x := newTrio(t, server.Options{})
		defer x.stopAll()
		x.plantSealed()
		x.arm(at, mode, seed)
		x.compact()
		x.delete(6)
		x.settle()
		x.check()
		calls, hit := x.calls, x.hit
		x.arm(0, 0, 0)
		x.compact() // some may have the former generation's bytes of a copy
		x.settle()
		x.same()
		return calls, hit
	})
}

// leave puts a replica out of the set, as a delete does that it misses.
func (x *trio) leave(disk uint32) {
	x.t.Helper()
	row := x.row()
	n := &fakeNode{d: x.dir, node: 9}
	if _, err := n.LeaveSync(context.Background(), x.v, disk, row.Sync); err != nil {
		x.t.Fatal(err)
	}
}

func (x *trio) wipe(m *member) {
	x.t.Helper()
	m.stop()
	names, err := m.mem.ReadDir("/d0/volumes")
	if err != nil {
		x.t.Fatal(err)
	}
	for _, name := range names {
		if err := m.mem.Remove("/d0/volumes/" + name); err != nil {
			x.t.Fatal(err)
		}
	}
	if err := m.mem.SyncDir("/d0/volumes"); err != nil {
		x.t.Fatal(err)
	}
}

// A replica that has missed deletes gets them, one that is gone is copied, and both are
// admitted.
func TestFill(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	x.members[1].stop()
	x.leave(2)
	x.delete(6)
	x.wipe(x.members[2])
	x.start()
	x.settle()
	x.check()
	if n := x.saw(server.EventFilled); n != 2 {
		t.Errorf("%d replicas were filled", n)
	}
}

func (x *trio) saw(kind server.EventKind) (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func TestFillFaults(t *testing.T) {
	enumerate(t, func(t *testing.T, at int, mode faultMode, seed uint64) (int, string) {
		x := newTrio(t, server.Options{})
		defer x.stopAll()
		x.plantSealed()
		x.members[1].stop()
		x.leave(2)
		x.delete(6)
		x.wipe(x.members[2])
		x.arm(at, mode, seed)
		x.start()
		x.delete(1)
		x.settle()
		x.check()
		return x.calls, x.hit
	})
}

// shortly is a context for what is not waited for long.
func shortly(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// powerCuts runs a life once, and then with the power of one node going before each call
// that changes a file.
func powerCuts(t *testing.T, life func(t *testing.T, at int, seed uint64) (ops int, hit string)) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with -seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 11))
	ops, _ := life(t, 0, 1)
	rounds := testenv.Rounds(min(ops, 50))
	for i := range rounds {
		at := 1 + i*ops/rounds
		if _, hit := life(t, at, r.Uint64()); t.Failed() {
			t.Fatalf("before call %d of %d, %s", at, ops, hit)
		}
	}
	testenv.Tell(t, "%d power cuts at %d calls", rounds, ops)
}

func TestSealPowerCuts(t *testing.T) {
	powerCuts(t, func(t *testing.T, at int, seed uint64) (int, string) {
		x := newTrio(t, server.Options{})
		defer x.stopAll()
		x.plantUnequal()
		x.cut(at, seed)
		x.start()
		x.delete(6)
		x.settle()
		x.check()
		return x.ops, x.hit
	})
}

func TestCompactPowerCutsOfReplicas(t *testing.T) {
	powerCuts(t, func(t *testing.T, at int, seed uint64) (int, string) {
		x := newTrio(t, server.Options{})
		defer x.stopAll()
		x.plantSealed()
		x.cut(at, seed)
		x.compact()
		x.delete(6)
		x.settle()
		x.check()
		return x.ops, x.hit
	})
}

func TestFillPowerCuts(t *testing.T) {
	powerCuts(t, func(t *testing.T, at int, seed uint64) (int, string) {
		x := newTrio(t, server.Options{})
		defer x.stopAll()
		x.plantSealed()
		x.members[1].stop()
		x.leave(2)
		x.delete(6)
		x.wipe(x.members[2])
		x.cut(at, seed)
		x.start()
		x.delete(1)
		x.settle()
		x.check()
		return x.ops, x.hit
	})
}
