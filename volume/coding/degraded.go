package coding

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hayloft/internal/slab"
)

// degraded is one range that is computed from k shards, asked at once.
//
// The goroutines of requests that are not waited for any more (the hedge was
// faster) end when their shard answers or heeds the context; what they read is
// dropped.
type degraded struct {
	r *Reader
	p *piece

	mu     sync.Mutex // guards all below
	over   bool       // nobody waits any more
	have   map[int]slab.Lease
	failed []error // of shards that failed
	lost   map[int]bool
	news   chan struct{} // of room 1: something changed
}

// compute fills a piece out of the same range of k other shards: one request to
// each of k, another for each that fails, and one more when they take long.
func (r *Reader) compute(ctx context.Context, p *piece) error {
	order := r.others(p.shard)
	k, most := r.c.Data, len(order) // most that can answer
	d := &degraded{r: r, p: p, have: make(map[int]slab.Lease), lost: make(map[int]bool), news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer d.end()
	ask := func(n int) {
		n = min(n, len(order))
		for _, i := range order[:n] {
			go d.request(ctx, i)
		}
		order = order[n:]
	}
	ask(k)
	var hedge <-chan time.Time
	if after := r.o.HedgeAfter(); after > 0 && len(order) > 0 {
		hedge = r.o.Clock.After(after)
	}
	for replaced := 0; ; {
		have, failed := d.count()
		if have >= k {
			return d.solve()
		}
		if failed > replaced {
			n := min(failed-replaced, len(order))
			ask(n)
			replaced += n
		}
		if most-failed < k {
			return d.error()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.news:
		case <-hedge:
			hedge = nil
			ask(1)
		}
	}
}

// others are the shards that can be asked for what shard i has.
func (r *Reader) others(i int) []int {
	var out []int
	for j, s := range r.shards {
		if s != nil && j != i {
			out = append(out, j)
		}
	}
	return out
}

// request reads the range from shard i.
func (d *degraded) request(ctx context.Context, i int) {
	n := len(d.p.b)
	lease := buffers.Get(n)
	off := headSize + d.p.off
	err := d.r.shards[i].ReadAt(ctx, lease.Bytes()[:n:n], off)
	if err != nil && d.wanted() && ctx.Err() == nil {
		d.r.o.Found(Finding{Shard: i, Offset: off, Length: int64(n), Err: err})
	}
	d.take(i, lease, err)
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// wanted tells whether somebody still waits.
func (d *degraded) wanted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.over
}

// take notes what shard i answered.
func (d *degraded) take(i int, lease slab.Lease, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.over && err == nil {
		d.have[i] = lease
		return
	}
	lease.Release()
	if err != nil {
		d.lost[i] = true
		d.failed = append(d.failed, fmt.Errorf("shard %d: %w", i, err))
	}
}

func (d *degraded) count() (have, failed int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.have), len(d.failed)
}

// end lets go of what was read.
func (d *degraded) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	for _, lease := range d.have {
		lease.Release()
	}
}

func (d *degraded) solve() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	cols := make([][]byte, d.r.c.Shards())
	required := make([]bool, len(cols))
	n := 0
	for i, lease := range d.have {
		if n < d.r.c.Data {
			cols[i] = lease.Bytes()[:len(d.p.b)]
			n++
		}
	}
	cols[d.p.shard], required[d.p.shard] = d.p.b[:0], true
	return d.r.code.ReconstructSome(cols, required)
}

// error says which shards do not have the range.
func (d *degraded) error() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := &LostError{Plan: d.r.c.Plan, Causes: errors.Join(d.failed...)}
	for i, s := range d.r.shards {
		if s == nil || i == d.p.shard || d.lost[i] {
			e.Lost = append(e.Lost, i)
		}
	}
	return e
}
