package server

import (
	"context"
	"errors"
	"sync"

	"hayloft/volume"
)

// openAll serves every committed epoch. It is called before anything else uses
// the server.
func (c *coder) openAll(ctx context.Context) {
	c.mu.Lock()
	for _, d := range c.s.all() {
		c.holds[d.dir] = d.number
	}
	c.mu.Unlock()
	if c.s.o.Peers == nil || c.s.current() == nil { // else no shelf is given out yet
		c.openKept(ctx)
	}
	c.opened.Store(true)
}

// openSick opens what could not be opened before.
func (c *coder) openSick(ctx context.Context) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-c.turn }()
	if c.s.current() == nil {
		c.openKept(ctx)
	}
}

// openKept opens, of many volumes at a time, what this node keeps and does not serve.
func (c *coder) openKept(ctx context.Context) {
	places := make(chan struct{}, openAtOnce)
	var wg sync.WaitGroup
	for _, row := range c.s.o.Directory.CodedRows() {
		if row.Coding.Committed == nil || !c.keeps(row) {
			continue
		}
		if h := c.s.codedHandle(row.Volume.Volume); h != nil && h.vol != nil {
			continue
		}
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			c.install(ctx, row)
		})
	}
	wg.Wait()
}

// diskGone has the shards of a disk read from others, beginning now.
func (c *coder) diskGone(d *disk) {
	c.changes.Add(1)
	c.s.retiring.Go(func() {
		c.leave()
		c.troubles.forgive() // another job may be due
		c.kick()
	})
}

// leave takes the shards on disks that are out of service out of use.
func (c *coder) leave() {
	for _, h := range c.handles() {
		if h.vol == nil {
			continue
		}
		if err := h.coded.leave(); err != nil && !errors.Is(err, volume.ErrClosed) {
			c.s.o.Events(Event{Kind: EventUpkeepFailed, Volume: h.coded.c.Volume, Work: "leaving", Err: err})
		}
	}
}

// handles are those of all coded volumes.
func (c *coder) handles() (out []*handle) {
	c.s.mu.RLock()
	defer c.s.mu.RUnlock()
	for _, h := range c.s.volumes {
		if h.coded != nil {
			out = append(out, h)
		}
	}
	return out
}

// diskBack has shards looked for on a disk, and those of the disk made again that
// its directory had before.
func (c *coder) diskBack(d *disk) {
	c.mu.Lock()
	if former := c.holds[d.dir]; former != 0 && former != d.number {
		c.replaced[former] = true
	}
	c.holds[d.dir] = d.number
	delete(c.replaced, d.number)
	c.mu.Unlock()
	c.changes.Add(1)
	c.troubles.forgive()
	c.kick()
}

// closeCoded closes coded volumes.
func (s *Server) closeCoded(all []*codedVolume) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, cv := range all {
		wg.Go(func() { errs[i] = cv.close() })
	}
	wg.Wait()
	return errors.Join(errs...)
}
