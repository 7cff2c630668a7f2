package fleet

import "time"

// moment is a time of the clock, if it was ever.
type moment struct {
	at time.Duration
	ok bool
}

func (m *moment) atLeast(at time.Duration) {
	if !m.ok || at > m.at {
		*m = moment{at, true}
	}
}

func (m moment) age(now time.Duration) (time.Duration, bool) { return max(now-m.at, 0), m.ok }

// sureness is how old the table here may be. It had everything at one moment, and
// will have had everything at a later one as soon as it has a version.
type sureness struct {
	sure    moment
	next    moment
	version uint64 // of next
}

// told takes in that version was the newest one at a moment.
func (s *sureness) told(version uint64, at time.Duration, own uint64) {
	s.look(own)
	switch {
	case own >= version:
		s.sure.atLeast(at)
	case !s.next.ok || version == s.version:
		s.next.atLeast(at)
		s.version = version
	}
	// Else what was told before is reached sooner.
}

// look takes in the version of the table here.
func (s *sureness) look(own uint64) {
	if s.next.ok && own >= s.version {
		s.sure.atLeast(s.next.at)
		s.next = moment{}
	}
}
