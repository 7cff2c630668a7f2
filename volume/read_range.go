package volume

import (
	"context"
	"errors"
	"fmt"

	"hayloft/internal/id"
	"hayloft/internal/slab"
)

// Range is a part of a needle. Release is owed for it as for a Blob.
type Range struct {
	Data   []byte // the caller's until Release
	Offset int64  // of Data within the needle
	Size   int64  // of the whole needle
	ETag   uint32 // CRC32C of the whole needle
	Master *MasterInfo

	held hold
}

// Release is that of Blob.
func (r *Range) Release() {
	r.held.release()
	r.Data = nil
}

// ReadRange returns up to n bytes of a needle from offset off, fewer at its
// end. Of a needle with block CRCs it verifies only the blocks that the range
// touches. When they end within the first mebibyte of the record it costs one
// read of the file; else there is one for header and table and one for each
// mebibyte of blocks. An off beyond the end gives no data and no error.
func (v *Volume) ReadRange(ctx context.Context, key id.ID, alt uint8, cookie id.Cookie, off, n int64) (Range, error) {
	if off < 0 || n < 0 {
		return Range{}, fmt.Errorf("%w: range of %d bytes at %d", ErrInvalid, n, off)
	}
	p, err := v.find(ctx, key, alt)
	if err != nil {
		return Range{}, err
	}
	return v.readRange(ctx, p, key, alt, cookie, min(off, MaxData), min(n, MaxData))
}

// readRange is ReadRange on a record whose place is known.
func (v *Volume) readRange(ctx context.Context, p place, key id.ID, alt uint8, cookie id.Cookie, off, n int64) (Range, error) {
	want := wanted{p: p, key: key, alt: alt, cookie: cookie, off: off, n: n}
	front, memory := want.front(), int64(0)
	if front > 0 {
		memory = v.reads.memory(p.off, front)
	} else {
		memory = bufferBytes(p.metaBound()+2*pageSize) + want.blockMemory()
	}
	t, err := v.enter(ctx, memory)
	if err != nil {
		return Range{}, err
	}
	defer v.leave(&t)
	r, err := v.readPart(ctx, &want, front)
	if v.doubts(err) && ctx.Err() == nil {
		want.sure = true
		r, err = v.readPart(ctx, &want, front)
	}
	switch {
	case err == nil:
		t.pass(&r.held)
		return r, nil
	case errors.Is(err, ErrNotFound) || ctx.Err() != nil:
		return Range{}, err
	}
	return Range{}, v.corrupt(key, p.off, err)
}

// readPart reads with the first bytes of the record, so many, or in steps.
func (v *Volume) readPart(ctx context.Context, w *wanted, front int64) (Range, error) {
	if front > 0 {
		r, err := v.readFront(w, front)
		if !errors.Is(err, errShort) {
			return r, err
		}
	}
	return v.readBehind(ctx, w)
}

// wanted is a range of the data of one record.
type wanted struct {
	p      place
	key    id.ID
	alt    uint8
	cookie id.Cookie
	off, n int64 // at most MaxData each
	sure   bool  // the bytes were found wrong once
}

// metaBound is the most that header, master info and table of a record take,
// unless its master info holds what this program does not know.
func (p place) metaBound() int64 {
	return headerSize + masterFixed + maxContentType + 4*((p.size+BlockSize-1)/BlockSize)
}

// front is how much of the record, from its start, holds all that is needed; 0
// if that is too much for one read.
func (w *wanted) front() int64 {
	n := w.p.metaBound() + (w.off+w.n+BlockSize-1)/BlockSize*BlockSize
	if w.p.size <= blocksAbove+headerSize+masterFixed+maxContentType { // has no table
		n = w.p.size
	}
	if n = min(n, w.p.size); n > onePread {
		return 0
	}
	return n
}

// blockMemory is what readBlocks needs.
func (w *wanted) blockMemory() int64 {
	n := min(w.n+2*BlockSize, w.p.size)
	if n <= largestBuffer {
		return bufferBytes(n + 2*pageSize)
	}
	return n + bufferBytes(largestBuffer+2*pageSize)
}

// admit compares the header with what is wanted, and fills in what it says.
// The range that is left lies within the data.
func (w *wanted) admit(h *header, meta []byte) (Range, error) {
	if h.Cookie != w.cookie {
		return Range{}, notFound(w.key, w.alt)
	}
	w.off = min(w.off, h.Length)
	w.n = min(w.n, h.Length-w.off)
	master, err := h.master(meta)
	return Range{Offset: w.off, Size: h.Length, ETag: h.DataCRC, Master: master}, err
}

// blocks is which blocks the range touches: the first, and where they begin and
// end in the data.
func (w *wanted) blocks(h *header) (first int, from, to int64) {
	if w.n == 0 {
		return 0, w.off, w.off
	}
	from = w.off / BlockSize * BlockSize
	return int(w.off / BlockSize), from, min(h.Length, (w.off+w.n+BlockSize-1)/BlockSize*BlockSize)
}

// readFront reads a range with the first n bytes of its record. errShort says
// that they are too few.
func (v *Volume) readFront(w *wanted, n int64) (Range, error) {
	held, b, err := v.fetch(w.p.off, n, w.sure)
	if err != nil {
		return Range{}, err
	}
	r, err := v.verifyFront(w, b)
	if err != nil {
		held.release()
		return Range{}, err
	}
	r.held = held
	return r, nil
}

func (v *Volume) verifyFront(w *wanted, b []byte) (Range, error) {
	h, err := v.checkHeader(b, w.p, w.key, w.alt)
	if err != nil {
		return Range{}, err
	}
	meta, data := b[:h.metaLen()], b[h.metaLen():]
	r, err := w.admit(&h, meta)
	if err != nil {
		return Range{}, err
	}
	first, from, to := w.blocks(&h)
	if h.Flags&flagBlocks == 0 {
		from, to = 0, h.Length
	}
	if to > int64(len(data)) {
		return Range{}, errShort
	}
	if h.Flags&flagBlocks == 0 {
		err = v.verifyData(w, &h, data[:to])
	} else {
		err = v.verifyPart(w, &h, meta, data[from:to], first)
	}
	r.Data = data[w.off : w.off+w.n : w.off+w.n]
	return r, err
}

// readBehind reads a range of a record whose header has to be read first.
func (v *Volume) readBehind(ctx context.Context, w *wanted) (Range, error) {
	held, h, meta, err := v.readMeta(w)
	if err != nil {
		return Range{}, err
	}
	defer held.release()
	r, err := w.admit(&h, meta)
	if err != nil {
		return Range{}, err
	}
	if h.Flags&flagBlocks == 0 {
		_, blob, err := v.fetchWhole(w.p, w.key, w.alt, w.sure)
		if err != nil {
			return Range{}, err
		}
		r.Data, r.held = blob.Data[w.off:w.off+w.n:w.off+w.n], blob.held
		return r, nil
	}
	r.Data, r.held, err = v.readBlocks(ctx, w, &h, meta)
	return r, err
}

// readMeta reads and verifies header, master info and table.
func (v *Volume) readMeta(w *wanted) (hold, header, []byte, error) {
	for _, n := range []int64{w.p.metaBound(), maxMeta} {
		held, b, err := v.fetch(w.p.off, min(n, w.p.size), w.sure)
		if err != nil {
			return hold{}, header{}, nil, err
		}
		h, err := v.checkHeader(b, w.p, w.key, w.alt)
		if err == nil {
			return held, h, b[:h.metaLen()], nil
		}
		held.release()
		if !errors.Is(err, errShort) {
			return hold{}, header{}, nil, err
		}
	}
	return hold{}, header{}, nil, w.cutOff()
}

func (w *wanted) cutOff() error {
	return fmt.Errorf("%w: record at %d is cut off", ErrCorrupt, w.p.off)
}

// readBlocks returns the range out of the blocks it touches, each verified
// while it is in the processor's cache.
func (v *Volume) readBlocks(ctx context.Context, w *wanted, h *header, meta []byte) ([]byte, hold, error) {
	first, from, to := w.blocks(h)
	if from == to {
		return nil, hold{}, nil
	}
	in := w.off - from
	if to-from <= largestBuffer {
		held, b, err := v.readStep(w, h, meta, first, to-from)
		if err == nil {
			err = v.verifyPart(w, h, meta, b, first)
		}
		if err != nil {
			held.release()
			return nil, hold{}, err
		}
		return b[in : in+w.n : in+w.n], held, nil
	}
	all := make([]byte, to-from)
	var sum uint32
	for rest := all; len(rest) > 0; {
		if err := ctx.Err(); err != nil {
			return nil, hold{}, err
		}
		held, b, err := v.readStep(w, h, meta, first, min(int64(len(rest)), largestBuffer))
		if err == nil {
			sum, err = v.verifyStep(w, h, meta, b, first, sum)
		}
		n := copy(rest, b)
		held.release()
		if err != nil {
			return nil, hold{}, err
		}
		rest, first = rest[n:], first+n/BlockSize
	}
	if to-from == h.Length {
		if err := h.verifySum(sum, w.p.off); err != nil {
			return nil, hold{}, err
		}
	}
	return all[in : in+w.n : in+w.n], hold{lease: slab.Own(all)}, nil
}

// readStep reads n bytes of blocks from block first on.
func (v *Volume) readStep(w *wanted, h *header, meta []byte, first int, n int64) (hold, []byte, error) {
	held, b, err := v.fetch(w.p.off+int64(len(meta))+int64(first)*BlockSize, n, w.sure)
	if err == nil && int64(len(b)) < n {
		err = w.cutOff()
	}
	return held, b, err
}

// verifyStep verifies blocks; sum is as in verifyBlocks.
func (v *Volume) verifyStep(w *wanted, h *header, meta, b []byte, first int, sum uint32) (uint32, error) {
	defer v.took(&v.steps.verify, v.now())
	return h.verifyBlocks(meta, b, first, sum, w.p.off)
}

func (v *Volume) verifyData(w *wanted, h *header, data []byte) error {
	defer v.took(&v.steps.verify, v.now())
	return h.verifyData(data, w.p.off)
}

// verifyPart verifies blocks, and the data's CRC as well if they are all of it.
func (v *Volume) verifyPart(w *wanted, h *header, meta, b []byte, first int) error {
	sum, err := v.verifyStep(w, h, meta, b, first, 0)
	if err == nil && int64(len(b)) == h.Length {
		err = h.verifySum(sum, w.p.off)
	}
	return err
}
