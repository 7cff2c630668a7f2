package transcode

import (
	"sync"

	"hayloft/internal/id"
)

// maxSuspects bounds how many photos are remembered; one that is forgotten is
// only tried more often.
const maxSuspects = 1024

// suspects counts how often photos hung. The zero value is empty.
type suspects struct {
	mu     sync.Mutex
	counts map[id.ID]int // guarded by mu
}

// count adds one for photo and returns its sum.
func (s *suspects) count(photo id.ID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = make(map[id.ID]int)
	}
	if _, ok := s.counts[photo]; !ok && len(s.counts) >= maxSuspects {
		for other := range s.counts { // any one
			delete(s.counts, other)
			break
		}
	}
	s.counts[photo]++
	return s.counts[photo]
}

// clear forgets photo.
func (s *suspects) clear(photo id.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.counts, photo)
}
