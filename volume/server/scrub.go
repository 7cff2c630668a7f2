package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
)

// ScrubKind names what a scrub found. The kinds of volume.FindingKind are kinds of
// it too.
type ScrubKind string

// What a scrub finds besides.
const (
	ScrubIdentity    ScrubKind = "identity"    // disk.id is not what this process read at its start
	ScrubUnopened    ScrubKind = "unopened"    // a volume that cannot be opened
	ScrubMissing     ScrubKind = "missing"     // a file is not there
	ScrubEmpty       ScrubKind = "empty"       // a file of no bytes
	ScrubShort       ScrubKind = "short"       // a file that was cut off
	ScrubBeside      ScrubKind = "beside"      // a checkpoint or sealed index is damaged or gone
	ScrubShard       ScrubKind = "shard"       // a place in a shard is not what was committed
	ScrubOtherRun    ScrubKind = "other-run"   // a shard of another run, under the name of one that counts
	ScrubDeleteLog   ScrubKind = "delete-log"  // a copy of a coded volume's delete log is damaged, gone or behind
	ScrubUnsupported ScrubKind = "unsupported" // the file of a newer program: it may be whole

	ScrubForeign  ScrubKind = "foreign"  // a file that is not ours, moved to the quarantine
	ScrubUnknown  ScrubKind = "unknown"  // what may be ours or a newer program's, left alone
	ScrubLeftover ScrubKind = "leftover" // an unfinished file that nobody goes on with, left alone
)

// damage reports whether bytes that should be there are not. The others are no harm
// done.
func (k ScrubKind) damage() bool {
	switch k {
	case ScrubForeign, ScrubUnknown, ScrubLeftover, ScrubUnsupported:
		return false
	}
	return true
}

// ScrubFinding is one thing that a scrub found.
type ScrubFinding struct {
	Kind           ScrubKind
	Dir            string // data directory
	File           string // below it
	Volume         volume.ID
	Offset, Length int64 // bytes of the file; of nothing: the whole file
	Key            id.ID // 0 when not known
	Err            error
}

// ScrubTotals sum up a scrub.
type ScrubTotals struct {
	Items, Bytes int64 // that were read whole: volumes, folders of shards, and one for each disk
	// Corrupt counts what was damaged or gone. Repaired are those that are right
	// again, read back from the device after that; Unrepairable those that are not,
	// and what a newer program wrote.
	Corrupt, Repaired, Unrepairable int64
	Quarantined                     int64 // foreign files
	Notes                           int64 // unknown and unfinished files that were left alone
}

// ScrubProgress tells how far a scrub that was asked for is. Total is an estimate.
type ScrubProgress struct {
	Done, Total int64 // bytes
	Totals      ScrubTotals
}

// ScrubStatus tells of the scrub that was last asked for, and of the disks.
type ScrubStatus struct {
	Running bool // one that was asked for is under way
	Began   time.Time
	ScrubProgress
	Err   error // what was left out of it, once it has ended
	Disks []ScrubDisk
}

// ScrubDisk is how the scrub of one disk stands. Counters start when the disk was
// taken into use.
type ScrubDisk struct {
	Dir          string
	UUID         string
	Items, Bytes int64 // there are to read
	DueItems     int64 // of them that are to be read at once
	DueBytes     int64
	Oldest       time.Time // when the item was read whole, or first seen, for which that is longest ago; zero before the first look
	Reading      string    // the item being read; "" for none
	ReadItems    uint64    // whole
	ReadBytes    uint64
	Found        map[ScrubKind]uint64
	Repaired     uint64
	Unrepairable uint64
}

// scrubRun is a scrub of everything that somebody asked for.
type scrubRun struct {
	began time.Time
	ended chan struct{} // closed when no disk and no repair is under way

	mu     sync.Mutex // guards all below
	open   int        // disks and repairs under way
	p      ScrubProgress
	errs   []error
	moved  chan struct{} // closed and replaced when p has changed; nil when nobody looks
	parted bool          // ended is closed
}

// scrubs is the scrub that was asked for last.
type scrubs struct {
	mu  sync.Mutex // guards run
	run *scrubRun
}

// change notes something of a run, and wakes who looks. A nil run is one that nobody
// asked for.
func (r *scrubRun) change(fn func(*scrubRun)) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fn(r)
	if r.moved != nil {
		close(r.moved)
		r.moved = nil
	}
	if r.open == 0 && !r.parted {
		r.parted = true
		close(r.ended)
	}
}

func (r *scrubRun) enter() { r.change(func(r *scrubRun) { r.open++ }) }

// leave ends a part of the run. err is what was left out.
func (r *scrubRun) leave(err error) {
	r.change(func(r *scrubRun) {
		r.open--
		if err != nil {
			r.errs = append(r.errs, err)
		}
	})
}

func (r *scrubRun) progress() (ScrubProgress, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.moved == nil {
		r.moved = make(chan struct{})
	}
	return r.p, r.moved
}

func (r *scrubRun) result() (ScrubTotals, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.p.Totals, errors.Join(r.errs...)
}

// ScrubStart has everything read from every disk in service, beginning now, each held
// to its pace, and what is damaged repaired. Asked again while that is under way it
// begins nothing. It goes on after a restart, as far as a disk was not read yet.
func (s *Server) ScrubStart() error {
	_, err := s.scrubRun()
	return err
}

func (s *Server) scrubRun() (*scrubRun, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.calls.Done()
	s.scrubs.mu.Lock()
	defer s.scrubs.mu.Unlock()
	if r := s.scrubs.run; r != nil {
		select {
		case <-r.ended:
		default:
			return r, nil
		}
	}
	r := &scrubRun{began: s.o.Clock.Now(), ended: make(chan struct{}), open: 1}
	s.scrubs.run = r
	for _, d := range s.all() {
		r.enter()
		if !d.scrub.join(r) {
			r.leave(d.whyOut())
		}
	}
	r.leave(nil)
	return r, nil
}

// ScrubNow is ScrubStart, and returns when everything was read and what was damaged is
// repaired, or was found to be unrepairable. The work goes on when ctx ends. The error
// says what was left out: a disk that is out of service, say. report may be nil.
func (s *Server) ScrubNow(ctx context.Context, report func(ScrubProgress)) (ScrubTotals, error) {
	r, err := s.scrubRun()
	if err != nil {
		return ScrubTotals{}, err
	}
	for {
		p, moved := r.progress()
		if report != nil {
			report(p)
		}
		select {
		case <-r.ended:
			return r.result()
		default:
		}
		select {
		case <-r.ended:
		case <-moved:
		case <-ctx.Done():
			return p.Totals, ctx.Err()
		case <-s.life.Done():
			return p.Totals, ErrClosed
		}
	}
}

// ScrubStatus tells how scrubs stand.
func (s *Server) ScrubStatus() ScrubStatus {
	var st ScrubStatus
	s.scrubs.mu.Lock()
	r := s.scrubs.run
	s.scrubs.mu.Unlock()
	if r != nil {
		r.mu.Lock()
		st.Running, st.Began, st.ScrubProgress = !r.parted, r.began, r.p
		if r.parted {
			st.Err = errors.Join(r.errs...)
		}
		r.mu.Unlock()
	}
	for _, d := range s.all() {
		st.Disks = append(st.Disks, d.scrub.status())
	}
	return st
}

// scrubFound counts and tells what was found.
func (s *scrubber) found(r *scrubRun, f ScrubFinding) {
	s.mu.Lock()
	s.n.Found[f.Kind]++
	s.mu.Unlock()
	r.change(func(r *scrubRun) {
		switch t := &r.p.Totals; {
		case f.Kind.damage():
			t.Corrupt++
		case f.Kind == ScrubForeign:
			t.Quarantined++
		case f.Kind != ScrubUnsupported:
			t.Notes++
		}
	})
	s.d.s.o.Events(Event{Kind: EventScrubFound, Dir: f.Dir, Volume: f.Volume, File: f.File, Err: f.Err, Scrub: f})
}

// settled counts and tells what became of it: repaired when why is nil.
func (s *scrubber) settled(r *scrubRun, f ScrubFinding, why error) {
	kind := EventScrubRepaired
	if why != nil {
		kind, f.Err = EventScrubUnrepairable, fmt.Errorf("%w; not repaired: %w", f.Err, why)
	}
	s.mu.Lock()
	if why == nil {
		s.n.Repaired++
	} else {
		s.n.Unrepairable++
	}
	s.mu.Unlock()
	r.change(func(r *scrubRun) {
		if why == nil {
			r.p.Totals.Repaired++
		} else {
			r.p.Totals.Unrepairable++
		}
	})
	s.d.s.o.Events(Event{Kind: kind, Dir: f.Dir, Volume: f.Volume, File: f.File, Err: f.Err, Scrub: f})
}
