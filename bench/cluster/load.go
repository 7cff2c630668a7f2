package cluster

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"hayloft/bench"
)

// load is readers and writers that go on until it is stopped.
type load struct {
	s     *store
	lib   *library
	size  int
	reads track
	puts  track
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// track is how one kind of request went.
type track struct {
	mu      sync.Mutex // guards all below
	slowest time.Duration
	last    time.Time // when one succeeded
	gap     time.Duration
	retried int
	took    bench.Latency
}

// note records a request that began at start and ended now.
func (t *track) note(start time.Time, attempts int, err error) {
	now := time.Now()
	t.took.Add(now.Sub(start), err)
	t.mu.Lock()
	defer t.mu.Unlock()
	if attempts > 1 {
		t.retried++
	}
	if err != nil {
		return
	}
	t.slowest = max(t.slowest, now.Sub(start))
	if !t.last.IsZero() {
		t.gap = max(t.gap, now.Sub(t.last))
	}
	t.last = now
}

// requestTime is how long a request may take with all its retries.
const requestTime = 30 * time.Second

// start runs readers and writers. Each writer and reader is one client that waits
// for its answer before it asks again.
func start(ctx context.Context, s *store, lib *library, size, readers, writers int) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{s: s, lib: lib, size: size, stop: cancel}
	for range readers {
		l.done.Go(func() { l.read(ctx) })
	}
	for range writers {
		l.done.Go(func() { l.write(ctx) })
	}
	return l
}

func (l *load) read(ctx context.Context) {
	for ctx.Err() == nil {
		all := l.lib.all()
		b := all[rand.IntN(len(all))]
		began := time.Now()
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTime)
		n, err := l.s.get(one, b)
		cancel()
		l.reads.note(began, n, err)
	}
}

func (l *load) write(ctx context.Context) {
	data := make([]byte, l.size)
	for ctx.Err() == nil {
		fill(data)
		began := time.Now()
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTime)
		b, n, err := l.s.put(one, data)
		cancel()
		l.puts.note(began, n, err)
		if err == nil {
			l.lib.add(b)
		}
	}
}

// end stops the load and waits for what is under way.
func (l *load) end() {
	l.stop()
	l.done.Wait()
}

// fill makes bytes that no disk or link compresses.
func fill(b []byte) {
	seed := [32]byte{}
	for i := range 4 {
		v := rand.Uint64()
		for k := range 8 {
			seed[8*i+k] = byte(v >> (8 * k))
		}
	}
	_, _ = rand.NewChaCha8(seed).Read(b) // it never fails
}
