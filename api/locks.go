package api

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

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

const (
	spoolQueue     = 256 // uploads that may wait for room
	spoolPerOwner  = 4   // one account may hold a quarter of the spool
	spoolRetryTime = 5 * time.Second
)

// spool is the budget of upload and master bytes in memory at once.
type spool struct {
	total int64
	wait  time.Duration
	room  *semaphore.Weighted

	mu      sync.Mutex // guards all below
	owners  map[id.ID]int64
	waiting int
}

func newSpool(total int64, wait time.Duration) *spool {
	return &spool{total: total, wait: wait, room: semaphore.NewWeighted(total), owners: make(map[id.ID]int64)}
}

// take reserves n bytes for owner; give returns them. A single photo always
// fits; more than its share an account gets only 429, and when the spool stays
// full it is 503.
func (s *spool) take(ctx context.Context, owner id.ID, n int64) (give func(), err error) {
	s.mu.Lock()
	if held := s.owners[owner]; held > 0 && held+n > s.total/spoolPerOwner {
		s.mu.Unlock()
		return nil, &problem{kind: pUploadsBusy, retryAfter: spoolRetryTime}
	}
	if s.waiting >= spoolQueue {
		s.mu.Unlock()
		return nil, &problem{kind: pBusy, detail: "too many uploads at once", retryAfter: spoolRetryTime}
	}
	s.owners[owner] += n
	s.waiting++
	s.mu.Unlock()

	if !s.room.TryAcquire(n) {
		ctx, cancel := context.WithTimeout(ctx, s.wait)
		defer cancel()
		err = s.room.Acquire(ctx, n)
	}

	s.mu.Lock()
	s.waiting--
	s.mu.Unlock()
	disown := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.owners[owner] -= n; s.owners[owner] == 0 {
			delete(s.owners, owner)
		}
	}
	if err != nil {
		disown()
		return nil, &problem{kind: pBusy, detail: "too many uploads at once", retryAfter: spoolRetryTime}
	}
	var once sync.Once
	return func() { once.Do(func() { s.room.Release(n); disown() }) }, nil
}
