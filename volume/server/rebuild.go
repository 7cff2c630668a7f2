package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"hayloft/volume/coded"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
)

// toRebuild is how many shards of a volume are to be made again now: those that
// are damaged, missing on a disk that is in service, or on a disk that is away for
// good or for longer than the repair delay. A delete log that lacks a copy counts
// too.
func (c *coder) toRebuild(row Row, h *handle, now time.Time) (n int) {
	for _, p := range h.coded.places() {
		if c.lostForGood(p, now) {
			n++
		}
	}
	if n == 0 && h.coded.homesMoved(row) {
		n++
	}
	if n == 0 && c.lacksLog(h.coded) && h.vol.Stats().Poisoned == nil {
		n++
	}
	if n == 0 && row.Coding.State() == lifecycle.Coded && c.hopeless(h.coded) {
		n++ // the source serves at once
	}
	return n
}

// lostForGood reports whether a shard is to be made again now.
func (c *coder) lostForGood(p shardPlace, now time.Time) bool {
	if p.file != nil && len(p.damage) == 0 {
		return c.gone(p.home) // the file may still be open of a disk that was wiped
	}
	at, ok := c.siteOf(p.home)
	switch {
	case p.file == nil && ok && at.usable() == nil, len(p.damage) > 0:
		return true
	case c.gone(p.home):
		return true
	}
	return now.Sub(p.since) >= c.s.o.RepairDelay
}

// gone reports whether a disk will not come back: its directory holds another one.
func (c *coder) gone(disk uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.replaced[disk]
}

// homesMoved reports whether the directory has a shard elsewhere than this handle.
func (cv *codedVolume) homesMoved(row Row) bool {
	homes := row.Coding.Committed.Homes
	for i, p := range cv.places() {
		if uint32(homes[i]) != p.home {
			return true
		}
	}
	return false
}

// rebuild is the job: make lost shards again, on the disk that had them when that
// is there, else on another; tell the directory where they are; and have the
// delete log on every disk that has a shard.
func (c *coder) rebuild(ctx context.Context, j *job) error {
	row, err := c.fresh(ctx, j.v)
	if err != nil || row.Coding.Committed == nil {
		return err
	}
	h, err := c.served(j.v)
	if err != nil {
		return err
	}
	defer h.unpin()
	cv := h.coded
	if cv.c.Epoch != row.Coding.Committed.Epoch {
		return nil // another job serves the committed one first
	}
	cv.moving.Lock()
	defer cv.moving.Unlock()
	if err := cv.reopen(ctx, homesOf(row.Coding.Committed.Homes)); err != nil {
		return err
	}
	if row.Coding.State() == lifecycle.Coded && c.hopeless(cv) {
		return c.revoke(ctx, j)
	}
	lostOnes, err := c.plan(cv)
	if err != nil {
		return err
	}
	if len(lostOnes) > 0 {
		if err := c.make(ctx, j, cv, lostOnes); err != nil {
			return err
		}
	}
	return c.setLogs(ctx, cv)
}

// setLogs has the delete log on every disk that has a shard. Those that are away
// have theirs copied when they are back, or not at all.
func (c *coder) setLogs(ctx context.Context, cv *codedVolume) error {
	homes := cv.homes()
	err := cv.v.SetLogs(ctx, c.s.logCopies(ctx, cv.c, homes, cv.term), c.tolerance(homes, cv.c.Parity))
	if err == nil {
		return nil
	}
	if cv.v.Engine().Stats().Poisoned != nil || !c.lacksLog(cv) {
		return nil // one that failed is opened again
	}
	return err
}

// lacksLog reports whether a disk in service has no copy of the log that counts.
func (c *coder) lacksLog(cv *codedVolume) bool {
	return slices.ContainsFunc(cv.v.Logs(), func(l coded.LogState) bool {
		at, ok := c.siteOf(l.Disk)
		return (!l.InSet || lostShelf(l.Home.FS)) && ok && at.usable() == nil
	})
}

// reopen opens the shards that lie elsewhere than this handle knows, or that could
// not be read before.
func (cv *codedVolume) reopen(ctx context.Context, homes []uint32) error {
	changed := make(map[int]shardPlace)
	for i, p := range cv.places() {
		if p.file != nil && p.home == homes[i] && !cv.s.coder.gone(p.home) {
			continue
		}
		next := cv.s.openShard(ctx, cv.c, i, homes[i], cv.term)
		if next.file == nil && p.home == next.home && !p.since.IsZero() {
			next.since = p.since
		}
		changed[i] = next
	}
	if len(changed) == 0 {
		return nil
	}
	return cv.adopt(changed)
}

// revokeWait is how long the shards on disks of other nodes may be away before their
// epoch is given up, with its source there: nodes come back, mostly at once.
const revokeWait = time.Minute

// outlasts reports whether something has lasted for longer than that.
func (c *coder) outlasts(since time.Time) bool {
	return c.s.o.Peers == nil || c.s.o.Clock.Now().Sub(since) >= revokeWait
}

// hopeless reports whether more shards cannot be read than others make up for.
func (c *coder) hopeless(cv *codedVolume) bool {
	n := 0
	for _, p := range cv.places() {
		if p.file == nil && c.outlasts(p.since) {
			n++
		}
	}
	return n > cv.c.Parity
}

func (cv *codedVolume) homes() []uint32 {
	var out []uint32
	for _, p := range cv.places() {
		out = append(out, p.home)
	}
	return out
}

// lostShard is a shard to be made again on a disk.
type lostShard struct {
	shard  int
	on     site
	moves  bool
	damage []coding.Finding // nil: the whole shard
}

// plan decides where each lost shard is made again.
func (c *coder) plan(cv *codedVolume) (out []lostShard, err error) {
	now, held := c.s.o.Clock.Now(), make(map[uint32]int)
	var homeless []int
	for i, p := range cv.places() {
		at, ok := c.siteOf(p.home)
		there := ok && at.usable() == nil
		switch {
		case p.file != nil && len(p.damage) == 0 && there:
			held[p.home]++
		case there:
			held[p.home]++
			out = append(out, lostShard{shard: i, on: at, damage: p.damage})
		case c.lostForGood(p, now):
			homeless = append(homeless, i)
		default:
			held[p.home]++
		}
	}
	if l, crowded := c.crowded(cv); crowded {
		return []lostShard{l}, nil
	}
	among := c.candidates(held)
	disks, err := spread(among, len(homeless), cv.c.Policy, cv.c.FileBytes())
	// Fewer than all are better than none: the most endangered volume is one that
	// lacks shards.
	for n := len(homeless) - 1; err != nil && len(disks) == 0 && n > 0; n-- {
		disks, _ = spread(among, n, cv.c.Policy, cv.c.FileBytes())
	}
	for n, d := range disks {
		if at, ok := c.siteOf(d); ok {
			out = append(out, lostShard{shard: homeless[n], on: at, moves: true})
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	return nil, err
}

// make repairs single blocks where that is all, rebuilds the other shards in one
// pass over k of those that are left, and moves them in the directory.
func (c *coder) make(ctx context.Context, j *job, cv *codedVolume, lost []lostShard) error {
	var whole []coding.Lost
	for _, l := range lost {
		home, err := c.workplace(ctx, l.on, j.v, cv.c.Epoch, cv.term)
		if err != nil {
			return err
		}
		if len(l.damage) > 0 && len(l.damage) < maxDamage {
			err := coding.Repair(ctx, cv.c, cv.inputs(), coding.Lost{Shard: l.shard, Home: home}, l.damage, c.codingOptions(j))
			if err == nil {
				c.s.n.repaired.Add(1)
				c.repaired(cv, l)
				continue
			}
			if ctx.Err() != nil || !errors.Is(err, coding.ErrNotBlocks) && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		whole = append(whole, coding.Lost{Shard: l.shard, Home: home})
	}
	if len(whole) > 0 {
		if err := coding.Rebuild(ctx, cv.c, cv.inputs(), whole, c.codingOptions(j)); err != nil {
			return err
		}
		c.s.n.rebuilt.Add(uint64(len(whole)))
	}
	return c.settle(ctx, cv, lost, whole)
}

// settle has shards that were made whole again counted where they are now.
func (c *coder) settle(ctx context.Context, cv *codedVolume, lost []lostShard, whole []coding.Lost) error {
	if err := c.logsFirst(ctx, cv, lost); err != nil {
		return err
	}
	changed := make(map[int]shardPlace)
	for _, l := range lost {
		if !slices.ContainsFunc(whole, func(w coding.Lost) bool { return w.Shard == l.shard }) {
			continue
		}
		if l.moves {
			if err := c.move(ctx, cv, l); err != nil {
				return err
			}
		}
		changed[l.shard] = c.s.openShard(ctx, cv.c, l.shard, l.on.number, cv.term)
		c.s.o.Events(Event{Kind: EventRebuilt, Dir: l.on.name(), Volume: cv.c.Volume, Err: fmt.Errorf("shard %d", l.shard)})
	}
	return cv.adopt(changed)
}

// logsFirst has the delete log copied to disks that become homes, before the directory
// counts them: a start would take what else lies there, such as the log from when the
// disk was a home before, for a copy that has every delete.
func (c *coder) logsFirst(ctx context.Context, cv *codedVolume, lost []lostShard) error {
	homes := cv.homes()
	moved := slices.Clone(homes)
	survived := c.tolerance(homes, cv.c.Parity)
	next := make(map[uint32]bool)
	for _, l := range lost {
		if l.moves {
			moved[l.shard], next[l.on.number] = l.on.number, true
			homes = append(homes, l.on.number)
		}
	}
	if c.s.o.Peers != nil {
		// Who takes over meanwhile opens the copies on those disks that are homes by then:
		// what is acknowledged has to be on enough of these, whatever copies it is on.
		survived = max(survived, c.tolerance(moved, cv.c.Parity)) + len(next)
	}
	if len(next) == 0 || cv.v.Engine().Stats().Poisoned != nil {
		return nil
	}
	err := cv.v.SetLogs(ctx, c.s.logCopies(ctx, cv.c, homes, cv.term), survived)
	for _, l := range cv.v.Logs() {
		if l.InSet {
			delete(next, l.Disk)
		}
	}
	if len(next) > 0 {
		return fmt.Errorf("the delete log of volume %d is not on every disk that gets a shard: %w", cv.c.Volume, err)
	}
	return nil // others that lack it are seen to later
}

// move tells the directory the new home of a shard.
func (c *coder) move(ctx context.Context, cv *codedVolume, l lostShard) error {
	_, err := c.s.decide(ctx, func(ctx context.Context) (Row, error) {
		return c.s.o.Directory.MoveShard(ctx, cv.c.Volume, cv.c.Epoch, l.shard, l.on.number, lifecycle.Digest(cv.c.Digests[l.shard]), cv.term)
	})
	return err
}

// repaired forgets damage that was repaired in place.
func (c *coder) repaired(cv *codedVolume, l lostShard) {
	cv.mu.Lock()
	p := &cv.shards[l.shard]
	p.damage = slices.DeleteFunc(p.damage, func(f coding.Finding) bool {
		return slices.ContainsFunc(l.damage, func(o coding.Finding) bool { return o.Offset == f.Offset && o.Length == f.Length })
	})
	cv.mu.Unlock()
	c.s.o.Events(Event{Kind: EventRepaired, Dir: l.on.name(), Volume: cv.c.Volume, Err: fmt.Errorf("shard %d: %d places", l.shard, len(l.damage))})
}
