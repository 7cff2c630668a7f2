package volume

import (
	"context"
	"errors"
	"fmt"

	"hayloft/internal/id"
)

// Export calls fn for every live needle, deletes applied, verified, read from
// the device: by (key, alt) when the volume is sealed, else in the order of the
// file. Data and Master are valid until fn returns; an error of fn ends it.
// A needle that cannot be read is given to damaged instead, and the export goes
// on. throttle, if not nil, is asked before n bytes are read. What is put or
// deleted meanwhile may be in it or not. It serves to fill another replica.
func (v *Volume) Export(ctx context.Context, throttle func(ctx context.Context, n int64) error,
	fn func(Needle) error, damaged func(Finding)) (err error) {
	if err := v.acquire(ctx); err != nil {
		return err
	}
	defer v.release()
	f, err := v.o.FS.Open(v.name)
	if err != nil {
		return fmt.Errorf("export volume %d: %w", v.sb.Volume, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Evict(0, 0); err != nil {
		return err
	}
	var buf []byte
	one := func(key id.ID, alt uint8, p place) bool {
		if _, err = v.locate(key, alt); errors.Is(err, ErrNotFound) {
			err = nil
			return true // deleted
		}
		if err == nil {
			if err = throttleOf(throttle).wait(ctx, p.size); err != nil {
				return false
			}
			if int64(cap(buf)) < p.size {
				buf = make([]byte, p.size)
			}
			var h header
			if h, err = v.readRecord(f, buf[:p.size], p.off, key, alt); err == nil {
				m, _ := h.master(buf[:h.metaLen()]) // verified by readRecord
				err = fn(Needle{Key: key, Alt: alt, Cookie: h.Cookie, Master: m,
					Data: buf[h.metaLen() : int64(h.metaLen())+h.Length]})
				return err == nil
			}
		}
		damaged(Finding{Kind: FindingData, Offset: p.off, Length: p.size, Key: key, Alt: alt, Err: err})
		err = nil
		return true
	}
	idx := v.idx.Load() // empty only when the volume is sealed by then
	if s := v.sealing.part.Load(); s != nil {
		s.idx.each(one)
		return err
	}
	idx.each(func(key id.ID, alt uint8, p place) bool { return alt == altTombstone || one(key, alt, p) })
	return err
}

func throttleOf(fn func(ctx context.Context, n int64) error) throttle { return fn }
