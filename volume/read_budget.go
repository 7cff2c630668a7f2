package volume

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// ReadBudget bounds what the readers of the volumes that share it have in
// memory and do at once. Who has to wait is served in the order of coming, or
// gives up when its context ends.
type ReadBudget struct {
	limit int64
	bytes *semaphore.Weighted // memory, from before it is read into until it is released
	calls *semaphore.Weighted // reads of the device under way
	held  atomic.Int64
}

// NewReadBudget returns a budget of so many bytes and reads at once, both above
// 0. A needle for which bytes is too little is read when nothing else is held.
func NewReadBudget(bytes int64, calls int) *ReadBudget {
	return &ReadBudget{limit: bytes, bytes: semaphore.NewWeighted(bytes), calls: semaphore.NewWeighted(int64(calls))}
}

// Held is how many bytes are booked now: read into, or not released yet.
func (b *ReadBudget) Held() int64 { return b.held.Load() }

// room is what a reader has booked.
type room struct {
	budget *ReadBudget // nil: there is no bound
	n      int64
}

// enter books n bytes and the right to read the device. The caller ends with
// visit.leave.
func (b *ReadBudget) enter(ctx context.Context, n int64) (visit, error) {
	if b == nil {
		return visit{}, nil
	}
	n = min(n, b.limit)
	if err := b.bytes.Acquire(ctx, n); err != nil {
		return visit{}, fmt.Errorf("wait for memory to read into: %w", err)
	}
	if err := b.calls.Acquire(ctx, 1); err != nil {
		b.bytes.Release(n)
		return visit{}, fmt.Errorf("wait to read the disk: %w", err)
	}
	b.held.Add(n)
	return visit{room{b, n}}, nil
}

// leave gives the room back, once.
func (r *room) leave() {
	if r.budget != nil && r.n > 0 {
		r.budget.held.Add(-r.n)
		r.budget.bytes.Release(r.n)
	}
	r.n = 0
}

// visit is a reader that enter let in.
type visit struct{ room room }

// pass hands the room of what h holds on to it.
func (t *visit) pass(h *hold) {
	if t.room.budget == nil || h.lease.Bytes() == nil {
		return
	}
	n := min(int64(len(h.lease.Bytes())), t.room.n)
	h.room = room{t.room.budget, n}
	t.room.n -= n
}

// leave ends the visit: what was not handed on is given back.
func (t *visit) leave() {
	if b := t.room.budget; b != nil {
		b.calls.Release(1)
		t.room.leave()
	}
}
