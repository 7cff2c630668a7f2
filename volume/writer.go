package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"hayloft/internal/id"
)

// A batch ends when it holds this much; a single group may be larger.
const (
	batchBytes   = 16 << 20
	batchRecords = 340 // three buffers each stay within one pwritev
)

// op is one queued Append or Delete.
type op struct {
	needles []Needle     // of a put
	headers []header     // of needles, without what depends on the offset
	metas   [][]byte     // headers, master infos and tables of needles
	key     id.ID        // of a delete
	fill    bool         // a put that the fence lets pass
	exec    func() error // runs on the writer goroutine, instead of a put or delete
	bytes   int64        // size of the records
	done    chan error
}

// queue hands ops to the writer goroutine.
type queue struct {
	mu     sync.Mutex // guards ops and closed
	ops    []*op
	closed bool
	wake   chan struct{} // holds one token when there may be something to take
}

func (q *queue) init() { q.wake = make(chan struct{}, 1) }

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// add queues o; it reports false after close.
func (q *queue) add(o *op) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.ops = append(q.ops, o)
	q.signal()
	return true
}

// withdraw takes o back; it reports false when the writer has it.
func (q *queue) withdraw(o *op) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.ops {
		if q.ops[i] == o {
			q.ops = append(q.ops[:i], q.ops[i+1:]...)
			return true
		}
	}
	return false
}

// close lets nothing more in; it reports false the second time.
func (q *queue) close() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.closed
	q.closed = true
	q.signal()
	return !was
}

// take waits for ops and returns those of one batch, or nil when the queue is
// closed and empty.
func (q *queue) take() []*op {
	for {
		q.mu.Lock()
		if len(q.ops) > 0 {
			ops := q.split()
			q.mu.Unlock()
			return ops
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return nil
		}
		<-q.wake
	}
}

// split cuts the next batch from the queue. Called with mu held.
func (q *queue) split() []*op {
	n, records := 0, 0
	size := int64(0)
	for ; n < len(q.ops); n++ {
		o := q.ops[n]
		size += o.bytes
		records += max(len(o.needles), 2)
		if n > 0 && (o.exec != nil || q.ops[0].exec != nil || size > batchBytes || records > batchRecords) {
			break
		}
	}
	ops := append([]*op(nil), q.ops[:n]...)
	q.ops = append([]*op(nil), q.ops[n:]...)
	return ops
}

// Append stores a group of needles side by side and returns when they are on
// stable storage and readable. Either the whole group is taken or none of it,
// except that after a crash part of an unacknowledged group may be found. A
// needle that is there already with the same cookie, data and master info
// counts as stored.
//
// If ctx ends while the group still waits in the queue, Append gives up and
// nothing is written. Once the writer has it, Append waits for the outcome.
func (v *Volume) Append(ctx context.Context, group []Needle) error {
	o, err := newPut(group)
	if err != nil {
		return err
	}
	return v.submit(ctx, o)
}

// Delete makes every alt of key unreadable for ever, also what is put later.
// It returns when that is on stable storage. A key that was never put can be
// deleted, and one that is deleted already.
func (v *Volume) Delete(ctx context.Context, key id.ID) error {
	if key == 0 {
		return fmt.Errorf("%w: key 0", ErrInvalid)
	}
	if p := v.sealing.part.Load(); p != nil {
		return p.delete(ctx, v, key)
	}
	err := v.submit(ctx, &op{key: key, bytes: 2 * headerSize, done: make(chan error, 1)})
	if p := v.sealing.part.Load(); p != nil && errors.Is(err, ErrSealed) {
		return p.delete(ctx, v, key) // sealed while it waited
	}
	return err
}

func newPut(group []Needle) (*op, error) {
	if len(group) == 0 {
		return nil, fmt.Errorf("%w: empty group", ErrInvalid)
	}
	for i := range group {
		if err := group[i].validate(); err != nil {
			return nil, err
		}
		for j := range i {
			if group[j].Key == group[i].Key && group[j].Alt == group[i].Alt {
				return nil, fmt.Errorf("%w: key %v alt %d twice in one group", ErrInvalid, group[i].Key, group[i].Alt)
			}
		}
	}
	o := &op{needles: group, done: make(chan error, 1)}
	for i := range group {
		h, meta := newNeedle(&group[i])
		o.headers = append(o.headers, h)
		o.metas = append(o.metas, meta)
		o.bytes += h.size()
	}
	return o, nil
}

func (n *Needle) validate() error {
	switch {
	case n.Key == 0 || n.Cookie == 0 || n.Alt > MaxAlt:
		return fmt.Errorf("%w: key %v, alt %d, cookie %v", ErrInvalid, n.Key, n.Alt, n.Cookie)
	case len(n.Data) > MaxData:
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(n.Data), MaxData)
	case n.Master != nil:
		return n.Master.validate()
	}
	return nil
}

func (v *Volume) submit(ctx context.Context, o *op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := v.poisoned(); err != nil {
		return err
	}
	if v.sealing.part.Load() != nil {
		return v.sealedError()
	}
	if !v.queue.add(o) {
		return ErrClosed
	}
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
	}
	if v.queue.withdraw(o) {
		return ctx.Err()
	}
	return <-o.done
}

// writer is the state of the writer goroutine.
type writer struct {
	end       int64  // where the next batch begins; everything below is synced
	allocated int64  // size of the file
	deletes   uint32 // deletes written, modulo 2^32
	unmarked  bool   // a batch was written since the last mark
}

// run is the writer goroutine.
func (v *Volume) run() {
	defer close(v.stopped)
	for ops := v.queue.take(); ops != nil; ops = v.queue.take() {
		if ops[0].exec != nil {
			ops[0].done <- ops[0].exec()
			continue
		}
		v.commit(ops)
		v.offerCheckpoint()
	}
}

// batch is what one write holds.
type batch struct {
	off     int64 // where the next record goes
	records []record
	puts    map[pair]*Needle
	deletes map[id.ID]bool
}

type pair struct {
	key id.ID
	alt uint8
}

type record struct {
	h    header
	off  int64
	meta []byte
	data []byte
	twin bool // the second copy of a tombstone
}

// commit writes one batch, syncs it, makes it readable and answers its ops.
func (v *Volume) commit(ops []*op) {
	if err := v.poisoned(); err != nil {
		answer(ops, err)
		return
	}
	if v.sealing.part.Load() != nil {
		answer(ops, v.sealedError())
		return
	}
	b := &batch{off: v.writer.end, puts: make(map[pair]*Needle), deletes: make(map[id.ID]bool)}
	accepted := ops[:0]
	for _, o := range ops {
		if err := v.plan(b, o); err != nil {
			o.done <- err
			continue
		}
		accepted = append(accepted, o)
	}
	if len(b.records) == 0 {
		answer(accepted, nil) // all of it was stored before
		return
	}
	if err := v.write(b); err != nil {
		answer(accepted, err)
		return
	}
	v.publish(b)
	answer(accepted, nil)
}

func answer(ops []*op, err error) {
	for _, o := range ops {
		o.done <- err
	}
}

// plan adds o's records to the batch, or says why o is refused; then the batch
// is as it was.
func (v *Volume) plan(b *batch, o *op) error {
	if o.key != 0 {
		return v.planDelete(b, o.key)
	}
	if v.sealing.fenced.Load() && !o.fill || v.isLog() {
		return v.sealedError()
	}
	var fresh []int
	var size int64
	for i := range o.needles {
		stored, err := v.stored(b, &o.needles[i])
		if err != nil {
			return err
		}
		if !stored {
			fresh = append(fresh, i)
			size += o.headers[i].size()
		}
	}
	if b.off+size > v.o.MaxBytes {
		return fmt.Errorf("%w: volume %d holds %d of %d bytes, the group needs %d",
			ErrFull, v.sb.Volume, b.off, v.o.MaxBytes, size)
	}
	for _, i := range fresh {
		n := &o.needles[i]
		b.puts[pair{n.Key, n.Alt}] = n
		b.add(record{h: o.headers[i], meta: o.metas[i], data: n.Data})
	}
	return nil
}

func (v *Volume) planDelete(b *batch, key id.ID) error {
	if _, _, deleted := v.idx.get(key, 0); deleted || b.deletes[key] {
		return nil
	}
	if b.off+2*headerSize > maxOffset {
		return fmt.Errorf("%w: volume %d cannot address more", ErrFull, v.sb.Volume)
	}
	b.deletes[key] = true
	for _, twin := range []bool{false, true} {
		b.add(record{h: header{Kind: KindTombstone, Key: key}, meta: make([]byte, headerSize), twin: twin})
	}
	return nil
}

func (b *batch) add(r record) {
	r.off = b.off
	b.off += r.h.size()
	b.records = append(b.records, r)
}

// stored tells whether n is there already, in the file or earlier in the
// batch. Another content, and a deleted key, are errors.
func (v *Volume) stored(b *batch, n *Needle) (bool, error) {
	p, found, deleted := v.idx.get(n.Key, n.Alt)
	if deleted || b.deletes[n.Key] {
		return false, fmt.Errorf("%w: %v", ErrTombstoned, n.Key)
	}
	same := false
	if earlier := b.puts[pair{n.Key, n.Alt}]; earlier != nil {
		found = true
		same = earlier.Cookie == n.Cookie && earlier.Master.equal(n.Master) && bytes.Equal(earlier.Data, n.Data)
	} else if found {
		h, blob, err := v.readWhole(p, n.Key, n.Alt)
		if err != nil {
			return false, err
		}
		same = h.Cookie == n.Cookie && blob.Master.equal(n.Master) && bytes.Equal(blob.Data, n.Data)
	}
	if found && !same {
		return false, fmt.Errorf("%w: %v alt %d", ErrConflict, n.Key, n.Alt)
	}
	return found, nil
}

var padding [align]byte

// write puts the batch on stable storage. Want of space foreseen leaves the
// volume as it was; any other failure poisons it.
func (v *Volume) write(b *batch) error {
	w := &v.writer
	if err := w.reserve(v, b.off); err != nil {
		return err
	}
	bufs := make([][]byte, 0, 3*len(b.records))
	for i := range b.records {
		r := &b.records[i]
		r.h.SyncedTo, r.h.Deletes = w.end, w.deletes
		if r.twin {
			w.deletes++ // both copies carry the same number
		}
		v.seal.putHeader(r.meta, &r.h, r.off)
		bufs = append(bufs, r.meta, r.data, padding[:r.h.size()-int64(len(r.meta)+len(r.data))])
	}
	_, err := v.file.WriteVAt(bufs, w.end)
	if err != nil {
		err = fmt.Errorf("write %d bytes at %d: %w", b.off-w.end, w.end, classify(err))
	} else if err = v.file.Sync(); err != nil {
		err = fmt.Errorf("sync after writing at %d: %w", w.end, classify(err))
	}
	if err != nil {
		v.setPoison(err)
		v.leaveMarker()
		return v.poisoned()
	}
	v.counters.batches.Add(1)
	v.counters.syncs.Add(1)
	v.counters.batchBytes.Add(b.off - w.end)
	w.end, w.allocated, w.unmarked = b.off, max(w.allocated, b.off), true
	return nil
}

// reserve makes room for the file up to end, a chunk ahead if possible.
func (w *writer) reserve(v *Volume, end int64) error {
	if end <= w.allocated {
		return nil
	}
	ahead := min(end+v.o.AllocChunk, max(end, v.o.MaxBytes))
	err := classify(v.file.Allocate(w.allocated, ahead-w.allocated))
	if errors.Is(err, ErrNoSpace) {
		ahead = end
		err = classify(v.file.Allocate(w.allocated, ahead-w.allocated))
	}
	if errors.Is(err, ErrNoSpace) {
		v.event(Event{Kind: EventNoSpace, Offset: w.end, Length: end - w.end, Err: err})
		return fmt.Errorf("volume %d: %w", v.sb.Volume, err)
	}
	if err != nil {
		v.setPoison(fmt.Errorf("allocate up to %d: %w", ahead, err))
		v.leaveMarker()
		return v.poisoned()
	}
	w.allocated = ahead
	return nil
}

// publish makes a synced batch readable.
func (v *Volume) publish(b *batch) {
	v.synced.Store(v.writer.end)
	for i := range b.records {
		r := &b.records[i]
		switch r.h.Kind {
		case KindNeedle:
			v.indexNeedle(&r.h, r.off)
			v.counters.appended.Add(1)
		case KindTombstone:
			v.indexTombstone(r.h.Key, r.off)
		}
	}
	v.counters.deleted.Add(int64(len(b.deletes)))
	if v.sealing.onDelete != nil {
		v.sealing.onDelete(b.deletes)
	}
}

// mark appends a mark record and syncs it. Without room for it there is none,
// which costs the next Open a walk and nothing else.
func (w *writer) mark(v *Volume) error {
	if err := classify(v.file.Allocate(w.end, headerSize)); errors.Is(err, ErrNoSpace) {
		return nil
	} else if err != nil {
		return fmt.Errorf("allocate a mark at %d: %w", w.end, err)
	}
	h := header{Kind: KindMark, SyncedTo: w.end, Deletes: w.deletes}
	if err := v.writeHeader(&h, w.end); err != nil {
		return fmt.Errorf("write a mark at %d: %w", w.end, err)
	}
	if err := v.file.Sync(); err != nil {
		return fmt.Errorf("sync a mark at %d: %w", w.end, err)
	}
	w.end += headerSize
	w.allocated = max(w.allocated, w.end)
	w.unmarked = false
	v.synced.Store(w.end)
	return nil
}

// finish is what a clean close writes.
func (w *writer) finish(v *Volume) error {
	if v.poisoned() != nil {
		return nil // whoever got the error knows; the file is not touched again
	}
	if w.unmarked {
		if err := w.mark(v); err != nil {
			v.setPoison(err)
			v.leaveMarker()
			return v.poisoned()
		}
	}
	if w.allocated > w.end {
		if err := v.file.Truncate(w.end); err != nil {
			return fmt.Errorf("give back preallocated space: %w", err)
		}
	}
	return nil
}
