package directory

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"hayloft/internal/id"
	"hayloft/volume/coding/lifecycle"
)

// randomRestore restores a volume somewhere among the originals, or one that is
// known.
func randomRestore(r *rand.Rand, m *Map, now id.Millis) []byte {
	v, ok := m.Volume(VolumeID(1 + r.IntN(int(m.lastVolume)+1)))
	if !ok || r.IntN(4) > 0 {
		v = restored(m.lastVolume+VolumeID(r.IntN(4)), id.Slot(546+r.IntN(400)), id.Millis(r.IntN(1_000_000)))
	}
	if r.IntN(3) == 0 && v.Sync == 1 && v.Target == 1 && len(v.Replicas) == len(v.InSync) {
		return encodeCommand(opRestoreOld, &restoreOld{now, v})
	}
	return encodeCommand(opRestoreVolume, &restoreVolume{now, v})
}

// restored is a closing volume that the disks told of.
func restored(n VolumeID, slot id.Slot, from id.Millis) Volume {
	return Volume{ID: n, Class: ClassOriginals, State: StateClosing, Generation: 2, LastGeneration: 3, Opened: 5, Opener: 6, Replicas: []DiskID{1}, InSync: []DiskID{1}, Sync: 1, Target: 1,
		Slot: slot, From: from, To: from + 100, Closed: from + 200}
}

// coded is one whose shards serve.
func coded(n VolumeID, slot id.Slot, from id.Millis) Volume {
	v := restored(n, slot, from)
	v.State, v.Seal, v.Replicas, v.InSync = StateSealed, &firstSeal, nil, nil
	source := firstSeal.source(v.Generation)
	v.Coding = lifecycle.Row{Epoch: 5, Source: source, Released: 2, Committed: &lifecycle.Commit{
		Run:     lifecycle.Run{Epoch: 4, Encoder: 7, Data: 2, Parity: 1, Source: source, IndexBytes: 9, Homes: []lifecycle.Disk{1, 2, 3}},
		Digests: shardsOf(4, 3), At: id.Millis(300).Time(),
	}}
	return v
}

// empty is a directory that knows three disks of a node.
func empty(t *testing.T) *runner {
	r := newRunner(t)
	r.must(opRegisterNode, &registerNode{name: "a"})
	for i := range byte(3) {
		r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{1 + i}})
	}
	return r
}

func TestRestoreVolume(t *testing.T) {
	r := empty(t)
	for _, v := range []Volume{restored(7, 600, 5000), coded(3, 600, 2000), restored(5, 600, 8000), coded(9, 700, 1000)} {
		if got := r.twice(opRestoreVolume, &restoreVolume{10_000, v}); !reflect.DeepEqual(got, v) {
			t.Fatalf("%+v, want %+v", got, v)
		}
	}
	m := r.m.next
	var numbers []VolumeID
	for _, v := range m.Volumes() {
		numbers = append(numbers, v.ID)
	}
	if !reflect.DeepEqual(numbers, []VolumeID{3, 5, 7, 9}) || m.lastVolume != 9 {
		t.Fatalf("volumes %v, the last %d", numbers, m.lastVolume)
	}
	for at, want := range map[id.Millis]VolumeID{1999: 0, 2000: 3, 2099: 3, 2100: 0, 5050: 7, 8099: 5, 8100: 0} {
		if got, _ := m.Locate(id.Make(at, 600, 0)); got.ID != want {
			t.Errorf("%d is located at %d, want %d", at, got.ID, want)
		}
	}
	// Nothing is minted inside the tiles though the clock is behind.
	for s := id.Slot(544); s < id.Slots; s++ {
		if s != 600 {
			m.putWindow(s, id.Window{Node: 7, Holder: 1, From: 1, To: id.MaxMillis})
		}
	}
	g := r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: Originals, disk: 1, now: 10, length: 1000}).(granted)
	if g.slot != 600 || g.w.From != 8100 {
		t.Fatalf("%+v", g)
	}
	v := r.open(g, 1, g.w.From)
	if v.ID != 10 {
		t.Errorf("the next volume has number %d", v.ID)
	}
	// The life of a restored one goes on.
	r.must(opBeginSalvage, &beginSalvage{7, 2, 1, [32]byte{7}, 9, 1400})
	if got, _ := r.m.next.Volume(7); got.Compaction.Generation != 4 {
		t.Errorf("generation %d is given out", got.Compaction.Generation)
	}
	r.must(opBeginCompaction, &beginCompaction{3, 2, firstSeal.Digest, 4, [32]byte{7}, 9, 4000})
	back := r.must(opCommitCompaction, &commitCompaction{3, 4, 2, secondSeal}).(Volume)
	if again := r.must(opBeginCoding, &beginCoding{3, runOf(back, 6, 8)}).(Volume); again.Coding.Run.Epoch != 6 {
		t.Errorf("%+v", again.Coding)
	}
	r.refused(opRestoreVolume, &restoreVolume{10_000, coded(3, 600, 2000)}, ErrInvalid) // it has moved on
	r.refused(opAbandonVolume, &abandonVolume{4, 1}, ErrUnknown)
}

func TestRestoreRefusals(t *testing.T) {
	r := empty(t)
	r.must(opRestoreVolume, &restoreVolume{10_000, restored(7, 600, 5000)})
	g := r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: Originals, disk: 1, now: 20_000, length: 1000}).(granted)
	before := dump(t, r.db)
	for name, c := range map[string]struct {
		spoil func(*Volume)
		want  error
	}{
		"number 0":               {func(v *Volume) { v.ID = 0 }, ErrInvalid},
		"a number far off":       {func(v *Volume) { v.ID = 8 + maxGap }, ErrInvalid},
		"another volume 7":       {func(v *Volume) { v.ID = 7 }, ErrInvalid},
		"open":                   {func(v *Volume) { v.State = StateOpen }, ErrInvalid},
		"void":                   {func(v *Volume) { v.State = StateVoid }, ErrInvalid},
		"of a later state":       {func(v *Volume) { v.State = 5 }, ErrInvalid},
		"unconfirmed":            {func(v *Volume) { v.State, v.Unconfirmed = StateOpen, true }, ErrInvalid},
		"compaction under way":   {func(v *Volume) { v.Compaction = &Compaction{Generation: 3} }, ErrInvalid},
		"closing and sealed":     {func(v *Volume) { v.Seal = &firstSeal }, ErrInvalid},
		"sealed without a seal":  {func(v *Volume) { v.State = StateSealed }, ErrInvalid},
		"sealed without bytes":   {func(v *Volume) { v.State, v.Seal = StateSealed, &Seal{} }, ErrInvalid},
		"another class":          {func(v *Volume) { v.Class = ClassVariants }, ErrInvalid},
		"a slot without volumes": {func(v *Volume) { v.Slot, v.Class = 3, None }, ErrInvalid},
		"no generation":          {func(v *Volume) { v.Generation = 0 }, ErrInvalid},
		"a number of the future": {func(v *Volume) { v.Generation = 4 }, ErrInvalid},
		"never closed":           {func(v *Volume) { v.Closed = 0 }, ErrInvalid},
		"an open tile":           {func(v *Volume) { v.To = 0 }, ErrInvalid},
		"a tile backwards":       {func(v *Volume) { v.To = v.From - 1 }, ErrInvalid},
		"overlap before":         {func(v *Volume) { v.From, v.To = 4000, 5001 }, ErrInvalid},
		"overlap behind":         {func(v *Volume) { v.From, v.To = 5099, 9000 }, ErrInvalid},
		"overlap around":         {func(v *Volume) { v.From, v.To = 1000, 9000 }, ErrInvalid},
		"overlap inside":         {func(v *Volume) { v.From, v.To = 5010, 5011 }, ErrInvalid},
		"a slot in use":          {func(v *Volume) { v.Slot, v.From, v.To = g.slot, 20_500, 20_600 }, ErrInvalid},
		"on no disk":             {func(v *Volume) { v.Replicas, v.InSync = nil, nil }, ErrInvalid},
		"on an unknown disk":     {func(v *Volume) { v.Replicas = []DiskID{1, 4} }, ErrUnknown},
		"on a disk twice":        {func(v *Volume) { v.Replicas, v.InSync = []DiskID{1, 1}, []DiskID{1, 1} }, ErrInvalid},
		"none in sync":           {func(v *Volume) { v.InSync = nil }, ErrInvalid},
		"in sync on another":     {func(v *Volume) { v.InSync = []DiskID{2} }, ErrInvalid},
		"in another order":       {func(v *Volume) { v.Replicas, v.InSync = []DiskID{1, 2}, []DiskID{2, 1} }, ErrInvalid},
		"nine replicas":          {func(v *Volume) { v.Replicas = []DiskID{1, 2, 3, 4, 5, 6, 7, 8, 9} }, ErrInvalid},
		"no target":              {func(v *Volume) { v.Target = 0 }, ErrInvalid},
		"a target of nine":       {func(v *Volume) { v.Target = 9 }, ErrInvalid},
		"no sync epoch":          {func(v *Volume) { v.Sync = 0 }, ErrInvalid},
		"the last sync epoch":    {func(v *Volume) { v.Sync = 1<<32 - 1 }, ErrInvalid},
		"released, and there":    {func(v *Volume) { *v = coded(8, 700, 1000); v.Replicas, v.InSync = []DiskID{1}, []DiskID{1} }, ErrInvalid},
		"shard on no disk":       {func(v *Volume) { *v = coded(8, 700, 1000); v.Coding.Committed.Homes[1] = 4 }, ErrUnknown},
		"an epoch of the future": {func(v *Volume) { *v = coded(8, 700, 1000); v.Coding.Epoch = 3 }, ErrInvalid},
		"a run": {func(v *Volume) {
			*v = coded(8, 700, 1000)
			v.Replicas, v.InSync, v.Coding.Released, v.Coding.Committed = []DiskID{1}, []DiskID{1}, 0, nil
			v.Coding.Run = &lifecycle.Run{Epoch: 5, Encoder: 1, Data: 1, Parity: 1, Source: v.Coding.Source, Homes: []lifecycle.Disk{1, 2}}
		}, ErrInvalid},
	} {
		v := restored(8, 600, 6000)
		c.spoil(&v)
		if _, err := r.do(opRestoreVolume, &restoreVolume{20_100, v}); err == nil {
			t.Errorf("%s: was restored", name)
		} else {
			r.refused(opRestoreVolume, &restoreVolume{20_100, v}, c.want)
		}
	}
	if after := dump(t, r.db); string(before) != string(after) {
		t.Error("a refusal changed rows")
	}
}

// TestRestoreEndsLeases: a window that is over and covers the tile is never renewed.
func TestRestoreEndsLeases(t *testing.T) {
	r := empty(t)
	g := r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: Originals, disk: 1, now: 1000, length: 1000}).(granted)
	r.must(opRestoreVolume, &restoreVolume{2000, restored(1, g.slot, 500)}) // before it: nobody minds
	r.must(opRenew, &renew{g.slot, 9, g.w.From, 1000, 1000, 1000})
	r.must(opRestoreVolume, &restoreVolume{2000, restored(2, g.slot, 1500)})
	r.refused(opRenew, &renew{g.slot, 9, g.w.From, 1000, 1000, 5000}, id.ErrLeaseLost)
	if w := r.m.next.Window(g.slot); w.To != g.w.To || !w.Released {
		t.Errorf("%+v", w)
	}
	r.must(opRestoreVolume, &restoreVolume{2000, restored(3, g.slot, 9000)})
	if w := r.m.next.Window(g.slot); w.To != 9100 {
		t.Errorf("%+v", w)
	}
	r.reload()
}
