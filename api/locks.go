package api

import (
	"context"
	"sync"

	"hayloft/internal/id"
)

// mutexes serialises work by photo.
type mutexes struct {
	mu sync.Mutex // guards by and the counts in it
	by map[id.ID]*photoLock
}

type photoLock struct {
	turn    chan struct{} // holds one token while free
	holders int           // who has it or waits for it
}

func newMutexes() *mutexes { return &mutexes{by: make(map[id.ID]*photoLock)} }

// lock waits for the photo's turn, until ctx ends.
func (m *mutexes) lock(ctx context.Context, photo id.ID) (unlock func(), err error) {
	m.mu.Lock()
	l := m.by[photo]
	if l == nil {
		l = &photoLock{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		m.by[photo] = l
	}
	l.holders++
	m.mu.Unlock()
	leave := func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if l.holders--; l.holders == 0 {
			delete(m.by, photo)
		}
	}
	select {
	case <-l.turn:
		return func() { l.turn <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// flights are the idempotency keys whose first request is running here.
type flights struct {
	mu  sync.Mutex // guards all below
	set map[string]struct{}
}

func newFlights() *flights { return &flights{set: make(map[string]struct{})} }

func (f *flights) begin(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, busy := f.set[key]; busy {
		return false
	}
	f.set[key] = struct{}{}
	return true
}

func (f *flights) end(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.set, key)
}
