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

// troubles are the volumes whose last job did not come to its end: they rest.
type troubles struct {
	mu sync.Mutex // guards of
	of map[volume.ID]failure
}

type failure struct {
	err   error
	n     int // in a row
	until time.Time
}

// note notes how a job of a volume ended.
func (t *troubles) note(v volume.ID, err error, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		delete(t.of, v)
		return
	}
	f := t.of[v]
	f.err, f.n = err, f.n+1
	pause := retryFirst << min(f.n-1, 10)
	if errors.Is(err, volume.ErrCorrupt) {
		pause = retryLimit // time alone does not cure that
	}
	f.until = now.Add(min(pause, retryLimit))
	t.set(v, f)
}

// pause has a volume rest that is not known to have failed.
func (t *troubles) pause(v volume.ID, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(v, failure{until: until})
}

// set is called with mu held.
func (t *troubles) set(v volume.ID, f failure) {
	if t.of == nil {
		t.of = make(map[volume.ID]failure)
	}
	t.of[v] = f
}

// rests reports whether a volume is left alone for a while.
func (t *troubles) rests(v volume.ID, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, ok := t.of[v]
	return ok && now.Before(f.until)
}

// why returns why a volume's last job failed, or nil.
func (t *troubles) why(v volume.ID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.of[v].err
}

// forgive ends all rests: what was missing may be there.
func (t *troubles) forgive() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.of)
}
