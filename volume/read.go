package volume

import (
	"context"
	"errors"
	"fmt"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// onePread is the largest piece of a record that is fetched with a single read
// of the file.
const onePread = 1<<20 + 4096

// Blob is what Read returns. Who has it calls Release or Take, once it needs
// Data no more or wants to keep it: until then the memory is booked in the
// ReadBudget. To ask for another Blob meanwhile may wait for ever when all do so.
type Blob struct {
	Data   []byte // the caller's until Release
	ETag   uint32 // CRC32C of Data
	Master *MasterInfo

	held hold
}

// Release gives the memory of Data to later reads. Nobody may use it any more.
// Again it does nothing, also on a copy of b.
func (b *Blob) Release() {
	b.held.release()
	b.Data = nil
}

// Take returns Data as bytes of the caller's own, which no budget counts any
// more, and releases the rest. It copies what lies in memory that others wait
// for: needles of up to 1 MiB. Larger ones have memory of their own.
func (b *Blob) Take() []byte {
	data := b.Data
	if b.held.lease.Pooled() {
		data = append(make([]byte, 0, len(data)), data...)
	}
	b.Release()
	return data
}

// Read returns a needle, verified. A record of up to 1 MiB costs one read of
// the file. A wrong cookie, a deleted and an unknown key are all ErrNotFound.
func (v *Volume) Read(ctx context.Context, key id.ID, alt uint8, cookie id.Cookie) (Blob, error) {
	p, err := v.find(ctx, key, alt)
	if err != nil {
		return Blob{}, err
	}
	if p.size > onePread {
		r, err := v.readRange(ctx, p, key, alt, cookie, 0, MaxData)
		return Blob{Data: r.Data, ETag: r.ETag, Master: r.Master, held: r.held}, err
	}
	t, err := v.enter(ctx, v.reads.memory(p.off, p.size))
	if err != nil {
		return Blob{}, err
	}
	defer v.leave(&t)
	h, blob, err := v.readWhole(p, key, alt)
	if err != nil {
		return Blob{}, err
	}
	if h.Cookie != cookie {
		blob.Release()
		return Blob{}, notFound(key, alt)
	}
	t.pass(&blob.held)
	return blob, nil
}

// find asks the index for a reader.
func (v *Volume) find(ctx context.Context, key id.ID, alt uint8) (place, error) {
	if err := v.acquire(ctx); err != nil {
		return place{}, err
	}
	defer v.release()
	v.counters.reads.Add(1)
	return v.locate(key, alt)
}

// enter books memory and keeps the file open until leave. It waits without
// keeping it open, so that nobody who closes the volume waits for those who
// hold the memory. What find found stays where it is.
func (v *Volume) enter(ctx context.Context, memory int64) (visit, error) {
	t, err := v.o.Reads.enter(ctx, memory)
	if err != nil {
		return t, err
	}
	if err := v.acquire(ctx); err != nil {
		t.leave()
		return visit{}, err
	}
	return t, nil
}

func (v *Volume) leave(t *visit) {
	v.release()
	t.leave()
}

func notFound(key id.ID, alt uint8) error { return fmt.Errorf("%w: %v alt %d", ErrNotFound, key, alt) }

// locate asks the index, and says "corrupt" where damage makes the answer
// uncertain.
func (v *Volume) locate(key id.ID, alt uint8) (place, error) {
	if s := v.sealing.part.Load(); s != nil {
		return s.locate(v, key, alt)
	}
	p, found, deleted := v.idx.Load().get(key, alt)
	if s := v.sealing.part.Load(); s != nil && !found {
		return s.locate(v, key, alt) // sealed meanwhile: the index may be empty
	}
	gone, unsure := v.logged(key)
	switch {
	case deleted || gone:
		return p, notFound(key, alt)
	case unsure != nil:
		return p, v.corrupt(key, p.off, fmt.Errorf("%v alt %d may have been deleted: %w", key, alt, unsure))
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

// readWhole reads and verifies a whole record, and reports what is wrong with
// it. The cookie is the caller's to compare.
func (v *Volume) readWhole(p place, key id.ID, alt uint8) (header, Blob, error) {
	h, blob, err := v.fetchWhole(p, key, alt, false)
	if v.doubts(err) {
		h, blob, err = v.fetchWhole(p, key, alt, true)
	}
	if err != nil {
		err = v.corrupt(key, p.off, err)
	}
	return h, blob, err
}

// doubts tells whether bytes that were found wrong are to be read again: the file
// has a surer way than the one by which they came.
func (v *Volume) doubts(err error) bool {
	if err == nil || errors.Is(err, ErrNotFound) {
		return false
	}
	_, sure := v.file.(vfs.Surer)
	return sure
}

func (v *Volume) fetchWhole(p place, key id.ID, alt uint8, sure bool) (header, Blob, error) {
	held, b, err := v.fetch(p.off, p.size, sure)
	if err != nil {
		return header{}, Blob{}, err
	}
	h, blob, err := v.verifyWhole(b, p, key, alt)
	if err != nil {
		held.release()
		return h, Blob{}, err
	}
	blob.held = held
	return h, blob, nil
}

// verifyWhole verifies the record at b. The data's own CRC is enough: it lies
// with the block CRCs under that of the record, and covers what they cover.
func (v *Volume) verifyWhole(b []byte, p place, key id.ID, alt uint8) (header, Blob, error) {
	defer v.took(&v.steps.verify, v.now())
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
