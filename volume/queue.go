package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"hayloft/internal/id"
)

// op is one queued Append or Delete.
type op struct {
	needles []Needle      // of a put
	records []prepared    // of needles
	key     id.ID         // of a delete
	keys    []id.ID       // of deletes that belong together
	fill    bool          // the fence lets it pass
	hasty   bool          // its caller leaves when its context ends, whatever became of it
	exec    func() error  // runs on the writer goroutine, instead of a put or delete
	bytes   int64         // size of the records
	queued  time.Duration // when, as now tells it
	done    chan error    // has room for the answer

	numbered      bool   // keys get the numbers behind after
	after, newest uint32 // newest is the answer

	copying sync.Mutex // held while the data of a put is copied; guards left
	left    bool       // its caller has gone, with the data
}

// leave ends the wait of the caller: its data is not touched any more.
func (o *op) leave() {
	o.copying.Lock()
	defer o.copying.Unlock()
	o.left = true
}

// gone reports whether the caller has left.
func (o *op) gone() bool {
	o.copying.Lock()
	defer o.copying.Unlock()
	return o.left
}

// prepared is a record without what depends on its offset. meta has room for
// the header in front of master info and table.
type prepared struct {
	h    header
	meta []byte
}

// queue hands ops to the writer goroutine.
type queue struct {
	mu     sync.Mutex // guards ops and closed
	ops    []*op
	closed bool
	wake   chan struct{} // holds one token when the writer may have something to do
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
			q.ops = slices.Delete(q.ops, i, i+1)
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

// take moves what a batch with room for so many bytes can take into ops, which
// is empty: nothing, if there is nothing or the first has no room. An empty batch
// has room for any op, and an exec stands alone.
func (q *queue) take(ops []*op, room int64) []*op {
	q.mu.Lock()
	defer q.mu.Unlock()
	empty := room == batchBytes
	for _, o := range q.ops {
		if room -= o.bytes; len(ops) > 0 && o.exec != nil || room < 0 && !(empty && len(ops) == 0) {
			break
		}
		if ops = append(ops, o); o.exec != nil {
			break
		}
	}
	q.ops = slices.Delete(q.ops, 0, len(ops))
	return ops
}

// rest tells how many ops wait, and whether there will be no more.
func (q *queue) rest() (n int, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ops), q.closed
}

// Append stores a group of needles side by side and returns when they are on
// stable storage and readable. Either the whole group is taken or none of it,
// except that after a crash part of an unacknowledged group may be found. A
// needle that is there already with the same cookie, data and master info
// counts as stored.
//
// If ctx ends while the group still waits in the queue, Append gives up and
// nothing is written. Once the writer has it, which is as soon as the batch
// being made has room, Append waits for the outcome, unless Options.Hung says that
// there will be none: then it is ErrHung. (A group above 16 MiB is written while it
// is copied; Append waits for that.)
func (v *Volume) Append(ctx context.Context, group []Needle) error {
	begin := v.now()
	o, err := newPut(group)
	if err != nil {
		return err
	}
	return v.timed(begin, v.submit(ctx, o))
}

// AppendUntil is Append for a caller who takes the data away when ctx ends: of a
// group that the writer has by then nobody knows what will become of it, and the
// error is ErrHung.
func (v *Volume) AppendUntil(ctx context.Context, group []Needle) error {
	begin := v.now()
	o, err := newPut(group)
	if err != nil {
		return err
	}
	o.hasty = true
	return v.timed(begin, v.submit(ctx, o))
}

// timed counts an acknowledged call.
func (v *Volume) timed(begin time.Duration, err error) error {
	if err == nil {
		v.took(&v.steps.append, begin)
	}
	return err
}

// Delete makes every alt of key unreadable for ever, also what is put later.
// It returns when that is on stable storage. A key that was never put can be
// deleted, and one that is deleted already.
func (v *Volume) Delete(ctx context.Context, key id.ID) error {
	if key == 0 {
		return fmt.Errorf("%w: key 0", ErrInvalid)
	}
	begin := v.now()
	err := v.sealedError()
	if v.deleteLog() == nil {
		err = v.submit(ctx, newDelete(key))
	}
	if errors.Is(err, ErrSealed) {
		err = v.logDelete(ctx, key)
	}
	return v.timed(begin, err)
}

// Entomb is Delete in a volume that is not fenced. One that is fenced or sealed is
// ErrSealed: its deletes have numbers, which one replica gives out.
func (v *Volume) Entomb(ctx context.Context, key id.ID) error {
	if key == 0 {
		return fmt.Errorf("%w: key 0", ErrInvalid)
	}
	if v.Fenced() {
		return v.sealedError()
	}
	begin := v.now()
	return v.timed(begin, v.submit(ctx, newDelete(key)))
}

// logDelete is Delete in a fenced or sealed volume.
func (v *Volume) logDelete(ctx context.Context, key id.ID) error {
	if err := v.poisoned(); err != nil {
		return err
	}
	if v.deleteLog() == nil { // fenced by an earlier program, without a log
		if err := v.Fence(ctx); err != nil {
			return err
		}
	}
	return v.withLog(ctx, func(l *deleteLog) error {
		if err := l.delete(ctx, key); err != nil {
			return err
		}
		v.counters.deleted.Add(1)
		return nil
	})
}

func newDelete(key id.ID) *op {
	return &op{key: key, bytes: 2 * headerSize, done: make(chan error, 1)}
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
	// The caller may have left, and use group for something else, when the writer
	// comes to it.
	o := &op{needles: slices.Clone(group), records: make([]prepared, len(group)), done: make(chan error, 1)}
	for i := range group {
		r := &o.records[i]
		r.h, r.meta = newNeedle(&group[i])
		if o.bytes += r.h.size(); o.bytes > MaxGroup {
			return nil, fmt.Errorf("%w: a group of more than %d bytes", ErrTooLarge, MaxGroup)
		}
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
	o.queued = v.now()
	if !v.queue.add(o) {
		return ErrClosed
	}
	hung := v.o.hung()
	select {
	case err := <-o.done:
		return err
	case <-hung:
	case <-ctx.Done():
		if v.queue.withdraw(o) {
			return ctx.Err()
		}
		if o.hasty {
			break
		}
		select {
		case err := <-o.done:
			return err
		case <-hung:
		}
	}
	v.queue.withdraw(o)
	o.leave()
	return fmt.Errorf("%w: volume %d", ErrHung, v.sb.Volume)
}
