package feed

import (
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
	photos  map[id.ID]*photoWatch
}

// photoWatch is the channel of those who wait for one photo, and their number.
type photoWatch struct {
	settled chan struct{} // closed when the photo is no longer pending
	waiters int
}

func (w *watch) init() {
	for _, ch := range w.topics() {
		*ch = make(chan struct{})
	}
	w.photos = make(map[id.ID]*photoWatch)
}

func (w *watch) topics() []*chan struct{} {
	return []*chan struct{}{&w.events, &w.effects, &w.purges, &w.sweep, &w.changes}
}

func (w *watch) wake(s signals) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, woken := range []bool{s.events, s.effects, s.purges, s.sweep, s.changes} {
		if woken {
			ch := w.topics()[i]
			close(*ch)
			*ch = make(chan struct{})
		}
	}
	for _, photo := range s.settled {
		if ch, ok := w.photos[photo]; ok {
			close(ch.settled)
			delete(w.photos, photo)
		}
	}
}

func (w *watch) wakeAll() {
	w.mu.Lock()
	settled := make([]id.ID, 0, len(w.photos))
	for photo := range w.photos {
		settled = append(settled, photo)
	}
	w.mu.Unlock()
	w.wake(signals{events: true, effects: true, purges: true, sweep: true, changes: true, settled: settled})
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
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.photos[photo]
	if p == nil {
		p = &photoWatch{settled: make(chan struct{})}
		w.photos[photo] = p
	}
	p.waiters++
	return p.settled, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if p.waiters--; p.waiters == 0 && w.photos[photo] == p {
			delete(w.photos, photo)
		}
	}
}
