package server

import (
	"fmt"
	"slices"
	"time"
)

// DiskState is the health of a disk.
type DiskState uint8

// The states. A disk that is suspect is read as before and written to when no
// other disk can be; one that is out is neither read nor written.
const (
	DiskOK DiskState = iota
	DiskSuspect
	DiskOut
)

// String returns the name used by tools and metrics.
func (s DiskState) String() string {
	return [...]string{"ok", "suspect", "out"}[s]
}

// Reason says why a disk is not DiskOK.
type Reason uint8

// The reasons. A disk that is in service again is suspect for what it was out for.
const (
	ReasonNone     Reason = iota
	ReasonErrors          // the device fails reads
	ReasonWrites          // the device fails writes or syncs; suspect only: the disk can still be read
	ReasonSlow            // answers take long; suspect only
	ReasonHangs           // no answer comes
	ReasonVanished        // directory or identity file are gone, or others
)

// String returns the name used by tools and metrics.
func (r Reason) String() string {
	return [...]string{"", "errors", "writes", "slow", "hangs", "vanished"}[r]
}

// The thresholds. Times are those the watcher lived through (lived): a process
// that was stopped or a machine that slept are one look, however long they took.
const (
	// slowAfter is how long an answer takes that is no disk's usual: a spinning
	// disk with a full queue (MaxReads) needs about 1.3 s.
	slowAfter = 2 * time.Second
	// hangAfter is longer than the 7 s that disks for servers try to read a bad
	// block: one of those must not take the disk out.
	hangAfter = 10 * time.Second
	// faultWindow is how long a fault counts.
	faultWindow = time.Minute
	// badPlaces that cannot be read are a disk that fails, if it answers no more
	// reads than it fails; manyPlaces are one in any case. A bad block is one
	// place, whoever meets it how often, and a scratch a few.
	badPlaces, manyPlaces = 4, 16
	// failedWrites is how many files a write or sync has to fail in for the disk
	// to be written to no more for a while (errorRest, doubling): the first is a poisoned volume, whose photos go
	// to the next volume of that disk.
	failedWrites = 3
	// failedProbes in a row are a device that does not even bring the identity.
	failedProbes = 3
	// hangCalm and errorRest are how long a disk has to answer, and to rest, before
	// it is in service again. Both double with each time it goes out again within
	// relapse, up to calmLimit and restLimit.
	hangCalm, calmLimit  = 10 * time.Second, 10 * time.Minute
	errorRest, restLimit = time.Minute, time.Hour
	relapse              = time.Hour
)

// place is a part of a file that a read failed in.
type place struct {
	name     string
	from, to int64
	at       time.Duration // when it last failed
}

// sight is what was seen of a disk since the last look.
type sight struct {
	elapsed time.Duration // since then: see lived
	failed  []place       // reads that the device failed
	broken  []string      // files that it failed a write or sync of
	reads   traffic
	writes  traffic
	probe   probeState
	waiting time.Duration // how long the probe under way waits for an answer
}

// traffic is of one kind of call.
type traffic struct {
	answered int           // since the last look
	oldest   time.Duration // how long the oldest one under way waits, 0 without one
}

// probeState is how the last probe ended.
type probeState struct {
	n     int   // counts the probes that have ended
	fault error // the device's, or nil
}

// health is the state machine of one data directory. It knows neither clock nor
// disk: look is told what was seen. The zero health is that of a sound disk.
type health struct {
	state  DiskState
	reason Reason
	err    error         // why
	now    time.Duration // the sum of what looks counted for
	since  time.Duration // when state or reason changed

	places []place
	broken []brokenFile
	reads  []outcome // by second
	silent [2]time.Duration
	probes int // that were seen
	faults int // of probes, in a row

	outs  int           // in a row, each within relapse of the one before
	last  time.Duration // when the last of them ended, or now
	until time.Duration // when an out may end, or a suspicion

	stops   int           // how often in a row writes were stopped, as outs
	stopped time.Duration // until when they are, or were
}

type brokenFile struct {
	name string
	at   time.Duration
}

// outcome is what became of reads.
type outcome struct {
	at         time.Duration
	ok, failed int
}

// look takes in what was seen, and reports whether state or reason changed, or
// whether the disk may be written to.
func (h *health) look(s sight) bool {
	was, why, refused := h.state, h.reason, h.readOnly() != nil
	h.now += s.elapsed
	h.note(s)
	hangs := h.hangs(s)
	switch {
	case h.reason == ReasonVanished && h.state == DiskOut:
		return false // until comeBack
	case hangs != nil && (h.state != DiskOut || h.reason == ReasonHangs):
		h.goOut(ReasonHangs, hangs)
		h.until = h.now + h.rest(hangCalm, calmLimit)
	case h.state == DiskOut && h.reason == ReasonHangs && (s.reads.oldest >= slowAfter || s.writes.oldest >= slowAfter || s.waiting >= slowAfter):
		h.until = h.now + h.rest(hangCalm, calmLimit) // it has not answered everything
	case h.state != DiskOut && h.failing() != nil:
		h.goOut(ReasonErrors, h.failing())
		h.until = h.now + h.rest(errorRest, restLimit)
	case h.state == DiskOut && h.faults > 0:
		h.until = max(h.until, h.now+hangCalm)
	case h.state == DiskOut && h.now < h.until:
	default:
		h.suspect(s)
	}
	return was != h.state || why != h.reason || refused != (h.readOnly() != nil)
}

// lived is what the time between two looks counts for, of which one is due every
// so often.
func lived(elapsed, every time.Duration) time.Duration { return min(max(elapsed, 0), 2*every) }

// note keeps what counts for a while.
func (h *health) note(s sight) {
	for _, p := range s.failed {
		p.at = h.now
		h.addPlace(p)
	}
	for _, name := range s.broken {
		h.broken = slices.DeleteFunc(h.broken, func(b brokenFile) bool { return b.name == name })
		h.broken = append(h.broken, brokenFile{name, h.now})
	}
	old := h.now - faultWindow
	h.places = slices.DeleteFunc(h.places, func(p place) bool { return p.at < old })
	h.broken = slices.DeleteFunc(h.broken, func(b brokenFile) bool { return b.at < old })
	h.reads = slices.DeleteFunc(h.reads, func(o outcome) bool { return o.at < old })
	if len(h.broken) >= failedWrites {
		if h.stops++; h.now-h.stopped > relapse {
			h.stops = 1
		}
		h.stopped = h.now + min(errorRest<<min(h.stops-1, 16), restLimit)
		h.broken = nil // when it is tried again, so many have to be new
	}
	if n := len(h.reads); n > 0 && h.reads[n-1].at == h.now {
		h.reads[n-1].ok += s.reads.answered
		h.reads[n-1].failed += len(s.failed)
	} else if s.reads.answered > 0 || len(s.failed) > 0 {
		h.reads = append(h.reads, outcome{h.now, s.reads.answered, len(s.failed)})
	}
	for i, t := range []traffic{s.reads, s.writes} {
		if t.answered > 0 || t.oldest == 0 {
			h.silent[i] = h.now
		}
	}
	if s.probe.n != h.probes {
		h.probes = s.probe.n
		if h.faults++; s.probe.fault == nil {
			h.faults = 0
		}
	}
}

// addPlace counts a failed read: as another place only when it shares no byte
// with one that is known, for then both may have met the same bad block. What they
// share is where that must lie.
func (h *health) addPlace(p place) {
	for i := range h.places {
		q := &h.places[i]
		if q.name == p.name && p.from < q.to && q.from < p.to {
			q.from, q.to, q.at = max(p.from, q.from), min(p.to, q.to), p.at
			return
		}
	}
	if len(h.places) < 2*manyPlaces {
		h.places = append(h.places, p)
	}
}

// hangs returns why the disk is taken to hang: a probe does not come back, or
// calls of one kind wait and none of that kind was answered meanwhile. One that
// waits while others are answered is one bad place.
func (h *health) hangs(s sight) error {
	if s.waiting >= hangAfter {
		return fmt.Errorf("a look at its identity has waited %v for an answer", s.waiting.Round(time.Second))
	}
	for i, t := range []traffic{s.reads, s.writes} {
		if t.oldest >= hangAfter && h.now-h.silent[i] >= hangAfter {
			return fmt.Errorf("no %s was answered for %v", [...]string{"read", "write"}[i], (h.now - h.silent[i]).Round(time.Second))
		}
	}
	return nil
}

// failing returns why the device is taken to fail, or nil.
func (h *health) failing() error {
	if h.faults >= failedProbes {
		return fmt.Errorf("its identity could not be read %d times in a row", h.faults)
	}
	ok, failed := 0, 0
	for _, o := range h.reads {
		ok, failed = ok+o.ok, failed+o.failed
	}
	if n := len(h.places); n >= manyPlaces || n >= badPlaces && failed >= ok {
		return fmt.Errorf("reads failed in %d different places within %v, and %d were answered", n, faultWindow, ok)
	}
	return nil
}

// goOut takes the disk out. Going on being out counts once.
func (h *health) goOut(r Reason, err error) {
	if h.state != DiskOut {
		if h.outs++; h.now-h.last > relapse {
			h.outs = 1
		}
	}
	if h.state != DiskOut || h.reason != r {
		h.since, h.err = h.now, err
	}
	h.state, h.reason, h.last = DiskOut, r, h.now
}

// rest is how long a disk stays out that went out so often.
func (h *health) rest(first, limit time.Duration) time.Duration {
	return min(first<<min(max(h.outs-1, 0), 16), limit)
}

// suspect says what a disk that is not out is: what is wrong with it now, or
// was a moment ago.
func (h *health) suspect(s sight) {
	back := h.state == DiskOut
	if back { // what took it out does not do so again
		h.places, h.reads, h.faults, h.last = nil, nil, 0, h.now
	}
	reason, err := ReasonNone, error(nil)
	switch slow := max(s.reads.oldest, s.writes.oldest, s.waiting); {
	case h.readOnly() != nil:
		reason, err = ReasonWrites, h.readOnly()
	case len(h.broken) > 0:
		reason, err = ReasonWrites, fmt.Errorf("a write or sync failed in %s", h.broken[len(h.broken)-1].name)
	case len(h.places) > 0:
		p := h.places[len(h.places)-1]
		reason, err = ReasonErrors, fmt.Errorf("a read failed in %s between %d and %d", p.name, p.from, p.to)
	case h.faults > 0:
		reason, err = ReasonErrors, s.probe.fault
	case slow >= slowAfter:
		reason, err = ReasonSlow, fmt.Errorf("an answer takes %v", slow.Round(time.Second))
		h.until = h.now + hangCalm
	}
	switch {
	case reason != ReasonNone:
	case back:
		h.set(DiskSuspect, h.reason, h.err) // for a while, so that it is not the first to be written to
		h.until = h.now + faultWindow
		return
	case h.state == DiskSuspect && h.now < h.until:
		return
	}
	state := DiskSuspect
	if reason == ReasonNone {
		state = DiskOK
	}
	h.set(state, reason, err)
}

func (h *health) set(s DiskState, r Reason, err error) {
	if h.state != s || h.reason != r {
		h.since = h.now
	}
	h.state, h.reason, h.err = s, r, err
}

// readOnly is why the disk is written to no more for now: its writes fail. It is
// tried again later and later.
func (h *health) readOnly() error {
	if h.now >= h.stopped {
		return nil
	}
	return fmt.Errorf("writes failed in %d files within %v: none goes there for %v", failedWrites, faultWindow, (h.stopped - h.now).Round(time.Second))
}

// vanish takes the disk out because what was claimed is not there any more.
func (h *health) vanish(err error) {
	h.goOut(ReasonVanished, err)
	h.until = h.now + h.rest(settled, calmLimit)
}

// wait puts off the next try to come back after one that failed.
func (h *health) wait() {
	h.outs++
	h.until = h.now + h.rest(settled, calmLimit)
}

// comeBack puts a directory into service in which a disk was claimed anew:
// whatever was wrong was the former one's. That it comes and goes is remembered of a
// disk that is the same one again.
func (h *health) comeBack(same bool) {
	now := h.now
	if !same {
		h.outs = 0
	}
	*h = health{now: now, since: now, outs: h.outs, last: now, probes: h.probes, silent: [2]time.Duration{now, now}}
}
