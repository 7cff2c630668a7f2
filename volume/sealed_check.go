package volume

import (
	"context"
	"errors"
	"fmt"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// check is Volume.Check of a sealed volume: file, index, digest, delete log.
func (p *sealedPart) check(ctx context.Context, v *Volume, file vfs.File, t throttle, fn func(Finding)) (Report, error) {
	var rep Report
	find := func(f Finding) {
		rep.Findings++
		fn(f)
	}
	var in inventory
	size, err := file.Size()
	if err == nil {
		err = in.take(ctx, file, &v.seal, min(size, p.rec.End), true, t)
	}
	if err != nil {
		return rep, err
	}
	rep.Bytes = in.end
	superblockFindings(file, find)
	if size < p.rec.End {
		find(Finding{Kind: FindingGap, Offset: size, Length: p.rec.End - size, Err: fmt.Errorf("%w: file ends at %d", ErrCorrupt, size)})
	}
	live := in.settle()
	for _, f := range damagedIn(live, in.gaps) {
		find(f)
	}
	for i := range in.entries {
		if !in.entries[i].bad {
			rep.Needles++
		}
	}
	rep.Tombstones = int64(len(in.dead))
	p.compareIndex(live, find)
	if d := digestOf(live); d != p.rec.Digest && len(in.gaps) == 0 {
		find(Finding{Kind: FindingDigest, Length: in.end, Err: fmt.Errorf("%w: the needles are not those that were sealed", ErrCorrupt)})
	}
	tombstones, err := p.log.check(ctx, t, find)
	rep.Tombstones += tombstones
	if err != nil {
		return rep, err
	}
	if err := p.log.holds(p.rec.Deletes); err != nil {
		find(Finding{Kind: FindingDeletes, Offset: p.log.cur.Load().v.synced.Load(), File: DeleteLogName(v.sb.Volume), Err: err})
	}
	return rep, nil
}

// check is CheckSlowly of the log's file. It returns how many tombstones it holds.
func (l *deleteLog) check(ctx context.Context, t throttle, find func(Finding)) (int64, error) {
	for {
		file := l.cur.Load()
		rep, err := file.v.CheckSlowly(ctx, t, func(f Finding) {
			f.File = DeleteLogName(l.id)
			find(f)
		})
		if !l.retry(file, err) {
			return rep.Tombstones, err
		}
	}
}

func superblockFindings(file vfs.File, find func(Finding)) {
	for i := range int64(2) {
		b := make([]byte, superblockSize)
		n, err := vfs.ReadAtSurely(file, b, i*superblockSize)
		if n == superblockSize {
			err = nil
		}
		if _, decodeErr := decodeSuperblock(b[:n]); decodeErr != nil {
			find(Finding{Kind: FindingSuperblock, Offset: i * superblockSize, Length: superblockSize, Err: errors.Join(decodeErr, err)})
		}
	}
}

// compareIndex compares the index with what the file holds.
func (p *sealedPart) compareIndex(live []entry, find func(Finding)) {
	indexed := make(map[pair]bool, len(live))
	for i := range live {
		e := &live[i]
		indexed[pair{e.key, e.alt}] = true
		if at, ok := p.idx.get(e.key, e.alt); !ok || at.off != e.off || at.size != e.size() {
			find(Finding{Kind: FindingIndex, Offset: e.off, Length: e.size(), Key: e.key, Alt: e.alt,
				Err: fmt.Errorf("%w: the index has %v alt %d at %d", ErrCorrupt, e.key, e.alt, at.off)})
		}
	}
	p.idx.each(func(key id.ID, alt uint8, at place) bool {
		if !indexed[pair{key, alt}] {
			find(Finding{Kind: FindingDangling, Offset: at.off, Length: at.size, Key: key, Alt: alt,
				Err: fmt.Errorf("%w: no record at %d", ErrCorrupt, at.off)})
		}
		return true
	})
}
