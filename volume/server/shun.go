package server

import (
	"slices"
	"sync"
	"time"
)

// shunned are the disks of the cluster that failed a writer of this process or
// kept it waiting: no replicas are put there for a while.
type shunned struct {
	mu    sync.Mutex // guards until
	until map[uint32]time.Time
}

// shunTime is how long.
const shunTime = 30 * time.Second

func (s *Server) shun(disk uint32) {
	now := s.o.Clock.Now()
	s.shunned.mu.Lock()
	defer s.shunned.mu.Unlock()
	if s.shunned.until == nil {
		s.shunned.until = make(map[uint32]time.Time)
	}
	s.shunned.until[disk] = now.Add(shunTime)
}

// avoided returns the disks that are shunned now, those first that have been longest.
func (s *Server) avoided() (out []uint32) {
	now := s.o.Clock.Now()
	s.shunned.mu.Lock()
	defer s.shunned.mu.Unlock()
	for d, until := range s.shunned.until {
		if now.Before(until) {
			out = append(out, d)
		} else {
			delete(s.shunned.until, d)
		}
	}
	slices.SortFunc(out, func(a, b uint32) int { return s.shunned.until[a].Compare(s.shunned.until[b]) })
	return out
}

// shuns reports whether a disk is shunned now.
func (s *Server) shuns(disk uint32) bool {
	s.shunned.mu.Lock()
	defer s.shunned.mu.Unlock()
	until, ok := s.shunned.until[disk]
	return ok && s.o.Clock.Now().Before(until)
}
