package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hayloft/volume"
	"hayloft/volume/coded"
	"hayloft/volume/coding"
)

// errNoCopy: there is nothing to repair it from.
var errNoCopy = errors.New("there is no other copy of it")

// mend makes good what can be made good of a plain volume: superblocks, checkpoint and
// index out of what is there, records of a source in its grace out of the shards. All
// is looked at once more then.
func (c *volumeScrub) mend(ctx context.Context, all []ScrubFinding) error {
	if len(all) == 0 {
		return nil
	}
	why := make([]error, len(all))
	tried := false
	for i, f := range all {
		all[i] = c.x.found(f)
		if why[i] = c.repair(ctx, f); why[i] == nil {
			tried = true
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if c.fetch(ctx, all, why) {
		tried = true
	}
	left := all
	if tried {
		var err error
		if left, err = c.look(ctx); err != nil {
			left = all
			why = append(why[:0], slices.Repeat([]error{fmt.Errorf("it could not be looked at again: %w", err)}, len(all))...)
		}
	}
	for i, f := range all {
		switch damaged := slices.ContainsFunc(left, f.same); {
		case !damaged:
			why[i] = nil // also what had come of something else
		case why[i] == nil:
			why[i] = errors.New("it is damaged still")
			c.refill(f)
		}
		c.x.s.settled(c.x.run, f, why[i])
	}
	return nil
}

// refill has the replica filled again whose file could not be restored, if there are
// others.
func (c *volumeScrub) refill(f ScrubFinding) {
	row, ok := c.x.s.d.s.o.Directory.Row(c.v)
	if ok && row.State == StateSealed && len(row.InSync) > 1 && f.File == c.file && f.restorable() {
		c.h.rotten.Store(true)
		c.x.s.d.kick()
	}
}

// fetch restores what nothing here can repair with the bytes of another replica, in
// one pass, and says why not where it cannot. It reports whether it did.
func (c *volumeScrub) fetch(ctx context.Context, all []ScrubFinding, why []error) bool {
	row, ok := c.x.s.d.s.o.Directory.Row(c.v)
	if !ok || len(row.InSync) < 2 || c.h.vol.Identity() != row.Volume || row.State != StateSealed {
		return false
	}
	var parts []extent
	var of []int
	for i, f := range all {
		if errors.Is(why[i], errNoCopy) && f.File == c.file && f.restorable() {
			p := extent{f.Offset, f.Length}
			if p.n == 0 {
				p = extent{0, row.Seal.Bytes}
			}
			parts, of = append(parts, p), append(of, i)
		}
	}
	if len(parts) == 0 {
		return false
	}
	err := c.x.s.d.s.restoreFrom(ctx, c.x.s.d, c.h, row, parts)
	for _, i := range of {
		why[i] = err
	}
	return err == nil
}

// same reports whether o is of the same place.
func (f ScrubFinding) same(o ScrubFinding) bool {
	if f.File != o.File || f.Length == 0 || o.Length == 0 {
		return f.File == o.File
	}
	return f.Offset < o.Offset+o.Length && o.Offset < f.Offset+f.Length
}

// repair tries to make one thing good.
func (c *volumeScrub) repair(ctx context.Context, f ScrubFinding) error {
	if f.File == c.file && f.restorable() {
		if h := c.x.s.d.s.shardsHolding(c.v, c.h.vol.Identity().Generation); h != nil {
			defer h.unpin()
			return c.restore(ctx, h.coded, f)
		}
	}
	switch {
	case f.Kind == ScrubBeside:
		return c.h.vol.MendBeside(ctx)
	case f.Kind == ScrubUnsupported:
		return errLeftAlone
	case f.File == c.file && f.Kind == ScrubKind(volume.FindingSuperblock.String()):
		return c.h.vol.MendSuperblock(ctx)
	}
	return errNoCopy
}

// restorable reports whether bytes of the file are wrong, rather than what is known of
// them.
func (f ScrubFinding) restorable() bool {
	switch f.Kind {
	case ScrubKind(volume.FindingGap.String()), ScrubKind(volume.FindingData.String()), ScrubKind(volume.FindingSuperblock.String()), ScrubEmpty, ScrubShort:
		return true
	}
	return false
}

// shardsHolding pins the shards of a generation that is in its grace; nil without.
func (s *Server) shardsHolding(v volume.ID, generation uint32) *handle {
	h := s.pin(0, v)
	if h == nil || h.vol == nil {
		return nil
	}
	if h.coded.c.Generation != generation {
		h.unpin()
		return nil
	}
	return h
}

// restore writes the bytes of a source again that its shards have.
func (c *volumeScrub) restore(ctx context.Context, cv *codedVolume, f ScrubFinding) error {
	off, n := f.Offset, f.Length
	if n == 0 {
		off, n = 0, cv.c.SourceBytes
	}
	return c.h.vol.Restore(ctx, off, min(n, cv.c.SourceBytes-off), func(b []byte, off int64) error {
		if err := c.x.throttle(ctx, int64(len(b))); err != nil {
			return err
		}
		return cv.v.ReadSource(ctx, b, off)
	})
}

// epochMend has damaged shards, and a copy of the delete log, made again beside the
// scrub: the coder may be at work on something that takes hours.
type epochMend struct {
	x      *scrubbing
	c      coding.Committed
	shards []shardFinding
	log    *ScrubFinding
}

func (m *epochMend) begin() {
	if len(m.shards) == 0 && m.log == nil {
		return
	}
	m.x.run.enter()
	m.x.s.d.s.burying.Go(func() { m.x.run.leave(m.mend(m.x.s.d.s.life)) })
}

// mend settles every finding. The error says that the server stops.
func (m *epochMend) mend(ctx context.Context) error {
	s, whole := m.x.s.d.s, false
	if m.log != nil {
		why := m.remakeLog(ctx)
		if errors.Is(why, coded.ErrNotInSet) {
			whole = true // the rebuild makes a new one
		} else {
			m.settle(ctx, *m.log, why)
		}
	}
	if len(m.shards) == 0 && !whole {
		return stopped(ctx)
	}
	err := m.rebuild(ctx)
	if whole {
		why := err
		if why == nil {
			why = m.logStands(ctx)
		}
		m.settle(ctx, *m.log, why)
	}
	left := make(map[int]error)
	for _, f := range m.shards {
		if _, seen := left[f.shard]; !seen {
			left[f.shard] = err
			if err == nil {
				left[f.shard] = s.shardStands(ctx, m.c, f.shard)
			}
		}
		m.settle(ctx, f.f, left[f.shard])
	}
	return stopped(ctx)
}

func stopped(ctx context.Context) error {
	if ctx.Err() != nil {
		return ErrClosed
	}
	return nil
}

// settle says what became of a finding, unless that is not known because the server
// stops.
func (m *epochMend) settle(ctx context.Context, f ScrubFinding, why error) {
	if ctx.Err() == nil {
		m.x.s.settled(m.x.run, f, why)
	}
}

// rebuild has the coder make the damaged shards again. The job it joins may have begun
// before the damage was found, and the one after it does not.
func (m *epochMend) rebuild(ctx context.Context) error {
	s := m.x.s.d.s
	if row, ok := s.o.Directory.Row(m.c.Volume); ok && !s.coder.keeps(row) {
		return s.mendThere(ctx, row, m.c.Epoch, m.shards)
	}
	for again := true; ; again = false {
		_, err := s.do(ctx, s.coder, m.c.Volume, jobRebuild, nil)
		if ctx.Err() != nil || !again || err == nil && !m.pending() {
			return err
		}
	}
}

// pending reports whether a shard is still known to be damaged.
func (m *epochMend) pending() bool {
	h := m.x.s.d.s.codedHandle(m.c.Volume)
	if h == nil || h.vol == nil || h.coded.c.Epoch != m.c.Epoch {
		return false
	}
	places := h.coded.places()
	return slices.ContainsFunc(m.shards, func(f shardFinding) bool {
		return places[f.shard].file == nil || len(places[f.shard].damage) > 0
	})
}

// shardStands reads a shard once more, where it is now, and returns what is still
// wrong.
func (s *Server) shardStands(ctx context.Context, c coding.Committed, i int) error {
	row, _ := s.o.Directory.Row(c.Volume)
	commit := row.Coding.Committed
	if commit == nil || commit.Epoch != c.Epoch {
		return nil // another epoch has taken its place
	}
	home := uint32(commit.Homes[i])
	d := s.diskByNumber(home)
	if d == nil && !s.ownDisk(home) {
		return nil // it was made again elsewhere, and read back there
	}
	if d == nil {
		return unavailable("disk %d is not in service", home)
	}
	var wrong []error
	err := coding.Check(ctx, d.workplace(c.Volume, c.Epoch), c.Plan, i, c.Digests[i], coding.Options{Throttle: d.pace.wait}, func(f coding.Finding) {
		if len(wrong) < 3 {
			wrong = append(wrong, f.Err)
		}
	})
	return errors.Join(err, errors.Join(wrong...))
}

// remakeLog makes the disk's copy of the delete log again, and looks at it.
func (m *epochMend) remakeLog(ctx context.Context) error {
	s, d := m.x.s.d.s, m.x.s.d
	h := s.pin(0, m.c.Volume)
	if h == nil || h.vol == nil {
		return lost(m.c.Volume)
	}
	defer h.unpin()
	at, ok := h.coded.logOn(d.number)
	if !ok || !at.InSet {
		return coded.ErrNotInSet
	}
	if err := h.coded.v.RemakeLog(ctx, at.LogCopy); err != nil {
		return err
	}
	_, err := h.coded.v.CheckLog(ctx, at.LogCopy)
	return err
}

// logStands looks at the disk's copy of the delete log once more.
func (m *epochMend) logStands(ctx context.Context) error {
	h := m.x.s.d.s.pin(0, m.c.Volume)
	if h == nil || h.vol == nil {
		return lost(m.c.Volume)
	}
	defer h.unpin()
	at, _ := h.coded.logOn(m.x.s.d.number)
	_, err := h.coded.v.CheckLog(ctx, at.LogCopy)
	return err
}
