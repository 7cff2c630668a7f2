package directory

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

// runner drives a machine without a group.
type runner struct {
	t  testing.TB
	m  *machine
	db *pebble.DB
}

func newRunner(t testing.TB) *runner {
	t.Helper()
	db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem(), Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &runner{t: t, m: newMachine(), db: db}
	if err := r.m.Restored(db); err != nil {
		t.Fatal(err)
	}
	return r
}

type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

// apply runs commands in one batch, as a group does.
func (r *runner) apply(cmds ...[]byte) (values []any, errs []error) {
	r.t.Helper()
	b := r.db.NewIndexedBatch()
	for _, c := range cmds {
		before := b.Count()
		v, err := r.m.Apply(b, c)
		if err != nil && b.Count() != before {
			r.t.Fatalf("command %x was refused after it wrote: %v", c, err)
		}
		if a, ok := v.(answer); ok {
			v = a.value
		}
		values, errs = append(values, v), append(errs, err)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		r.t.Fatal(err)
	}
	r.m.Applied(r.db, 0)
	return values, errs
}

func (r *runner) do(op uint8, c command) (any, error) {
	r.t.Helper()
	v, errs := r.apply(encodeCommand(op, c))
	return v[0], errs[0]
}

func (r *runner) must(op uint8, c command) any {
	r.t.Helper()
	v, err := r.do(op, c)
	if err != nil {
		r.t.Fatalf("%T: %v", c, err)
	}
	return v
}

// dump returns every row.
func dump(t testing.TB, db *pebble.DB) []byte {
	t.Helper()
	var out bytes.Buffer
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		fmt.Fprintf(&out, "%x %x\n", it.Key(), it.Value())
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// sameTable compares two tables by what a reader can see.
func sameTable(a, b *Map) error {
	if a.Version() != b.Version() {
		return fmt.Errorf("versions %d and %d", a.Version(), b.Version())
	}
	if !reflect.DeepEqual(a.Nodes(), b.Nodes()) || !reflect.DeepEqual(a.Disks(), b.Disks()) {
		return errors.New("nodes or disks differ")
	}
	if !reflect.DeepEqual(a.Volumes(), b.Volumes()) {
		return fmt.Errorf("volumes differ: %v and %v", a.Volumes(), b.Volumes())
	}
	if !reflect.DeepEqual(a.Leases(), b.Leases()) {
		return errors.New("leases differ")
	}
	for s := range id.Slot(id.Slots) {
		x, y := a.Tiles(s), b.Tiles(s)
		if len(x) != len(y) || (len(x) > 0 && !reflect.DeepEqual(x, y)) {
			return fmt.Errorf("tiles of slot %d differ: %v and %v", s, x, y)
		}
	}
	if len(a.keys) != len(b.keys) {
		return errors.New("keys differ")
	}
	for purpose, keys := range a.keys {
		if !reflect.DeepEqual(keys, b.keys[purpose]) {
			return fmt.Errorf("keys %q differ", purpose)
		}
	}
	return nil
}

// randomCommand returns a command that is often obeyed and often not.
func randomCommand(r *rand.Rand, m *Map, now id.Millis) []byte {
	node := NodeID(1 + r.IntN(4))
	slots := []id.Slot{0, 1, 64, 65, 66, 544, 545}
	slot := slots[r.IntN(len(slots))]
	w := m.Window(slot)
	holder, leased := w.Holder, w.From
	if r.IntN(8) == 0 {
		holder, leased = uint64(1+r.IntN(9)), id.Millis(r.IntN(5000))
	}
	at := w.From
	if w.To > w.From {
		at += id.Millis(r.Uint64N(uint64(w.To-w.From) + 2))
	}
	op := uint8(1 + r.IntN(lastOp))
	if op == opAsKeeper {
		op = []uint8{opCommitCoding, opRevokeCoding, opReleaseSource, opMoveShard}[r.IntN(4)]
	}
	switch op {
	case opRestoreOld, opRestoreVolume:
		return randomRestore(r, m, now)
	case opBeginCoding, opCommitCoding, opAbortCoding, opRevokeCoding, opReleaseSource, opMoveShard, opKeepCoded:
		return randomCoding(r, m, op, now)
	case opConfirmVolume, opAbandonVolume:
		return randomBirth(r, m, op, now)
	case opCloseVolume, opSealVolume, opBeginCompaction, opCommitCompaction, opAbandonCompaction, opBeginSalvage:
		return randomLifecycle(r, m, op, now)
	case opLeaveSync, opJoinSync, opJoinSyncAs, opAddReplica, opRemoveReplica, opSetTarget, opSealReplicas, opCommitReplicas:
		return randomReplicas(r, m, op, now)
	case opOpenReplicated:
		disks := randomDisks(r, 1+r.IntN(3))
		return encodeCommand(op, &openReplicated{slot, holder, leased, disks, uint8(len(disks) + r.IntN(2)), at, now})
	case opStartNode:
		row, _ := m.Node(node)
		return encodeCommand(op, &startNode{node, row.Incarnation, uint64(r.IntN(3))})
	case opSetNodeState:
		return encodeCommand(op, &setNodeState{node, Duty(1 + r.IntN(21)/10)})
	case opSetDiskState:
		return encodeCommand(op, &setDiskState{DiskID(1 + r.IntN(5)), Duty(1 + r.IntN(21)/10)})
	case opNameNode:
		return encodeCommand(op, &nameNode{registerNode{fmt.Sprintf("n%d", r.IntN(4)), "", "r", "z", now}, fmt.Sprintf("a%d", r.IntN(2)), Roles(r.IntN(3))})
	case opRegisterNode:
		return encodeCommand(opRegisterNode, &registerNode{fmt.Sprintf("n%d", r.IntN(4)), fmt.Sprintf("h%d", r.IntN(2)), "", "z", now})
	case opRegisterDisk:
		return encodeCommand(opRegisterDisk, &registerDisk{node, [16]byte{byte(r.IntN(6))}, uint64(r.IntN(3)), now})
	case opAcquire:
		return encodeCommand(opAcquire, &acquire{node, uint64(1 + r.IntN(9)), uint16(r.IntN(2)), Kind(1 + r.IntN(3)), DiskID(r.IntN(5)), now, now + id.Millis(r.IntN(1000)), id.Millis(1 + r.IntN(3000))})
	case opRenew:
		return encodeCommand(opRenew, &renew{slot, holder, leased, now, now, 2000})
	case opSurrender:
		return encodeCommand(opSurrender, &surrender{slot, holder, leased, at})
	case opOpenVolume:
		return encodeCommand(opOpenVolume, &openVolume{slot, holder, leased, DiskID(1 + r.IntN(5)), at, now})
	case opCloseTile:
		if r.IntN(3) == 0 {
			holder = 0
		}
		return encodeCommand(opCloseTile, &closeTile{slot, holder, leased, at, now})
	}
	return encodeCommand(opAddKey, &addKey{fmt.Sprintf("p%d", r.IntN(3)), uint32(r.IntN(5)), [32]byte{byte(r.IntN(256))}, now})
}

// TestDeterminism applies the same commands to two machines, one of them in
// other batches and reopened in between: rows are byte for byte the same, and
// the table in memory is the one that the rows give.
func TestDeterminism(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d (repeat: put it in place of the clock's in TestDeterminism)", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	a, b := newRunner(t), newRunner(t)
	now := id.Millis(1_000_000)
	var pending [][]byte
	obeyed := map[byte]int{}
	for n := range 12000 {
		now += id.Millis(r.IntN(400))
		cmd := randomCommand(r, a.m.next, now)
		if _, errs := a.apply(cmd); errs[0] == nil {
			obeyed[cmd[1]]++
		}
		if err := invariants(a.m.next); err != nil {
			t.Fatalf("after command %d, %x: %v", n, cmd, err)
		}
		if pending = append(pending, cmd); r.IntN(20) == 0 {
			b.apply(pending...)
			pending = nil
		}
		if r.IntN(300) == 0 {
			b.m = newMachine()
			if err := b.m.Restored(b.db); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.apply(pending...)
	if x, y := dump(t, a.db), dump(t, b.db); !bytes.Equal(x, y) {
		t.Fatalf("the rows differ:\n%s\n%s", x, y)
	}
	fresh := newMachine()
	if err := fresh.Restored(a.db); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*machine{b.m, fresh} {
		if err := sameTable(a.m.current.Load(), m.current.Load()); err != nil {
			t.Fatal(err)
		}
	}
	for op := byte(1); op <= lastOp; op++ {
		if obeyed[op] < 5 {
			t.Errorf("operation %d was obeyed %d times only", op, obeyed[op])
		}
	}
	t.Logf("obeyed %v; %d volumes", obeyed, len(fresh.next.Volumes()))
}

// invariants checks what must hold in every table.
func invariants(m *Map) error {
	tiles := map[VolumeID]int{}
	for s := range id.Slot(id.Slots) {
		ts := m.Tiles(s)
		for i, tile := range ts {
			tiles[tile.Volume]++
			v, ok := m.Volume(tile.Volume)
			switch {
			case !ok:
				return fmt.Errorf("tile %+v has no volume", tile)
			case v.Class != KindOf(s).Class():
				return fmt.Errorf("tile %+v has volume %+v of another class", tile, v)
			case tile.To != 0 && tile.To <= tile.From:
				return fmt.Errorf("empty tile %+v", tile)
			case tile.To == 0 && i != len(ts)-1:
				return fmt.Errorf("open tile %+v is not the last", tile)
			case i > 0 && (ts[i-1].To == 0 || ts[i-1].To > tile.From):
				return fmt.Errorf("tiles %+v and %+v overlap", ts[i-1], tile)
			case (tile.To == 0) != (v.State == StateOpen), tile.Slot != v.Slot, tile.From != v.From, tile.To != v.To:
				return fmt.Errorf("tile %+v, volume %+v", tile, v)
			}
		}
		if w := m.Window(s); w.Node != 0 && w.To < w.From {
			return fmt.Errorf("window %+v", w)
		}
	}
	for v, n := range tiles {
		if n != 1 {
			return fmt.Errorf("volume %d has %d tiles", v, n)
		}
	}
	return lifecycleInvariants(m)
}

func TestRefusals(t *testing.T) {
	r := newRunner(t)
	r.must(opRegisterNode, &registerNode{name: "a", now: 1})
	r.must(opRegisterNode, &registerNode{name: "b", now: 1})
	r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{1}, capacity: 5, now: 1})
	r.must(opRegisterDisk, &registerDisk{node: 2, uuid: [16]byte{2}, capacity: 5, now: 1})
	g := r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: Variants, now: 1000, length: 1000}).(granted)
	ids := r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: IDs, now: 1000, length: 1000}).(granted)
	before := dump(t, r.db)
	for _, c := range []struct {
		name string
		op   uint8
		cmd  command
		want error
	}{
		{"node without a name", opRegisterNode, &registerNode{}, ErrInvalid},
		{"disk of no node", opRegisterDisk, &registerDisk{node: 3}, ErrUnknown},
		{"acquire for no node", opAcquire, &acquire{node: 3, incarnation: 1, kind: IDs, length: 1}, ErrUnknown},
		{"acquire without incarnation", opAcquire, &acquire{node: 1, kind: IDs, length: 1}, ErrInvalid},
		{"acquire of no kind", opAcquire, &acquire{node: 1, incarnation: 1, kind: 9, length: 1}, ErrInvalid},
		{"renewal by another", opRenew, &renew{g.slot, 8, g.w.From, 1, 1, 1}, id.ErrLeaseLost},
		{"renewal of another window", opRenew, &renew{g.slot, 9, g.w.From + 1, 1, 1, 1}, id.ErrLeaseLost},
		{"surrender by another", opSurrender, &surrender{g.slot, 8, g.w.From, g.w.From}, id.ErrLeaseLost},
		{"volume by another", opOpenVolume, &openVolume{g.slot, 8, g.w.From, 1, g.w.From, 1}, id.ErrLeaseLost},
		{"volume on no disk", opOpenVolume, &openVolume{g.slot, 9, g.w.From, 7, g.w.From, 1}, ErrUnknown},
		{"volume on another node's disk", opOpenVolume, &openVolume{g.slot, 9, g.w.From, 2, g.w.From, 1}, ErrInvalid},
		{"volume on a slot for ids", opOpenVolume, &openVolume{ids.slot, 9, ids.w.From, 1, ids.w.From, 1}, ErrInvalid},
		{"volume before the window", opOpenVolume, &openVolume{g.slot, 9, g.w.From, 1, g.w.From - 1, 1}, ErrInvalid},
		{"volume behind the window", opOpenVolume, &openVolume{g.slot, 9, g.w.From, 1, g.w.To + 1, 1}, ErrInvalid},
		{"close by another", opCloseTile, &closeTile{g.slot, 8, g.w.From, g.w.From, 1}, id.ErrLeaseLost},
		{"close a silent holder's tile too early", opCloseTile, &closeTile{slot: g.slot, now: g.w.To - 1}, ErrInvalid},
		{"key without a purpose", opAddKey, &addKey{version: 1}, ErrInvalid},
		{"key out of turn", opAddKey, &addKey{purpose: "p", version: 2}, ErrInvalid},
	} {
		if _, err := r.do(c.op, c.cmd); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if after := dump(t, r.db); !bytes.Equal(before, after) {
		t.Error("a refusal changed rows")
	}
	for _, cmd := range [][]byte{{2, 1}, {1, lastOp + 1}, {1, 0}} {
		if _, errs := r.apply(cmd); !errors.Is(errs[0], raftgroup.ErrUnsupported) {
			t.Errorf("command %x: %v", cmd, errs[0])
		}
	}
}

// TestUnknownStateIsKept writes a volume row as a later version might.
func TestUnknownStateIsKept(t *testing.T) {
	r := newRunner(t)
	r.must(opRegisterNode, &registerNode{name: "a"})
	r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{1}})
	g := r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: Originals, now: 1000, length: 1000}).(granted)
	v := r.must(opOpenVolume, &openVolume{g.slot, 9, g.w.From, 1, g.w.From, 1}).(Volume)
	v.State = 77
	if err := r.db.Set(keyVol(v.ID), v.value(), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	r.m = newMachine()
	if err := r.m.Restored(r.db); err != nil {
		t.Fatal(err)
	}
	r.must(opCloseTile, &closeTile{g.slot, 9, g.w.From, g.w.From + 5, 1})
	r.m = newMachine()
	if err := r.m.Restored(r.db); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.m.next.Volume(v.ID); got.State != 77 {
		t.Fatalf("the state is %d", got.State)
	}
}

func TestDamagedRows(t *testing.T) {
	build := func(t *testing.T) *runner {
		r := newRunner(t)
		r.must(opRegisterNode, &registerNode{name: "a"})
		r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{1}})
		g := r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: Originals, now: 1000, length: 1000}).(granted)
		r.must(opOpenVolume, &openVolume{g.slot, 9, g.w.From, 1, g.w.From, 1})
		r.must(opAddKey, &addKey{purpose: "p", version: 1})
		return r
	}
	set := func(k, v []byte) func(*pebble.DB) error {
		return func(db *pebble.DB) error { return db.Set(k, v, pebble.NoSync) }
	}
	for name, c := range map[string]struct {
		damage func(*pebble.DB) error
		want   error
	}{
		"row of a later version":        {set(keyNode(1), []byte{nodeRowVersion + 1}), raftgroup.ErrUnsupported},
		"volume row of a later version": {set(keyVol(1), []byte{volumeRowVersion + 1}), raftgroup.ErrUnsupported},
		"head of a later version":       {set(keyMeta(), []byte{metaRowVersion + 1}), raftgroup.ErrUnsupported},
		"a volume behind the last":      {set(keyVol(2), Volume{}.value()), raftgroup.ErrCorrupt},
		"row of an unknown kind":        {set([]byte{0x16}, []byte{1}), raftgroup.ErrUnsupported},
		"empty row":                     {set(keyNode(1), nil), raftgroup.ErrUnsupported},
		"row cut short":                 {set(keyDisk(1), Disk{Node: 1, State: Active}.value()[:20]), raftgroup.ErrCorrupt},
		"row too long":                  {set(keyDisk(1), append(Disk{Node: 1, State: Active}.value(), 0)), raftgroup.ErrCorrupt},
		"key too long":                  {set(append(keyVol(1), 9), Volume{}.value()), raftgroup.ErrCorrupt},
		"slot out of range":             {set([]byte{0x14, 4, 0}, windowValue(id.Window{})), raftgroup.ErrCorrupt},
		"tile of no volume":             {set(keyTile(70, 5), Tile{Volume: 9}.value()), raftgroup.ErrCorrupt},
		"a volume is missing":           {func(db *pebble.DB) error { return db.Delete(keyVol(1), pebble.NoSync) }, raftgroup.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			r := build(t)
			if err := c.damage(r.db); err != nil {
				t.Fatal(err)
			}
			if err := newMachine().Restored(r.db); !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
		})
	}
}

// FuzzCommand feeds arbitrary bytes to a machine that holds some rows: it never
// panics, a refusal writes nothing, and what parses is encoded the same again.
func FuzzCommand(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	m := newMachine()
	for range 120 {
		f.Add(randomCommand(r, m.next, 1000))
	}
	f.Add([]byte{1, 3})
	f.Fuzz(func(t *testing.T, cmd []byte) {
		r := newRunner(t)
		r.must(opRegisterNode, &registerNode{name: "a"})
		r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{1}})
		r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: Variants, now: 1000, length: 1000})
		r.apply(cmd)
		if err := invariants(r.m.next); err != nil {
			t.Fatal(err)
		}
		if c, err := decodeCommand(cmd); err == nil {
			if again := encodeCommand(cmd[1], c); !bytes.Equal(again, cmd) {
				t.Fatalf("%x was encoded again as %x", cmd, again)
			}
		}
		if err := newMachine().Restored(r.db); err != nil {
			t.Fatal(err)
		}
	})
}

// TestEmptyTileOfAFormerHolder: a holder opened a volume at the very end of its
// window and crashed; the next one, on another disk, begins where that empty
// tile does. Its first fence must be good.
func TestEmptyTileOfAFormerHolder(t *testing.T) {
	r := newRunner(t)
	r.must(opRegisterNode, &registerNode{name: "a"})
	r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{1}})
	r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{2}})
	first := r.must(opAcquire, &acquire{node: 1, incarnation: 8, kind: Variants, disk: 1, now: 1000, length: 1000}).(granted)
	old := r.open(first, 1, first.w.To)
	// The others are taken, so the next holder gets this slot.
	lo, hi := Variants.Slots()
	for s := lo; s < hi; s++ {
		if s != first.slot {
			r.m.next.putWindow(s, id.Window{Node: 7, Holder: 1, From: 1, To: id.MaxMillis})
		}
	}
	second := r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: Variants, disk: 2, now: 1000, length: 1000}).(granted)
	if second.slot != first.slot || second.w.From != first.w.To {
		t.Fatalf("%+v after %+v", second, first)
	}
	v := r.open(second, 2, second.w.From)
	again := r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: Variants, disk: 1, now: 1000, length: 5000}).(granted)
	tile, ok := r.m.next.OpenTile(second.slot)
	if again.slot != second.slot || !ok || tile.Volume != v.ID || tile.From != second.w.From {
		t.Fatalf("a repeated request closed the tile: %+v, %v", tile, ok)
	}
	if got, _ := r.m.next.Volume(old.ID); got.State != StateClosing {
		t.Fatalf("the former volume is %d", got.State)
	}
}
