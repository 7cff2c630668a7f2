package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
)

// coder keeps the coded volumes of this node, and codes those that are to be. It
// does one job at a time: each reads from and writes to many disks. It keeps
// nothing that directory and files do not tell but the number of its own run.
type coder struct {
	s        *Server
	turn     chan struct{} // held (full) by the job that is at work
	kicked   chan struct{} // holds one token when the volumes are to be looked over
	pace     pace
	reads    *volume.ReadBudget
	steps    volume.Steps
	latency  latency
	troubles troubles
	computed *semaphore.Weighted // ranges computed at once

	opened   atomic.Bool   // openAll has returned
	knew     atomic.Bool   // whether this node has heard of the directory
	reopen   atomic.Bool   // what could not be served may be by now
	changes  atomic.Uint64 // of the set of disks in service
	away     vfs.FS        // of disks that are not
	shelving shelving

	mu       sync.Mutex           // guards all below
	runs     map[volume.ID]uint64 // numbers of this process's runs, by volume
	doubts   map[volume.ID]error  // volumes of which it is not known whether an epoch was committed
	far      map[uint32]*farDisk  // disks of other nodes
	holds    map[string]uint32    // the disk that each data directory had last
	replaced map[uint32]bool      // disks whose directory has another one now
}

// computeShare is the share of a disk's places for reads that computed ranges may
// have: so reads of what is there keep theirs. The others wait (Tectonic, section
// 5.3, bounds them to a tenth of all reads by refusing; ours must not fail).
const computeShare = 4

func newCoder(s *Server) *coder {
	return &coder{
		s: s, turn: make(chan struct{}, 1), kicked: make(chan struct{}, 1), pace: pace{s: s, disks: s.halfTheDisks},
		away: observed{s.o.FS, absentDisk()}, reads: volume.NewReadBudget(s.readShare(), s.o.MaxReads*len(s.o.Dirs)),
		computed: semaphore.NewWeighted(int64(max(1, s.o.MaxReads/computeShare))),
		runs:     make(map[volume.ID]uint64), doubts: make(map[volume.ID]error), holds: make(map[string]uint32), replaced: make(map[uint32]bool),
		far: make(map[uint32]*farDisk), shelving: shelving{all: make(map[shelfKey]*held)},
	}
}

// absentDisk lets no call through.
func absentDisk() *observer {
	o := new(observer)
	err := fmt.Errorf("the disk is not in service: %w", ErrMissing)
	o.gone.Store(&err)
	return o
}

// halfTheDisks is whose rates a job has that reads and writes on all of them: the
// one that has the source does the work of about two.
func (s *Server) halfTheDisks() int64 { return int64(len(s.all())+1) / 2 }

// admit bounds the ranges that are computed at once.
func (c *coder) admit(ctx context.Context) (func(), error) {
	if err := c.computed.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	c.s.n.computed.Add(1)
	return func() { c.computed.Release(1) }, nil
}

func (c *coder) engineOptions() volume.Options {
	return volume.Options{
		Clock: c.s.o.Clock, MaxBytes: c.s.o.VolumeBytes, Reads: c.reads, Steps: &c.steps,
		Events: func(e volume.Event) {
			c.s.o.Events(Event{Kind: EventVolume, Volume: e.Volume, Err: e.Err, Engine: e})
		},
	}
}

// codingOptions are those of a job of package coding.
func (c *coder) codingOptions(j *job) coding.Options {
	return coding.Options{
		StripeBytes: CodingStripe,
		Throttle: func(ctx context.Context, n int64) error {
			c.s.n.upkeep.Add(uint64(n))
			return c.pace.wait(ctx, n)
		},
		Progress: func(p coding.Progress) { j.set(string(p.Step), p.Done, p.Total, c.s.o.Clock.Now()) },
	}
}

func (c *coder) place(v volume.ID) where   { return where{0, v} }
func (c *coder) bench() chan struct{}      { return c.turn }
func (c *coder) lifetime() context.Context { return c.s.life }
func (c *coder) ended() error              { return ErrClosed }
func (c *coder) usable() error             { return nil }

func (c *coder) work(ctx context.Context, j *job) (rec volume.SealRecord, err error) {
	j.changes = c.changes.Load()
	switch j.kind {
	case jobEncode:
		err = c.encode(ctx, j)
	case jobRelease:
		err = c.release(ctx, j)
	case jobRevoke:
		err = c.revoke(ctx, j)
	case jobRebuild:
		err = c.rebuild(ctx, j)
	case jobReclaim:
		rec, err = c.reclaim(ctx, j)
	case jobClear:
		err = c.clear(ctx, j)
	case jobOpen:
		err = c.open(ctx, j)
	case jobKeep:
		err = c.keep(ctx, j)
	}
	return rec, err
}

func (c *coder) outcome(j *job, err error) {
	if c.s.life.Err() != nil {
		return
	}
	c.troubles.note(trouble{j.v, j.kind}, err, c.s.o.Clock.Now())
	if c.changes.Load() != j.changes {
		c.troubles.forgive() // disks came or went meanwhile
	}
	if err != nil {
		c.s.n.failures.Add(1)
		c.s.o.Events(Event{Kind: EventUpkeepFailed, Volume: j.v, Work: j.kind.String(), Err: err})
	}
}

func (c *coder) kick() {
	select {
	case c.kicked <- struct{}{}:
	default:
	}
}

// upkeep is the goroutine that moves coded volumes on, until ctx ends.
func (c *coder) upkeep(ctx context.Context) {
	for {
		if c.reopen.Swap(false) {
			c.openSick(ctx)
		}
		for !c.reopen.Load() && c.next(ctx) {
		}
		select {
		case <-c.kicked:
		case <-c.s.o.Clock.After(c.untilDue()):
		case <-ctx.Done():
			return
		}
	}
}

// untilDue is how long nothing is due unless something happens: until a grace or a
// repair delay is over, UpkeepEvery at most.
func (c *coder) untilDue() time.Duration {
	now := c.s.o.Clock.Now()
	wait := c.s.o.UpkeepEvery
	sooner := func(at time.Time) {
		if d := at.Sub(now); d > 0 {
			wait = min(wait, d)
		}
	}
	for _, row := range c.rows(nil) {
		cd := row.Coding
		if cd.Committed == nil || !c.keeps(row) {
			continue
		}
		if cd.State() == lifecycle.Coded {
			sooner(cd.Committed.At.Add(c.s.o.SourceGrace))
		}
		if h := c.s.codedHandle(row.Volume.Volume); h != nil {
			if h.vol == nil {
				sooner(h.sickSince.Add(revokeWait))
			}
			for _, p := range h.coded.places() {
				if p.file == nil {
					sooner(p.since.Add(c.s.o.RepairDelay))
					sooner(p.since.Add(revokeWait))
				}
			}
		}
	}
	return wait
}

// next does the most urgent job that is due, and reports whether there was one.
// What fails rests for a while, so this ends.
func (c *coder) next(ctx context.Context) bool {
	type work struct {
		due
		v volume.ID
	}
	c.leave() // what was opened while its disk went out
	c.yield()
	var all []work
	on, sky := c.lying(), c.s.look()
	for _, row := range c.rows(on) {
		v, d := row.Volume.Volume, c.due(row, on, sky)
		if d.kind != 0 && !c.troubles.rests(trouble{v, d.kind}, c.s.o.Clock.Now()) {
			all = append(all, work{d, v})
		}
	}
	slices.SortFunc(all, func(a, b work) int {
		return cmp.Or(-cmp.Compare(a.urgency, b.urgency), cmp.Compare(a.v, b.v))
	})
	for _, w := range all {
		if ctx.Err() != nil {
			return false
		}
		j, begun, err := c.s.job(c, w.v, w.kind)
		if err != nil {
			return false // the server stops
		}
		if !begun {
			continue // its end is a kick
		}
		if _, err := j.wait(ctx, nil); err == nil && ctx.Err() == nil {
			c.restIfDue(j)
		}
		return ctx.Err() == nil
	}
	return false
}

// restIfDue leaves a volume alone for a while that needs again what was just
// done for it, unless disks came or went meanwhile.
func (c *coder) restIfDue(j *job) {
	row, ok := c.s.o.Directory.Row(j.v)
	if ok && c.due(row, c.lying(), c.s.look()).kind == j.kind && c.changes.Load() == j.changes {
		c.troubles.pause(trouble{j.v, j.kind}, c.s.o.Clock.Now().Add(retryFirst))
	}
}

// rows are the volumes that are coded, or may have to be, as this node knows them, and
// those of which something lies here.
func (c *coder) rows(on []lying) []Row {
	rows := c.s.o.Directory.CodedRows()
	seen := make(map[volume.ID]bool)
	for _, r := range rows {
		seen[r.Volume.Volume] = true
	}
	for _, d := range c.s.all() {
		for _, r := range c.s.o.Directory.Rows(d.number) {
			if v := r.Volume.Volume; r.State == StateSealed && !seen[v] && c.ours(r) {
				seen[v] = true
				rows = append(rows, r)
			}
		}
	}
	for _, l := range on {
		for v := range l.epochs {
			if r, ok := c.s.o.Directory.Row(v); ok && !seen[v] {
				seen[v] = true
				rows = append(rows, r)
			}
		}
	}
	return rows
}

// ours reports whether a volume of which no shard is here is this node's to code: the
// node of its primary does that.
func (c *coder) ours(r Row) bool {
	return c.s.o.Peers == nil || len(r.InSync) > 0 && c.s.hasDisk(r.InSync[0])
}

// due is what a volume needs now: kind 0 for nothing.
type due struct {
	kind    jobKind
	urgency int
}

// The urgencies. A rebuild is more urgent with each shard that is lost.
const (
	urgentLater = iota
	urgentClear
	urgentEncode
	urgentRelease
	urgentRebuild // and above
	urgentOpen    = 1000
)

// due looks at what directory and shards say, and at what lies on the disks.
func (c *coder) due(row Row, on []lying, sky sky) due {
	cd, h := row.Coding, c.s.codedHandle(row.Volume.Volume)
	switch {
	case cd.Committed == nil && h != nil:
		return due{jobOpen, urgentOpen} // the answer to its revocation was lost
	case cd.Committed != nil && c.mayKeep(row, sky):
		return due{jobKeep, urgentOpen}
	case cd.Committed != nil && c.keeps(row):
		if d := c.dueCommitted(row, h); d.kind != 0 {
			return d
		}
	}
	switch {
	case row.dead(on):
		return due{jobClear, urgentClear}
	case row.State != StateSealed || row.Attempt != nil || !c.ours(row) || cd.Committed != nil && !c.keeps(row):
		return due{}
	case cd.State() == lifecycle.Coding, c.toEncode(row): // a run of a former process is void: another goes on
		return due{jobEncode, urgentEncode}
	}
	return due{}
}

// dueCommitted is due for a volume that has an epoch.
func (c *coder) dueCommitted(row Row, h *handle) due {
	now, cd := c.s.o.Clock.Now(), row.Coding
	inGrace := cd.State() == lifecycle.Coded
	switch {
	case h == nil || h.coded.c.Epoch != cd.Committed.Epoch || h.coded.term != row.Term:
		return due{jobOpen, urgentOpen}
	case inGrace && h.void.Load():
		return due{jobRevoke, urgentOpen}
	case h.vol == nil && c.changes.Load() != h.opened:
		return due{jobOpen, urgentOpen}
	case h.vol == nil && inGrace && c.outlasts(h.sickSince):
		return due{jobRevoke, urgentOpen}
	case h.vol == nil:
		return due{}
	case h.vol.Stats().Poisoned != nil && !c.troubles.rests(trouble{row.Volume.Volume, jobOpen}, now):
		return due{jobOpen, urgentOpen} // for the delete log
	}
	if n := c.toRebuild(row, h, now); n > 0 {
		return due{jobRebuild, urgentRebuild + n}
	}
	switch {
	case inGrace && !now.Before(cd.Committed.At.Add(c.s.o.SourceGrace)):
		return due{jobRelease, urgentRelease}
	case cd.State() == lifecycle.Released && (row.Attempt != nil || c.s.o.wasteful(h.vol.Stats())):
		return due{jobReclaim, urgentLater}
	}
	if _, crowded := c.crowded(h.coded); crowded {
		return due{jobRebuild, urgentLater}
	}
	return due{}
}

// toEncode reports whether a sealed volume is to be coded by itself: an original
// that is old enough, or one that was written anew out of its shards.
func (c *coder) toEncode(row Row) bool {
	if c.s.o.Coding == (coding.Policy{}) || row.Seal == nil || row.Coding.State() != lifecycle.Sealed {
		return false
	}
	if row.Coding.Committed != nil {
		return true
	}
	return row.Volume.Class == volume.ClassOriginals && c.s.o.Clock.Now().Sub(row.Seal.Sealed) >= c.s.o.CodeAfter
}

// doubt notes why it is not known whether an epoch of a volume was committed, or with
// nil that it is.
func (c *coder) doubt(v volume.ID, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doubts[v] = why; why == nil {
		delete(c.doubts, v)
	}
}

// doubtOf returns that, or nil. While there is a doubt no handle of the volume takes
// deletes, nor one that is opened meanwhile: they might be missing in the log that counts.
func (c *coder) doubtOf(v volume.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doubts[v]
}

// served pins a coded volume that can be read.
func (c *coder) served(v volume.ID) (*handle, error) {
	h := c.s.pin(0, v)
	switch {
	case h == nil:
		return nil, lost(v)
	case h.vol == nil:
		return nil, unavailable("volume %d: %w", v, h.sick)
	}
	return h, nil
}

// fresh returns a volume's row as it is now, in the state of the sealed.
func (c *coder) fresh(ctx context.Context, v volume.ID) (Row, error) {
	row, err := c.s.fresh(ctx, v)
	if err == nil && row.State != StateSealed {
		err = fmt.Errorf("%w: volume %d", volume.ErrNotSealed, v)
	}
	return row, err
}
