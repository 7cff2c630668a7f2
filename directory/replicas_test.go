package directory

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
	"hayloft/volume/coding/lifecycle"
)

// randomDisks are n of five disks.
func randomDisks(r *rand.Rand, n int) (out []DiskID) {
	for _, d := range r.Perm(5)[:n] {
		out = append(out, DiskID(1+d))
	}
	return out
}

// randomReplicas returns a command about replicas that is often obeyed.
func randomReplicas(r *rand.Rand, m *Map, op uint8, now id.Millis) []byte {
	n := VolumeID(1 + r.IntN(int(m.lastVolume)+1))
	for _, v := range m.Volumes() { // rather one where the command has something to do
		ready := map[uint8]bool{
			opLeaveSync: len(v.InSync) > 1, opJoinSync: len(v.InSync) < len(v.Replicas) && v.State == StateSealed,
			opJoinSyncAs: len(v.InSync) < len(v.Replicas) && v.State == StateSealed,
			opAddReplica: v.State == StateSealed && len(v.Replicas) > 0, opRemoveReplica: len(v.InSync) > 1 && v.State != StateOpen,
			opSetTarget: v.State == StateSealed && len(v.Replicas) > 0, opSealReplicas: v.State == StateClosing, opCommitReplicas: v.Compaction != nil,
		}[op]
		if ready && r.IntN(3) > 0 {
			n = v.ID
		}
	}
	v, _ := m.Volume(n)
	disk, disks := DiskID(1+r.IntN(5)), v.Replicas
	if len(v.Replicas) > 0 && op != opAddReplica {
		disk = v.Replicas[r.IntN(len(v.Replicas))]
	}
	if r.IntN(3) == 0 {
		disks = randomDisks(r, 1+r.IntN(2))
	} else if len(disks) > 1 && r.IntN(2) == 0 {
		disks = disks[1:]
	}
	sync, generation := v.Sync, v.Generation
	if r.IntN(8) == 0 {
		sync, generation = uint32(r.IntN(5)), uint32(r.IntN(4))
	}
	seal := Seal{Digest: [32]byte{byte(r.IntN(2))}, Needles: 5, Bytes: 10, DataBytes: 3, Sealed: now}
	if v.Compaction != nil {
		seal.Deletes = v.Compaction.Deletes
	}
	switch op {
	case opLeaveSync:
		return encodeCommand(op, &leaveSync{n, disk, sync})
	case opJoinSync:
		return encodeCommand(op, &joinSync{n, disk, generation, sync})
	case opJoinSyncAs:
		incarnation := uint64(r.IntN(3))
		if len(v.InSync) > 0 && r.IntN(4) > 0 {
			primary, _ := m.NodeOf(v.InSync[0])
			incarnation = primary.Incarnation
		}
		return encodeCommand(op, &joinSyncAs{joinSync{n, disk, generation, sync}, incarnation})
	case opAddReplica:
		return encodeCommand(op, &addReplica{n, disk, sync})
	case opRemoveReplica:
		return encodeCommand(op, &removeReplica{n, disk, sync})
	case opSetTarget:
		return encodeCommand(op, &setTarget{n, uint8(r.IntN(10)), sync})
	case opSealReplicas:
		return encodeCommand(op, &sealReplicas{n, generation, disks, seal})
	}
	if v.Compaction != nil && r.IntN(8) > 0 {
		generation = v.Compaction.Generation
	}
	return encodeCommand(op, &commitReplicas{n, generation, disks, seal})
}

// spread is a directory of three nodes with two disks each: node n has disks 2n-1 and
// 2n.
func spread(t *testing.T) *runner {
	r := newRunner(t)
	for n := range byte(3) {
		r.must(opNameNode, &nameNode{registerNode: registerNode{name: fmt.Sprint("n", n)}, roles: AllRoles})
		for k := range byte(2) {
			r.must(opRegisterDisk, &registerDisk{node: NodeID(n + 1), uuid: [16]byte{1 + n, 1 + k}})
		}
	}
	return r
}

// copies opens a volume on disks and takes it as far as a state.
func (r *runner) copies(state State, target uint8, disks ...DiskID) Volume {
	r.t.Helper()
	g := r.must(opAcquire, &acquire{node: 1, incarnation: 9, worker: uint16(r.m.next.lastVolume), kind: Originals, now: 1000, length: 1000}).(granted)
	c := &openReplicated{g.slot, 9, g.w.From, disks, target, g.w.From, 1}
	v := r.twice(opOpenReplicated, c)
	if !reflect.DeepEqual(v.Replicas, disks) || !reflect.DeepEqual(v.InSync, disks) || v.Sync != 1 || v.Target != target || !v.Unconfirmed {
		r.t.Fatalf("%+v", v)
	}
	v = r.twice(opConfirmVolume, &confirmVolume{v.ID, 1, 9})
	if state != StateOpen {
		r.must(opCloseTile, &closeTile{g.slot, 9, g.w.From, g.w.From + 5, 1200})
		v, _ = r.m.next.Volume(v.ID)
	}
	if state == StateSealed {
		v = r.twice(opSealReplicas, &sealReplicas{v.ID, 1, disks, firstSeal})
		if v.Sync != 1 {
			r.t.Fatalf("a seal by all raised the sync epoch: %+v", v)
		}
	}
	if v.State != state {
		r.t.Fatalf("%+v", v)
	}
	return v
}

// wantPlaced compares what a row says of its replicas.
func wantPlaced(t *testing.T, v Volume, sync uint32, replicas, inSync []DiskID) {
	t.Helper()
	if v.Sync != sync || !reflect.DeepEqual(v.Replicas, replicas) || !reflect.DeepEqual(v.InSync, inSync) {
		t.Errorf("volume %d, sync epoch %d, is on %v, in sync on %v; want %d, %v, %v", v.ID, v.Sync, v.Replicas, v.InSync, sync, replicas, inSync)
	}
}

func TestOpenReplicated(t *testing.T) {
	r := spread(t)
	v := r.copies(StateOpen, 3, 4, 1, 5)
	if p, ok := v.Primary(); !ok || p != 4 || v.Missing() != 0 || !v.Synced(5) || v.Synced(2) {
		t.Errorf("%+v", v)
	}
	w := r.m.next.Window(v.Slot)
	for name, c := range map[string]struct {
		spoil func(*openReplicated)
		want  error
	}{
		"the same fence, another order": {func(c *openReplicated) { c.disks = []DiskID{1, 4, 5} }, ErrInvalid},
		"no disk":                       {func(c *openReplicated) { c.disks = nil }, ErrInvalid},
		"a disk twice":                  {func(c *openReplicated) { c.disks = []DiskID{1, 1} }, ErrInvalid},
		"an unknown disk":               {func(c *openReplicated) { c.disks = []DiskID{1, 7} }, ErrUnknown},
		"nine disks":                    {func(c *openReplicated) { c.disks = []DiskID{1, 2, 3, 4, 5, 6, 7, 8, 9} }, ErrInvalid},
		"a target below":                {func(c *openReplicated) { c.target = 2 }, ErrInvalid},
		"a target of nine":              {func(c *openReplicated) { c.target = 9 }, ErrInvalid},
		"another holder":                {func(c *openReplicated) { c.incarnation = 8 }, id.ErrLeaseLost},
		"another window":                {func(c *openReplicated) { c.leased++ }, id.ErrLeaseLost},
		"behind the window":             {func(c *openReplicated) { c.from = w.To + 1 }, ErrInvalid},
	} {
		cmd := &openReplicated{v.Slot, 9, w.From, []DiskID{4, 1, 5}, 3, v.From, 1}
		c.spoil(cmd)
		before := dump(t, r.db)
		r.refused(opOpenReplicated, cmd, c.want)
		if string(before) != string(dump(t, r.db)) {
			t.Errorf("%s: a refusal changed rows", name)
		}
	}
	// A node or a disk that is gone gets none; one that drains may.
	r.must(opSetNodeState, &setNodeState{3, Gone})
	r.must(opSetDiskState, &setDiskState{1, Gone})
	r.must(opSetDiskState, &setDiskState{2, Draining})
	for _, d := range []DiskID{5, 1} {
		r.refused(opOpenReplicated, &openReplicated{v.Slot, 9, w.From, []DiskID{d}, 1, v.From + 3, 1}, ErrInvalid)
	}
	r.must(opOpenReplicated, &openReplicated{v.Slot, 9, w.From, []DiskID{2, 3}, 2, v.From + 3, 1})
	if former, _ := r.m.next.Volume(v.ID); former.State != StateClosing {
		t.Errorf("%+v", former)
	}
}

func TestLeaveAndJoinSync(t *testing.T) {
	r := spread(t)
	for _, state := range []State{StateOpen, StateClosing, StateSealed} {
		v := r.copies(state, 3, 1, 3, 5)
		v = r.twice(opLeaveSync, &leaveSync{v.ID, 3, 1})
		wantPlaced(t, v, 2, []DiskID{1, 3, 5}, []DiskID{1, 5})
		r.refused(opLeaveSync, &leaveSync{v.ID, 5, 1}, ErrStale)
		r.refused(opLeaveSync, &leaveSync{v.ID, 5, 3}, ErrInvalid) // nobody can know it
		r.refused(opLeaveSync, &leaveSync{v.ID, 5, 0}, ErrInvalid)
		v = r.twice(opLeaveSync, &leaveSync{v.ID, 1, 2})
		wantPlaced(t, v, 3, []DiskID{1, 3, 5}, []DiskID{5})
		r.refused(opLeaveSync, &leaveSync{v.ID, 5, 3}, ErrInvalid) // the last one
		if p, _ := v.Primary(); p != 5 || v.Missing() != 2 {
			t.Errorf("primary %d, %d missing", p, v.Missing())
		}
		if state != StateSealed {
			r.refused(opJoinSync, &joinSync{v.ID, 1, 1, 3}, ErrInvalid)
			continue
		}
		r.refused(opJoinSync, &joinSync{v.ID, 1, 1, 2}, ErrStale)
		r.refused(opJoinSync, &joinSync{v.ID, 1, 0, 3}, ErrStale)
		r.refused(opJoinSync, &joinSync{v.ID, 1, 2, 3}, ErrInvalid)
		r.refused(opJoinSync, &joinSync{v.ID, 2, 1, 3}, ErrInvalid)
		v = r.twice(opJoinSync, &joinSync{v.ID, 1, 1, 3}) // in its old place
		wantPlaced(t, v, 4, []DiskID{1, 3, 5}, []DiskID{1, 5})
		r.must(opSetDiskState, &setDiskState{3, Gone})
		r.refused(opJoinSync, &joinSync{v.ID, 3, 1, 4}, ErrInvalid)
	}
	r.refused(opLeaveSync, &leaveSync{99, 1, 1}, ErrUnknown)
	g := r.must(opAcquire, &acquire{node: 2, incarnation: 8, kind: Originals, now: 1000, length: 1000}).(granted)
	raw := r.must(opOpenReplicated, &openReplicated{g.slot, 8, g.w.From, []DiskID{1, 2}, 2, g.w.From, 1}).(Volume)
	r.refused(opLeaveSync, &leaveSync{raw.ID, 1, 1}, ErrInvalid) // it holds nothing
	r.must(opAbandonVolume, &abandonVolume{raw.ID, 5})
	r.refused(opLeaveSync, &leaveSync{raw.ID, 1, 1}, ErrStale)
}

// TestJoinOfUnknownOutcome: a primary that does not know whether a replica was let in
// asks again. Its first request, which was still on its way, does nothing then.
func TestJoinOfUnknownOutcome(t *testing.T) {
	r := spread(t)
	v := r.copies(StateSealed, 2, 1, 3)
	r.must(opLeaveSync, &leaveSync{v.ID, 3, 1})
	late := &joinSync{v.ID, 3, 1, 2}
	v = r.twice(opJoinSync, late)
	wantPlaced(t, v, 3, []DiskID{1, 3}, []DiskID{1, 3})
	r.must(opLeaveSync, &leaveSync{v.ID, 3, 3}) // a delete missed it
	r.refused(opJoinSync, late, ErrStale)
}

func TestAddAndRemoveReplica(t *testing.T) {
	r := spread(t)
	v := r.copies(StateSealed, 2, 1, 3)
	n := v.ID
	v = r.twice(opAddReplica, &addReplica{n, 5, 1})
	wantPlaced(t, v, 2, []DiskID{1, 3, 5}, []DiskID{1, 3})
	r.refused(opAddReplica, &addReplica{n, 6, 1}, ErrStale)
	r.refused(opAddReplica, &addReplica{n, 9, 2}, ErrUnknown)
	r.must(opSetDiskState, &setDiskState{6, Gone})
	r.refused(opAddReplica, &addReplica{n, 6, 2}, ErrInvalid)
	r.refused(opRemoveReplica, &removeReplica{n, 1, 1}, ErrStale)
	v = r.twice(opRemoveReplica, &removeReplica{n, 1, 2})
	wantPlaced(t, v, 3, []DiskID{3, 5}, []DiskID{3})
	r.refused(opRemoveReplica, &removeReplica{n, 3, 3}, ErrInvalid) // 5 is not in sync
	r.must(opJoinSync, &joinSync{n, 5, 1, 3})
	v = r.twice(opRemoveReplica, &removeReplica{n, 3, 4})
	wantPlaced(t, v, 5, []DiskID{5}, []DiskID{5})
	r.refused(opRemoveReplica, &removeReplica{n, 5, 5}, ErrInvalid)

	for i := range byte(4) {
		r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{9, i}})
	}
	for i, d := range []DiskID{1, 2, 3, 4, 7, 8, 9} {
		v = r.must(opAddReplica, &addReplica{n, d, uint32(5 + i)}).(Volume)
	}
	r.refused(opAddReplica, &addReplica{n, 10, v.Sync}, ErrInvalid) // a ninth

	open, closing := r.copies(StateOpen, 2, 1, 3), r.copies(StateClosing, 2, 1, 3)
	r.refused(opAddReplica, &addReplica{open.ID, 5, 1}, ErrInvalid)
	r.refused(opAddReplica, &addReplica{closing.ID, 5, 1}, ErrInvalid)
	r.refused(opRemoveReplica, &removeReplica{open.ID, 3, 1}, ErrInvalid)
	wantPlaced(t, r.twice(opRemoveReplica, &removeReplica{closing.ID, 3, 1}), 2, []DiskID{1}, []DiskID{1})
}

// A join that the primary's process asked for is refused once its node has started
// again, or its disk is on another node, whenever it comes; one that was obeyed is repeated.
func TestJoinOfAnEndedProcess(t *testing.T) {
	r := spread(t)
	v := r.copies(StateSealed, 3, 1, 2, 3)
	primary, _ := r.m.next.NodeOf(1)
	r.must(opLeaveSync, &leaveSync{v.ID, 2, 1})
	r.must(opLeaveSync, &leaveSync{v.ID, 3, 2})
	start := &startNode{primary.ID, 0, 7}
	for range 2 {
		if n := r.must(opStartNode, start).(Node); n.Incarnation != 7 {
			t.Fatalf("%+v", n)
		}
		r.reload()
	}
	late := &joinSyncAs{joinSync{v.ID, 3, 1, 3}, 7}
	r.refused(opJoinSync, &late.joinSync, ErrStale) // of nobody
	v = r.twice(opJoinSyncAs, &joinSyncAs{joinSync{v.ID, 2, 1, 3}, 7})
	late.sync = v.Sync

	r.must(opStartNode, &startNode{primary.ID, 7, 8})
	r.refused(opJoinSyncAs, late, ErrStale)
	r.refused(opStartNode, start, ErrStale) // comes late: the earlier process stays ended
	r.refused(opStartNode, &startNode{primary.ID, 7, 9}, ErrStale)
	r.refused(opJoinSyncAs, late, ErrStale)
	r.refused(opStartNode, &startNode{primary.ID, 8, 0}, ErrInvalid)
	r.refused(opStartNode, &startNode{99, 0, 7}, ErrUnknown)
	r.must(opNameNode, &nameNode{registerNode{primary.Name, "h", "", "", 9}, "a:1", AllRoles})
	r.refused(opJoinSyncAs, late, ErrStale)
	late.incarnation = 8
	elsewhere := r.must(opRegisterNode, &registerNode{name: "elsewhere"}).(Node)
	disk, _ := r.m.next.Disk(1)
	r.must(opRegisterDisk, &registerDisk{elsewhere.ID, disk.UUID, disk.Capacity, 9})
	r.refused(opJoinSyncAs, late, ErrStale)
	r.must(opRegisterDisk, &registerDisk{primary.ID, disk.UUID, disk.Capacity, 9})
	wantPlaced(t, r.twice(opJoinSyncAs, late), 5, []DiskID{1, 2, 3}, []DiskID{1, 2, 3})
}

// How many replicas there should be is changed for what is sealed, by somebody who
// knows the row; nothing else is changed by it.
func TestSetTarget(t *testing.T) {
	r := spread(t)
	v := r.copies(StateSealed, 1, 1)
	want := v
	want.Target = 2
	if got := r.twice(opSetTarget, &setTarget{v.ID, 2, 1}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	r.must(opAddReplica, &addReplica{v.ID, 3, 1})
	r.refused(opSetTarget, &setTarget{v.ID, 3, 1}, ErrStale)
	r.refused(opSetTarget, &setTarget{v.ID, 0, 2}, ErrInvalid)
	r.refused(opSetTarget, &setTarget{v.ID, 9, 2}, ErrInvalid)
	r.refused(opSetTarget, &setTarget{99, 2, 1}, ErrUnknown)
	r.refused(opSetTarget, &setTarget{r.copies(StateOpen, 1, 1).ID, 2, 1}, ErrInvalid)
	r.refused(opSetTarget, &setTarget{r.copies(StateClosing, 1, 1).ID, 2, 1}, ErrInvalid)
}

func TestSealReplicas(t *testing.T) {
	r := spread(t)
	v := r.copies(StateClosing, 3, 1, 3, 5)
	n := v.ID
	r.refused(opSealVolume, &sealVolume{n, 1, 1, firstSeal}, ErrInvalid) // that is for one replica
	r.refused(opSealReplicas, &sealReplicas{n, 1, []DiskID{1, 2}, firstSeal}, ErrInvalid)
	r.refused(opSealReplicas, &sealReplicas{n, 1, nil, firstSeal}, ErrInvalid)
	r.refused(opSealReplicas, &sealReplicas{n, 0, []DiskID{1}, firstSeal}, ErrStale)
	r.refused(opSealReplicas, &sealReplicas{n, 2, []DiskID{1}, firstSeal}, ErrInvalid)
	// 1 left: it may lack a delete, whatever it holds. 5 did not answer.
	r.must(opLeaveSync, &leaveSync{n, 1, 1})
	r.refused(opSealReplicas, &sealReplicas{n, 1, []DiskID{1}, firstSeal}, ErrInvalid)
	v = r.twice(opSealReplicas, &sealReplicas{n, 1, []DiskID{3, 1}, firstSeal})
	wantPlaced(t, v, 3, []DiskID{1, 3}, []DiskID{3})
	other := firstSeal
	other.Digest[0]++
	r.refused(opSealReplicas, &sealReplicas{n, 1, []DiskID{3, 1}, other}, ErrInvalid)
	// A coordinator that was paused names 5, which has missed deletes since.
	wantPlaced(t, r.twice(opSealReplicas, &sealReplicas{n, 1, []DiskID{3, 5}, firstSeal}), 3, []DiskID{1, 3}, []DiskID{3})
	open := r.copies(StateOpen, 1, 1)
	r.refused(opSealReplicas, &sealReplicas{open.ID, 1, []DiskID{1}, firstSeal}, ErrInvalid)
}

func TestCommitReplicas(t *testing.T) {
	r := spread(t)
	v := r.copies(StateSealed, 3, 1, 3, 5)
	n := v.ID
	begin := &beginCompaction{n, 1, firstSeal.Digest, 4, [32]byte{7}, 9, 1400}
	r.must(opBeginCompaction, begin)
	r.refused(opCommitCompaction, &commitCompaction{n, 2, 1, secondSeal}, ErrInvalid) // that is for one replica
	r.refused(opCommitReplicas, &commitReplicas{n, 2, []DiskID{1, 2}, secondSeal}, ErrInvalid)
	r.refused(opCommitReplicas, &commitReplicas{n, 2, nil, secondSeal}, ErrInvalid)
	r.refused(opCommitReplicas, &commitReplicas{n, 2, []DiskID{1}, firstSeal}, ErrInvalid) // over another delete
	r.must(opLeaveSync, &leaveSync{n, 1, 1})
	r.refused(opCommitReplicas, &commitReplicas{n, 2, []DiskID{1}, secondSeal}, ErrInvalid) // it is not in sync
	v = r.twice(opCommitReplicas, &commitReplicas{n, 2, []DiskID{5, 1}, secondSeal})
	wantPlaced(t, v, 3, []DiskID{1, 3, 5}, []DiskID{5})
	if v.Generation != 2 || *v.Seal != secondSeal || v.Compaction != nil {
		t.Errorf("%+v", v)
	}
	r.refused(opJoinSync, &joinSync{n, 3, 1, 3}, ErrStale) // the former generation
	wantPlaced(t, r.must(opJoinSync, &joinSync{n, 3, 2, 3}).(Volume), 4, []DiskID{1, 3, 5}, []DiskID{3, 5})

	// Salvage is for a volume of which no replica in sync is sound.
	v = r.copies(StateClosing, 2, 1, 3)
	r.refused(opBeginSalvage, &beginSalvage{v.ID, 1, 1, [32]byte{7}, 9, 1400}, ErrInvalid)
	r.must(opLeaveSync, &leaveSync{v.ID, 3, 1})
	r.refused(opBeginSalvage, &beginSalvage{v.ID, 1, 3, [32]byte{7}, 9, 1400}, ErrInvalid)
	r.must(opBeginSalvage, &beginSalvage{v.ID, 1, 1, [32]byte{7}, 9, 1400})
	seal := secondSeal
	seal.Deletes = 0
	v = r.twice(opCommitReplicas, &commitReplicas{v.ID, 2, []DiskID{1}, seal})
	wantPlaced(t, v, 2, []DiskID{1, 3}, []DiskID{1})
	if v.State != StateSealed {
		t.Errorf("%+v", v)
	}
}

// TestReplicasAndShards releases several replicas at once, and makes the next
// generation out of the shards on several disks.
func TestReplicasAndShards(t *testing.T) {
	r := spread(t)
	v := r.copies(StateSealed, 2, 1, 3)
	n := v.ID
	r.must(opBeginCoding, &beginCoding{n, runOf(v, 1, 7)})
	r.must(opCommitCoding, &commitCoding{n, 1, 7, shardsOf(1, 3), 3000})
	r.must(opLeaveSync, &leaveSync{n, 3, 1})
	r.refused(opJoinSync, &joinSync{n, 3, 1, 2}, ErrStale)
	r.refused(opAddReplica, &addReplica{n, 5, 2}, ErrStale)
	v = r.twice(opReleaseSource, &releaseSource{n, 1, shardsOf(1, 3), 3000, 0})
	wantPlaced(t, v, 3, nil, nil)
	if _, ok := v.Primary(); ok || v.Missing() != 0 {
		t.Errorf("%+v", v)
	}
	r.refused(opAddReplica, &addReplica{n, 1, 3}, ErrStale)
	r.refused(opJoinSync, &joinSync{n, 1, 1, 3}, ErrStale)
	if again := r.twice(opSealReplicas, &sealReplicas{n, 1, []DiskID{1, 3}, firstSeal}); !reflect.DeepEqual(again, v) {
		t.Errorf("a late seal: %+v", again)
	}
	r.must(opBeginCompaction, &beginCompaction{n, 1, firstSeal.Digest, 4, [32]byte{7}, 9, 4000})
	r.refused(opCommitReplicas, &commitReplicas{n, 2, nil, secondSeal}, ErrInvalid)
	r.refused(opCommitReplicas, &commitReplicas{n, 2, []DiskID{9}, secondSeal}, ErrUnknown)
	v = r.twice(opCommitReplicas, &commitReplicas{n, 2, []DiskID{4, 2}, secondSeal})
	wantPlaced(t, v, 4, []DiskID{4, 2}, []DiskID{4, 2})
	r.must(opBeginCompaction, &beginCompaction{n, 2, secondSeal.Digest, 4, [32]byte{7}, 9, 4000})
	v = r.twice(opCommitReplicas, &commitReplicas{n, 3, []DiskID{6}, secondSeal})
	wantPlaced(t, v, 5, []DiskID{6}, []DiskID{6})
	if v.Coding.State() != lifecycle.Sealed {
		t.Errorf("%+v", v.Coding)
	}
}

func TestNodesAndDisks(t *testing.T) {
	r := newRunner(t)
	old := r.must(opRegisterNode, &registerNode{name: "a", host: "h", now: 5}).(Node)
	if want := (Node{ID: 1, Name: "a", Host: "h", Roles: AllRoles, State: Active, Registered: 5}); old != want {
		t.Fatalf("%+v", old)
	}
	name := &nameNode{registerNode{"a", "h2", "r", "z", 7}, "10.0.0.1:7", RoleVolume | 1<<12}
	n := r.must(opNameNode, name).(Node)
	if want := (Node{1, "a", "h2", "r", "z", "10.0.0.1:7", RoleVolume | 1<<12, Active, 5, 0}); n != want {
		t.Fatalf("%+v", n)
	}
	d := r.must(opRegisterDisk, &registerDisk{1, [16]byte{1}, 9, 8}).(Disk)
	other := r.must(opRegisterDisk, &registerDisk{1, [16]byte{2}, 9, 8}).(Disk)
	if d.State != Active || r.m.next.StateOf(d.ID) != Active || r.m.next.StateOf(99) != Gone {
		t.Errorf("%+v", d)
	}
	r.must(opSetDiskState, &setDiskState{1, Gone})
	r.must(opSetNodeState, &setNodeState{1, Draining})
	version := r.m.next.version
	r.must(opSetDiskState, &setDiskState{1, Gone})
	r.must(opSetNodeState, &setNodeState{1, Draining})
	r.must(opNameNode, name)
	r.must(opRegisterDisk, &registerDisk{1, [16]byte{1}, 9, 8})
	if r.m.next.version != version {
		t.Error("a repetition changed something")
	}
	// The command of a former version keeps what it does not tell.
	r.must(opRegisterNode, &registerNode{name: "a", now: 9})
	r.reload()
	m := r.m.next
	if got, ok := m.NodeOf(d.ID); !ok || got.State != Draining || got.Addr != n.Addr || got.Roles != n.Roles || got.Host != "" {
		t.Errorf("%+v", got)
	}
	if m.StateOf(d.ID) != Gone || m.StateOf(other.ID) != Draining {
		t.Errorf("%v and %v", m.StateOf(d.ID), m.StateOf(other.ID))
	}
	if _, ok := m.NodeOf(77); ok {
		t.Error("disk 77 has a node")
	}
	r.refused(opSetDiskState, &setDiskState{9, Gone}, ErrUnknown)
	r.refused(opSetNodeState, &setNodeState{9, Gone}, ErrUnknown)
	r.refused(opSetDiskState, &setDiskState{1, 0}, ErrInvalid)
	r.refused(opSetNodeState, &setNodeState{1, 4}, ErrInvalid)
	r.refused(opNameNode, &nameNode{}, ErrInvalid)
	for s, want := range map[Duty]string{Active: "active", Draining: "draining", Gone: "gone", 7: "duty-7"} {
		if s.String() != want {
			t.Errorf("%d is %q", s, s)
		}
	}
	for key, value := range map[string][]byte{string(keyNode(1)): Node{Name: "a"}.value(), string(keyDisk(1)): Disk{Node: 1, State: 4}.value()} {
		good, closer, err := r.db.Get([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		keep := slices.Clone(good)
		if err := errors.Join(closer.Close(), r.db.Set([]byte(key), value, pebble.NoSync)); err != nil {
			t.Fatal(err)
		}
		if err := newMachine().Restored(r.db); err == nil {
			t.Errorf("row %x with state %d was read", key, value[len(value)-1])
		}
		if err := r.db.Set([]byte(key), keep, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRowsBeforeReplicas reads rows of the versions from before there were several
// replicas.
func TestRowsBeforeReplicas(t *testing.T) {
	r := empty(t)
	v := restored(1, 600, 5000)
	v.Replicas = []DiskID{1, 2}
	v.InSync = v.Replicas
	if got := r.twice(opRestoreOld, &restoreOld{10_000, v}); !reflect.DeepEqual(got, v) {
		t.Fatalf("%+v, want %+v", got, v)
	}
	node, disk := Node{Name: "a"}.value(), Disk{Node: 1, UUID: [16]byte{1}}.value()
	node, disk = node[:len(node)-13], disk[:len(disk)-1]
	node[0], disk[0] = 1, 1
	for key, value := range map[string][]byte{string(keyVol(1)): v.valueOf(4), string(keyNode(1)): node, string(keyDisk(1)): disk} {
		if err := r.db.Set([]byte(key), value, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	r.reload()
	want := r.must(opSetNodeState, &setNodeState{1, Draining}).(Node)
	second := want.value()
	second = second[:len(second)-8]
	second[0] = 2 // from before processes said that they start
	if err := r.db.Set(keyNode(1), second, pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	r.reload()
	wantPlaced(t, r.twice(opLeaveSync, &leaveSync{1, 1, 1}), 2, []DiskID{1, 2}, []DiskID{2})
}
