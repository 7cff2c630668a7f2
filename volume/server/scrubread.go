package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hayloft/volume"
	"hayloft/volume/coded"
	"hayloft/volume/coding"
)

// errItemGone: what was to be read is not there any more, or another takes its place.
var errItemGone = errors.New("server: it was replaced meanwhile")

// scrubbing is the reading of one item.
type scrubbing struct {
	s      *scrubber
	run    *scrubRun
	item   string
	volume volume.ID     // of the item, when it has one
	gone   func() bool   // reports that somebody waits for the volume to be let go; nil: nobody can
	last   time.Duration // when the disk was let go
}

// The share of its time that a disk is at work for the scrub is one in so many.
const (
	scrubShare        = 2
	scrubTrafficShare = 8 // beside traffic
	scrubMaxRest      = 10 * time.Second
)

// throttle holds the scrub to the rate of the disk's upkeep, which yields to traffic,
// and to a share of the disk's time: what a slow disk brings slowly is asked for less.
func (x *scrubbing) throttle(ctx context.Context, n int64) error {
	if x.gone != nil && x.gone() {
		return errItemGone
	}
	s, clock := x.s, x.s.d.s.o.Clock
	began := clock.Elapsed()
	busy := began - x.last
	s.mu.Lock()
	s.n.ReadBytes += uint64(n)
	s.mu.Unlock()
	x.run.change(func(r *scrubRun) { r.p.Done += n; r.p.Totals.Bytes += n })
	err := s.d.pace.wait(ctx, n)
	rest := busy * (scrubShare - 1)
	if s.d.pace.traffic() {
		rest = busy * (scrubTrafficShare - 1)
	}
	if rest = min(rest, scrubMaxRest) - (clock.Elapsed() - began); rest > 0 && err == nil {
		select {
		case <-clock.After(rest):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	x.last = clock.Elapsed()
	return err
}

// traffic reports whether there was some when the pace last looked.
func (p *pace) traffic() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.s.o.Clock.Now().Sub(p.called)
	return !p.called.IsZero() && held >= 0 && held < trafficHold
}

// read reads the item whole. Its error is errItemGone, or a failure of the reading;
// what is wrong with the item is told.
func (x *scrubbing) read(ctx context.Context) error {
	dir, name, _ := strings.Cut(x.item, "/")
	switch dir {
	case volumesName:
		v, generation, ok := volumeOf(name)
		if !ok {
			return errItemGone
		}
		x.volume = v
		return x.readVolume(ctx, v, generation)
	case shardsName:
		v, epoch, ok := epochOf(name)
		if !ok {
			return errItemGone
		}
		x.volume = v
		return x.readEpoch(ctx, v, epoch)
	case diskItem:
		return x.readDisk(ctx)
	}
	return errItemGone
}

// volumeOf is the inverse of volume.FileName.
func volumeOf(name string) (v volume.ID, generation uint32, ok bool) {
	first, second, _ := strings.Cut(strings.TrimSuffix(name, filepath.Ext(name)), "-")
	a, errA := strconv.ParseUint(first, 16, 32)
	b, errB := strconv.ParseUint(second, 16, 32)
	v, generation = volume.ID(a), uint32(b)
	return v, generation, errA == nil && errB == nil && volume.FileName(v, generation) == name
}

// found tells of something and returns it.
func (x *scrubbing) found(f ScrubFinding) ScrubFinding {
	f.Dir = x.s.d.dir
	x.s.found(x.run, f)
	return f
}

// hopeless tells of something that nothing can be done about.
func (x *scrubbing) hopeless(f ScrubFinding, why error) {
	x.s.settled(x.run, x.found(f), why)
}

// shardFinding is damage of a shard.
type shardFinding struct {
	shard int
	f     ScrubFinding
}

// readEpoch reads the shards of the committed epoch that have their home here, and the
// disk's copy of the delete log. What is damaged is made again beside the scrub.
func (x *scrubbing) readEpoch(ctx context.Context, v volume.ID, epoch uint32) error {
	homes, c, ok := x.s.d.homedHere(v, epoch)
	if !ok {
		return errItemGone
	}
	var all []shardFinding
	for _, i := range homes {
		found, err := x.readShard(ctx, c, i)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	log, err := x.readLog(ctx, c)
	if err == nil {
		err = x.readLogsElsewhere(ctx, c)
	}
	if err != nil {
		return err
	}
	if err := x.s.d.usable(); err != nil {
		return err
	}
	if now, _, ok := x.s.d.homedHere(v, epoch); !ok || !slices.Equal(now, homes) {
		return errItemGone // what was missing may have been moved
	}
	m := &epochMend{x: x, c: c}
	for _, f := range all {
		if f.f = x.found(f.f); f.f.Kind == ScrubUnsupported || f.f.Kind == ScrubOtherRun {
			x.s.settled(x.run, f.f, errLeftAlone)
			continue
		}
		m.shards = append(m.shards, f)
	}
	if log != nil {
		f := x.found(*log)
		m.log = &f
	}
	m.begin()
	return nil
}

// errLeftAlone is why nothing is done about what another program or run may want.
var errLeftAlone = errors.New("it is left alone")

// homedHere returns the shards of a committed epoch that the directory has on the disk.
func (d *disk) homedHere(v volume.ID, epoch uint32) (shards []int, c coding.Committed, ok bool) {
	row, _ := d.s.o.Directory.Row(v)
	commit := row.Coding.Committed
	if commit == nil || commit.Epoch != epoch {
		return nil, c, false
	}
	for i, home := range commit.Homes {
		if uint32(home) == d.number {
			shards = append(shards, i)
		}
	}
	return shards, committedOf(v, commit), len(shards) > 0
}

// readShard reads a shard from the device. What is wrong is noted for the repair.
func (x *scrubbing) readShard(ctx context.Context, c coding.Committed, i int) (all []shardFinding, err error) {
	d := x.s.d
	file := filepath.Join(shardsName, epochName(c.Volume, c.Epoch), coding.FileName(c.Volume, c.Generation, c.Epoch, i))
	err = coding.Check(ctx, d.workplace(c.Volume, c.Epoch), c.Plan, i, c.Digests[i], coding.Options{Throttle: x.throttle}, func(f coding.Finding) {
		kind := d.shardKind(f, file, c.FileBytes())
		all = append(all, shardFinding{i, ScrubFinding{Kind: kind, File: file, Volume: c.Volume, Offset: f.Offset, Length: f.Length, Err: fmt.Errorf("shard %d: %w", i, f.Err)}})
		if h := d.s.codedHandle(c.Volume); kind != ScrubUnsupported && kind != ScrubOtherRun && h != nil && h.vol != nil && h.coded.c.Epoch == c.Epoch {
			h.coded.note(f)
		}
	})
	return all, err
}

// shardKind names what is wrong with a shard.
func (d *disk) shardKind(f coding.Finding, file string, size int64) ScrubKind {
	switch {
	case f.Length > 0:
		return ScrubShard
	case errors.Is(f.Err, volume.ErrUnsupported):
		return ScrubUnsupported
	case errors.Is(f.Err, coding.ErrForeign):
		return ScrubOtherRun
	}
	return d.sizeKind(file, size, ScrubShard)
}

// sizeKind looks whether a file has the bytes it should have: other, if it has.
func (d *disk) sizeKind(file string, size int64, other ScrubKind) ScrubKind {
	st, err := d.fs.Stat(filepath.Join(d.dir, file))
	switch {
	case missing(err):
		return ScrubMissing
	case err == nil && st.Size == 0:
		return ScrubEmpty
	case err == nil && st.Size < size:
		return ScrubShort
	}
	return other
}

// readLog reads the disk's copy of the delete log of a coded volume from the device, and
// looks whether all deletes are in it.
func (x *scrubbing) readLog(ctx context.Context, c coding.Committed) (*ScrubFinding, error) {
	s := x.s.d.s
	h := s.pin(0, c.Volume)
	if h == nil || h.vol == nil {
		return nil, nil // why it cannot be served is told elsewhere
	}
	defer h.unpin()
	if h.coded.c.Epoch != c.Epoch {
		return nil, nil
	}
	f := &ScrubFinding{Kind: ScrubDeleteLog, Volume: c.Volume, File: filepath.Join(shardsName, epochName(c.Volume, c.Epoch), volume.DeleteLogName(c.Volume))}
	for again := true; ; again = false {
		n, err := x.checkLog(ctx, h)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, volume.ErrClosed):
			return nil, errItemGone
		case err == nil:
			return nil, x.throttle(ctx, n)
		case !again: // it may have been replaced at that moment
			f.Err = err
			return f, nil
		}
	}
}

// readLogsElsewhere reads the copies of the delete log on disks of other nodes, as the
// keeper, with the shards on the first of its own disks that is a home. Those that are
// not right are made again at once.
func (x *scrubbing) readLogsElsewhere(ctx context.Context, c coding.Committed) error {
	s := x.s.d.s
	h := s.pin(0, c.Volume)
	if h == nil || h.vol == nil {
		return nil
	}
	defer h.unpin()
	logs := h.coded.v.Logs()
	first := slices.IndexFunc(logs, func(l coded.LogState) bool { return s.hasDisk(l.Disk) })
	if h.coded.c.Epoch != c.Epoch || first < 0 || logs[first].Disk != x.s.d.number {
		return nil
	}
	for _, l := range logs {
		if !l.InSet || s.ownDisk(l.Disk) {
			continue
		}
		n, err := h.coded.v.CheckLog(ctx, l.LogCopy)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, volume.ErrClosed):
			return errItemGone
		case err == nil || errors.Is(err, coded.ErrNotInSet) || errors.Is(err, ErrUnavailable) || forgotten(err):
			if err := x.throttle(ctx, n); err != nil {
				return err
			}
			continue
		}
		f := x.found(ScrubFinding{Kind: ScrubDeleteLog, Volume: c.Volume, Err: fmt.Errorf("%s: %w", s.dirOf(l.Disk), err),
			File: filepath.Join(shardsName, epochName(c.Volume, c.Epoch), volume.DeleteLogName(c.Volume))})
		x.s.settled(x.run, f, h.coded.v.RemakeLog(ctx, l.LogCopy))
	}
	return nil
}

// checkLog returns how many bytes it read.
func (x *scrubbing) checkLog(ctx context.Context, h *handle) (int64, error) {
	at, ok := h.coded.logOn(x.s.d.number)
	if !ok || !at.InSet {
		return 0, fmt.Errorf("%w: %w", coded.ErrNotInSet, at.Err)
	}
	return h.coded.v.CheckLog(ctx, at.LogCopy)
}

// logOn is the copy of the delete log on a disk.
func (cv *codedVolume) logOn(disk uint32) (coded.LogState, bool) {
	for _, l := range cv.v.Logs() {
		if l.Disk == disk {
			return l, true
		}
	}
	return coded.LogState{Err: errors.New("the disk is not named for one")}, false
}

// readVolume checks a plain volume, and mends what can be.
func (x *scrubbing) readVolume(ctx context.Context, v volume.ID, generation uint32) error {
	h := x.s.d.s.pin(x.s.d.number, v)
	switch {
	case h == nil:
		return errItemGone
	case h.vol == nil:
		x.unopened(h, v)
		return nil
	}
	defer h.unpin()
	if h.vol.Identity().Generation != generation {
		return errItemGone
	}
	x.gone = h.awaited
	c := &volumeScrub{x: x, h: h, v: v, file: x.item}
	all, err := c.look(ctx)
	if err == nil {
		err = x.s.d.usable()
	}
	if err != nil {
		return err
	}
	return c.mend(ctx, all)
}

// awaited reports whether somebody waits until the last one lets the handle go.
func (h *handle) awaited() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.retired != nil
}

// unopened tells of a volume that cannot be opened.
func (x *scrubbing) unopened(h *handle, v volume.ID) {
	f := ScrubFinding{Kind: ScrubUnopened, File: x.item, Volume: v, Err: h.sick}
	if errors.Is(h.sick, volume.ErrUnsupported) {
		f.Kind = ScrubUnsupported
	}
	x.hopeless(f, errLeftAlone)
}

// volumeScrub is the scrub of a plain volume.
type volumeScrub struct {
	x    *scrubbing
	h    *handle
	v    volume.ID
	file string
}

// look returns all that is wrong with the volume.
func (c *volumeScrub) look(ctx context.Context) (all []ScrubFinding, err error) {
	d := c.x.s.d
	add := func(f ScrubFinding) {
		f.Volume = c.v
		all = append(all, f)
	}
	size := c.h.vol.Stats().FileBytes
	if kind := d.sizeKind(c.file, size, ""); kind != "" {
		add(ScrubFinding{Kind: kind, File: c.file, Err: fmt.Errorf("%w: there should be %d bytes", volume.ErrCorrupt, size)})
		return all, nil
	}
	_, err = c.h.vol.CheckSlowly(ctx, c.x.throttle, func(f volume.Finding) {
		g := ScrubFinding{Kind: ScrubKind(f.Kind.String()), File: c.file, Offset: f.Offset, Length: f.Length, Key: f.Key, Err: f.Err}
		if f.File != "" {
			g.File = filepath.Join(volumesName, f.File)
		}
		add(g)
	})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, volume.ErrClosed):
		return nil, errItemGone
	case errors.Is(err, volume.ErrCorrupt), errors.Is(err, fs.ErrNotExist):
		add(ScrubFinding{Kind: ScrubKind(volume.FindingGap.String()), File: c.file, Err: err})
	case errors.Is(err, volume.ErrUnsupported):
		add(ScrubFinding{Kind: ScrubUnsupported, File: c.file, Err: err})
	case err != nil:
		return nil, err
	}
	return c.beside(ctx, all)
}

// beside looks at the checkpoint or the sealed index, unless a job makes another one.
func (c *volumeScrub) beside(ctx context.Context, all []ScrubFinding) ([]ScrubFinding, error) {
	if c.x.s.busyWith(c.v) {
		return all, nil
	}
	b, err := c.h.vol.CheckBeside(ctx)
	if err != nil || b.Err == nil || c.x.s.busyWith(c.v) {
		if errors.Is(err, volume.ErrClosed) {
			err = errItemGone
		}
		return all, errors.Join(err, c.x.throttle(ctx, b.Bytes))
	}
	return append(all, ScrubFinding{Kind: ScrubBeside, File: filepath.Join(volumesName, b.File), Volume: c.v, Err: b.Err}), nil
}
