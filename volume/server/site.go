package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// site is a disk that has shards, or may have: of this process, or at a peer.
type site struct {
	number uint32
	d      *disk // here, or nil
	peer   Peer  // elsewhere
	far    *farDisk
}

// farDisk is what the reads of shards know of a disk of another node.
type farDisk struct {
	number uint32
	node   string
	clock  interface{ Elapsed() time.Duration }
	reads  places
	up     atomic.Bool

	mu    sync.Mutex // guards begun
	begun map[*time.Duration]bool
}

// siteOf finds the disk of a number.
func (c *coder) siteOf(number uint32) (site, bool) {
	if d := c.s.diskByNumber(number); d != nil {
		return site{number: number, d: d}, true
	}
	if c.s.o.Peers != nil {
		if p := c.s.o.Peers.Of(number); p != nil {
			return site{number: number, peer: p, far: c.farDisk(number, p.Node())}, true
		}
	}
	return site{}, false
}

func (c *coder) farDisk(number uint32, node string) *farDisk {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.far[number]
	if f == nil || f.node != node {
		f = &farDisk{number: number, node: node, clock: c.s.o.Clock, reads: newPlaces(&c.s.o, c.s.readShare()), begun: make(map[*time.Duration]bool)}
		f.up.Store(slices.ContainsFunc(c.s.o.Peers.Disks(), func(d FleetDisk) bool { return d.Disk == number && d.Up }))
		c.far[number] = f
	}
	return f
}

// hear notes which disks of other nodes are there. When some came or went, what failed
// may work.
func (c *coder) hear(all []FleetDisk) {
	knows := c.s.current() == nil // else no shelf is given out, here either
	changed := c.knew.Swap(knows) != knows
	c.mu.Lock()
	for _, d := range all {
		if f := c.far[d.Disk]; f != nil && f.up.Swap(d.Up) != d.Up {
			changed = true
		}
	}
	c.mu.Unlock()
	if changed {
		c.changes.Add(1)
		c.reopen.Store(true)
		c.troubles.forgive()
		c.kick()
	}
}

// shardDisk is a disk as the reads of shards see it.
type shardDisk interface {
	hangs() bool
	enter(ctx context.Context, s *Server, n int) (leave func(), err error)
}

func (at site) on() shardDisk {
	if at.d != nil {
		return at.d
	}
	return at.far
}

// usable is that of a disk.
func (at site) usable() error {
	if at.d != nil {
		return at.d.usable()
	}
	return at.far.usable()
}

// name is how errors and events call it.
func (at site) name() string {
	if at.d != nil {
		return at.d.dir
	}
	return at.far.name()
}

func (f *farDisk) name() string { return fmt.Sprintf("disk %d of node %s", f.number, f.node) }

func (f *farDisk) usable() error {
	if !f.up.Load() {
		return unavailable("%s is away: %w", f.name(), ErrMissing)
	}
	return nil
}

// hangs reports whether reads of the disk wait for long.
func (f *farDisk) hangs() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for at := range f.begun {
		if f.clock.Elapsed()-*at >= slowRead {
			return true
		}
	}
	return false
}

// enter waits for a place for a read, as places do.
func (f *farDisk) enter(ctx context.Context, s *Server, n int) (leave func(), err error) {
	free, err := f.reads.enter(ctx, s, f.name(), n)
	if err != nil {
		return nil, err
	}
	at := f.clock.Elapsed()
	f.mu.Lock()
	f.begun[&at] = true
	f.mu.Unlock()
	return func() {
		f.mu.Lock()
		delete(f.begun, &at)
		f.mu.Unlock()
		free()
	}, nil
}

// shelving are the shelves that the keeper of a volume has, by place.
type shelving struct {
	mu  sync.Mutex // guards all
	all map[shelfKey]*held
}

// held is a shelf that is held, or being taken.
type held struct {
	turn  chan struct{} // held (full) by who takes it; guards all below
	term  uint32
	shelf Shelf
	home  coding.Home // where jobs work; readers use shelf
}

// forget lets go of the shelves of an epoch that is served no more. Their files are
// closed.
func (c *coder) forget(v volume.ID, epoch uint32) {
	if h := c.s.codedHandle(v); h != nil && h.coded.c.Epoch == epoch {
		return
	}
	c.shelving.mu.Lock()
	defer c.shelving.mu.Unlock()
	for key := range c.shelving.all {
		if key.v == v && key.epoch == epoch {
			delete(c.shelving.all, key)
		}
	}
}

// takeWait bounds how long the taking of a shelf may take.
const takeWait = 5 * time.Second

// shelf returns the folder of an epoch at a site, taken under a term unless this
// process has it already.
func (c *coder) shelf(ctx context.Context, at site, v volume.ID, epoch, term uint32) (*held, error) {
	key := shelfKey{at.number, v, epoch}
	c.shelving.mu.Lock()
	h := c.shelving.all[key]
	if h == nil {
		h = &held{turn: make(chan struct{}, 1)}
		c.shelving.all[key] = h
	}
	c.shelving.mu.Unlock()
	ctx, end := c.s.within(ctx, takeWait)
	defer end()
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, unavailable("%w", context.Cause(ctx))
	}
	defer func() { <-h.turn }()
	if h.shelf != nil && h.term == term && !h.shelf.Lost() {
		return h, nil
	}
	h.shelf = nil
	if at.d != nil {
		f, err := c.s.takeShelf(ctx, at.d, v, epoch, term)
		if err != nil {
			return nil, err
		}
		h.shelf, h.home = f, coding.Home{FS: impatient{at.d, f}}
	} else {
		f, err := at.peer.Shelf(ctx, at.number, v, epoch, term)
		if err != nil {
			return nil, err
		}
		h.shelf, h.home = f, coding.Home{FS: f}
	}
	h.term = term
	return &held{term: term, shelf: h.shelf, home: h.home}, nil
}

// home is where readers find the shards of an epoch, workplace where jobs do, which
// leave a disk that hangs. On a node that is alone nobody else can be there.
func (c *coder) home(ctx context.Context, at site, v volume.ID, epoch, term uint32) (coding.Home, error) {
	if c.s.o.Peers == nil {
		return at.d.home(v, epoch), nil
	}
	h, err := c.shelf(ctx, at, v, epoch, term)
	if err != nil {
		return coding.Home{}, err
	}
	return coding.Home{FS: h.shelf}, nil
}

func (c *coder) workplace(ctx context.Context, at site, v volume.ID, epoch, term uint32) (coding.Home, error) {
	if c.s.o.Peers == nil {
		home := at.d.workplace(v, epoch)
		return home, home.FS.MkdirAll(home.Dir)
	}
	h, err := c.shelf(ctx, at, v, epoch, term)
	if err != nil {
		return coding.Home{}, err
	}
	return h.home, nil
}

// warm takes the shelves of many homes at the same time. Those that cannot be taken
// are met again by who needs them.
func (c *coder) warm(ctx context.Context, homes []uint32, v volume.ID, epoch, term uint32) {
	if c.s.o.Peers == nil {
		return
	}
	var wg sync.WaitGroup
	done := make(map[uint32]bool)
	for _, n := range homes {
		at, ok := c.siteOf(n)
		if !ok || done[n] || at.usable() != nil {
			continue
		}
		done[n] = true
		wg.Go(func() { _, _ = c.shelf(ctx, at, v, epoch, term) })
	}
	wg.Wait()
}

// lostShelf reports whether a file is on a shelf that answers nothing any more.
func lostShelf(fsys vfs.FS) bool {
	s, ok := fsys.(Shelf)
	return ok && s.Lost()
}

// forgotten tells errors of a shelf that another has from those of the bytes on it.
func forgotten(err error) bool { return errors.Is(err, ErrShelf) }

// tolerance is how many copies of a volume's delete log may be missing, which are on
// the disks of homes: as many as are lost with those disks without which the shards
// still give all, whichever those are, or with one node.
func (c *coder) tolerance(homes []uint32, parity int) int {
	most := survives(homes, parity)
	if c.s.o.Peers == nil {
		return most
	}
	shards, disks := make(map[string]int), make(map[string]map[uint32]bool)
	for _, h := range homes {
		node := c.nodeOf(h)
		if node == "" {
			continue
		}
		shards[node]++
		if disks[node] == nil {
			disks[node] = make(map[uint32]bool)
		}
		disks[node][h] = true
	}
	for node, n := range shards {
		if n <= parity {
			most = max(most, len(disks[node]))
		}
	}
	return most
}
