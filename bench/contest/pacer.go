package contest

import (
	"context"
	"sync"
	"time"
)

// Pacer spends a budget of bytes per second; what was not spent is lost.
type Pacer struct {
	Rate int64 // bytes per second

	mu   sync.Mutex // guards next
	next time.Time
}

// Wait is a volume's Throttle.
func (p *Pacer) Wait(ctx context.Context, n int64) error {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	at := p.next
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.Rate) * float64(time.Second)))
	p.mu.Unlock()
	if SleepUntil(ctx, at) {
		return nil
	}
	return ctx.Err()
}
