package directory

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/volume/coding/lifecycle"
)

// shardsOf are digests of the shards of an epoch.
func shardsOf(epoch uint32, n int) (out []lifecycle.Digest) {
	for i := range n {
		out = append(out, lifecycle.Digest{byte(epoch), byte(i)})
	}
	return out
}

// randomCoding returns a command of coding that is often obeyed.
func randomCoding(r *rand.Rand, m *Map, op uint8, now id.Millis) []byte {
	n := VolumeID(1 + r.IntN(int(m.lastVolume)+1))
	for _, v := range m.Volumes() { // rather one that is sealed, and where the command has something to do
		c := v.Coding
		ready := map[uint8]bool{
			opBeginCoding: !c.Busy() && v.Compaction == nil && len(v.Replicas) > 0, opCommitCoding: c.Run != nil, opAbortCoding: c.Run != nil,
			opRevokeCoding: c.State() == lifecycle.Coded, opReleaseSource: c.State() == lifecycle.Coded, opMoveShard: c.Committed != nil, opKeepCoded: c.Committed != nil,
		}[op]
		if v.Seal != nil && ready && r.IntN(3) > 0 {
			n = v.ID
		}
	}
	v, _ := m.Volume(n)
	row := v.Coding
	epoch, encoder, shards := row.Epoch, uint64(1+r.IntN(3)), 3
	if c := row.Committed; c != nil && op >= opRevokeCoding {
		epoch, encoder, shards = c.Epoch, c.Encoder, len(c.Homes)
	} else if row.Run != nil {
		encoder, shards = row.Run.Encoder, len(row.Run.Homes)
	}
	if r.IntN(8) == 0 {
		epoch, encoder = uint32(r.IntN(4)), uint64(r.IntN(4))
	}
	switch op {
	case opBeginCoding:
		run := lifecycle.Run{Epoch: epoch + 1, Encoder: encoder, Data: 1 + r.IntN(2), Parity: 1 + r.IntN(2), Source: row.Source, IndexBytes: int64(r.IntN(9))}
		for i := range run.Data + run.Parity {
			run.Homes = append(run.Homes, lifecycle.Disk(1+(i+r.IntN(2))%5))
		}
		return encodeCommand(op, &beginCoding{n, run})
	case opCommitCoding:
		return asTermOf(r, v, op, &commitCoding{n, epoch, encoder, shardsOf(epoch, shards), now})
	case opAbortCoding:
		return encodeCommand(op, &abortCoding{n, epoch, encoder})
	case opRevokeCoding:
		return asTermOf(r, v, op, &revokeCoding{n, epoch})
	case opReleaseSource:
		return asTermOf(r, v, op, &releaseSource{n, epoch, shardsOf(epoch, shards), now, id.Millis(r.IntN(2000))})
	case opKeepCoded:
		return encodeCommand(op, &keepCoded{n, DiskID(1 + r.IntN(6)), v.Term - uint32(r.IntN(8)/7)})
	}
	i := r.IntN(shards)
	return asTermOf(r, v, op, &moveShard{n, epoch, uint8(i), DiskID(1 + r.IntN(6)), shardsOf(epoch, shards)[i]})
}

// asTermOf encodes a command as the keeper of a volume gives it, or one of before, or
// as there is none.
func asTermOf(r *rand.Rand, v Volume, op uint8, c ofKeeper) []byte {
	term := v.Term
	if r.IntN(6) == 0 {
		term = uint32(r.IntN(3))
	}
	if term == 0 {
		return encodeCommand(op, c)
	}
	return encodeCommand(opAsKeeper, &asKeeper{term, op, c})
}

var (
	firstSeal  = Seal{Digest: [32]byte{1}, Needles: 5, Bytes: 100, DataBytes: 90, Sealed: 1300}
	secondSeal = Seal{Digest: [32]byte{2}, Needles: 4, Bytes: 80, DataBytes: 70, Sealed: 5000, Deletes: 4}
)

// codable is a sealed volume on disk 1 of four.
func codable(t *testing.T) (*runner, Volume) {
	r := newRunner(t)
	v := sealable(r)
	for i := range byte(3) {
		r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{2 + i}})
	}
	return r, r.must(opSealVolume, &sealVolume{v.ID, 1, 1, firstSeal}).(Volume)
}

// twice applies a command and its repetition, which changes nothing, and reads
// the rows again.
func (r *runner) twice(op uint8, c command) Volume {
	r.t.Helper()
	v := r.must(op, c).(Volume)
	version := r.m.next.version
	if again := r.must(op, c); !reflect.DeepEqual(again, v) || r.m.next.version != version {
		r.t.Errorf("operation %d repeated: %+v, want %+v", op, again, v)
	}
	r.reload()
	if got, _ := r.m.next.Volume(v.ID); !reflect.DeepEqual(got, v) {
		r.t.Errorf("after operation %d: %+v came back as %+v", op, v, got)
	}
	return v
}

func runOf(v Volume, epoch uint32, encoder uint64) lifecycle.Run {
	return lifecycle.Run{Epoch: epoch, Encoder: encoder, Data: 2, Parity: 1, Source: v.Coding.Source, IndexBytes: 33, Homes: []lifecycle.Disk{1, 2, 3}}
}

// TestCoding walks a volume through two epochs, and a generation out of shards.
func TestCoding(t *testing.T) {
	r, v := codable(t)
	if want := (lifecycle.Row{Source: lifecycle.Source{Generation: 1, Digest: lifecycle.Digest{1}, Bytes: 100}}); v.Coding != want {
		t.Fatalf("sealed: %+v", v.Coding)
	}
	n, one := v.ID, shardsOf(1, 3)
	v = r.twice(opBeginCoding, &beginCoding{n, runOf(v, 1, 7)})
	if v.Coding.State() != lifecycle.Coding || !v.On(1) || v.Coding.Run.IndexBytes != 33 {
		t.Fatalf("%+v", v)
	}
	r.refused(opBeginCompaction, &beginCompaction{n, 1, firstSeal.Digest, 4, [32]byte{7}, 9, 1400}, ErrStale)
	r.refused(opBeginCompaction, &beginCompaction{n, 1, firstSeal.Digest, 4, [32]byte{7}, 9, 1400}, lifecycle.ErrRefused)
	r.twice(opAbortCoding, &abortCoding{n, 1, 7})
	r.refused(opCommitCoding, &commitCoding{n, 1, 7, one, 2000}, ErrStale)
	r.refused(opBeginCoding, &beginCoding{n, runOf(v, 1, 7)}, ErrStale)

	// An epoch that is revoked in its grace.
	r.must(opBeginCoding, &beginCoding{n, runOf(v, 2, 7)})
	v = r.twice(opCommitCoding, &commitCoding{n, 2, 7, shardsOf(2, 3), 2000})
	if v.Coding.State() != lifecycle.Coded || !v.On(1) || !v.Coding.Committed.At.Equal(id.Millis(2000).Time()) {
		t.Fatalf("%+v", v)
	}
	r.refused(opBeginCompaction, &beginCompaction{n, 1, firstSeal.Digest, 4, [32]byte{7}, 9, 1400}, ErrStale)
	r.refused(opBeginCoding, &beginCoding{n, runOf(v, 3, 7)}, ErrStale)
	r.twice(opRevokeCoding, &revokeCoding{n, 2})

	// One that stays.
	r.must(opBeginCoding, &beginCoding{n, runOf(v, 3, 8)})
	r.must(opCommitCoding, &commitCoding{n, 3, 8, shardsOf(3, 3), 3000})
	r.refused(opReleaseSource, &releaseSource{n, 3, shardsOf(3, 3), 3499, 500}, ErrStale)
	r.refused(opReleaseSource, &releaseSource{n, 3, shardsOf(2, 3), 4000, 500}, ErrStale)
	v = r.twice(opReleaseSource, &releaseSource{n, 3, shardsOf(3, 3), 3500, 500})
	if v.Coding.State() != lifecycle.Released || len(v.Replicas) != 0 || v.State != StateSealed || v.Generation != 1 {
		t.Fatalf("%+v", v)
	}
	if got, ok := r.m.next.Locate(id.Make(v.From, v.Slot, 0)); !ok || got.ID != n {
		t.Errorf("its ids are located at %+v", got)
	}
	r.refused(opRevokeCoding, &revokeCoding{n, 3}, ErrStale)
	v = r.twice(opMoveShard, &moveShard{n, 3, 2, 4, shardsOf(3, 3)[2]})
	if v.Coding.Committed.Homes[2] != 4 {
		t.Fatalf("%+v", v.Coding.Committed)
	}
	if again := r.twice(opSealVolume, &sealVolume{n, 1, 1, firstSeal}); !reflect.DeepEqual(again, v) {
		t.Errorf("a late seal: %+v", again)
	}

	// Out of the shards, on a disk that never had the volume.
	r.must(opBeginCompaction, &beginCompaction{n, 1, firstSeal.Digest, 4, [32]byte{7}, 9, 4000})
	r.refused(opCommitCompaction, &commitCompaction{n, 2, 9, secondSeal}, ErrUnknown)
	v = r.twice(opCommitCompaction, &commitCompaction{n, 2, 4, secondSeal})
	if v.Generation != 2 || !reflect.DeepEqual(v.Replicas, []DiskID{4}) || v.Coding.State() != lifecycle.Sealed || !v.Coding.Readable(3) {
		t.Fatalf("%+v", v)
	}
	// Disk 4 is lost: another generation, of the same needles, on another one.
	r.must(opBeginCompaction, &beginCompaction{n, 2, secondSeal.Digest, 4, [32]byte{7}, 9, 4100})
	v = r.twice(opCommitCompaction, &commitCompaction{n, 3, 2, secondSeal})
	if v.Generation != 3 || !reflect.DeepEqual(v.Replicas, []DiskID{2}) || v.Coding.Source.Generation != 3 {
		t.Fatalf("%+v", v)
	}
	// The epoch before serves until the new one's source is released.
	r.must(opBeginCoding, &beginCoding{n, runOf(v, 4, 9)})
	v = r.twice(opCommitCoding, &commitCoding{n, 4, 9, shardsOf(4, 3), 6000})
	if v.Coding.Before.Epoch != 3 || v.Coding.Before.Homes[2] != 4 || v.Coding.Before.Source.Generation != 1 {
		t.Fatalf("%+v", v.Coding.Before)
	}
	v = r.twice(opReleaseSource, &releaseSource{n, 4, shardsOf(4, 3), 6000, 0})
	if v.Coding.Before != nil || len(v.Replicas) != 0 || v.Coding.Released != 3 {
		t.Fatalf("%+v", v)
	}
}

func TestCodingRefusals(t *testing.T) {
	r, v := codable(t)
	n := v.ID
	run := func(change func(*lifecycle.Run)) *beginCoding {
		run := runOf(v, 1, 7)
		change(&run)
		return &beginCoding{n, run}
	}
	check := func(op uint8, c command, want error) {
		t.Helper()
		before := dump(t, r.db)
		r.refused(op, c, want)
		if after := dump(t, r.db); string(before) != string(after) {
			t.Errorf("operation %d, %+v: a refusal changed rows", op, c)
		}
	}
	check(opBeginCoding, run(func(r *lifecycle.Run) { r.Homes[1] = 5 }), ErrUnknown)
	check(opBeginCoding, run(func(r *lifecycle.Run) { r.Homes[1] = 1 }), ErrInvalid) // more than may be lost on one disk
	check(opBeginCoding, run(func(r *lifecycle.Run) { r.Encoder = 0 }), ErrInvalid)
	check(opBeginCoding, run(func(r *lifecycle.Run) { r.Data = 0 }), ErrInvalid)
	check(opBeginCoding, run(func(r *lifecycle.Run) { r.Parity = 9 }), ErrInvalid)
	check(opBeginCoding, run(func(r *lifecycle.Run) { r.IndexBytes = -1 }), ErrInvalid)
	check(opBeginCoding, run(func(r *lifecycle.Run) { r.Epoch = 2 }), ErrStale)
	check(opBeginCoding, run(func(r *lifecycle.Run) { r.Source.Digest[0]++ }), ErrStale)
	check(opBeginCoding, run(func(r *lifecycle.Run) { r.Source.Bytes++ }), ErrStale)
	for _, id := range []VolumeID{0, 9} {
		check(opBeginCoding, &beginCoding{id, runOf(v, 1, 7)}, ErrUnknown)
		check(opCommitCoding, &commitCoding{id, 1, 7, shardsOf(1, 3), 1}, ErrUnknown)
		check(opAbortCoding, &abortCoding{id, 1, 7}, ErrUnknown)
		check(opRevokeCoding, &revokeCoding{id, 1}, ErrUnknown)
		check(opReleaseSource, &releaseSource{id, 1, shardsOf(1, 3), 1, 1}, ErrUnknown)
		check(opMoveShard, &moveShard{id, 1, 1, 2, lifecycle.Digest{}}, ErrUnknown)
	}
	check(opCommitCoding, &commitCoding{n, 1, 7, shardsOf(1, 3), 1}, ErrStale)
	check(opRevokeCoding, &revokeCoding{n, 1}, ErrStale)
	check(opReleaseSource, &releaseSource{n, 1, shardsOf(1, 3), 1, 1}, ErrStale)
	check(opMoveShard, &moveShard{n, 1, 1, 2, lifecycle.Digest{}}, ErrStale)
	if _, err := r.do(opRevokeCoding, &revokeCoding{n, 1}); !errors.Is(err, lifecycle.ErrRefused) {
		t.Errorf("%v does not say who refused", err)
	}

	r.must(opBeginCoding, &beginCoding{n, runOf(v, 1, 7)})
	check(opCommitCoding, &commitCoding{n, 1, 7, shardsOf(1, 2), 1}, ErrInvalid)
	check(opCommitCoding, &commitCoding{n, 1, 8, shardsOf(1, 3), 1}, ErrStale)
	r.must(opCommitCoding, &commitCoding{n, 1, 7, shardsOf(1, 3), 1})
	check(opCommitCoding, &commitCoding{n, 1, 7, shardsOf(2, 3), 1}, ErrStale)
	check(opAbortCoding, &abortCoding{n, 1, 7}, ErrStale)
	check(opMoveShard, &moveShard{n, 1, 1, 9, shardsOf(1, 3)[1]}, ErrUnknown)
	check(opMoveShard, &moveShard{n, 1, 1, 4, shardsOf(1, 3)[2]}, ErrStale)
	check(opMoveShard, &moveShard{n, 1, 3, 4, shardsOf(1, 4)[3]}, ErrInvalid)
	check(opMoveShard, &moveShard{n, 1, 1, 1, shardsOf(1, 3)[1]}, ErrInvalid)
}

// A volume that is not sealed, or of a later version, is not coded.
func TestCodingOfOthers(t *testing.T) {
	r := newRunner(t)
	v := sealable(r)
	for i := range byte(2) {
		r.must(opRegisterDisk, &registerDisk{node: 1, uuid: [16]byte{2 + i}})
	}
	source := lifecycle.Source{Generation: 1, Digest: lifecycle.Digest{1}, Bytes: 100}
	begin := &beginCoding{v.ID, lifecycle.Run{Epoch: 1, Encoder: 7, Data: 2, Parity: 1, Source: source, Homes: []lifecycle.Disk{1, 2, 3}}}
	r.refused(opBeginCoding, begin, ErrStale)
	begin.run.Source.Generation = 0
	r.refused(opBeginCoding, begin, ErrStale)
	v.State = 77
	if err := r.db.Set(keyVol(v.ID), v.value(), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	r.m = newMachine()
	if err := r.m.Restored(r.db); err != nil {
		t.Fatal(err)
	}
	r.refused(opBeginCoding, begin, ErrInvalid)
	r.refused(opAbortCoding, &abortCoding{v.ID, 1, 7}, ErrInvalid)
}

// A volume that was never coded goes on where its one replica is.
func TestCompactionStaysOnItsDisk(t *testing.T) {
	r, v := codable(t)
	r.must(opBeginCompaction, &beginCompaction{v.ID, 1, firstSeal.Digest, 4, [32]byte{7}, 9, 4000})
	r.refused(opBeginCoding, &beginCoding{v.ID, runOf(v, 1, 9)}, ErrStale)
	r.refused(opBeginCoding, &beginCoding{v.ID, runOf(v, 1, 9)}, lifecycle.ErrRefused)
	r.refused(opCommitCompaction, &commitCompaction{v.ID, 2, 2, secondSeal}, ErrInvalid)
	if v := r.twice(opCommitCompaction, &commitCompaction{v.ID, 2, 1, secondSeal}); !v.On(1) || v.Coding.Source.Generation != 2 {
		t.Fatalf("%+v", v)
	}
}

// Volume rows of version 3 end before the coding: what the seal says is the source.
func TestVolumeRowsOfVersion3(t *testing.T) {
	r, v := codable(t)
	b := v.value()
	b[0] = 3
	b = b[:len(b)-(4+4+1+1+1)-(4+1+1+4)-(4+4)]
	head := r.m.next.metaValue()
	head[0] = 1 // without the number of rows
	for key, value := range map[string][]byte{string(keyVol(v.ID)): b, string(keyMeta()): head[:len(head)-4]} {
		if err := r.db.Set([]byte(key), value, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	r.reload()
	if got, _ := r.m.next.Volume(v.ID); !reflect.DeepEqual(got, v) {
		t.Fatalf("%+v, want %+v", got, v)
	}
	r.twice(opBeginCoding, &beginCoding{v.ID, runOf(v, 1, 7)})
}

// TestDamagedCoding reads rows that no command makes.
func TestDamagedCoding(t *testing.T) {
	r, v := codable(t)
	r.must(opBeginCoding, &beginCoding{v.ID, runOf(v, 1, 7)})
	coded := r.must(opCommitCoding, &commitCoding{v.ID, 1, 7, shardsOf(1, 3), 2000}).(Volume)
	for name, spoil := range map[string]func(*Volume){
		"an epoch above the last":      func(v *Volume) { v.Coding.Epoch = 0 },
		"a compaction beside it":       func(v *Volume) { v.Compaction = &Compaction{Generation: 1} },
		"a replica of what is not":     func(v *Volume) { v.Coding.Released = 1 },
		"coding of an unsealed volume": func(v *Volume) { v.State, v.Seal = StateClosing, nil },
	} {
		v := coded
		spoil(&v)
		if err := r.db.Set(keyVol(v.ID), v.value(), pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		if err := newMachine().Restored(r.db); err == nil {
			t.Errorf("%s: was read", name)
		}
	}
}

// TestCodingCalls goes through the group: the calls carry all that the commands
// need, and refuse what has no place in one.
func TestCodingCalls(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	c := clock.NewFake(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
	d := mustOpen(t, dir, c)
	node := must(d.RegisterNode(ctx, NodeSpec{Name: "a"}))(t)
	for i := range byte(4) {
		must(d.RegisterDisk(ctx, DiskSpec{Node: node.ID, UUID: [16]byte{1 + i}}))(t)
	}
	l := must(d.AcquireSlot(ctx, AcquireRequest{Node: node.ID, Incarnation: 5, Kind: Originals, Disk: 1}))(t)
	v := must(d.OpenVolume(ctx, l, []DiskID{1}, 1, l.From))(t)
	must(d.ConfirmVolume(ctx, v.ID, 1, 5))(t)
	if err := d.CloseTile(ctx, l, l.From+1); err != nil {
		t.Fatal(err)
	}
	v = must(d.SealVolume(ctx, v.ID, 1, []DiskID{1}, firstSeal))(t)
	run, shards := runOf(v, 1, 7), shardsOf(1, 3)
	long := run
	long.Homes = append(long.Homes, 4)
	many := run
	many.Data, many.Homes = 300, make([]lifecycle.Disk, 301)
	for _, r := range []lifecycle.Run{long, many} {
		if _, err := d.BeginCoding(ctx, v.ID, r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d homes: %v", len(r.Homes), err)
		}
	}
	must(d.BeginCoding(ctx, v.ID, run))(t)
	must(d.AbortCoding(ctx, v.ID, 1, 7))(t)
	run.Epoch = 2
	must(d.BeginCoding(ctx, v.ID, run))(t)
	if _, err := d.CommitCoding(ctx, v.ID, 2, 7, make([]lifecycle.Digest, 300), 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("300 digests: %v", err)
	}
	must(d.CommitCoding(ctx, v.ID, 2, 7, shards, 0))(t)
	must(d.RevokeCoding(ctx, v.ID, 2, 0))(t)
	run.Epoch = 3
	must(d.BeginCoding(ctx, v.ID, run))(t)
	v = must(d.CommitCoding(ctx, v.ID, 3, 7, shards, 0))(t)
	if !v.Coding.Committed.At.Equal(c.Now()) {
		t.Errorf("committed at %v, want %v", v.Coding.Committed.At, c.Now())
	}
	if _, err := d.MoveShard(ctx, v.ID, 3, -1, 4, shards[0], 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("shard -1: %v", err)
	}
	must(d.MoveShard(ctx, v.ID, 3, 0, 4, shards[0], 0))(t)
	must(d.KeepCoded(ctx, v.ID, 2, 0))(t)
	const grace = time.Hour + time.Microsecond
	c.Advance(time.Hour)
	if _, err := d.ReleaseSource(ctx, v.ID, 3, shards, grace, 1); !errors.Is(err, ErrStale) {
		t.Errorf("released a microsecond too early: %v", err)
	}
	if _, err := d.ReleaseSource(ctx, v.ID, 3, make([]lifecycle.Digest, 300), grace, 1); !errors.Is(err, ErrInvalid) {
		t.Errorf("300 digests: %v", err)
	}
	if _, err := d.ReleaseSource(ctx, v.ID, 3, shards, 1<<63-1, 1); !errors.Is(err, ErrStale) {
		t.Errorf("an endless grace: %v", err)
	}
	c.Advance(time.Millisecond)
	v = must(d.ReleaseSource(ctx, v.ID, 3, shards, grace, 1))(t)
	mustClose(t, d)
	d = mustOpen(t, dir, c)
	if got, _ := d.Map().Volume(v.ID); !reflect.DeepEqual(got, v) || len(got.Replicas) != 0 || got.Coding.Committed.Homes[0] != 4 {
		t.Errorf("%+v came back as %+v", v, got)
	}
	mustClose(t, d)

	// A directory that knows nothing but the disks is told again.
	other := mustOpen(t, t.TempDir(), c)
	defer mustClose(t, other)
	must(other.RegisterNode(ctx, NodeSpec{Name: "a"}))(t)
	for i := range byte(4) {
		must(other.RegisterDisk(ctx, DiskSpec{Node: 1, UUID: [16]byte{1 + i}}))(t)
	}
	v.Keeper, v.Term = 0, 0 // no disk tells; whoever serves it begins anew
	told := v
	told.Coding.Source = lifecycle.Source{} // the seal says it
	for range 2 {
		if got := must(other.RestoreVolume(ctx, told))(t); !reflect.DeepEqual(got, v) {
			t.Errorf("restored as %+v, want %+v", got, v)
		}
	}
	for name, spoil := range map[string]func(*Volume){
		"many replicas": func(v *Volume) { v.Replicas = make([]DiskID, 9) },
		"a run":         func(v *Volume) { v.Coding.Epoch, v.Coding.Run = 4, &lifecycle.Run{} },
		"long commit": func(v *Volume) {
			c := *v.Coding.Committed
			c.Run.Data, c.Run.Homes, c.Digests = 40, make([]lifecycle.Disk, 41), make([]lifecycle.Digest, 41)
			v.Coding.Committed = &c
		},
		"not sealed": func(v *Volume) { v.State, v.Seal = StateClosing, nil },
	} {
		v := v
		v.ID = 9
		spoil(&v)
		if _, err := other.RestoreVolume(ctx, v); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
