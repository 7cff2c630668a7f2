package coded

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hayloft/internal/vfs"
)

// SetLogs says where the copies of the delete log ought to be from now on, and how
// many of them may be lost. A place that is new, or whose copy has left the set,
// gets a copy of the whole log, which is in the set when SetLogs returns; deletes
// wait for the last part of it only. Places that are not named are left, their files
// stay. Where a copy cannot be made the error says so, and Logs tells the rest.
// When fewer than tolerance+1 of logs would be in the set, nothing is left and
// the error says so. A poisoned log takes no more copies: the volume is to be closed
// and opened again.
func (v *Volume) SetLogs(ctx context.Context, logs []LogCopy, tolerance int) error {
	if err := validLogs(logs, tolerance); err != nil {
		return err
	}
	v.setting.Lock()
	defer v.setting.Unlock()
	if err := v.engine.Stats().Poisoned; err != nil {
		return err
	}
	m := v.log
	var errs []error
	for _, p := range m.name(logs) {
		if err := m.add(ctx, p); err != nil {
			errs = append(errs, fmt.Errorf("copy the delete log of volume %d to %v: %w", m.v, p.LogCopy, err))
		}
	}
	return errors.Join(append(errs, m.keep(logs, tolerance))...)
}

// name adds places that are not known yet, and returns those of logs that are not in
// the set.
func (m *mirror) name(logs []LogCopy) []*place {
	m.changing.Lock()
	defer m.changing.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*place
	for _, at := range logs {
		p := m.find(at)
		if p == nil {
			p = &place{LogCopy: at}
			m.places = append(m.places, p)
		}
		p.Disk = at.Disk
		if p.file == nil {
			out = append(out, p)
		}
	}
	return out
}

// find returns the place of that home. Called with mu held.
func (m *mirror) find(at LogCopy) *place {
	for _, p := range m.places {
		if p.Home == at.Home {
			return p
		}
	}
	return nil
}

// keep leaves the places that are not named.
func (m *mirror) keep(logs []LogCopy, tolerance int) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	left, err := m.keepLocked(logs, tolerance)
	for _, file := range left {
		m.drop(file)
	}
	return err
}

// keepLocked returns the files of the places that are left.
func (m *mirror) keepLocked(logs []LogCopy, tolerance int) (left []vfs.File, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var kept []*place
	in := 0
	for _, at := range logs {
		p := m.find(at)
		if kept = append(kept, p); p.file != nil {
			in++
		}
	}
	if in <= tolerance {
		return nil, fmt.Errorf("%w: %d of the %d places named have one, it takes %d", errLeft, in, len(logs), tolerance+1)
	}
	for _, p := range m.places {
		if p.file != nil && !slices.Contains(kept, p) {
			left = append(left, p.file)
			p.file = nil
		}
	}
	m.places, m.tolerance = kept, tolerance
	return left, nil
}

// add copies the log to a place: what never changes any more first, and the rest
// while nobody changes it. Then it is in the set.
func (m *mirror) add(ctx context.Context, p *place) error { return m.addFrom(ctx, p, m.readAt) }

// addFrom copies what from reads. A copy of the place that is in the set stays there
// until the new one takes its name: then either the new one is in the set, or none.
func (m *mirror) addFrom(ctx context.Context, p *place, from func([]byte, int64) (int, error)) error {
	end, ok := claim(p.LogCopy)
	if !ok {
		return m.refuse(p, errBusy)
	}
	m.changing.Lock()
	settled := m.settled
	m.changing.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &copying{m: m, at: p.LogCopy, from: from}
	begun := make(chan error, 1)
	go func() { begun <- c.begin(ctx, settled) }()
	select {
	case err := <-begun:
		if err != nil {
			c.drop()
			end()
			return m.refuse(p, err)
		}
	case <-ctx.Done():
		go func() {
			<-begun
			c.drop()
			end()
		}()
		return m.refuse(p, ctx.Err())
	}
	m.changing.Lock()
	defer m.changing.Unlock()
	m.retire(p)
	ended := make(chan error, 1)
	go func() { ended <- c.finish(ctx, settled) }()
	select {
	case err := <-ended:
		end()
		if err != nil {
			c.drop()
			return m.refuse(p, err)
		}
	case <-m.o.Engine.Clock.After(m.o.LogTimeout):
		go func() {
			<-ended
			c.drop()
			end()
		}()
		return m.refuse(p, errLate)
	}
	m.mu.Lock()
	p.file, p.err = c.file, nil
	m.mu.Unlock()
	m.o.Events(Event{Kind: EventLogJoined, Volume: m.v, Log: p.LogCopy})
	return nil
}

// retire takes a copy out of the set that is about to lose its name.
func (m *mirror) retire(p *place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if file := p.file; file != nil {
		p.file, p.err = nil, errReplaced
		go func() { _ = file.Close() }() // may hang; what is in it was synced
	}
}

var errReplaced = errors.New("a new copy takes its place")

func (m *mirror) refuse(p *place, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.file == nil {
		p.err = err
	}
	return err
}

// copying is a copy that is being made.
type copying struct {
	m    *mirror
	at   LogCopy
	from func(b []byte, off int64) (int, error) // what is copied
	file vfs.File
}

// begin writes the first n bytes to a new file.
func (c *copying) begin(ctx context.Context, n int64) (err error) {
	if c.file, err = c.at.Home.FS.Create(c.at.path(c.m.v) + tmpExt); err != nil {
		return err
	}
	if err := c.copy(ctx, 0, n); err != nil {
		return err
	}
	return c.file.Sync()
}

// finish writes the rest, and gives the file its name. Nobody changes the log
// meanwhile.
func (c *copying) finish(ctx context.Context, from int64) error {
	size, err := c.m.size()
	if err != nil {
		return err
	}
	if err = c.copy(ctx, from, size); err == nil {
		err = c.file.Sync()
	}
	unfinished := c.file
	c.file, err = nameLog(ctx, c.at, c.m.v, unfinished, err)
	return err
}

const copyStep = 1 << 20

func (c *copying) copy(ctx context.Context, from, to int64) error {
	b := make([]byte, min(copyStep, max(0, to-from)))
	for at := from; at < to; at += copyStep {
		if err := ctx.Err(); err != nil {
			return err
		}
		b = b[:min(copyStep, to-at)]
		if n, err := c.from(b, at); n < len(b) {
			return fmt.Errorf("read the log at %d: %w", at, err)
		}
		if _, err := c.file.WriteVAt([][]byte{b}, at); err != nil {
			return err
		}
	}
	return nil
}

// drop gives up what was not finished. The unfinished file is replaced by the next
// attempt.
func (c *copying) drop() {
	if c.file != nil {
		_ = c.file.Close()
	}
}
