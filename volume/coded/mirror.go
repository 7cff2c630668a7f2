package coded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

// mirror is the delete log as the engine sees it: one file, of which each copy in
// the set is the same bytes.
//
// A copy has one call under way at most. It leaves the set when a call fails or is
// late: then its file is closed as soon as that call returns, and never used again.
type mirror struct {
	v volume.ID
	o Options

	// changing is held by whoever changes the file, before mu: one call after
	// another, so that the copies stay the same.
	changing sync.Mutex
	// settled is how many bytes, from the first, were synced and never change
	// again. Guarded by changing.
	settled int64
	end     int64 // of what was written; guarded by changing

	mu        sync.Mutex // guards all below
	places    []*place   // in the order in which they were given
	tolerance int
	closed    bool
}

// place is a place of a copy.
type place struct {
	LogCopy
	file vfs.File // nil: not in the set
	err  error    // why it is not
}

var errLeft = errors.New("too few copies of the delete log are left")

// set returns the places in the set.
func (m *mirror) set() []*place {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.setLocked()
}

func (m *mirror) setLocked() []*place {
	var in []*place
	for _, p := range m.places {
		if p.file != nil {
			in = append(in, p)
		}
	}
	return in
}

// enough says whether so many copies may acknowledge anything.
func (m *mirror) enough(n int, causes error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return volume.ErrClosed
	case n <= m.tolerance:
		return errors.Join(fmt.Errorf("%w: %d, it takes %d", errLeft, n, m.tolerance+1), causes)
	}
	return nil
}

// leave takes a copy out of the set. ended, if not nil, delivers when the call
// returns that it still has under way.
func (m *mirror) leave(p *place, err error, ended <-chan error) {
	m.mu.Lock()
	file := p.file
	p.file, p.err = nil, err
	m.mu.Unlock()
	if file == nil {
		return
	}
	if ended != nil {
		go func() {
			<-ended
			_ = file.Close() // it is given up: nothing depends on it
		}()
	} else {
		m.drop(file)
	}
	m.o.Events(Event{Kind: EventLogLeft, Volume: m.v, Log: p.LogCopy, Err: err})
}

// drop closes a file that is given up, so that another may take its name. It does not
// wait for one that hangs.
func (m *mirror) drop(file vfs.File) {
	closed := make(chan struct{})
	go func() {
		_ = file.Close() // nothing depends on it
		close(closed)
	}()
	select {
	case <-closed:
	case <-m.o.Engine.Clock.After(m.o.LogTimeout):
	}
}

var errLate = errors.New("no answer in time")

// call is a call of one copy under way.
type call struct {
	p     *place
	ended chan error // of room 1
}

// start runs fn on every copy of the set.
func (m *mirror) start(set []*place, fn func(vfs.File) error) []call {
	calls := make([]call, len(set))
	for i, p := range set {
		c := call{p: p, ended: make(chan error, 1)}
		calls[i] = c
		file := p.file
		go func() { c.ended <- fn(file) }()
	}
	return calls
}

// wait returns the error of each call, errLate for those that are late.
func (m *mirror) wait(calls []call) []error {
	errs := make([]error, len(calls))
	timer := m.o.Engine.Clock.After(m.o.LogTimeout)
	late := false
	for i, c := range calls {
		if late {
			select {
			case errs[i] = <-c.ended:
			default:
				errs[i] = errLate
			}
			continue
		}
		select {
		case errs[i] = <-c.ended:
		case <-timer:
			late = true
			select {
			case errs[i] = <-c.ended: // both at once
			default:
				errs[i] = errLate
			}
		}
	}
	return errs
}

// change runs fn on every copy in the set, and takes out of it those that fail.
// Called with changing held.
func (m *mirror) change(what string, fn func(vfs.File) error) error {
	set := m.set()
	if err := m.enough(len(set), nil); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	calls := m.start(set, fn)
	errs := m.wait(calls)
	good := 0
	for _, err := range errs {
		if err == nil {
			good++
		}
	}
	// Where too few disks have room nothing was done, and there may be room later.
	patient := what == opAllocate && m.enough(good, nil) != nil
	var causes []error
	for i, c := range calls {
		if errs[i] == nil {
			continue
		}
		if patient && errors.Is(errs[i], unix.ENOSPC) {
			causes = append(causes, errs[i])
			continue
		}
		err := fmt.Errorf("%s: %w", what, errs[i])
		causes = append(causes, fmt.Errorf("%v: %w", c.p.LogCopy, err))
		if errors.Is(errs[i], errLate) {
			m.leave(c.p, err, c.ended)
		} else {
			m.leave(c.p, err, nil)
		}
	}
	if err := m.enough(good, errors.Join(causes...)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

const (
	opAllocate = "allocate"
	opWrite    = "write"
	opSync     = "sync"
	opTruncate = "truncate"
)

// read runs fn on one copy after another until it works. What fn leaves behind may
// be used when read returns, unless it returns an error.
func read[T any](m *mirror, fn func(vfs.File) (T, error)) (T, error) {
	var causes []error
	var none T
	for _, p := range m.set() {
		m.mu.Lock()
		file, at := p.file, p.LogCopy
		m.mu.Unlock()
		if file == nil {
			continue // it left meanwhile
		}
		type result struct {
			value T
			err   error
		}
		got := make(chan result, 1)
		go func() {
			value, err := fn(file)
			got <- result{value, err}
		}()
		select {
		case r := <-got:
			if r.err == nil {
				return r.value, nil
			}
			causes = append(causes, fmt.Errorf("%v: %w", at, r.err))
		case <-m.o.Engine.Clock.After(m.o.LogTimeout):
			causes = append(causes, fmt.Errorf("%v: %w", at, errLate))
		}
	}
	if len(causes) == 0 {
		return none, m.enough(0, nil)
	}
	return none, errors.Join(causes...)
}

// readAt is ReadAt of a File. The memory of one that is late is not the caller's.
func (m *mirror) readAt(b []byte, off int64) (int, error) {
	type some struct {
		b   []byte
		eof bool
	}
	s, err := read(m, func(f vfs.File) (some, error) {
		own := make([]byte, len(b))
		n, err := f.ReadAt(own, off)
		if errors.Is(err, io.EOF) {
			return some{own[:n], true}, nil
		}
		return some{own[:n], false}, err
	})
	if err != nil {
		return 0, err
	}
	n := copy(b, s.b)
	if s.eof {
		err = io.EOF
	}
	return n, err
}

func (m *mirror) size() (int64, error) { return read(m, vfs.File.Size) }

// close gives the copies up. A call that is under way ends by itself.
func (m *mirror) close() error {
	m.changing.Lock()
	defer m.changing.Unlock()
	m.mu.Lock()
	set := m.setLocked()
	m.closed = true
	m.mu.Unlock()
	calls := m.start(set, vfs.File.Close)
	err := errors.Join(m.wait(calls)...)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range set {
		p.file, p.err = nil, volume.ErrClosed
	}
	return err
}

// states is for Logs.
func (m *mirror) states() []LogState {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]LogState, len(m.places))
	for i, p := range m.places {
		out[i] = LogState{LogCopy: p.LogCopy, InSet: p.file != nil, Err: p.err}
	}
	return out
}

// mark leaves a small file beside every copy in the set: the marker of a poisoned
// log. That one of them has it is enough: Open makes a new log then.
func (m *mirror) mark(name string, content []byte) error {
	var places []LogCopy
	for _, s := range m.states() {
		if s.InSet {
			places = append(places, s.LogCopy)
		}
	}
	put := func(_ context.Context, at LogCopy) (struct{}, error) {
		return struct{}{}, vfs.WriteFile(at.Home.FS, filepath.Join(at.Home.Dir, name), content)
	}
	all := ask(context.Background(), places, put, func([]answer[struct{}]) bool { return true }, m.o.Engine.Clock, m.o.LogTimeout, func(struct{}, error) {})
	var causes []error
	for _, a := range all {
		if a.err == nil {
			return nil
		}
		causes = append(causes, a.err)
	}
	return errors.Join(append(causes, fmt.Errorf("%w: none could be marked", errLeft))...)
}

// logFile is a mirror that was opened.
type logFile struct {
	*mirror
	write bool
}

// ReadAt implements vfs.File.
func (f logFile) ReadAt(b []byte, off int64) (int, error) { return f.readAt(b, off) }

// WriteVAt implements vfs.File. What a late copy is still given is not the
// caller's memory.
func (f logFile) WriteVAt(bufs [][]byte, off int64) (int, error) {
	if !f.write {
		return 0, errReading
	}
	var flat []byte
	for _, b := range bufs {
		flat = append(flat, b...)
	}
	f.changing.Lock()
	defer f.changing.Unlock()
	err := f.change(opWrite, func(c vfs.File) error {
		_, err := c.WriteVAt([][]byte{flat}, off)
		return err
	})
	if err != nil {
		return 0, err
	}
	f.end = max(f.end, off+int64(len(flat)))
	return len(flat), nil
}

// Sync implements vfs.File.
func (f logFile) Sync() error {
	if !f.write {
		return nil
	}
	f.changing.Lock()
	defer f.changing.Unlock()
	err := f.change(opSync, vfs.File.Sync)
	if err == nil {
		f.settled = f.end
	}
	return err
}

// Allocate implements vfs.File.
func (f logFile) Allocate(off, n int64) error {
	if !f.write {
		return errReading
	}
	f.changing.Lock()
	defer f.changing.Unlock()
	return f.change(opAllocate, func(c vfs.File) error { return c.Allocate(off, n) })
}

// Truncate implements vfs.File.
func (f logFile) Truncate(size int64) error {
	if !f.write {
		return errReading
	}
	f.changing.Lock()
	defer f.changing.Unlock()
	err := f.change(opTruncate, func(c vfs.File) error { return c.Truncate(size) })
	f.end, f.settled = min(f.end, size), min(f.settled, size)
	return err
}

// Size implements vfs.File.
func (f logFile) Size() (int64, error) { return f.size() }

// Evict implements vfs.File.
func (f logFile) Evict(off, n int64) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	evict := func(c vfs.File) error { return c.Evict(off, n) }
	set := f.set()
	if f.enough(len(set), nil) == nil {
		return f.change("evict", evict)
	}
	return errors.Join(f.wait(f.start(set, evict))...) // read-only by now
}

// Close implements vfs.File.
func (f logFile) Close() error {
	if !f.write {
		return nil
	}
	return f.close()
}
