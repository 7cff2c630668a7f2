package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// Probed is what a volume has under one key.
type Probed struct {
	Deleted bool           // for ever; nothing of it is read any more
	Needles []ProbedNeedle // by alternate key; none of a deleted key
}

// ProbedNeedle is one needle that the index knows.
type ProbedNeedle struct {
	Alt          uint8
	Offset, Size int64 // of the record in the file
	// Err is why nobody can read it now; nil: it was read just now, and is whole.
	Err error
}

// Probe looks up a key and reads every needle under it, as Read would, with no
// cookie. A key that the volume knows nothing of is ErrNotFound, as is one that was
// deleted before the volume was sealed; where damage keeps that from being certain it
// is ErrCorrupt.
func (v *Volume) Probe(ctx context.Context, key id.ID) (out Probed, err error) {
	if err := v.acquire(ctx); err != nil {
		return out, err
	}
	defer v.release()
	alts, deleted := v.under(key)
	if deleted {
		return Probed{Deleted: true}, nil
	}
	if len(alts) == 0 {
		_, err := v.locate(key, 0)
		return out, err
	}
	f, err := v.o.FS.Open(v.name)
	if err != nil {
		return out, fmt.Errorf("probe volume %d: %w", v.sb.Volume, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, alt := range alts {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		n := ProbedNeedle{Alt: alt}
		p, err := v.locate(key, alt)
		if err == nil {
			n.Offset, n.Size = p.off, p.size
			_, err = v.readRecord(f, make([]byte, p.size), p.off, key, alt)
		}
		if errors.Is(err, ErrNotFound) {
			return Probed{Deleted: true}, nil // meanwhile
		}
		n.Err = err
		out.Needles = append(out.Needles, n)
	}
	return out, nil
}

// under lists the alternate keys that the index has under a key.
func (v *Volume) under(key id.ID) (alts []uint8, deleted bool) {
	idx := v.idx.Load() // empty only when the volume is sealed by then
	if p := v.sealing.part.Load(); p != nil {
		if p.log.deleted(key) {
			return nil, true
		}
		if bl, ok := p.idx.find(key); ok {
			alts = append(alts, bl.alts...)
		}
		slices.Sort(alts)
		return alts, false
	}
	for e := range idx.entries(key) {
		if e.alt == altTombstone {
			return nil, true
		}
		alts = append(alts, e.alt)
	}
	slices.Sort(alts)
	gone, _ := v.logged(key)
	return slices.Compact(alts), gone
}

// Scan is the function of that name for a volume in service, as far as its file is
// synced, whatever the file is made of.
func (v *Volume) Scan(ctx context.Context, fn func(Record) error) error {
	if err := v.acquire(ctx); err != nil {
		return err
	}
	defer v.release()
	end := v.Stats().FileBytes
	_, err := Scan(v.o.FS, v.name, func(r Record) error {
		if r.Offset >= end {
			return errScanned
		}
		return fn(r)
	})
	if errors.Is(err, errScanned) {
		return nil
	}
	return err
}

// errScanned ends a scan where the file is not synced yet.
var errScanned = errors.New("scanned as far as it is synced")

// copyBytes is how much of a file Copy gives at a time.
const copyBytes = 1 << 20

// Copy gives the file of a sealed volume to fn, byte for byte, piece after piece, read
// by the surest way there is, and returns what its superblock says. The bytes are
// fn's until it returns. throttle, if not nil, is asked before n bytes are read. Its
// delete log is Deletes.
func (v *Volume) Copy(ctx context.Context, throttle func(ctx context.Context, n int64) error, fn func([]byte) error) (rec SealRecord, err error) {
	if err := v.acquire(ctx); err != nil {
		return rec, err
	}
	defer v.release()
	rec, sealed := v.Sealed()
	if !sealed {
		return rec, fmt.Errorf("%w: volume %d", ErrNotSealed, v.sb.Volume)
	}
	f, err := v.o.FS.Open(v.name)
	if err != nil {
		return rec, fmt.Errorf("copy volume %d: %w", v.sb.Volume, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := make([]byte, min(copyBytes, rec.End))
	for at := int64(0); at < rec.End; {
		b := buf[:min(int64(len(buf)), rec.End-at)]
		if err := throttleOf(throttle).wait(ctx, int64(len(b))); err != nil {
			return rec, err
		}
		if n, err := vfs.ReadAtSurely(f, b, at); n < len(b) {
			return rec, fmt.Errorf("copy volume %d: read %d bytes at %d: %w", v.sb.Volume, len(b), at, err)
		}
		if err := fn(b); err != nil {
			return rec, err
		}
		at += int64(len(b))
	}
	return rec, nil
}
