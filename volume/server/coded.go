package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"hayloft/volume"
	"hayloft/volume/coded"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
)

// codedVolume is an epoch of a volume that is served out of its shards. It
// belongs to a handle.
type codedVolume struct {
	s     *Server
	c     coding.Committed
	class volume.Class
	term  uint32 // under which this node is the keeper
	v     *coded.Volume

	moving sync.Mutex // held by who changes the set of shards

	mu     sync.Mutex // guards all below
	shards []shardPlace
}

// shardPlace is where a shard is, and what is known to be wrong with it.
type shardPlace struct {
	home  uint32 // the disk that the directory has it on
	file  *diskShard
	why   error     // it cannot be read; nil while file is not
	since time.Time // that it cannot
	// damage is what reads and scrubs found in it and nobody has repaired yet.
	damage []coding.Finding
}

// maxDamage is how many findings of a shard are kept: with more it is made
// again, whole.
const maxDamage = 64

// committedOf joins a commit with the volume it is of.
func committedOf(v volume.ID, c *lifecycle.Commit) coding.Committed {
	out := coding.Committed{Plan: planOf(v, c.Run)}
	for _, d := range c.Digests {
		out.Digests = append(out.Digests, coding.Digest(d))
	}
	return out
}

func planOf(v volume.ID, r lifecycle.Run) coding.Plan {
	return coding.Plan{
		Policy: coding.Policy{Data: r.Data, Parity: r.Parity}, Volume: v, Generation: r.Source.Generation, Epoch: r.Epoch, Encoder: r.Encoder,
		SourceBytes: r.Source.Bytes, SourceDigest: volume.Digest(r.Source.Digest), IndexBytes: r.IndexBytes,
	}
}

func homesOf(homes []lifecycle.Disk) []uint32 {
	out := make([]uint32, len(homes))
	for i, h := range homes {
		out[i] = uint32(h)
	}
	return out
}

// openShard opens shard i of an epoch where the directory has it, as the keeper under a
// term.
func (s *Server) openShard(ctx context.Context, c coding.Committed, i int, home, term uint32) shardPlace {
	p := shardPlace{home: home}
	if at, ok := s.coder.siteOf(home); !ok {
		p.why = fmt.Errorf("shard %d: disk %d is not in service: %w", i, home, ErrMissing)
	} else if p.why = at.usable(); p.why == nil {
		if p.file, p.why = s.coder.openAt(ctx, at, c, i, term); p.why == nil {
			return p
		}
	}
	p.since = s.o.Clock.Now()
	return p
}

// openAt opens a shard at a site, and leaves one that hangs.
func (c *coder) openAt(ctx context.Context, at site, of coding.Committed, i int, term uint32) (*diskShard, error) {
	home, err := c.home(ctx, at, of.Volume, of.Epoch, term)
	if err != nil {
		return nil, err
	}
	var f *coding.File
	open := func() (err error) {
		f, err = coding.Open(home, of, i)
		return err
	}
	if at.d == nil {
		err = open()
	} else {
		_, err = impatient{d: at.d}.call(open, func() {
			if f != nil {
				_ = f.Close() // nobody has it
			}
		})
	}
	if err != nil {
		return nil, err
	}
	return &diskShard{s: c.s, at: at, home: home, f: f}, nil
}

// logCopies are the places of an epoch's delete log: one on each disk that has a
// shard. A disk that is away counts as a copy that cannot be read.
func (s *Server) logCopies(ctx context.Context, c coding.Committed, homes []uint32, term uint32) []coded.LogCopy {
	var out []coded.LogCopy
	for _, h := range homes {
		if slices.ContainsFunc(out, func(l coded.LogCopy) bool { return l.Disk == h }) {
			continue
		}
		l := coded.LogCopy{Disk: h, Home: coding.Home{FS: s.coder.away, Dir: fmt.Sprintf("disk-%d", h)}}
		if at, ok := s.coder.siteOf(h); ok && at.usable() == nil {
			if home, err := s.coder.home(ctx, at, c.Volume, c.Epoch, term); err == nil {
				l.Home = home
			}
		}
		out = append(out, l)
	}
	return out
}

// openCoded opens a committed epoch. The handle says why when it cannot be served.
func (s *Server) openCoded(ctx context.Context, row Row) *handle {
	commit := row.Coding.Committed
	cv := &codedVolume{s: s, c: committedOf(row.Volume.Volume, commit), class: row.Volume.Class, term: row.Term}
	homes := homesOf(commit.Homes)
	s.coder.warm(ctx, homes, cv.c.Volume, cv.c.Epoch, cv.term)
	for i, h := range homes {
		cv.shards = append(cv.shards, s.openShard(ctx, cv.c, i, h, cv.term))
	}
	h := &handle{coded: cv, gate: newGate()}
	eng, err := coded.Open(ctx, cv.c, cv.class, cv.readers(), s.logCopies(ctx, cv.c, homes, cv.term), coded.Options{
		Engine: s.coder.engineOptions(), Reader: cv.readerOptions(), Tolerance: s.coder.tolerance(homes, cv.c.Parity), LogTimeout: s.o.LogTimeout,
		Events: func(e coded.Event) {
			if e.Err == nil {
				return // a copy was made, or all of them were made alike
			}
			s.o.Events(Event{Kind: EventDeleteLog, Volume: cv.c.Volume, Dir: s.dirOf(e.Log.Disk), Err: fmt.Errorf("%v: %w", e.Kind, e.Err)})
			s.coder.kick()
		},
		Unused: func(unused coding.Shard) { s.closeShard(unused.(*diskShard)) },
	})
	if err != nil {
		for _, p := range cv.places() {
			if p.file != nil {
				s.closeShard(p.file) // again does nothing
			}
		}
		h.sick = fmt.Errorf("volume %d, epoch %d: %w", cv.c.Volume, cv.c.Epoch, err)
		return h
	}
	cv.v, h.vol = eng, eng.Engine()
	return h
}

// readers are the shards that can be read, nil for the others.
func (cv *codedVolume) readers() []coding.Shard {
	cv.mu.Lock()
	defer cv.mu.Unlock()
	return cv.readersLocked()
}

func (cv *codedVolume) readersLocked() []coding.Shard {
	out := make([]coding.Shard, len(cv.shards))
	for i, p := range cv.shards {
		if p.file != nil {
			out[i] = p.file
		}
	}
	return out
}

// inputs are the readers of jobs, which leave a disk that hangs.
func (cv *codedVolume) inputs() []coding.Shard {
	shards := cv.readers()
	for i, s := range shards {
		if f, ok := s.(*diskShard); ok {
			shards[i] = input{f}
		}
	}
	return shards
}

func (cv *codedVolume) readerOptions() coding.ReaderOptions {
	c := cv.s.coder
	return coding.ReaderOptions{
		HedgeAfter: c.latency.hedgeAfter, Admit: c.admit, Clock: cv.s.o.Clock,
		Found: func(f coding.Finding) { cv.found(f) },
	}
}

// found notes damage, and tells of what is new.
func (cv *codedVolume) found(f coding.Finding) {
	home, isNew := cv.note(f)
	if !isNew {
		return
	}
	cv.s.n.damaged.Add(1)
	cv.s.o.Events(Event{Kind: EventShardDamaged, Dir: cv.s.dirOf(home), Volume: cv.c.Volume, Err: fmt.Errorf("shard %d, %d bytes at %d: %w", f.Shard, f.Length, f.Offset, f.Err)})
	cv.s.coder.kick()
}

// note notes damage of a shard, for the next rebuild, and returns the shard's home and
// whether it is new. That a disk is away or slow is no damage.
func (cv *codedVolume) note(f coding.Finding) (home uint32, isNew bool) {
	if errors.Is(f.Err, ErrUnavailable) || forgotten(f.Err) || errors.Is(f.Err, volume.ErrClosed) || errors.Is(f.Err, context.Canceled) || errors.Is(f.Err, context.DeadlineExceeded) {
		return 0, false
	}
	cv.mu.Lock()
	defer cv.mu.Unlock()
	p := &cv.shards[f.Shard]
	known := slices.ContainsFunc(p.damage, func(o coding.Finding) bool { return o.Offset == f.Offset && o.Length == f.Length })
	if !known && len(p.damage) < maxDamage {
		p.damage = append(p.damage, f)
	}
	return p.home, !known
}

// places returns a copy of what is known of the shards.
func (cv *codedVolume) places() []shardPlace {
	cv.mu.Lock()
	defer cv.mu.Unlock()
	out := slices.Clone(cv.shards)
	for i := range out {
		out[i].damage = slices.Clone(out[i].damage)
	}
	return out
}

// adopt serves with other places of shards from now on: those that i says are
// replaced by what open returns. The former files are closed when their reads
// have ended.
func (cv *codedVolume) adopt(changed map[int]shardPlace) error {
	cv.mu.Lock() // until they are set: an older set must not come later
	defer cv.mu.Unlock()
	for i, p := range changed {
		cv.shards[i] = p
	}
	return cv.v.SetShards(cv.readersLocked())
}

// leave serves without the shards whose disks are out of service.
func (cv *codedVolume) leave() error {
	cv.mu.Lock()
	defer cv.mu.Unlock()
	left := false
	for i, p := range cv.shards {
		if p.file == nil {
			continue
		}
		if why := p.file.why(); why != nil {
			cv.shards[i], left = shardPlace{home: p.home, why: why, since: cv.s.o.Clock.Now()}, true
		}
	}
	if !left {
		return nil
	}
	return cv.v.SetShards(cv.readersLocked())
}

// closeShard closes a file beside everything else: one whose disk hangs takes its
// time, and nothing waits for it.
func (s *Server) closeShard(f *diskShard) {
	s.burying.Go(func() {
		if err := f.close(); err != nil && f.at.usable() == nil {
			s.o.Events(Event{Kind: EventUpkeepFailed, Dir: f.at.name(), Work: "closing", Err: err})
		}
	})
}

// close closes the engine, which lets go of the shards. Nobody may use it any more.
func (cv *codedVolume) close() error {
	if cv.v == nil {
		return nil
	}
	err := cv.v.Close()
	if slices.ContainsFunc(cv.v.Logs(), func(l coded.LogState) bool { return lostShelf(l.Home.FS) }) {
		return nil // another node has it by now, and all that counts
	}
	return err
}

// lost are the shards that cannot be read or were found damaged, by number.
func (cv *codedVolume) lost() (away, damaged []int) {
	for i, p := range cv.places() {
		switch {
		case p.file == nil:
			away = append(away, i)
		case len(p.damage) > 0:
			damaged = append(damaged, i)
		}
	}
	return away, damaged
}

// dirOf is the data directory of a disk in service, or what a disk of another node is
// called, or "".
func (s *Server) dirOf(disk uint32) string {
	if at, ok := s.coder.siteOf(disk); ok {
		return at.name()
	}
	return ""
}

// codedHandle is the handle of a volume that is served out of shards, or nil.
func (s *Server) codedHandle(v volume.ID) *handle { return s.handle(0, v) }
