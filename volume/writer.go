package volume

import (
	"errors"
	"fmt"

	"hayloft/internal/id"
)

// writer is the state of the writer goroutine.
type writer struct {
	end       int64  // of the last batch concluded: everything below is synced
	allocated int64  // size of the file
	deletes   uint32 // deletes written in front of end, modulo 2^32
	unmarked  bool   // a batch was written since the last mark

	puts     map[pair]pendingPut // in batches that are not concluded
	deleting map[id.ID]*batch    // the same
	pending  int                 // batches begun and not concluded
	fresh    []int               // what plan found new in a group
	doomed   []id.ID             // the same of keys to delete
	ops      []*op               // what was taken from the queue
	spare    []*batch            // for newBatch
}

// run is the writer goroutine.
func (v *Volume) run() {
	defer close(v.stopped)
	w, p := &v.writer, &v.pipe
	w.puts, w.deleting = make(map[pair]pendingPut), make(map[id.ID]*batch)
	p.next, p.deletes, p.handed = w.end, w.deletes, make(chan *batch, 1)
	p.idle.Store(true)
	ended := make(chan struct{})
	go v.runFlusher(ended)
	for {
		v.collect()
		w.ops = v.queue.take(w.ops[:0], batchBytes-p.size.Load())
		if len(w.ops) > 0 {
			v.assemble(w.ops)
			clear(w.ops)
			continue
		}
		if n, closed := v.queue.rest(); n == 0 && closed {
			break
		}
		<-v.queue.wake
	}
	v.drain()
	close(p.handed)
	<-ended
}

// assemble puts ops into the open batch and has it flushed if the device waits.
func (v *Volume) assemble(ops []*op) {
	p := &v.pipe
	if ops[0].exec != nil {
		v.drain()
		ops[0].done <- ops[0].exec()
		return
	}
	// From a standstill, what waits goes together. Else the device gets what
	// there is as soon as it wants it.
	busy := !p.idle.Load()
	for _, o := range ops {
		v.accept(o)
		if busy {
			p.handOver(&v.seal)
			v.collect()
		}
	}
	if n, _ := v.queue.rest(); len(ops) == 1 && n == 0 {
		if b := p.takeIdle(&v.seal); b != nil { // a lone caller is not made to wait for a goroutine to wake up
			v.flushHere(b)
		}
		return
	}
	p.handOver(&v.seal)
}

// flushHere flushes a batch on the writer goroutine, which took it while the
// flusher did nothing.
func (v *Volume) flushHere(b *batch) {
	v.flush(b)
	v.pipe.finished(b)
	v.pipe.idle.Store(true)
}

// drain has everything flushed that was taken from the queue, and concludes it.
// Then the flusher is idle: it has asked for a batch after the last one, so that
// it cannot come for another while the writer flushes one.
func (v *Volume) drain() {
	for {
		v.pipe.handOver(&v.seal)
		v.collect()
		if v.writer.pending == 0 && v.pipe.idle.Load() {
			return
		}
		<-v.queue.wake
	}
}

// collect concludes what was flushed.
func (v *Volume) collect() {
	for b := v.pipe.firstDone(); b != nil; b = v.pipe.firstDone() {
		v.conclude(b)
		v.writer.pending--
		v.writer.spare = append(v.writer.spare, b)
	}
}

// newBatch returns one of those that were concluded before.
func (w *writer) newBatch() *batch {
	w.pending++
	n := len(w.spare)
	if n == 0 {
		return &batch{}
	}
	b := w.spare[n-1]
	w.spare = w.spare[:n-1]
	return b
}

// conclude makes a batch readable and answers its ops, or fails them. Batches
// come in order, so when one failed, everything in front of it is acknowledged
// and in the marker.
func (v *Volume) conclude(b *batch) {
	if b.err != nil && v.poisoned() == nil {
		v.poisonWith(b.err)
	}
	if b.err == nil {
		v.observe(b)
		v.publish(b)
	}
	for i := range b.records {
		switch r := &b.records[i]; r.h.Kind {
		case KindNeedle:
			delete(v.writer.puts, pair{r.h.Key, r.h.Alt})
		case KindTombstone:
			delete(v.writer.deleting, r.h.Key)
		}
	}
	var err error
	if b.err != nil {
		err = v.poisoned()
	}
	for _, o := range b.ops {
		o.done <- err
	}
	clear(b.ops)
	if err == nil {
		v.offerCheckpoint()
	}
}

// poisonWith ends appending for ever.
func (v *Volume) poisonWith(cause error) {
	v.setPoison(cause)
	v.leaveMarker()
}

func (v *Volume) observe(b *batch) {
	c, s := &v.counters, v.steps
	c.batches.Add(1)
	c.syncs.Add(1)
	c.batchBytes.Add(b.off - b.start)
	s.assemble.Observe(b.assembly)
	s.write.Observe(b.wrote)
	s.sync.Observe(b.synced)
	s.batchBytes.Observe(b.off - b.start)
	s.batchRecords.Observe(int64(len(b.records)))
}

// publish makes a synced batch readable.
func (v *Volume) publish(b *batch) {
	w := &v.writer
	w.end, w.deletes, w.unmarked = b.off, b.deletes, true
	v.deletes.Store(w.deletes)
	v.synced.Store(w.end)
	var gone []id.ID
	for i := range b.records {
		r := &b.records[i]
		switch {
		case r.h.Kind == KindNeedle:
			v.indexNeedle(&r.h, r.off)
			v.counters.appended.Add(1)
		case r.h.Kind == KindTombstone && !r.twin:
			v.indexTombstone(r.h.Key, r.off)
			gone = append(gone, r.h.Key)
		}
	}
	v.indexed.Store(w.end)
	v.counters.deleted.Add(int64(len(gone)))
	if v.sealing.onDelete != nil {
		v.sealing.onDelete(gone)
	}
}

// indexNeedle makes a needle readable.
func (v *Volume) indexNeedle(h *header, off int64) {
	last, found, deleted := v.idx.Load().get(h.Key, h.Alt)
	if deleted || found && last.off >= off {
		return // a tombstone hides all; a walk may come here twice
	}
	p := place{off, h.size()}
	v.idx.Load().put(h.Key, h.Alt, p)
	if found {
		return // stored once more, the one before being damaged
	}
	v.counters.needles.Add(1)
	v.counters.liveBytes.Add(p.size)
}

// indexTombstone hides a key.
func (v *Volume) indexTombstone(key id.ID, off int64) {
	if _, _, deleted := v.idx.Load().get(key, 0); deleted {
		return // the twin
	}
	n, size := v.idx.Load().remove(key, place{off, headerSize})
	v.counters.tombstones.Add(1)
	v.counters.needles.Add(-int64(n))
	v.counters.liveBytes.Add(-size)
}

// reserve makes room for the file up to end, a chunk ahead if possible. What
// from says is for the event.
func (w *writer) reserve(v *Volume, from, end int64) error {
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
		v.event(Event{Kind: EventNoSpace, Offset: from, Length: end - from, Err: err})
		return fmt.Errorf("volume %d: %w", v.sb.Volume, err)
	}
	if err != nil {
		return fmt.Errorf("allocate up to %d: %w", ahead, err)
	}
	w.allocated = ahead
	return nil
}

// mark appends a mark record and syncs it. Without room for it there is none,
// which costs the next Open a walk and nothing else. Nothing else is being
// written.
func (w *writer) mark(v *Volume) error {
	p := &v.pipe
	end := padded(w.end+headerSize, p.unit)
	if err := classify(v.file.Allocate(w.end, end-w.end)); errors.Is(err, ErrNoSpace) {
		return nil
	} else if err != nil {
		return fmt.Errorf("allocate a mark at %d: %w", w.end, err)
	}
	var b batch
	var meta [headerSize]byte
	b.begin(w.end, w.deletes)
	b.add(&v.seal, header{Kind: KindMark}, meta[:], nil, false)
	b.pad(&v.seal, p.unit)
	if v.flush(&b); b.err != nil {
		return fmt.Errorf("mark: %w", b.err)
	}
	w.end, w.allocated, w.unmarked = end, max(w.allocated, end), false
	v.synced.Store(w.end)
	v.indexed.Store(w.end)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = w.end
	return nil
}

// finish is what a clean close writes.
func (w *writer) finish(v *Volume) error {
	if v.poisoned() != nil {
		return nil // whoever got the error knows; the file is not touched again
	}
	if v.sealing.replaced {
		return nil // it has no name any more, and a marker would be taken for one of its successor
	}
	if w.unmarked {
		if err := w.mark(v); err != nil {
			v.poisonWith(err)
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
