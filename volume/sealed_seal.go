package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hayloft/internal/vfs"
)

// onWriter hands fn to the writer goroutine and waits for its result. If ctx ends
// before the writer comes to it, fn does not run.
func (v *Volume) onWriter(ctx context.Context, fn func() error) error {
	return v.submit(ctx, &op{exec: fn, done: make(chan error, 1)})
}

// writeSuperblock makes sb, with the next sequence, what both copies say. A
// failure poisons the volume. Called on the writer goroutine.
func (v *Volume) writeSuperblock(sb superblock) error {
	sb.Sequence++
	b := encodeSuperblock(sb)
	for _, i := range []int64{1, 0} {
		_, err := v.file.WriteVAt([][]byte{b}, i*superblockSize)
		if err == nil {
			err = v.file.Sync()
		}
		if err != nil {
			v.setPoison(fmt.Errorf("superblock copy %d: %w", i, classify(err)))
			v.leaveMarker()
			return v.poisoned()
		}
	}
	v.sealing.head = sb
	return nil
}

// Seal ends the life of an open volume as a file that changes: it fences it,
// reads all of it from the device, and writes into its superblock what info
// says and the digest of its live needles. When it returns nil that is on
// stable storage. Reads and deletes go on all the time.
//
// It may be repeated, after a crash or an error too; sealing again with other
// info is ErrConflict. Damaged needles are reported as events and do not hinder
// sealing (compaction repairs them); gaps do, with ErrCorrupt, unless
// info.United. A poisoned volume is not sealed: Compact makes its next generation.
// The digest is of the file: the delete log has no part in it.
func (v *Volume) Seal(ctx context.Context, info SealInfo) (SealRecord, error) {
	if err := info.validate(); err != nil {
		return SealRecord{}, err
	}
	if v.isLog() {
		return SealRecord{}, fmt.Errorf("%w: a delete log", ErrInvalid)
	}
	if p := v.sealing.part.Load(); p != nil {
		return p.again(v, info)
	}
	begin := v.now()
	if err := v.Fence(ctx); err != nil {
		return SealRecord{}, err
	}
	if err := v.acquire(ctx); err != nil {
		return SealRecord{}, err
	}
	defer v.release()
	file, err := v.o.FS.Open(v.name)
	if err != nil {
		return SealRecord{}, fmt.Errorf("seal volume %d: %w", v.sb.Volume, err)
	}
	p, err := v.sealFrom(ctx, file, info)
	if err = errors.Join(err, file.Close()); p == nil {
		if q := v.sealing.part.Load(); q != nil && errors.Is(err, ErrSealed) {
			return q.again(v, info) // another call was faster
		}
		return SealRecord{}, fmt.Errorf("seal volume %d: %w", v.sb.Volume, err)
	}
	p.saveIndex(v)
	v.removeLeftovers()
	v.took(&v.steps.seal, begin)
	v.event(Event{Kind: EventSealed, Length: p.rec.End})
	return p.rec, nil
}

// again answers a Seal of a sealed volume.
func (p *sealedPart) again(v *Volume, info SealInfo) (SealRecord, error) {
	if !p.rec.equal(info) {
		return SealRecord{}, fmt.Errorf("%w: volume %d is sealed with another tile, replica set or policy", ErrConflict, v.sb.Volume)
	}
	return p.rec, v.poisoned()
}

// sealFrom reads the file through a descriptor of its own, nearly all of it
// while deletes go on.
func (v *Volume) sealFrom(ctx context.Context, file vfs.File, info SealInfo) (p *sealedPart, err error) {
	var in inventory
	if err := in.take(ctx, file, &v.seal, v.synced.Load(), true, info.Throttle); err != nil {
		return nil, err
	}
	err = v.onWriter(ctx, func() (err error) {
		p, err = v.sealNow(&in, file, info)
		return err
	})
	return p, err
}

// sealNow is steps 3 and 4 of docs/format.md, on the writer goroutine.
func (v *Volume) sealNow(in *inventory, file vfs.File, info SealInfo) (*sealedPart, error) {
	if err := v.poisoned(); err != nil {
		return nil, err
	}
	if v.sealing.part.Load() != nil {
		return nil, v.sealedError()
	}
	if err := v.trim(); err != nil {
		return nil, err
	}
	if err := in.take(context.Background(), file, &v.seal, v.writer.end, true, nil); err != nil {
		return nil, err
	}
	live := in.settle()
	for _, f := range damagedIn(live, in.gaps) {
		v.event(Event{Kind: EventRot, Offset: f.Offset, Length: f.Length, Key: f.Key, Err: f.Err})
	}
	if !info.United && (len(in.gaps) > 0 || len(v.damage.rot) > 0) {
		return nil, fmt.Errorf("%w: %d gaps may hide needles or deletes that other replicas hold", ErrCorrupt, max(len(in.gaps), len(v.damage.rot)))
	}
	info.United, info.Throttle = false, nil
	p := &sealedPart{rec: SealRecord{SealInfo: info, End: in.end, Needles: int64(len(live)), Digest: digestOf(live),
		Sealed: v.o.Clock.Now().Truncate(time.Millisecond).UTC()}}
	for i := range live {
		p.rec.DataBytes += int64(live[i].length)
	}
	var err error
	if p.idx, err = buildSealIndex(v.sealHead(&p.rec), live); err != nil {
		return nil, err
	}
	log := v.sealing.log.Load()
	if err := errors.Join(log.renew(), p.attach(log)); err != nil {
		return nil, errors.Join(err, log.unfollow(p))
	}
	sb := v.sealing.head
	sb.State, sb.Logged, sb.Seal = stateSealed, false, &p.rec
	if err := v.writeSuperblock(sb); err != nil {
		return nil, errors.Join(err, log.unfollow(p))
	}
	v.sealing.part.Store(p)
	v.idx.Store(new(index)) // who finds nothing in it looks for the part again
	v.out.close()           // nothing is flushed, and never again
	return p, nil
}

// trim leaves a mark and cuts the file at its last record, for good.
func (v *Volume) trim() error {
	w := &v.writer
	if w.unmarked {
		if err := w.mark(v); err != nil {
			v.poisonWith(err)
			return v.poisoned()
		}
	}
	if w.allocated > w.end {
		if err := v.file.Truncate(w.end); err != nil {
			return fmt.Errorf("give back preallocated space: %w", err)
		}
		w.allocated = w.end
	}
	if err := v.file.Sync(); err != nil {
		v.setPoison(fmt.Errorf("sync before sealing: %w", err))
		v.leaveMarker()
		return v.poisoned()
	}
	return nil
}
