package directory

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
	"hayloft/volume/coding/lifecycle"
)

// randomLifecycle returns a command of sealing or compaction that is often obeyed.
func randomLifecycle(r *rand.Rand, m *Map, op uint8, now id.Millis) []byte {
	v, _ := m.Volume(VolumeID(1 + r.IntN(int(m.lastVolume)+1)))
	for _, other := range m.Volumes() {
		if op == opAbandonCompaction && other.Compaction != nil && r.IntN(3) == 0 {
			v = other
		}
	}
	n, generation, disk := v.ID, v.Generation, DiskID(1)
	if len(v.Replicas) > 0 {
		disk = v.Replicas[0]
	}
	seal := Seal{Digest: [32]byte{byte(r.IntN(2))}, Needles: 5, Bytes: 10, DataBytes: 3, Sealed: now, Deletes: uint32(r.IntN(3))}
	var digest [32]byte
	if v.Seal != nil {
		digest = v.Seal.Digest
	}
	if v.Compaction != nil {
		seal.Deletes = v.Compaction.Deletes
		if op != opBeginCompaction && op != opSealVolume {
			generation = v.Compaction.Generation
		}
	}
	if r.IntN(6) == 0 {
		generation = uint32(r.IntN(5))
	}
	switch op {
	case opCloseVolume:
		return encodeCommand(op, &closeVolume{n, NodeID(1 + r.IntN(4)), uint64(1 + r.IntN(9)), now})
	case opSealVolume:
		return encodeCommand(op, &sealVolume{n, generation, disk, seal})
	case opBeginCompaction:
		return encodeCommand(op, &beginCompaction{n, generation, digest, uint32(r.IntN(4)), [32]byte{1}, uint64(r.IntN(9)), now})
	case opCommitCompaction:
		return encodeCommand(op, &commitCompaction{n, generation, disk, seal})
	case opBeginSalvage:
		return encodeCommand(op, &beginSalvage{n, v.Generation, disk, [32]byte{2}, uint64(r.IntN(9)), now})
	}
	return encodeCommand(op, &abandonCompaction{n, generation})
}

func lifecycleInvariants(m *Map) error {
	if n := len(m.Volumes()); n != int(m.volumeRows) {
		return fmt.Errorf("%d volumes, %d rows", n, m.volumeRows)
	}
	for _, v := range m.Volumes() {
		switch {
		case v.State == StateSealed && v.Seal == nil, v.State != StateSealed && v.Seal != nil, v.State == StateOpen && v.Compaction != nil:
			return fmt.Errorf("volume %+v", v)
		case v.Generation == 0 || v.LastGeneration < v.Generation:
			return fmt.Errorf("generations of %+v", v)
		case v.Compaction != nil && (v.Compaction.Generation != v.LastGeneration || v.LastGeneration == v.Generation):
			return fmt.Errorf("compaction of %+v, %v", v, v.Compaction)
		case v.State == StateSealed && v.Coding.Source != v.Seal.source(v.Generation), v.State != StateSealed && v.Coding != lifecycle.Row{}:
			return fmt.Errorf("coding of %+v", v)
		case v.Coding.Validate() != nil, v.Compaction != nil && v.Coding.Busy():
			return fmt.Errorf("coding of %+v, %v", v, v.Coding.Validate())
		case (len(v.Replicas) == 0) != (v.Coding.State() == lifecycle.Released), !v.syncedInOrder(), v.Sync == 0, v.Target == 0 || v.Target > maxReplicas:
			return fmt.Errorf("replicas of %+v", v)
		case v.Coding.Homed(func(d lifecycle.Disk) bool { _, ok := m.Disk(DiskID(d)); return !ok }):
			return fmt.Errorf("homes of %+v", v)
		case v.Unconfirmed && v.State != StateOpen, v.State == StateVoid && v.From != v.To:
			return fmt.Errorf("birth of %+v", v)
		case (v.State == StateOpen) != (v.Closed == 0):
			return fmt.Errorf("closing of %+v", v)
		}
	}
	return nil
}

// sealable makes a volume whose tile is closed.
func sealable(r *runner) Volume {
	r.must(opRegisterNode, &registerNode{name: "a"})
	r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{1}})
	g := r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: Originals, now: 1000, length: 1000}).(granted)
	v := r.open(g, 1, g.w.From)
	r.must(opCloseTile, &closeTile{g.slot, 9, g.w.From, g.w.From + 5, 1200})
	v, _ = r.m.next.Volume(v.ID)
	if v.State != StateClosing || v.Slot != g.slot || v.From != g.w.From || v.To != g.w.From+5 || v.Closed != 1200 {
		r.t.Fatalf("%+v", v)
	}
	return v
}

func (r *runner) refused(op uint8, c command, want error) {
	r.t.Helper()
	if _, err := r.do(op, c); !errors.Is(err, want) {
		r.t.Errorf("operation %d, %+v: %v, want %v", op, c, err, want)
	}
}

func TestLifecycle(t *testing.T) {
	r := newRunner(t)
	v := sealable(r)
	one := Seal{Digest: [32]byte{1}, Needles: 5, Bytes: 100, DataBytes: 90, Sealed: 1300}
	r.refused(opBeginCompaction, &beginCompaction{volume: v.ID, generation: 1, secret: [32]byte{7}}, ErrInvalid)
	r.refused(opSealVolume, &sealVolume{v.ID, 1, 2, one}, ErrInvalid)
	r.refused(opSealVolume, &sealVolume{v.ID, 1, 1, Seal{Digest: one.Digest}}, ErrInvalid) // a file of no bytes
	r.refused(opSealVolume, &sealVolume{v.ID, 2, 1, one}, ErrInvalid)
	r.refused(opSealVolume, &sealVolume{9, 1, 1, one}, ErrUnknown)
	v = r.must(opSealVolume, &sealVolume{v.ID, 1, 1, one}).(Volume)
	if v.State != StateSealed || *v.Seal != one {
		t.Fatalf("%+v", v)
	}
	version := r.m.next.version
	if again := r.must(opSealVolume, &sealVolume{v.ID, 1, 1, one}); !reflect.DeepEqual(again, v) || r.m.next.version != version {
		t.Fatalf("repeated: %+v", again)
	}
	other := one
	other.Digest[0]++
	r.refused(opSealVolume, &sealVolume{v.ID, 1, 1, other}, ErrInvalid)

	begin := &beginCompaction{v.ID, 1, one.Digest, 4, [32]byte{7}, 9, 1400}
	r.refused(opBeginCompaction, &beginCompaction{v.ID, 1, other.Digest, 4, [32]byte{7}, 9, 1400}, ErrInvalid)
	r.refused(opBeginCompaction, &beginCompaction{v.ID, 1, one.Digest, 4, [32]byte{}, 9, 1400}, ErrInvalid)
	r.refused(opBeginCompaction, &beginCompaction{v.ID, 2, one.Digest, 4, [32]byte{7}, 9, 1400}, ErrInvalid)
	v = r.must(opBeginCompaction, begin).(Volume)
	want := Compaction{2, [32]byte{7}, 1400, 4, 9}
	if v.Compaction == nil || *v.Compaction != want || v.Generation != 1 {
		t.Fatalf("%+v, %+v", v, v.Compaction)
	}
	if strings.Contains(fmt.Sprintf("%v %#v", v.Compaction, v.Compaction), "7") {
		t.Error("the secret is printed")
	}
	// Whoever begins again goes on under the same numbers.
	again := r.must(opBeginCompaction, &beginCompaction{v.ID, 1, one.Digest, 8, [32]byte{8}, 10, 1500}).(Volume)
	if *again.Compaction != want {
		t.Fatalf("%+v", again.Compaction)
	}
	two := Seal{Digest: [32]byte{2}, Needles: 4, Bytes: 80, DataBytes: 70, Sealed: 1400, Deletes: 4}
	r.refused(opAbandonCompaction, &abandonCompaction{v.ID, 3}, ErrInvalid)
	r.refused(opAbandonCompaction, &abandonCompaction{v.ID, 1}, ErrStale)
	for range 2 {
		v = r.must(opAbandonCompaction, &abandonCompaction{v.ID, 2}).(Volume)
	}
	r.refused(opCommitCompaction, &commitCompaction{v.ID, 2, 1, two}, ErrStale)
	v = r.must(opBeginCompaction, begin).(Volume)
	if v.Compaction.Generation != 3 {
		t.Fatalf("the number of an abandoned one is given out again: %+v", v.Compaction)
	}
	r.refused(opCommitCompaction, &commitCompaction{v.ID, 2, 1, two}, ErrStale)
	r.refused(opCommitCompaction, &commitCompaction{v.ID, 4, 1, two}, ErrInvalid)
	r.refused(opCommitCompaction, &commitCompaction{v.ID, 3, 2, two}, ErrInvalid)
	r.refused(opCommitCompaction, &commitCompaction{v.ID, 3, 1, one}, ErrInvalid) // over another delete
	for range 2 {
		v = r.must(opCommitCompaction, &commitCompaction{v.ID, 3, 1, two}).(Volume)
	}
	if v.Generation != 3 || *v.Seal != two || v.Compaction != nil || v.LastGeneration != 3 {
		t.Fatalf("%+v", v)
	}
	r.refused(opAbandonCompaction, &abandonCompaction{v.ID, 3}, ErrStale)
	r.refused(opBeginCompaction, begin, ErrStale)
	r.refused(opSealVolume, &sealVolume{v.ID, 1, 1, one}, ErrStale)
	r.refused(opBeginCompaction, &beginCompaction{v.ID, 3, two.Digest, 3, [32]byte{7}, 9, 1400}, ErrInvalid) // fewer deletes
	m := newMachine()
	if err := m.Restored(r.db); err != nil {
		t.Fatal(err)
	}
	if got, _ := m.next.Volume(v.ID); !reflect.DeepEqual(got, v) {
		t.Fatalf("%+v came back as %+v", v, got)
	}
}

// A process that does not hold the slot closes a volume only when nobody mints
// there any more, and then its holder never will again.
func TestCloseVolume(t *testing.T) {
	r := newRunner(t)
	r.must(opRegisterNode, &registerNode{name: "a"})
	r.must(opRegisterNode, &registerNode{name: "b"})
	r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{1}})
	at := id.Millis(0)
	for name, c := range map[string]struct {
		node        NodeID
		incarnation uint64
		after       id.Millis // the beginning of the lease
		ok          bool
	}{
		"the holder itself":           {1, 9, 500, false},
		"another node":                {2, 10, 500, false},
		"no incarnation":              {1, 0, 500, false},
		"the next process":            {1, 10, 500, true},
		"another node, lease is over": {2, 10, 1500, true},
	} {
		at += 10_000
		g := r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: Originals, now: at, length: 1000}).(granted)
		v := r.open(g, 1, g.w.To-1)
		cmd := &closeVolume{v.ID, c.node, c.incarnation, at + c.after}
		got, err := r.do(opCloseVolume, cmd)
		if !c.ok {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
			r.must(opCloseTile, &closeTile{g.slot, 9, g.w.From, g.w.To, 1})
			continue
		}
		if err != nil || got.(Volume).State != StateClosing || got.(Volume).To != g.w.To {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		if again := r.must(opCloseVolume, cmd); !reflect.DeepEqual(again, got) {
			t.Errorf("%s: repeated: %+v", name, again)
		}
		r.refused(opRenew, &renew{g.slot, 9, g.w.From, 1, 1, 1}, id.ErrLeaseLost)
	}
	r.refused(opCloseVolume, &closeVolume{99, 1, 1, 1}, ErrUnknown)
}

// Volume rows of version 1 are read: they end behind the disks.
func TestOldVolumeRows(t *testing.T) {
	r := newRunner(t)
	v := sealable(r)
	now := v.value()
	old := append([]byte{1}, now[1:1+1+1+4+8+8+1+4*len(v.Replicas)]...)
	if err := r.db.Set(keyVol(v.ID), old, pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	m := newMachine()
	if err := m.Restored(r.db); err != nil {
		t.Fatal(err)
	}
	got, _ := m.next.Volume(v.ID)
	v.Closed = 0 // nobody noted it
	if !reflect.DeepEqual(got, v) {
		t.Fatalf("%+v, want %+v", got, v)
	}
	r.m = m
	one := Seal{Digest: [32]byte{1}, Bytes: 100}
	if v := r.must(opSealVolume, &sealVolume{v.ID, 1, 1, one}).(Volume); v.State != StateSealed || v.LastGeneration != 1 {
		t.Fatalf("%+v", v)
	}
}

// A state of a later version is left as it is.
func TestLifecycleOfLaterStates(t *testing.T) {
	r := newRunner(t)
	v := sealable(r)
	v.State = 77
	if err := r.db.Set(keyVol(v.ID), v.value(), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	r.m = newMachine()
	if err := r.m.Restored(r.db); err != nil {
		t.Fatal(err)
	}
	r.refused(opCloseVolume, &closeVolume{v.ID, 1, 9, 1}, ErrInvalid)
	r.refused(opSealVolume, &sealVolume{volume: v.ID, generation: 1, disk: 1}, ErrInvalid)
	r.refused(opBeginCompaction, &beginCompaction{volume: v.ID, generation: 1, secret: [32]byte{1}}, ErrInvalid)
	r.refused(opCommitCompaction, &commitCompaction{volume: v.ID, generation: 2, disk: 1}, ErrInvalid)
	r.refused(opAbandonCompaction, &abandonCompaction{v.ID, 2}, ErrInvalid)
	r.refused(opBeginSalvage, &beginSalvage{volume: v.ID, generation: 1, disk: 1, secret: [32]byte{1}}, ErrInvalid)
}
