package volume

import (
	"context"
	"errors"
	"fmt"

	"hayloft/internal/id"
)

const (
	// onePread is the largest record fetched with a single read; larger ones
	// go by blocks, in steps of this size.
	onePread = 1<<20 + 4096
	// metaGuess is how much is read to get the header of a large needle: it
	// holds the table of 60 MiB.
	metaGuess = 4096
)

// Read returns a needle, verified. A record of up to 1 MiB costs one read of
// the file. A wrong cookie, a deleted and an unknown key are all ErrNotFound.
func (v *Volume) Read(ctx context.Context, key id.ID, alt uint8, cookie id.Cookie) (Blob, error) {
	if err := v.acquire(ctx); err != nil {
		return Blob{}, err
	}
	defer v.release()
	p, err := v.locate(key, alt)
	if err != nil {
		return Blob{}, err
	}
	if p.size > onePread {
		r, err := v.readRange(ctx, p, key, alt, cookie, 0, MaxData)
		return Blob{Data: r.Data, ETag: r.ETag, Master: r.Master, buf: r.buf}, err
	}
	h, blob, err := v.readWhole(p, key, alt)
	if err != nil {
		return Blob{}, err
	}
	if h.Cookie != cookie {
		blob.Release()
		return Blob{}, notFound(key, alt)
	}
	return blob, nil
}

// Range is a part of a needle.
type Range struct {
	Data   []byte // the caller's
	Offset int64  // of Data within the needle
	Size   int64  // of the whole needle
	ETag   uint32 // CRC32C of the whole needle
	Master *MasterInfo

	buf *buffer
}

// Release is that of Blob.
func (r *Range) Release() {
	r.buf.release()
	r.buf, r.Data = nil, nil
}

// ReadRange returns up to n bytes of a needle from offset off, fewer at its
// end. Of a needle with block CRCs it reads and verifies only the blocks that
// the range touches. An off beyond the end gives no data and no error.
func (v *Volume) ReadRange(ctx context.Context, key id.ID, alt uint8, cookie id.Cookie, off, n int64) (Range, error) {
	if off < 0 || n < 0 {
		return Range{}, fmt.Errorf("%w: range of %d bytes at %d", ErrInvalid, n, off)
	}
	if err := v.acquire(ctx); err != nil {
		return Range{}, err
	}
	defer v.release()
	p, err := v.locate(key, alt)
	if err != nil {
		return Range{}, err
	}
	return v.readRange(ctx, p, key, alt, cookie, off, n)
}

func notFound(key id.ID, alt uint8) error { return fmt.Errorf("%w: %v alt %d", ErrNotFound, key, alt) }

// locate asks the index, and says "corrupt" where damage makes the answer
// uncertain.
func (v *Volume) locate(key id.ID, alt uint8) (place, error) {
	v.counters.reads.Add(1)
	if s := v.sealing.part.Load(); s != nil {
		return s.locate(v, key, alt)
	}
	p, found, deleted := v.idx.get(key, alt)
	switch {
	case deleted:
		return p, notFound(key, alt)
	case !found && len(v.damage.rot) > 0:
		return p, v.corrupt(key, 0, fmt.Errorf("%w: %v alt %d is not found, and a part of volume %d is damaged",
			ErrCorrupt, key, alt, v.sb.Volume))
	case !found:
		return p, notFound(key, alt)
	case p.off < v.damage.unsureBelow:
		return p, v.corrupt(key, p.off, fmt.Errorf("%w: %v alt %d may have been deleted: a tombstone of volume %d is lost",
			ErrCorrupt, key, alt, v.sb.Volume))
	}
	return p, nil
}

// corrupt counts and reports a failed verification.
func (v *Volume) corrupt(key id.ID, off int64, err error) error {
	v.counters.corruptReads.Add(1)
	v.event(Event{Kind: EventCorruptRead, Offset: off, Key: key, Err: err})
	return err
}

// readWhole reads and verifies a whole record. The cookie is the caller's to
// compare.
func (v *Volume) readWhole(p place, key id.ID, alt uint8) (header, Blob, error) {
	buf, b, err := v.fetch(p.off, p.size)
	if err != nil {
		return header{}, Blob{}, v.corrupt(key, p.off, err)
	}
	h, blob, err := v.verifyWhole(b, p, key, alt)
	if err != nil {
		buf.release()
		return h, Blob{}, v.corrupt(key, p.off, err)
	}
	blob.buf = buf
	return h, blob, nil
}

// verifyWhole verifies the record at b.
func (v *Volume) verifyWhole(b []byte, p place, key id.ID, alt uint8) (header, Blob, error) {
	h, err := v.checkHeader(b, p, key, alt)
	if errors.Is(err, errShort) || err == nil && int64(len(b)) < h.size() {
		err = fmt.Errorf("%w: record at %d is cut off", ErrCorrupt, p.off)
	}
	if err != nil {
		return h, Blob{}, err
	}
	meta, data := b[:h.metaLen()], b[h.metaLen():int64(h.metaLen())+h.Length]
	master, err := h.master(meta)
	if err == nil {
		err = h.verifyData(data, p.off)
	}
	if err != nil {
		return h, Blob{}, err
	}
	return h, Blob{Data: data[:len(data):len(data)], ETag: h.DataCRC, Master: master}, nil
}

// checkHeader decodes the header at b and compares it with what the index
// says.
func (v *Volume) checkHeader(b []byte, p place, key id.ID, alt uint8) (header, error) {
	h, err := v.seal.decodeHeader(b, p.off)
	switch {
	case errors.Is(err, errShort):
		return h, err
	case isUnsupported(err):
		return h, fmt.Errorf("%w: %v", ErrCorrupt, err)
	case err != nil:
		return h, err
	case h.Kind != KindNeedle || h.Key != key || h.Alt != alt:
		return h, fmt.Errorf("%w: record at %d is not %v alt %d", ErrCorrupt, p.off, key, alt)
	}
	return h, nil
}

// readMeta reads and verifies header, master info and table of a record.
func (v *Volume) readMeta(p place, key id.ID, alt uint8) (header, []byte, error) {
	for _, n := range []int64{metaGuess, maxMeta} {
		buf, b, err := v.fetch(p.off, min(n, p.size))
		if err != nil {
			return header{}, nil, err
		}
		h, err := v.checkHeader(b, p, key, alt)
		if err == nil {
			meta := append([]byte(nil), b[:h.metaLen()]...)
			buf.release()
			return h, meta, nil
		}
		buf.release()
		if !errors.Is(err, errShort) {
			return h, nil, err
		}
	}
	return header{}, nil, fmt.Errorf("%w: record at %d is cut off", ErrCorrupt, p.off)
}

// readRange is ReadRange on a record whose place is known.
func (v *Volume) readRange(ctx context.Context, p place, key id.ID, alt uint8, cookie id.Cookie, off, n int64) (Range, error) {
	h, meta, err := v.readMeta(p, key, alt)
	if err != nil {
		return Range{}, v.corrupt(key, p.off, err)
	}
	if h.Cookie != cookie {
		return Range{}, notFound(key, alt)
	}
	r := Range{Size: h.Length, ETag: h.DataCRC}
	if r.Master, err = h.master(meta); err != nil {
		return Range{}, v.corrupt(key, p.off, err)
	}
	r.Offset = min(off, h.Length)
	n = min(n, h.Length-r.Offset)
	if h.Flags&flagBlocks == 0 {
		_, blob, err := v.readWhole(p, key, alt)
		if err != nil {
			return Range{}, err
		}
		r.Data, r.buf = blob.Data[r.Offset:r.Offset+n:r.Offset+n], blob.buf
		return r, nil
	}
	if n == 0 {
		return r, nil
	}
	first := r.Offset / BlockSize
	buf := make([]byte, min(h.Length, (r.Offset+n+BlockSize-1)/BlockSize*BlockSize)-first*BlockSize)
	if err := v.readBlocks(ctx, p, &h, meta, int(first), buf); err != nil {
		if ctx.Err() != nil {
			return Range{}, err
		}
		return Range{}, v.corrupt(key, p.off, err)
	}
	from := r.Offset - first*BlockSize
	r.Data = buf[from : from+n : from+n]
	return r, nil
}

// readBlocks fills buf with the data from block first on, verifying each step
// while it is in the processor's cache.
func (v *Volume) readBlocks(ctx context.Context, p place, h *header, meta []byte, first int, buf []byte) error {
	at := p.off + int64(len(meta)) + int64(first)*BlockSize
	for len(buf) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		step := buf[:min(len(buf), 1<<20)]
		read, got, err := v.fetch(at, int64(len(step)))
		if err != nil {
			return err
		}
		if len(got) < len(step) {
			err = fmt.Errorf("%w: record at %d is cut off", ErrCorrupt, p.off)
		} else if err = h.verifyBlocks(meta, got, first, p.off); err == nil {
			copy(step, got)
		}
		read.release()
		if err != nil {
			return err
		}
		at += int64(len(step))
		first += len(step) / BlockSize
		buf = buf[len(step):]
	}
	return nil
}
