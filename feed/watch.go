package feed

import (
	"maps"
	"math"
	"slices"
	"sync"

	"hayloft/internal/id"
)

// watch wakes those who wait for a change to become visible.
type watch struct {
	mu      sync.Mutex // guards all below
	events  chan struct{}
	effects chan struct{}
	purges  chan struct{}
	sweep   chan struct{}
	changes chan struct{}
	tell    chan struct{}
	photos  map[id.ID]*oneWatch // those that are no longer pending
	inboxes map[id.ID]*oneWatch // of users

	// sweepAt is the time, in milliseconds, at which the sweeper will look by itself: only
	// what ends before that wakes it. Most of what is to end is done long before, and each
	// look passes over all that is removed and not compacted yet.
	sweepAt uint64
}

// oneWatch is the channel of those who wait for one photo or one inbox, and their
// number.
type oneWatch struct {
	changed chan struct{} // closed at the change
	waiters int
}

func (w *watch) init() {
	for _, ch := range w.topics() {
		*ch = make(chan struct{})
	}
	w.sweepAt = math.MaxUint64
	w.photos = make(map[id.ID]*oneWatch)
	w.inboxes = make(map[id.ID]*oneWatch)
}

func (w *watch) topics() []*chan struct{} {
	return []*chan struct{}{&w.events, &w.effects, &w.purges, &w.sweep, &w.tell, &w.changes}
}

func (w *watch) wake(s signals) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sweep := s.sweep || s.due != 0 && s.due < w.sweepAt
	for i, woken := range []bool{s.events, s.effects, s.purges, sweep, s.tell, s.changes} {
		if woken {
			ch := w.topics()[i]
			close(*ch)
			*ch = make(chan struct{})
		}
	}
	wakeOnes(w.photos, s.settled)
	wakeOnes(w.inboxes, s.noticed)
}

// wakeOnes is called under mu.
func wakeOnes(watched map[id.ID]*oneWatch, changed []id.ID) {
	for _, v := range changed {
		if ch, ok := watched[v]; ok {
			close(ch.changed)
			delete(watched, v)
		}
	}
}

func (w *watch) wakeAll() {
	w.mu.Lock()
	settled := slices.Collect(maps.Keys(w.photos))
	noticed := slices.Collect(maps.Keys(w.inboxes))
	w.mu.Unlock()
	w.wake(signals{events: true, effects: true, purges: true, sweep: true, tell: true, changes: true, settled: settled, noticed: noticed})
}

// planSweep says when the sweeper will look by itself. Before it looks it says never, so
// that whatever is set meanwhile wakes it.
func (w *watch) planSweep(at uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sweepAt = at
}

// on returns the channel that is closed at the next change of a topic. Take it
// first, look at the state, then wait.
func (w *watch) on(topic *chan struct{}) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *topic
}

// onPhoto returns a channel that is closed when the photo is settled. done must
// be called once.
func (w *watch) onPhoto(photo id.ID) (settled <-chan struct{}, done func()) {
	return w.onOne(w.photos, photo)
}

// onInbox is onPhoto for a user's notifications.
func (w *watch) onInbox(user id.ID) (changed <-chan struct{}, done func()) {
	return w.onOne(w.inboxes, user)
}

func (w *watch) onOne(watched map[id.ID]*oneWatch, v id.ID) (changed <-chan struct{}, done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := watched[v]
	if p == nil {
		p = &oneWatch{changed: make(chan struct{})}
		watched[v] = p
	}
	p.waiters++
	return p.changed, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if p.waiters--; p.waiters == 0 && watched[v] == p {
			delete(watched, v)
		}
	}
}
