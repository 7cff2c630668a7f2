package server_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// flip damages the first needle of a blob in a member's file, on the device.
func (x *trio) flip(m *member, n int) {
	x.t.Helper()
	disk := m.disks()[0]
	var at int64
	if err := m.server().Use(x.v, disk, func(vol *volume.Volume) error {
		got, err := vol.Probe(context.Background(), x.key(n))
		if err == nil {
			at = got.Needles[0].Offset + got.Needles[0].Size/2
		}
		return err
	}); err != nil {
		x.t.Fatal(err)
	}
	if err := m.mem.Flip("/d0/volumes/"+volume.FileName(x.v, x.row().Volume.Generation), at, 4); err != nil {
		x.t.Fatal(err)
	}
}

// A needle that rots in a generation that all made alike is written again with the bytes
// of another replica, and the replica stays in sync.
func TestRotIsRestored(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	x.compact()
	x.settle()
	m := x.members[1]
	before := x.row().Sync
	x.flip(m, 6)
	if _, err := m.server().Replicas().Read(t.Context(), 2, x.v, x.key(6), 0, trioCookie); !errors.Is(err, volume.ErrCorrupt) {
		t.Fatalf("the damaged needle: %v", err)
	}
	x.until("it is repaired", func() bool { return x.saw(server.EventReplicaRepaired) > 0 })
	if row := x.row(); row.Sync != before {
		t.Errorf("the row is %+v", row)
	}
	x.check()
	x.same()
}

// So is what the scrub finds.
func TestScrubRestoresFromAReplica(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	x.compact()
	x.settle()
	m := x.members[1]
	before := x.row().Sync
	x.flip(m, 6)
	x.flip(m, 1)
	done := make(chan error, 1)
	go func() {
		_, err := m.server().ScrubNow(context.Background(), nil)
		done <- err
	}()
	x.until("the scrub is through", func() bool {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return true
		default:
			return false
		}
	})
	if n := x.saw(server.EventScrubRepaired); n != 2 {
		t.Errorf("%d places were repaired", n)
	}
	if row := x.row(); row.Sync != before {
		t.Errorf("the row is %+v", row)
	}
	x.check()
}

// A replica that was sealed where it lies has no copy of the same bytes: it leaves the
// set, is filled, and what was there is kept until it is in sync again.
func TestRotIsFilled(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	m := x.members[0] // the primary
	x.flip(m, 6)
	if _, err := m.server().Replicas().Read(t.Context(), 1, x.v, x.key(6), 0, trioCookie); !errors.Is(err, volume.ErrCorrupt) {
		t.Fatalf("the damaged needle: %v", err)
	}
	x.until("it is filled", func() bool { return x.saw(server.EventFilled) > 0 })
	if x.saw(server.EventQuarantined) == 0 {
		t.Error("nothing was put aside")
	}
	x.settle()
	x.check()
	x.until("the quarantine is empty", func() bool {
		q, err := volume.ListQuarantined(m.mem, "/d0/volumes")
		return err == nil && len(q) == 0
	})
}

// A needle that rots on one replica is fetched from another one by a compaction.
func TestCompactionFetchesWhatRots(t *testing.T) {
	x := newTrio(t, server.Options{NoUpkeep: false})
	x.plantSealed()
	x.flip(x.members[0], 6)
	x.flip(x.members[2], 1)
	x.compact()
	x.settle()
	x.check()
	x.same()
}

// fail has every write of a member's file of the volume fail from now on.
func (x *trio) poison(m *member) {
	x.t.Helper()
	vol, err := volume.Open("/d0/volumes", x.v, volume.Options{AllocChunk: 4096, Clock: x.clock, FS: &vfs.Fault{FS: m.mem, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpSync && op.Name == "/d0/volumes/"+volume.FileName(x.v, 1) {
			return vfs.Outcome{Err: errors.New("the device fails")}
		}
		return vfs.Outcome{}
	}}})
	if err != nil {
		x.t.Fatal(err)
	}
	if err := vol.Append(context.Background(), needlesOf(x.key(30), 100)); !errors.Is(err, volume.ErrPoisoned) {
		x.t.Fatalf("a write whose sync fails: %v", err)
	}
	_ = vol.Close() // poisoned
}

// A replica that is poisoned is left out of the seal, though it is the first, and is
// filled then.
func TestPoisonedReplicaIsLeftOut(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantUnequal()
	x.maybe = append(x.maybe, planted{x.key(30), 100})
	x.poison(x.members[0])
	x.start()
	x.until("it is sealed", func() bool { return x.row().State == server.StateSealed })
	if row := x.row(); slices.Contains(row.InSync, 1) {
		t.Errorf("in sync are %v", row.InSync)
	}
	x.settle()
	x.check()
}

// When all are poisoned one is salvaged, and the others are filled from it.
func TestAllArePoisoned(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantUnequal()
	x.maybe = append(x.maybe, planted{x.key(30), 100})
	for _, m := range x.members {
		x.poison(m)
	}
	x.start()
	x.settle()
	x.check()
	if row := x.row(); row.Volume.Generation != 2 {
		t.Errorf("the row is %+v", row)
	}
}

// A record that is lost with its header may have been anything: the replica is given
// what the others have, and is sealed when one without a gap has said what that is.
func TestGapIsFilledBeforeTheSeal(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantUnequal()
	m := x.members[0]
	name := "/d0/volumes/" + volume.FileName(x.v, 1)
	vol, err := volume.Open("/d0/volumes", x.v, volume.Options{FS: m.mem, Clock: x.clock, AllocChunk: 4096})
	if err != nil {
		t.Fatal(err)
	}
	got, err := vol.Probe(t.Context(), x.key(4))
	if err := errors.Join(err, vol.Close()); err != nil {
		t.Fatal(err)
	}
	if err := m.mem.Flip(name, got.Needles[0].Offset+8, 1); err != nil {
		t.Fatal(err)
	}
	x.start()
	x.until("it is sealed", func() bool { return x.row().State == server.StateSealed })
	if row := x.row(); row.Sync != 1 {
		t.Errorf("the row is %+v", row)
	}
	x.settle()
	x.compact() // without the gap
	x.settle()
	x.check()
}

// A delete log that takes nothing any more is replaced by that of another replica, and
// the file stays.
func TestPoisonedLogIsReplaced(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	for i, m := range x.members[:2] {
		m.stop()
		if err := vfs.WriteFile(m.mem, "/d0/volumes/"+volume.DeleteLogName(x.v)+".poisoned", []byte("x")); err != nil {
			t.Fatal(i, err)
		}
	}
	x.start()
	x.until("both are filled", func() bool { return x.saw(server.EventFilled) == 2 })
	x.delete(6)
	x.settle()
	x.check()
	if n := x.saw(server.EventQuarantined); n > 0 {
		t.Errorf("%d files were put aside", n)
	}
}

// Replicas that are damaged at different places are worth more than none: one that finds
// no whole file to be filled with goes on with what it has.
func TestRotOfAllAtDifferentPlaces(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantSealed()
	m := x.members[0] // the primary
	x.flip(m, 6)
	x.flip(x.members[1], 1)
	x.flip(x.members[2], 1)
	if _, err := m.server().Replicas().Read(t.Context(), 1, x.v, x.key(6), 0, trioCookie); !errors.Is(err, volume.ErrCorrupt) {
		t.Fatalf("the damaged needle: %v", err)
	}
	failed := func() (n int) {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, e := range x.events {
			if e.Kind == server.EventUpkeepFailed && e.Work == "filling" {
				n++
			}
		}
		return n
	}
	x.until("nothing whole is found", func() bool { return failed() > 0 || x.row().Volume.Generation > 1 })
	for _, at := range x.members {
		for _, p := range x.kept {
			x.until("it is read", func() bool {
				b, err := at.server().Read(context.Background(), p.key, 0, trioCookie)
				b.Release()
				if err != nil {
					t.Fatalf("%s: %v: %v", at.name, p.key, err)
				}
				return true
			})
		}
	}
	if row := x.row(); len(row.InSync) != 3 {
		t.Errorf("the row is %+v", row)
	}
	// And it heals by itself: a compaction gets each needle from where it is whole.
	x.until("a generation without damage is served", func() bool { return x.row().Volume.Generation > 1 })
	x.settle()
	if row := x.row(); len(row.InSync) != 3 {
		t.Errorf("the row is %+v", row)
	}
	x.check()
	x.same()
}

// A poisoned replica is salvaged when the others are lost, too: else what was
// acknowledged would lie on it alone for ever.
func TestPoisonedAndTheOthersAreLost(t *testing.T) {
	x := newTrio(t, server.Options{RepairDelay: time.Minute})
	x.plantUnequal()
	x.maybe = append(x.maybe, planted{x.key(30), 100})
	x.poison(x.members[0])
	x.members[0].start()
	x.noSteward = true
	x.until("it is sealed", func() bool { return x.row().State == server.StateSealed })
	if row := x.row(); !slices.Equal(row.InSync, []uint32{1}) || row.Volume.Generation != 2 {
		t.Errorf("the row is %+v", row)
	}
	x.check()
	x.noSteward = false
	x.start()
	x.settle()
	x.check()
}
