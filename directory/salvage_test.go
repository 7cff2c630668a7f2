package directory

import (
	"reflect"
	"testing"
)

// A volume that can not be sealed where it lies is sealed by the commit of the
// generation that was salvaged from it.
func TestSalvageRows(t *testing.T) {
	r := newRunner(t)
	closing := sealable(r)
	begin := &beginSalvage{closing.ID, 1, 1, [32]byte{7}, 9, 1400}
	r.refused(opBeginSalvage, &beginSalvage{closing.ID, 1, 1, [32]byte{}, 9, 1400}, ErrInvalid)
	r.refused(opBeginSalvage, &beginSalvage{closing.ID, 1, 2, [32]byte{7}, 9, 1400}, ErrInvalid) // another disk
	r.refused(opBeginSalvage, &beginSalvage{closing.ID, 2, 1, [32]byte{7}, 9, 1400}, ErrInvalid)
	r.refused(opBeginSalvage, &beginSalvage{closing.ID, 0, 1, [32]byte{7}, 9, 1400}, ErrStale)
	r.refused(opBeginSalvage, &beginSalvage{77, 1, 1, [32]byte{7}, 9, 1400}, ErrUnknown)
	two := Seal{Digest: [32]byte{2}, Needles: 4, Bytes: 80, DataBytes: 70, Sealed: 1400}
	r.refused(opCommitCompaction, &commitCompaction{closing.ID, 1, 1, two}, ErrStale) // nothing was begun
	r.refused(opCommitCompaction, &commitCompaction{closing.ID, 2, 1, two}, ErrInvalid)
	v := r.must(opBeginSalvage, begin).(Volume)
	if want := (Compaction{2, [32]byte{7}, 1400, 0, 9}); v.State != StateClosing || v.Generation != 1 || v.Compaction == nil || *v.Compaction != want {
		t.Fatalf("%+v, %+v", v, v.Compaction)
	}
	if again := r.must(opBeginSalvage, &beginSalvage{closing.ID, 1, 1, [32]byte{8}, 10, 1500}); !reflect.DeepEqual(again, v) {
		t.Fatalf("whoever begins again goes on under the same numbers: %+v", again)
	}
	m := newMachine()
	if err := m.Restored(r.db); err != nil {
		t.Fatal(err)
	}
	if got, _ := m.next.Volume(v.ID); !reflect.DeepEqual(got, v) {
		t.Fatalf("%+v came back as %+v", v, got)
	}
	for range 2 {
		r.must(opAbandonCompaction, &abandonCompaction{v.ID, 2})
	}
	r.refused(opCommitCompaction, &commitCompaction{v.ID, 2, 1, two}, ErrStale)
	if v = r.must(opBeginSalvage, begin).(Volume); v.Compaction.Generation != 3 {
		t.Fatalf("the number of an abandoned one is given out again: %+v", v.Compaction)
	}
	r.refused(opCommitCompaction, &commitCompaction{v.ID, 3, 2, two}, ErrInvalid)
	wrong := two
	wrong.Deletes = 1
	r.refused(opCommitCompaction, &commitCompaction{v.ID, 3, 1, wrong}, ErrInvalid)
	for range 2 {
		v = r.must(opCommitCompaction, &commitCompaction{v.ID, 3, 1, two}).(Volume)
		if v.State != StateSealed || v.Generation != 3 || v.Compaction != nil || *v.Seal != two {
			t.Fatalf("%+v", v)
		}
	}
	r.refused(opBeginSalvage, begin, ErrStale)
	r.refused(opBeginSalvage, &beginSalvage{v.ID, 3, 1, [32]byte{7}, 9, 1400}, ErrInvalid) // it is sealed
	r.refused(opSealVolume, &sealVolume{v.ID, 1, 1, two}, ErrStale)
}

// A process that finds the file sound after all seals it where it lies, and the
// salvage that was begun is never committed.
func TestSealedInsteadOfSalvaged(t *testing.T) {
	r := newRunner(t)
	v := sealable(r)
	r.must(opBeginSalvage, &beginSalvage{v.ID, 1, 1, [32]byte{7}, 9, 1400})
	one := Seal{Digest: [32]byte{1}, Needles: 5, Bytes: 100}
	v = r.must(opSealVolume, &sealVolume{v.ID, 1, 1, one}).(Volume)
	if v.State != StateSealed || v.Generation != 1 || v.Compaction != nil || v.LastGeneration != 2 {
		t.Fatalf("%+v", v)
	}
	r.refused(opCommitCompaction, &commitCompaction{v.ID, 2, 1, Seal{Digest: [32]byte{2}}}, ErrStale)
	if v = r.must(opBeginCompaction, &beginCompaction{v.ID, 1, one.Digest, 0, [32]byte{7}, 9, 1400}).(Volume); v.Compaction.Generation != 3 {
		t.Fatalf("%+v", v.Compaction)
	}
}
