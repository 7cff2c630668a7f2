package bench

import (
	"slices"
	"sync"
	"time"
)

// Latency collects the durations of one kind of request from many goroutines.
type Latency struct {
	mu     sync.Mutex // guards all below
	took   []time.Duration
	failed int
	first  error
}

// Add records one request that ended well after d, or badly with err.
func (l *Latency) Add(d time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed++
		if l.first == nil {
			l.first = err
		}
		return
	}
	l.took = append(l.took, d)
}

// Merge adds what o recorded.
func (l *Latency) Merge(o *Latency) {
	o.mu.Lock()
	took, failed, first := slices.Clone(o.took), o.failed, o.first
	o.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, took...)
	l.failed += failed
	if l.first == nil {
		l.first = first
	}
}

// Err is the first error that was recorded.
func (l *Latency) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// Result sums up what was recorded; Value is the quantile q.
func (l *Latency) Result(name string, q float64) Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.took)
	return Result{
		Name: name, Unit: "s", Value: l.quantile(q),
		P50: l.quantile(0.5), P99: l.quantile(0.99), P999: l.quantile(0.999),
		N: len(l.took), Errors: l.failed,
	}
}

// quantile is the nearest-rank quantile of the sorted durations, in seconds.
func (l *Latency) quantile(q float64) float64 {
	if len(l.took) == 0 {
		return 0
	}
	rank := int(q*float64(len(l.took))+0.9999999) - 1
	return l.took[min(max(rank, 0), len(l.took)-1)].Seconds()
}
