package volume

import (
	"bytes"
	"errors"
	"fmt"

	"hayloft/internal/id"
)

type pair struct {
	key id.ID
	alt uint8
}

// pendingPut is a needle in a batch that is not concluded. Its data is the
// caller's, who waits.
type pendingPut struct {
	n *Needle
	b *batch
}

// accept puts o into the open batch, or answers it.
func (v *Volume) accept(o *op) {
	begin := v.now()
	v.steps.queue.Observe(begin - o.queued)
	if o.gone() {
		return
	}
	b, err := v.plan(o)
	switch {
	case err != nil:
		o.done <- err
	case b == nil:
		o.done <- nil // all of it was stored before
	default:
		b.ops = append(b.ops, o)
		b.assembly += v.now() - begin
	}
}

// plan returns the batch that o has to wait for, which is nil if there is
// nothing to wait for, or says why o is refused; then nothing has changed.
func (v *Volume) plan(o *op) (*batch, error) {
	if err := v.poisoned(); err != nil {
		return nil, err
	}
	if v.sealing.part.Load() != nil {
		return nil, v.sealedError()
	}
	if v.sealing.replaced {
		return nil, errReplaced
	}
	if v.sealing.fenced.Load() && !o.fill || v.isLog() && o.needles != nil {
		return nil, v.sealedError()
	}
	switch {
	case o.numbered:
		return v.planNumbered(o)
	case o.key != 0:
		return v.planDeletes([]id.ID{o.key})
	case o.keys != nil:
		return v.planDeletes(o.keys)
	}
	w := &v.writer
	var last *batch // of those that hold a needle of the group
	var size int64
	w.fresh = w.fresh[:0]
	for i := range o.needles {
		stored, b, err := v.stored(&o.needles[i])
		if o.fill {
			stored, err = v.fillable(o, i, stored, err)
		}
		if err != nil {
			return nil, err
		}
		last = later(last, b)
		if !stored {
			w.fresh = append(w.fresh, i)
			size += o.records[i].h.size()
		}
	}
	if size == 0 {
		return last, nil
	}
	limit := v.o.MaxBytes
	if o.fill && v.sealing.fenced.Load() {
		limit = maxOffset // all replicas have to hold all
	}
	return v.place(size, limit, func(b *batch) {
		o.copying.Lock()
		defer o.copying.Unlock()
		if o.left {
			return
		}
		for _, i := range w.fresh {
			n, r := &o.needles[i], &o.records[i]
			w.puts[pair{n.Key, n.Alt}] = pendingPut{n, b}
			b.add(&v.seal, r.h, r.meta, n.Data, false)
		}
	})
}

// later returns the batch that is concluded after the other one; either may be nil.
func later(a, b *batch) *batch {
	if a == nil || b != nil && b.start > a.start {
		return b
	}
	return a
}

// fillable is what stored says, for a put that makes replicas equal: the tombstone
// of a key wins, and what is stored and damaged is stored once more.
func (v *Volume) fillable(o *op, i int, stored bool, err error) (bool, error) {
	n := &o.needles[i]
	switch {
	case errors.Is(err, ErrTombstoned):
		return true, nil
	case !errors.Is(err, ErrCorrupt):
		return stored, err
	}
	p, _, _ := v.idx.Load().get(n.Key, n.Alt)
	h, _, headerErr := v.readMetaFrom(v.file, p, n.Key, n.Alt)
	want := &o.records[i].h
	if headerErr == nil && (h.Cookie != want.Cookie || h.Length != want.Length || h.DataCRC != want.DataCRC || h.size() != want.size()) {
		return false, fmt.Errorf("%w: %v alt %d, which is damaged", ErrConflict, n.Key, n.Alt)
	}
	return false, nil
}

func (v *Volume) planDeletes(keys []id.ID) (*batch, error) {
	w := &v.writer
	var last *batch
	w.doomed = w.doomed[:0]
	for _, key := range keys {
		if _, _, deleted := v.idx.Load().get(key, 0); deleted {
			continue
		}
		if b := w.deleting[key]; b != nil {
			last = later(last, b)
			continue
		}
		w.doomed = append(w.doomed, key)
	}
	if len(w.doomed) == 0 {
		return last, nil
	}
	return v.placeDeletes(w.doomed)
}

// placeDeletes has tombstones written of keys that have none, in one batch.
func (v *Volume) placeDeletes(keys []id.ID) (*batch, error) {
	return v.place(int64(len(keys))*2*headerSize, maxOffset, func(b *batch) {
		var meta [headerSize]byte
		for _, key := range keys {
			v.writer.deleting[key] = b
			for _, twin := range []bool{false, true} {
				b.add(&v.seal, header{Kind: KindTombstone, Key: key}, meta[:], nil, twin)
			}
		}
	})
}

// stored tells whether n is there already, in the file or in a batch that is
// not concluded, and then in which. Another content, and a deleted key, are
// errors.
func (v *Volume) stored(n *Needle) (bool, *batch, error) {
	p, found, deleted := v.idx.Load().get(n.Key, n.Alt)
	if deleted || v.writer.deleting[n.Key] != nil {
		return false, nil, fmt.Errorf("%w: %v", ErrTombstoned, n.Key)
	}
	earlier, pending := v.writer.puts[pair{n.Key, n.Alt}]
	if !pending && !found {
		return false, nil, nil
	}
	same := false
	if pending {
		e := earlier.n
		same = e.Cookie == n.Cookie && e.Master.equal(n.Master) && bytes.Equal(e.Data, n.Data)
	} else {
		h, blob, err := v.readWhole(p, n.Key, n.Alt)
		if err != nil {
			return false, nil, err
		}
		same = h.Cookie == n.Cookie && blob.Master.equal(n.Master) && bytes.Equal(blob.Data, n.Data)
		blob.Release()
	}
	if !same {
		return false, nil, fmt.Errorf("%w: %v alt %d", ErrConflict, n.Key, n.Alt)
	}
	return true, earlier.b, nil
}

// lastEnd is where the last batch of the largest file ends: what a mark takes
// has room behind it.
const lastEnd = maxOffset - 2*pageSize

// place has fill add records of so many bytes to the open batch, if they end
// below limit and there is room on the disk.
func (v *Volume) place(size, limit int64, fill func(*batch)) (*batch, error) {
	huge := size > batchBytes
	if huge {
		v.drain() // it is written while it is put together, so nothing may be in front of it
		if err := v.poisoned(); err != nil {
			return nil, err
		}
	}
	b, err := v.placeLocked(size, limit, huge, fill)
	switch {
	case err != nil && !errors.Is(err, ErrNoSpace) && !errors.Is(err, ErrFull):
		// What is on its way may still be acknowledged: the marker has to
		// know where it ends.
		v.drain()
		v.poisonWith(err)
		return nil, v.poisoned()
	case huge && err == nil:
		v.flushHere(b)
	}
	return b, err
}

func (v *Volume) placeLocked(size, limit int64, huge bool, fill func(*batch)) (*batch, error) {
	p, w := &v.pipe, &v.writer
	p.mu.Lock()
	defer p.mu.Unlock()
	off := p.next
	if p.open != nil {
		off = p.open.off
	}
	if off+size > limit || padded(off+size, p.unit) > lastEnd {
		return nil, fmt.Errorf("%w: volume %d holds %d of %d bytes, %d more are needed", ErrFull, v.sb.Volume, off, limit, size)
	}
	if err := w.reserve(v, off, padded(off+size, p.unit)); err != nil {
		return nil, err
	}
	b := p.open
	if b == nil {
		b = w.newBatch()
		b.begin(off, p.deletes)
		p.open = b
	}
	if huge {
		b.spill = func() { v.spill(b) }
	}
	b.expect(padded(off+size, p.unit))
	fill(b)
	p.size.Store(b.off - b.start)
	if huge {
		return p.take(&v.seal), nil
	}
	return b, nil
}
