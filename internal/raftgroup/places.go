package raftgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"hayloft/internal/cutfs"
)

// candidate is one of Options.Dirs.
type candidate struct {
	order int    // in Options
	given string // as there
	dir   string // absolute: what the records name

	// Guarded by mirrors.mu.
	place *place // nil: it is not to be used
	why   error  // of that
}

// place is a candidate as long as it can be used. When it is lost everything
// that works on its files ends; if it becomes usable again, that is another
// place.
type place struct {
	c     *candidate
	dir   string
	fs    *cutfs.FS // of state and snapshots
	disk  *cutfs.FS // of log, identity and record
	snaps *snapDir
	gone  chan struct{} // closed when it is lost, under mirrors.mu

	// Guarded by mirrors.mu.
	copying bool // it becomes a mirror
	told    bool // it has the last record
}

func (p *place) isGone() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

func newPlace(o *Options, c *candidate) *place {
	p := &place{c: c, dir: c.dir, fs: cutfs.New(o.FS), disk: cutfs.New(o.disk), gone: make(chan struct{})}
	p.snaps = newSnapDir(p.fs, p.fs.PathJoin(p.dir, snapsName))
	return p
}

// mirrors are the candidates of a group and, among them, the members: those that
// hold log, stable store and snapshots. It is the store under logStore, see
// mirrors.go.
type mirrors struct {
	o     *Options
	emit  func(Event)
	kick  func()       // wakes the goroutine that mends; must not block
	moved func(*place) // a place was lost: the state must not be used there; called under mu
	all   []*candidate
	birth tag

	opMu sync.Mutex // held while the members are written to or changed

	mu      sync.Mutex    // guards the fields below and those of candidates
	members []*mirror     // in order of preference; changed with opMu held too
	epoch   uint64        // of the last record
	news    chan struct{} // closed and replaced when a place is lost
	closing sync.WaitGroup

	given     chan struct{} // closed when nobody waits for a disk any more
	givenOnce sync.Once
}

// errHangs is why a mirror is given up that does not answer.
var errHangs = errors.New("it does not answer")

func newMirrors(o *Options, emit func(Event)) (*mirrors, error) {
	s := &mirrors{o: o, emit: emit, news: make(chan struct{}), given: make(chan struct{})}
	for i, dir := range o.Dirs {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		c := &candidate{order: i, given: dir, dir: abs}
		c.place = newPlace(o, c)
		s.all = append(s.all, c)
	}
	return s, nil
}

// giveUp ends every wait for a disk: the group has stopped, and its last mirror
// hangs.
func (s *mirrors) giveUp() { s.givenOnce.Do(func() { close(s.given) }) }

func (s *mirrors) newsChan() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.news
}

// places returns those that can be used.
func (s *mirrors) places() []*place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.placesLocked()
}

func (s *mirrors) placesLocked() []*place {
	var out []*place
	for _, c := range s.all {
		if c.place != nil {
			out = append(out, c.place)
		}
	}
	return out
}

// healthy returns the members whose place is not lost.
func (s *mirrors) healthy() []*mirror {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.healthyLocked()
}

func (s *mirrors) healthyLocked() []*mirror {
	var out []*mirror
	for _, m := range s.members {
		if !m.place.isGone() {
			out = append(out, m)
		}
	}
	return out
}

// lose gives a place up for good, unless it is the last that holds a mirror: then
// it reports false and changes nothing, and the group has to stop.
func (s *mirrors) lose(p *place, why error) bool {
	s.mu.Lock()
	if !p.isGone() {
		others := slices.ContainsFunc(s.healthyLocked(), func(m *mirror) bool { return m.place != p })
		if !others {
			s.mu.Unlock()
			return false
		}
		s.loseLocked(p, why)
		s.mu.Unlock()
		s.emit(Event{Kind: EventMirrorLost, Dir: p.c.given, Err: why})
		s.kick()
		return true
	}
	s.mu.Unlock()
	return true
}

func (s *mirrors) loseLocked(p *place, why error) {
	why = fmt.Errorf("%s: %w", p.c.given, why)
	p.c.place, p.c.why = nil, why
	close(p.gone)
	p.fs.Cut(why)
	p.disk.Cut(why)
	close(s.news)
	s.news = make(chan struct{})
	s.moved(p)
}

// abandon gives a place up, the last one too. It reports whether a member is left.
func (s *mirrors) abandon(dir string, why error) (left bool) {
	s.mu.Lock()
	c := s.find(dir)
	lost := c != nil && c.place != nil
	if lost {
		s.loseLocked(c.place, why)
	}
	left = len(s.healthyLocked()) > 0
	s.mu.Unlock()
	if lost {
		s.emit(Event{Kind: EventMirrorLost, Dir: dir, Err: why})
		s.kick()
	}
	return left
}

// usable takes a lost candidate back, as a place that holds nothing.
func (s *mirrors) usable(dir string) {
	s.mu.Lock()
	if c := s.find(dir); c != nil && c.place == nil {
		c.place, c.why = newPlace(s.o, c), nil
	}
	s.mu.Unlock()
	s.kick()
}

// find returns the candidate with that path, nil if there is none.
func (s *mirrors) find(dir string) *candidate {
	abs, err := filepath.Abs(dir)
	i := slices.IndexFunc(s.all, func(c *candidate) bool { return c.given == dir || err == nil && c.dir == abs })
	if i < 0 {
		return nil
	}
	return s.all[i]
}

// wanted returns the next place that should become a mirror, nil when there are
// enough or nothing is left.
func (s *mirrors) wanted() *place {
	s.mu.Lock()
	defer s.mu.Unlock()
	healthy := s.healthyLocked()
	if len(healthy) >= s.o.Mirrors {
		return nil
	}
	for _, p := range s.placesLocked() {
		if !slices.ContainsFunc(healthy, func(m *mirror) bool { return m.place == p }) {
			return p
		}
	}
	return nil
}

func (s *mirrors) setCopying(p *place, yes bool) {
	s.mu.Lock()
	p.copying = yes
	s.mu.Unlock()
}

// settle takes those that were lost out of the members and tells every candidate
// so, before anything more is acknowledged. opMu is held.
func (s *mirrors) settle() error {
	s.mu.Lock()
	keep := s.healthyLocked()
	if len(keep) == len(s.members) {
		s.mu.Unlock()
		return nil
	}
	if len(keep) == 0 { // the last record stands
		s.mu.Unlock()
		return s.noMirror()
	}
	for _, m := range s.members {
		if m.place.isGone() {
			s.letGo(m)
		}
	}
	s.members = keep
	s.mu.Unlock()
	return s.publish() // settles again
}

// letGo closes the log of a mirror that is lost, whenever that is possible.
func (s *mirrors) letGo(m *mirror) {
	s.closing.Add(1)
	go func() {
		defer s.closing.Done()
		_ = m.close() // why it was lost has been told
	}()
}

// publish writes the next record to every place. One that cannot take it is lost.
// opMu is held.
func (s *mirrors) publish() error {
	s.mu.Lock()
	s.epoch++
	for _, p := range s.placesLocked() {
		p.told = false
	}
	s.mu.Unlock()
	return s.remind()
}

// remind writes the record to the places that do not have it, and settles. opMu
// is held.
func (s *mirrors) remind() error {
	s.mu.Lock()
	rec := s.recordLocked()
	places := slices.DeleteFunc(s.placesLocked(), func(p *place) bool { return p.told })
	s.mu.Unlock()
	b, err := encodeRecord(rec)
	if err != nil {
		return err
	}
	_, failed := s.gather(places, func(p *place) error {
		if err := makeDir(p.disk, p.dir); err != nil { // a disk that came back may be empty
			return err
		}
		if err := s.mayTake(p); err != nil { // or be another one
			return err
		}
		return writeRecord(p.disk, p.dir, b)
	})
	s.mu.Lock()
	for _, p := range places {
		p.told = failed[p] == nil
	}
	s.mu.Unlock()
	for p, err := range failed {
		if !s.lose(p, fmt.Errorf("record of mirrors: %w", err)) {
			return err
		}
	}
	return s.settle()
}

// mayTake refuses a place that holds another group's, or another member's, files:
// nothing is written over them.
func (s *mirrors) mayTake(p *place) error {
	rec, err := readRecord(p.disk, p.dir)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	if rec != nil && (rec.Birth != s.birth || rec.Group != s.o.Name || rec.Member != s.o.NodeID) {
		return fmt.Errorf("%w: %s holds another one and is left alone", ErrForeign, p.dir)
	}
	if _, err := checkIdentity(p.disk, p.dir, s.o.Name, s.o.NodeID); err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	return nil
}

func (s *mirrors) recordLocked() record {
	r := record{Group: s.o.Name, Member: s.o.NodeID, Birth: s.birth, Epoch: s.epoch}
	for _, m := range s.members {
		r.Mirrors = append(r.Mirrors, recordMirror{m.id, m.place.dir})
	}
	for _, c := range s.all {
		r.Dirs = append(r.Dirs, c.dir)
	}
	return r
}

// noMirror says why no member is left.
func (s *mirrors) noMirror() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := []error{errors.New("no mirror is left")}
	for _, c := range s.all {
		if c.why != nil {
			errs = append(errs, c.why)
		}
	}
	return errors.Join(errs...)
}

// MirrorState describes one of Options.Dirs.
type MirrorState struct {
	Dir     string
	Mirror  bool  // it holds log, stable store and snapshots, all of them
	Copying bool  // it is becoming a mirror
	State   bool  // it holds the working state
	Lost    error // why it is not used; nil: it can be
}

// states returns one MirrorState for each candidate.
func (s *mirrors) states(home *place) []MirrorState {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]MirrorState, len(s.all))
	for i, c := range s.all {
		st := MirrorState{Dir: c.given, Lost: c.why}
		if p := c.place; p != nil {
			st.Copying, st.State = p.copying, p == home
			st.Mirror = slices.ContainsFunc(s.members, func(m *mirror) bool { return m.place == p })
		}
		out[i] = st
	}
	return out
}
