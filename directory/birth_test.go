package directory

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// open opens a volume for the holder of a slot and confirms it.
func (r *runner) open(g granted, disk DiskID, from id.Millis) Volume {
	r.t.Helper()
	v := r.must(opOpenVolume, &openVolume{g.slot, g.w.Holder, g.w.From, disk, from, 1}).(Volume)
	return r.must(opConfirmVolume, &confirmVolume{v.ID, v.Generation, g.w.Holder}).(Volume)
}

// randomBirth confirms or abandons, mostly what is not confirmed.
func randomBirth(r *rand.Rand, m *Map, op uint8, now id.Millis) []byte {
	n := VolumeID(1 + r.IntN(int(m.lastVolume)+1))
	for _, v := range m.Volumes() {
		if v.Unconfirmed && (op == opConfirmVolume || r.IntN(4) == 0) {
			n = v.ID
		}
	}
	if op == opAbandonVolume {
		return encodeCommand(op, &abandonVolume{n, now})
	}
	v, _ := m.Volume(n)
	holder := m.Window(v.Slot).Holder
	if r.IntN(8) == 0 {
		holder = uint64(r.IntN(9))
	}
	return encodeCommand(op, &confirmVolume{n, uint32(1 + r.IntN(9)/8), holder})
}

// delivery is a slot with a volume that nobody has confirmed.
func delivery(t *testing.T) (*runner, granted, Volume) {
	r := newRunner(t)
	r.must(opRegisterNode, &registerNode{name: "a"})
	r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{1}})
	r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{2}})
	g := r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: Originals, disk: 1, now: 1000, length: 1000}).(granted)
	v := r.must(opOpenVolume, &openVolume{g.slot, 9, g.w.From, 1, g.w.From, 1}).(Volume)
	if !v.Unconfirmed || v.State != StateOpen {
		t.Fatalf("%+v", v)
	}
	return r, g, v
}

// reload is what the rows give after a restart.
func (r *runner) reload() {
	r.t.Helper()
	before := r.m.next
	r.m = newMachine()
	if err := r.m.Restored(r.db); err != nil {
		r.t.Fatal(err)
	}
	if err := errors.Join(sameTable(before, r.m.next), invariants(r.m.next)); err != nil {
		r.t.Fatal(err)
	}
}

func TestConfirmVolume(t *testing.T) {
	r, g, v := delivery(t)
	r.reload()
	r.refused(opConfirmVolume, &confirmVolume{v.ID, 2, 9}, ErrInvalid)
	r.refused(opConfirmVolume, &confirmVolume{v.ID, 1, 8}, id.ErrLeaseLost)
	r.refused(opConfirmVolume, &confirmVolume{9, 1, 9}, ErrUnknown)
	r.refused(opSealVolume, &sealVolume{v.ID, 1, 1, Seal{}}, ErrInvalid)
	again := r.must(opOpenVolume, &openVolume{g.slot, 9, g.w.From, 1, g.w.From, 1})
	if !reflect.DeepEqual(again, v) {
		t.Fatalf("opened again: %+v", again)
	}
	got := r.must(opConfirmVolume, &confirmVolume{v.ID, 1, 9}).(Volume)
	v.Unconfirmed = false
	if !reflect.DeepEqual(got, v) {
		t.Fatalf("%+v, want %+v", got, v)
	}
	r.reload()
	version := r.m.next.version
	// From now on it is an ordinary volume.
	for _, c := range []struct {
		op  uint8
		cmd command
	}{{opConfirmVolume, &confirmVolume{v.ID, 1, 9}}, {opAbandonVolume, &abandonVolume{v.ID, 5}}} {
		if got := r.must(c.op, c.cmd); !reflect.DeepEqual(got, v) || r.m.next.version != version {
			t.Errorf("operation %d: %+v", c.op, got)
		}
	}
	r.refused(opConfirmVolume, &confirmVolume{v.ID, 2, 9}, ErrStale)
	r.must(opCloseTile, &closeTile{g.slot, 9, g.w.From, g.w.From + 5, 1200})
	if got, _ := r.m.next.Volume(v.ID); got.State != StateClosing {
		t.Errorf("%+v", got)
	}
}

// A holder that gave its slot back confirms nothing any more.
func TestConfirmAfterSurrender(t *testing.T) {
	r, g, v := delivery(t)
	r.must(opSurrender, &surrender{g.slot, 9, g.w.From, g.w.From + 5})
	r.refused(opConfirmVolume, &confirmVolume{v.ID, 1, 9}, id.ErrLeaseLost)
	next := r.must(opAcquire, &acquire{node: 1, incarnation: 10, kind: Originals, disk: 1, now: 3000, length: 1000}).(granted)
	if next.slot != g.slot {
		t.Fatalf("slot %d, want that of the open tile, %d", next.slot, g.slot)
	}
	r.refused(opConfirmVolume, &confirmVolume{v.ID, 1, 9}, id.ErrLeaseLost)
}

// Whatever ends the tile of a volume that nobody confirmed makes it void, leaves
// no tile, and lets nobody bring it back.
func TestVoid(t *testing.T) {
	for name, end := range map[string]func(*runner, granted, Volume){
		"abandoned": func(r *runner, _ granted, v Volume) { r.must(opAbandonVolume, &abandonVolume{v.ID, 1100}) },
		"its holder opens the next": func(r *runner, g granted, _ Volume) {
			r.must(opOpenVolume, &openVolume{g.slot, 9, g.w.From, 1, g.w.From + 7, 1100})
		},
		"its holder closes it": func(r *runner, g granted, _ Volume) {
			r.must(opCloseTile, &closeTile{g.slot, 9, g.w.From, g.w.From + 7, 1100})
		},
		"its holder is silent": func(r *runner, g granted, _ Volume) {
			r.must(opCloseTile, &closeTile{slot: g.slot, now: 9000})
		},
		"the next process closes it": func(r *runner, _ granted, v Volume) {
			c := &closeVolume{v.ID, 1, 10, 1100}
			if a, b := r.must(opCloseVolume, c), r.must(opCloseVolume, c); !reflect.DeepEqual(a, b) {
				r.t.Errorf("closed: %+v, closed again: %+v", a, b)
			}
		},
		"another disk takes the slot": func(r *runner, g granted, _ Volume) {
			lo, hi := Originals.Slots()
			for s := lo; s < hi; s++ { // no other is free
				if s != g.slot {
					r.m.next.putWindow(s, id.Window{Node: 7, Holder: 1, From: 1, To: id.MaxMillis})
					if err := r.db.Set(keyWindow(s), windowValue(r.m.next.Window(s)), pebble.NoSync); err != nil {
						r.t.Fatal(err)
					}
				}
			}
			r.must(opAcquire, &acquire{node: 1, incarnation: 10, kind: Originals, disk: 2, now: 1000, length: 1000})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, g, v := delivery(t)
			end(r, g, v)
			r.reload()
			got, _ := r.m.next.Volume(v.ID)
			if got.State != StateVoid || got.Unconfirmed || got.From != got.To || got.Closed == 0 {
				t.Fatalf("%+v", got)
			}
			if found, ok := r.m.next.Locate(id.Make(g.w.From, g.slot, 0)); ok {
				t.Errorf("its tile holds ids: %+v", found)
			}
			if again := r.must(opAbandonVolume, &abandonVolume{v.ID, 5000}); !reflect.DeepEqual(again, got) {
				t.Errorf("abandoned again: %+v", again)
			}
			r.refused(opConfirmVolume, &confirmVolume{v.ID, 1, 9}, ErrStale)
			r.refused(opSealVolume, &sealVolume{v.ID, 1, 1, Seal{}}, ErrStale)
			r.refused(opBeginCompaction, &beginCompaction{volume: v.ID, generation: 1}, ErrStale)
			r.refused(opCommitCompaction, &commitCompaction{v.ID, 2, 1, Seal{}}, ErrStale)
			r.refused(opAbandonCompaction, &abandonCompaction{v.ID, 2}, ErrStale)
			r.refused(opAbandonVolume, &abandonVolume{99, 1}, ErrUnknown)
			w := r.m.next.Window(g.slot)
			if w.Released {
				return
			}
			next := r.must(opOpenVolume, &openVolume{g.slot, w.Holder, w.From, 2, w.From + 50, 1}).(Volume)
			if next.ID <= v.ID {
				t.Errorf("number %d is given out again", next.ID)
			}
		})
	}
}

// Rows of version 2 end before the field; their volumes count as confirmed.
func TestVolumeRowsOfVersion2(t *testing.T) {
	r, g, v := delivery(t)
	b := v.value()
	b[0] = 2
	later := 4 + 4 + 1 + 1 + 1 + 4 + 1 + 1 + 4 + 4 + 4 // coding, replicas, keeper
	if err := r.db.Set(keyVol(v.ID), b[:len(b)-1-later], pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	m := newMachine()
	if err := m.Restored(r.db); err != nil {
		t.Fatal(err)
	}
	r.m = m
	v.Unconfirmed = false
	if got, _ := m.next.Volume(v.ID); !reflect.DeepEqual(got, v) {
		t.Fatalf("%+v, want %+v", got, v)
	}
	r.must(opCloseTile, &closeTile{g.slot, 9, g.w.From, g.w.From + 5, 1200})
	if got, _ := r.m.next.Volume(v.ID); got.State != StateClosing {
		t.Fatalf("%+v", got)
	}
	v.Unconfirmed, v.State = true, StateClosing
	if err := r.db.Set(keyVol(v.ID), v.value(), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	if err := newMachine().Restored(r.db); err == nil {
		t.Error("a closing volume that is not confirmed was read")
	}
}
