package server

import (
	"errors"
	"sync"
	"time"

	"hayloft/volume"
)

const (
	retryFirst = time.Minute // after the first failure in a row; doubles
	retryLimit = time.Hour
)

// troubles are the jobs that did not come to their end: they rest.
type troubles struct {
	mu sync.Mutex // guards of
	of map[trouble]failure
}

// trouble is what rests: the jobs of a kind of a volume, so that one that fails does not
// keep more urgent ones waiting. Kind 0 is all jobs of the volume.
type trouble struct {
	v    volume.ID
	kind jobKind
}

type failure struct {
	err   error
	n     int // in a row
	until time.Time
}

// note notes how a job ended.
func (t *troubles) note(w trouble, err error, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		delete(t.of, w)
		return
	}
	f := t.of[w]
	f.err, f.n = err, f.n+1
	pause := retryFirst << min(f.n-1, 10)
	if errors.Is(err, volume.ErrCorrupt) {
		pause = retryLimit // time alone does not cure that
	}
	f.until = now.Add(min(pause, retryLimit))
	t.set(w, f)
}

// pause has jobs rest that are not known to have failed.
func (t *troubles) pause(w trouble, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(w, failure{until: until})
}

// reconsider forgets what others were asked for in vain, and tiles that somebody held: a
// volume's row has changed, and so may the answer.
func (t *troubles) reconsider(v volume.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w, f := range t.of {
		if w.v == v && (w.kind == jobSeal || errors.Is(f.err, ErrUnavailable)) {
			delete(t.of, w)
		}
	}
}

// set is called with mu held.
func (t *troubles) set(w trouble, f failure) {
	if t.of == nil {
		t.of = make(map[trouble]failure)
	}
	t.of[w] = f
}

// rests reports whether jobs are left alone for a while.
func (t *troubles) rests(w trouble, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, ok := t.of[w]
	return ok && now.Before(f.until)
}

// why returns why a job of a volume failed, or nil: of several the one that is tried
// again last.
func (t *troubles) why(v volume.ID) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var last time.Time
	for w, f := range t.of {
		if w.v == v && f.err != nil && f.until.After(last) {
			last, err = f.until, f.err
		}
	}
	return err
}

// forgive ends all rests: what was missing may be there.
func (t *troubles) forgive() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.of)
}
