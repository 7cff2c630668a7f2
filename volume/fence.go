package volume

import (
	"context"
	"errors"
	"fmt"

	"hayloft/internal/id"
)

// A fenced volume takes nothing more from clients. Its replicas are made equal: what
// the file of one holds is filled into, or buried in, the others. Deletes go to the
// delete log, so that what is to be made equal does not change meanwhile.

// Fence refuses puts from now on, in later processes too; reads go on, and so do
// deletes, which go to the delete log. It returns when that is on stable storage.
// It may be repeated.
func (v *Volume) Fence(ctx context.Context) error {
	if v.deleteLog() != nil {
		return nil
	}
	err := v.onWriter(ctx, v.fence)
	if errors.Is(err, ErrSealed) {
		return nil
	}
	return err
}

// fence is Fence on the writer goroutine. A file that an earlier program has fenced
// gets its delete log.
func (v *Volume) fence() error {
	if v.sealing.log.Load() != nil {
		return nil
	}
	if err := v.poisoned(); err != nil {
		return err
	}
	log, err := openLogFor(v.dir, v.sb.Volume, v.o)
	if err != nil {
		return fmt.Errorf("fence volume %d: %w", v.sb.Volume, err)
	}
	sb := v.sealing.head
	sb.State, sb.Logged = stateFenced, true
	if err := v.writeSuperblock(sb); err != nil {
		return errors.Join(err, log.release())
	}
	v.sealing.log.Store(log)
	if !v.sealing.fenced.Swap(true) {
		v.event(Event{Kind: EventFenced, Offset: v.writer.end})
	}
	return nil
}

// Fill stores needles that another replica of a fenced volume holds; else it
// is Append. On a volume that is not fenced it does the same. A needle whose key
// has a tombstone in the file is left out, and one that is stored and damaged is
// stored once more. What the delete log says does not count.
func (v *Volume) Fill(ctx context.Context, group []Needle) error {
	o, err := newPut(group)
	if err != nil {
		return err
	}
	o.fill = true
	return v.submit(ctx, o)
}

// Bury puts tombstones into the file of a fenced volume that another replica's file
// has: from then on its needles of these keys are not in the set that is sealed. It
// returns when they are on stable storage. It may be repeated.
func (v *Volume) Bury(ctx context.Context, keys []id.ID) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	if !v.Fenced() {
		return v.notFenced()
	}
	if len(keys) == 0 {
		return nil
	}
	o := newDeletes(keys)
	o.fill = true
	return v.submit(ctx, o)
}

// addLog applies the delete log of a fenced volume to s.
func (v *Volume) addLog(s *Stats, log *deleteLog) {
	idx, l := v.idx.Load(), log.cur.Load().v
	l.idx.Load().each(func(key id.ID, _ uint8, _ place) bool {
		if _, _, buried := idx.get(key, 0); buried {
			return true
		}
		s.Tombstones++
		for e := range idx.last(key) {
			s.Needles--
			s.LiveBytes -= e.size
		}
		return true
	})
	of := l.Stats()
	s.IndexBytes += of.IndexBytes
	s.DeleteLogBytes = of.FileBytes
	s.Batches, s.Syncs, s.BatchBytes = s.Batches+of.Batches, s.Syncs+of.Syncs, s.BatchBytes+of.BatchBytes
	s.Rot, s.VoidBytes = s.Rot+of.Rot, s.VoidBytes+of.VoidBytes
	if s.Poisoned == nil {
		s.Poisoned = of.Poisoned
	}
}
