package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// verify opens every volume of the ledger, compares, and settles what was
// open. The error is one of the machine, not of the engine.
func (l *ledger) verify(ctx context.Context, dir string) error {
	for _, v := range slices.Sorted(maps.Keys(l.books)) {
		if err := l.verifyVolume(ctx, dir, v); err != nil {
			return err
		}
	}
	all, err := volume.List(nil, dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		if l.books[e.Volume] == nil {
			l.result.unexpected("volume %d is there and nobody made it", e.Volume)
		}
	}
	return ctx.Err()
}

func (l *ledger) verifyVolume(ctx context.Context, dir string, id volume.ID) error {
	b := l.books[id]
	v, err := volume.Open(dir, id, volume.Options{Events: func(e volume.Event) {
		switch e.Kind {
		case volume.EventRot, volume.EventCorruptRead, volume.EventSuperblock:
			l.result.damage("volume %d: %v at %d, %d bytes: %v", id, e.Kind, e.Offset, e.Length, e.Err)
		}
	}})
	switch {
	case errors.Is(err, volume.ErrNoVolume) && !b.created:
		delete(l.books, id) // its making was never acknowledged
		return nil
	case err != nil:
		l.result.unexpected("open: %v", err)
		l.loseAll(id, b)
		return nil
	}
	b.created = true
	poisoned := v.Stats().Poisoned != nil
	if b.poisoned && !poisoned {
		l.result.unexpected("volume %d was poisoned and takes puts again", id)
	}
	b.poisoned = poisoned
	readable := int64(0)
	for key, e := range b.keys {
		n, err := l.verifyKey(ctx, v, key, e)
		if err != nil {
			return errors.Join(err, v.Close())
		}
		readable += n
	}
	if n := v.Stats().Needles; n != readable {
		l.result.unexpected("volume %d counts %d readable needles, %d are known", id, n, readable)
	}
	_, err = v.Check(ctx, func(f volume.Finding) {
		l.result.damage("volume %d: check: %v at %d, %d bytes, key %v: %v", id, f.Kind, f.Offset, f.Length, f.Key, f.Err)
	})
	if ctx.Err() == nil && err != nil {
		l.result.unexpected("check: %v", err)
	}
	if err := v.Close(); err != nil && !b.poisoned {
		l.result.unexpected("close: %v", err)
	}
	return ctx.Err()
}

// loseAll counts everything in a volume that cannot be opened as lost.
func (l *ledger) loseAll(v volume.ID, b *book) {
	for key, e := range b.keys {
		if e.put == putStored && e.del == delNone {
			for range group(l.result.Seed, v, key) {
				l.result.lost("round %d: volume %d key %v (%s)", l.result.Rounds, v, key, e.history())
			}
		}
	}
	delete(l.books, v)
}

// verifyKey reads every needle of a key and returns how many there are.
func (l *ledger) verifyKey(ctx context.Context, v *volume.Volume, key id.ID, e *entry) (int64, error) {
	vid := v.Identity().Volume
	g := group(l.result.Seed, vid, key)
	found, absent := int64(0), uint8(0)
	for i, n := range g {
		blob, err := v.Read(ctx, key, n.Alt, n.Cookie)
		at := fmt.Sprintf("round %d: volume %d key %v alt %d (%d bytes; %s)", l.result.Rounds, vid, key, n.Alt, len(n.Data), e.history())
		switch {
		case err == nil:
			found++
			if !bytes.Equal(blob.Data, n.Data) || !sameMaster(blob.Master, n.Master) {
				l.result.wrong("%s: other bytes than were put", at)
			}
			blob.Release()
			if e.del == delDone || e.put == putAbsent || e.absent&(1<<i) != 0 {
				l.result.back("%s", at)
			}
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case errors.Is(err, volume.ErrNotFound):
			absent |= 1 << i
			if e.put == putStored && e.del == delNone && e.absent&(1<<i) == 0 {
				l.result.lost("%s", at)
			}
		default:
			if e.put == putStored && e.del == delNone {
				l.result.lost("%s: %v", at, err)
			} else {
				l.result.damage("%s: %v", at, err)
			}
		}
	}
	l.settle(e, found, absent, len(g), fmt.Sprintf("round %d: volume %d key %v (%s)", l.result.Rounds, vid, key, e.history()))
	return found, nil
}

// settle writes down what the first look after a crash showed.
func (l *ledger) settle(e *entry, found int64, absent uint8, n int, at string) {
	if e.put == putTried {
		switch {
		case found == 0:
			e.put = putAbsent
			l.result.UnackedAbsent++
		case absent == 0:
			e.put = putStored
			l.result.UnackedWhole++
		default:
			e.put, e.absent = putStored, absent
			l.result.UnackedPart++
		}
	}
	if e.del != delTried {
		return
	}
	switch {
	case found == 0:
		e.del = delDone
	case found == int64(n) || absent == e.absent:
		e.del = delNone
	default:
		l.result.lost("%s: a delete took only some of its needles", at)
	}
}

func sameMaster(a, b *volume.MasterInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Photo == b.Photo && a.Owner == b.Owner && a.ContentType == b.ContentType && a.Time.Equal(b.Time)
}

// retire removes the oldest volumes, which were just verified, so that the
// test never needs more than its room.
func (l *ledger) retire(dir string, keep int) error {
	ids := slices.Sorted(maps.Keys(l.books))
	for len(ids) > keep {
		names, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf("%08x*", uint32(ids[0]))))
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := os.Remove(n); err != nil {
				return err
			}
		}
		delete(l.books, ids[0])
		ids = ids[1:]
		l.result.Retired++
	}
	// A power cut would bring the names back.
	return vfs.OS{}.SyncDir(dir)
}
