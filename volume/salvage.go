package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// A volume that a failed write or sync has poisoned is never appended to again
// and can not be sealed: not a byte of its file changes. Compact makes its next
// generation all the same, from the records below the last known sync. That is
// a salvage; see docs/format.md and decision 119.

// Poisoned returns why nothing is appended to the volume's file any more, or
// nil. Stats tells that of the delete log of a sealed volume as well.
func (v *Volume) Poisoned() error { return v.poisoned() }

// source is what a compaction reads: needles at their places in a file that does
// not change any more.
type source struct {
	rec SealRecord // of a sealed file; of a poisoned one info and digest
	all []entry    // by (key, alt)
	log *deleteLog // one reference of it is the compaction's
}

// sealedSource is the source that a sealed volume is.
func (v *Volume) sealedSource(p *sealedPart) (*source, error) {
	if err := errors.Join(p.incomplete, p.unsure, p.log.holds(p.rec.Deletes)); err != nil {
		return nil, err
	}
	s := &source{rec: p.rec}
	p.idx.each(func(key id.ID, alt uint8, at place) bool {
		s.all = append(s.all, entry{key: key, alt: alt, off: at.off, units: uint32(at.size / align)})
		return true
	})
	s.log = p.log.share()
	return s, nil
}

// poisonedSource is the source that a poisoned volume is: what the device holds
// below the last known sync, the tombstones there applied. Before it is read,
// the poison is made to hold for every later process, so that it stays true.
func (v *Volume) poisonedSource(ctx context.Context, o *CompactOptions) (*source, error) {
	if err := o.Seal.validate(); err != nil {
		return nil, err
	}
	settle := &op{exec: v.settlePoison, done: make(chan error, 1)} // behind all that was on its way
	if !v.queue.add(settle) {
		return nil, ErrClosed
	}
	if err := <-settle.done; err != nil {
		return nil, err
	}
	s := &source{rec: SealRecord{SealInfo: o.Seal}}
	s.rec.United, s.rec.Throttle = false, nil
	in, err := v.salvageable(ctx, o.Throttle)
	if err != nil {
		return nil, err
	}
	s.all = in.settle()
	s.rec.Digest = digestOf(s.all)
	if l := v.sealing.log.Load(); l != nil { // of a fenced volume
		if err := l.renew(); err != nil {
			return nil, err
		}
		s.log = l.share()
		return s, nil
	}
	s.log, err = openLogFor(v.dir, v.sb.Volume, v.o)
	return s, err
}

// settlePoison leaves the marker again unless it is there and says what this
// process knows. It runs on the writer goroutine.
func (v *Volume) settlePoison() error {
	if v.poisoned() == nil {
		return fmt.Errorf("%w: volume %d", ErrNotSealed, v.sb.Volume)
	}
	if v.unread != nil {
		return v.unread
	}
	b, err := vfs.ReadFile(v.o.FS, v.markerPath(), markerSize+1)
	if err == nil {
		var m marker
		m, err = decodeMarker(b)
		if err == nil && m.Volume == v.sb.Volume && m.Generation == v.sb.Generation && m.SyncedTo == v.synced.Load() && m.Torn == v.damage.torn {
			return v.o.FS.SyncDir(v.dir) // its name may not be durable
		}
	}
	if isUnsupported(err) {
		return err
	}
	return v.writeMarker()
}

// salvageable reads all records below the last known sync from the device. Where
// any could be missing it is an error: nobody knows what they were. What a
// recovery found torn and could not repair was never acknowledged, and may be.
func (v *Volume) salvageable(ctx context.Context, t throttle) (*inventory, error) {
	end, torn := v.synced.Load(), v.damage.torn
	if torn == 0 {
		torn = end
	}
	for _, r := range v.damage.rot {
		if r.Offset < torn || r.Offset+r.Length > end {
			return nil, fmt.Errorf("%w: the part of volume %d at %d is damaged, and nobody knows what was there", ErrCorrupt, v.sb.Volume, r.Offset)
		}
	}
	file, err := v.o.FS.Open(v.name)
	if err != nil {
		return nil, err
	}
	in := new(inventory)
	// The data is verified when it is copied. Whether a record of the torn batch
	// was kept is told by its data.
	err = in.take(ctx, file, &v.seal, torn, false, t)
	if err == nil {
		err = in.take(ctx, file, &v.seal, end, true, t)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	for _, g := range in.gaps {
		if g.off < torn {
			v.event(Event{Kind: EventRot, Offset: g.off, Length: g.end - g.off})
			return nil, fmt.Errorf("%w: no record at %d of volume %d", ErrCorrupt, g.off, v.sb.Volume)
		}
	}
	whole := in.entries[:0]
	for _, e := range in.entries {
		if !e.bad || e.off < torn {
			whole = append(whole, e)
		}
	}
	in.entries = whole
	return in, nil
}

// laterDeletes are those of the delete log beside a poisoned volume that is not
// sealed, and was not fenced by this or a later version: they came when its next
// generation was served. Should that be gone, or not count yet, they count all the
// same.
type laterDeletes struct {
	gone   map[id.ID]bool
	unsure error // why some may be missing: then no needle may be served
}

// loadLater reads the delete log, which is there once a salvage was begun.
func (v *Volume) loadLater() error {
	if v.poisoned() == nil || v.isLog() || v.sealing.log.Load() != nil {
		return nil
	}
	l := &v.later
	_, err := Scan(v.o.FS, filepath.Join(v.dir, DeleteLogName(v.sb.Volume)), func(r Record) error {
		switch {
		case r.Err != nil:
			l.unsure = fmt.Errorf("%w: a delete of volume %d is lost", ErrCorrupt, v.sb.Volume)
		case r.Kind == KindTombstone:
			if l.gone == nil {
				l.gone = make(map[id.ID]bool)
			}
			l.gone[r.Key] = true
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
