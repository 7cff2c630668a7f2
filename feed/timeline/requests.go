package timeline

import (
	"sync"

	"hayloft/internal/id"
)

// wish is what a page asks of the writer.
type wish uint8

// The wishes, the stronger the larger.
const (
	touch   wish = iota + 1 // note that the reader was here
	build                   // build the timeline if there is none
	rebuild                 // build the timeline in any case
	drop                    // forget the timeline
)

// requests are the wishes that wait for the writer: at most limit, at most one
// for each reader. One that finds no room is forgotten; the reader's next page
// makes it again.
type requests struct {
	limit int
	wake  chan struct{} // holds one when there may be something to take

	mu      sync.Mutex // guards those below
	wishes  map[id.ID]wish
	arrival []id.ID // keys of wishes in order of arrival
}

func (r *requests) init(limit int) {
	r.limit, r.wake, r.wishes = limit, make(chan struct{}, 1), map[id.ID]wish{}
}

// add reports whether there was room.
func (r *requests) add(reader id.ID, w wish) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, there := r.wishes[reader]
	if !there && len(r.wishes) >= r.limit {
		return false
	}
	r.wishes[reader] = max(old, w)
	if !there {
		r.arrival = append(r.arrival, reader)
		r.poke()
	}
	return true
}

// poke wakes the writer.
func (r *requests) poke() {
	select {
	case r.wake <- struct{}{}:
	default: // it has been told
	}
}

// take returns the oldest wish; ok is false when there is none.
func (r *requests) take() (reader id.ID, w wish, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.arrival) == 0 {
		return 0, 0, false
	}
	reader = r.arrival[0]
	if r.arrival = r.arrival[1:]; len(r.arrival) == 0 {
		r.arrival = nil // lets go of the array
	}
	w = r.wishes[reader]
	delete(r.wishes, reader)
	return reader, w, true
}

func (r *requests) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.wishes)
}
