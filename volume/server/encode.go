package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"hayloft/volume"
	"hayloft/volume/coded"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
)

// encode is the job: compact the source if much of it is dead, have an epoch and
// its homes given out, make the shards, read them back, have them committed, and
// serve them. The source stays as it is.
func (c *coder) encode(ctx context.Context, j *job) error {
	if err := c.s.o.Coding.Validate(); err != nil {
		return fmt.Errorf("volume %d is to be coded and no policy says how: %w", j.v, err)
	}
	d, row, err := c.epoch(ctx, j)
	if d == nil || err != nil {
		return err
	}
	h, err := c.s.served(d, j.v)
	if err != nil {
		return err
	}
	defer h.unpin()
	if h.vol.Identity() != row.Volume {
		return unavailable("volume %d: %s does not serve generation %d yet", j.v, d.dir, row.Volume.Generation)
	}
	index, err := h.vol.SealedIndex()
	if err != nil {
		return err
	}
	run := *row.Coding.Run
	digests, err := c.makeShards(ctx, j, row, coding.Source{
		FS: impatient{d: d}, Name: filepath.Join(d.volumesDir(), volume.FileName(j.v, run.Source.Generation)), Index: index,
	})
	serving := h // an older epoch, if there is one
	if now := c.s.pin(0, j.v); now != nil && now.vol != nil {
		defer now.unpin()
		serving = now
	}
	if err != nil {
		return errors.Join(err, c.giveUp(ctx, serving, j.v, run, err))
	}
	return c.switchTo(ctx, serving, row, digests)
}

// epoch returns the disk that has the source of a volume, and the row with an epoch
// of this process under way; no disk when the volume is coded already.
func (c *coder) epoch(ctx context.Context, j *job) (d *disk, row Row, err error) {
	for range 3 { // a compaction may begin in between
		if row, err = c.fresh(ctx, j.v); err != nil {
			return nil, row, err
		}
		if st := row.Coding.State(); st == lifecycle.Coded || st == lifecycle.Released {
			return nil, row, nil
		}
		if d, err = c.compacted(ctx, j, &row); err != nil {
			return nil, row, err
		}
		if row, err = c.begin(ctx, d, row); !errors.Is(err, lifecycle.ErrRefused) {
			break
		}
	}
	return d, row, err
}

// compacted returns a disk that has the newest generation of a sealed volume, and
// compacts that first when it holds what is dead: shards keep it for long.
func (c *coder) compacted(ctx context.Context, j *job, row *Row) (*disk, error) {
	for again := true; ; again = false {
		d := c.sourceOf(*row)
		if d == nil {
			return nil, c.s.nowhere(j.v, 0)
		}
		h, err := c.s.served(d, j.v)
		if err != nil {
			return nil, err
		}
		st := h.vol.Stats()
		rec, _ := h.vol.Sealed()
		h.unpin()
		// Replicas that were sealed where they lie differ in length, and the row has one's.
		fits := rec.End == row.Seal.Bytes
		if !fits && row.Coding.Run != nil && row.Coding.Committed == nil {
			if *row, err = c.abort(ctx, *row); err != nil { // it was begun over another replica
				return nil, err
			}
		}
		if !again && !fits {
			return nil, unavailable("volume %d: the file in %s has %d bytes, the directory has %d", j.v, d.dir, rec.End, row.Seal.Bytes)
		}
		// What was made out of shards lost what was dead on the way, and an epoch that
		// was begun is of the generation there is.
		begun := row.Coding.Committed != nil || row.Coding.Run != nil
		if !again || row.Attempt == nil && fits && (begun || garbage(st)*mostGarbage <= st.FileBytes) {
			return d, nil
		}
		if _, err := c.s.do(ctx, d, j.v, jobCompact, nil); err != nil {
			return nil, err
		}
		if *row, err = c.fresh(ctx, j.v); err != nil {
			return nil, err
		}
	}
}

// abort makes the run of a row void.
func (c *coder) abort(ctx context.Context, row Row) (Row, error) {
	return c.s.decide(ctx, func(ctx context.Context) (Row, error) {
		return c.s.o.Directory.AbortCoding(ctx, row.Volume.Volume, row.Coding.Run.Epoch, row.Coding.Run.Encoder)
	})
}

// sourceOf returns the disk that a volume is coded from: that of its primary.
func (c *coder) sourceOf(row Row) (d *disk) {
	for _, n := range row.InSync[:min(len(row.InSync), 1)] {
		if on := c.s.diskByNumber(n); on != nil && c.s.handle(n, row.Volume.Volume) != nil && on.usable() == nil {
			d = on
		}
	}
	return d
}

// mostGarbage is the part of a file, one in so many, that may be dead when it is
// coded.
const mostGarbage = 100

// begin has the next epoch given out to this process, unless it has one already.
func (c *coder) begin(ctx context.Context, d *disk, row Row) (Row, error) {
	v := row.Volume.Volume
	h, err := c.s.served(d, v)
	if err != nil {
		return row, err
	}
	index, err := h.vol.SealedIndex()
	h.unpin()
	if err != nil {
		return row, err
	}
	c.mu.Lock()
	mine := c.runs[v]
	c.mu.Unlock()
	if r := row.Coding.Run; r != nil && mine == r.Encoder && r.Source == row.Coding.Source {
		return row, nil
	}
	number, err := newRun()
	if err != nil {
		return row, unavailable("%w", err)
	}
	run := lifecycle.Run{
		Epoch: row.Coding.Epoch + 1, Encoder: number, Data: c.s.o.Coding.Data, Parity: c.s.o.Coding.Parity,
		Source: row.Coding.Source, IndexBytes: int64(len(index)),
	}
	homes, err := spread(c.candidates(nil), c.s.o.Coding.Shards(), c.s.o.Coding, planOf(v, run).FileBytes())
	if err != nil {
		return row, err
	}
	for _, h := range homes {
		run.Homes = append(run.Homes, lifecycle.Disk(h))
	}
	row, err = c.s.decide(ctx, func(ctx context.Context) (Row, error) { return c.s.o.Directory.BeginCoding(ctx, v, run) })
	if err != nil {
		return row, err
	}
	c.mu.Lock()
	c.runs[v] = number
	c.mu.Unlock()
	return row, nil
}

func newRun() (uint64, error) {
	var b [8]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			return 0, err
		}
		if n := binary.LittleEndian.Uint64(b[:]); n != 0 {
			return n, nil
		}
	}
}

// candidates are the disks that shards may be put on, with how many of them each
// has already.
func (c *coder) candidates(held map[uint32]int) (out []candidate) {
	draining := c.draining()
	for _, d := range c.s.all() {
		if d.usable() == nil && d.takesWrites(0) == nil && !draining[d.number] {
			out = append(out, candidate{disk: d.number, room: d.left(), held: held[d.number]})
		}
	}
	if c.s.o.Peers == nil {
		return out
	}
	nodes := c.onNodes(held)
	for i := range out {
		out[i].node = c.s.o.Node
	}
	for _, f := range c.s.o.Peers.Disks() {
		if _, there := c.siteOf(f.Disk); f.Up && f.Taking && there && !c.s.ownDisk(f.Disk) {
			out = append(out, candidate{disk: f.Disk, node: f.Node, room: f.Free - c.s.o.KeepFree, held: held[f.Disk]})
		}
	}
	for i := range out {
		out[i].near = nodes[out[i].node]
	}
	return out
}

// homesFor are the folders of a run's shards, made when missing.
func (c *coder) homesFor(ctx context.Context, row Row, epoch uint32, disks []uint32) ([]coding.Home, error) {
	v, homes := row.Volume.Volume, make([]coding.Home, len(disks))
	c.warm(ctx, disks, v, epoch, row.Term)
	for i, n := range disks {
		at, ok := c.siteOf(n)
		if !ok {
			return nil, unavailable("disk %d is not in service", n)
		}
		err := at.usable()
		if err == nil {
			homes[i], err = c.workplace(ctx, at, v, epoch, row.Term)
		}
		if err != nil {
			return nil, err
		}
	}
	return homes, nil
}

func (c *coder) makeShards(ctx context.Context, j *job, row Row, src coding.Source) ([]lifecycle.Digest, error) {
	run := *row.Coding.Run
	homes, err := c.homesFor(ctx, row, run.Epoch, homesOf(run.Homes))
	if err != nil {
		return nil, err
	}
	got, err := coding.Encode(ctx, planOf(j.v, run), src, homes, c.codingOptions(j))
	if err != nil {
		return nil, err
	}
	digests := make([]lifecycle.Digest, len(got))
	for i, d := range got {
		digests[i] = lifecycle.Digest(d)
	}
	return digests, nil
}

// giveUp makes the epoch of a run void that failed for a reason of its own: the
// next attempt may choose other disks. One that was cut short goes on.
func (c *coder) giveUp(ctx context.Context, serving *handle, v volume.ID, run lifecycle.Run, why error) error {
	if ctx.Err() != nil || errors.Is(why, ErrUnavailable) && c.there(run.Homes) {
		return nil
	}
	_, err := c.s.decide(ctx, func(ctx context.Context) (Row, error) {
		return c.s.o.Directory.AbortCoding(ctx, v, run.Epoch, run.Encoder)
	})
	if err == nil { // what an earlier attempt asked for was not committed
		c.doubt(v, nil)
		serving.gate.close(func() error { return nil })
	}
	return err
}

// there reports whether all homes of a run are in service.
func (c *coder) there(homes []lifecycle.Disk) bool {
	return !slices.ContainsFunc(homes, func(h lifecycle.Disk) bool {
		at, ok := c.siteOf(uint32(h))
		return !ok || at.usable() != nil
	})
}

// switchTo has an epoch committed and serves it in the place of old, a sealed
// file or an older epoch. No delete is acknowledged meanwhile: the homes of the
// shards get the delete log first, then the epoch is committed, then it is served.
// When it is not known whether it was committed, deletes wait until that is known.
func (c *coder) switchTo(ctx context.Context, old *handle, row Row, digests []lifecycle.Digest) (err error) {
	v, run := row.Volume.Volume, *row.Coding.Run
	homes, err := c.homesFor(ctx, row, run.Epoch, homesOf(run.Homes))
	if err != nil {
		return err
	}
	old.gate.close(func() error {
		if err = c.standAlone(ctx, v); err != nil {
			return c.doubtOf(v) // of an earlier attempt
		}
		if err = c.carryLog(ctx, old.vol, v, homes...); err != nil {
			return c.doubtOf(v)
		}
		row, err = c.s.decide(ctx, func(ctx context.Context) (Row, error) {
			return c.s.o.Directory.CommitCoding(ctx, v, run.Epoch, run.Encoder, digests, row.Term)
		})
		if err != nil {
			c.doubt(v, unavailable("volume %d: whether epoch %d was committed is not known: %w", v, run.Epoch, err))
			return c.doubtOf(v)
		}
		if row, err = c.keepNew(ctx, row); err != nil {
			c.doubt(v, unavailable("volume %d: nobody keeps epoch %d yet: %w", v, run.Epoch, err))
			return c.doubtOf(v)
		}
		c.doubt(v, nil)
		c.install(ctx, row)
		return errElsewhere
	})
	return err
}

// standAlone takes all replicas but the primary out of the set: from then on nobody
// else numbers deletes, so those that are carried to the shards are all. It is called
// while nobody deletes. When the epoch is not committed they are admitted again.
func (c *coder) standAlone(ctx context.Context, v volume.ID) error {
	row, err := c.fresh(ctx, v)
	if err != nil {
		return err
	}
	if len(row.InSync) > 0 && !c.s.hasDisk(row.InSync[0]) {
		return unavailable("volume %d: its primary is on disk %d now", v, row.InSync[0])
	}
	for len(row.InSync) > 1 {
		row, err = c.s.decide(ctx, func(ctx context.Context) (Row, error) {
			return c.s.o.Directory.LeaveSync(ctx, v, row.InSync[len(row.InSync)-1], row.Sync)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// carryLog writes the deletes of a volume to other homes.
func (c *coder) carryLog(ctx context.Context, from *volume.Volume, v volume.ID, homes ...coding.Home) error {
	var all []volume.Delete
	if _, err := from.Deletes(ctx, 0, func(d volume.Delete) error {
		all = append(all, d)
		return nil
	}); err != nil {
		return err
	}
	done := make(map[coding.Home]bool)
	for _, home := range homes {
		if done[home] {
			continue
		}
		if err := coded.WriteLog(home.FS, home.Dir, v, all); err != nil {
			return fmt.Errorf("delete log in %s: %w", home.Dir, err)
		}
		done[home] = true
	}
	return nil
}

// install serves the committed epoch of a row in the place of the epoch that is
// served, if one is. That is closed when those who read from it have ended.
func (c *coder) install(ctx context.Context, row Row) *handle {
	return c.put(row.Volume.Volume, c.openRow(ctx, row))
}

// openRow opens the committed epoch of a row.
func (c *coder) openRow(ctx context.Context, row Row) *handle {
	changes := c.changes.Load() // what changes meanwhile may not be seen
	h := c.s.openCoded(ctx, row)
	h.opened, h.sickSince = changes, c.s.o.Clock.Now()
	return h
}

// put serves a handle in the place of the one that is served, if one is.
func (c *coder) put(v volume.ID, h *handle) *handle {
	at := where{0, v}
	c.s.mu.Lock()
	old := c.s.volumes[at]
	if old != nil && old.sick != nil && old.coded.c.Epoch == h.coded.c.Epoch {
		h.sickSince = old.sickSince
	}
	c.s.volumes[at] = h
	c.s.mu.Unlock()
	switch {
	case h.sick != nil:
		c.s.o.Events(Event{Kind: EventVolumeSick, Volume: v, Err: h.sick})
	case old == nil && !c.opened.Load(): // it was coded before this process was
	case old == nil || old.coded.c.Epoch != h.coded.c.Epoch:
		c.s.n.coded.Add(1)
		c.s.o.Events(Event{Kind: EventCoded, Volume: v})
	}
	c.retire(old)
	return h
}

// retire closes a handle of a coded volume that another took the place of.
func (c *coder) retire(old *handle) {
	if old == nil {
		return
	}
	idle := old.retire()
	c.s.retiring.Go(func() {
		<-idle
		if err := old.coded.close(); err != nil {
			c.s.o.Events(Event{Kind: EventUpkeepFailed, Volume: old.coded.c.Volume, Work: "closing", Err: err})
		}
		c.forget(old.coded.c.Volume, old.coded.c.Epoch)
		c.kick()
	})
}

// open is the job: serve the committed epoch, or none when it was revoked and the
// answer to that was lost.
func (c *coder) open(ctx context.Context, j *job) error {
	row, err := c.fresh(ctx, j.v)
	if err != nil {
		return err
	}
	if row.Coding.Committed == nil {
		c.drop(row)
		return nil
	}
	if !c.keeps(row) {
		return nil // another does by now
	}
	h := c.s.pin(0, j.v)
	if h != nil && h.vol != nil {
		defer h.unpin()
		if h.coded.c.Epoch == row.Coding.Committed.Epoch && h.coded.term == row.Term {
			return c.openAgain(ctx, h, row)
		}
	}
	for _, n := range row.Disks { // of the source, when the answer to the commit was lost
		if src := c.s.handle(n, j.v); src != nil {
			src.gate.close(func() error { return errElsewhere })
		}
	}
	c.doubt(j.v, nil)
	return c.install(ctx, row).sick
}

// openAgain replaces a handle whose delete log has failed by one that takes deletes.
// If there cannot be one, it goes on with what it knows and its reads.
func (c *coder) openAgain(ctx context.Context, h *handle, row Row) error {
	if h.vol.Stats().Poisoned == nil {
		return nil
	}
	// Whoever reads may take long, and may never end on a disk that hangs: only the
	// log is closed, so that it can be opened.
	if err := h.coded.v.CloseLog(); err != nil {
		c.s.o.Events(Event{Kind: EventDeleteLog, Volume: row.Volume.Volume, Err: fmt.Errorf("closing: %w", err)})
	}
	next := c.openRow(ctx, row)
	if next.sick == nil {
		c.put(row.Volume.Volume, next)
	}
	return next.sick
}

// drop serves no shards of a volume any more, but its source.
func (c *coder) drop(row Row) {
	v := row.Volume.Volume
	for _, n := range row.Disks {
		if src := c.s.handle(n, v); src != nil {
			src.gate.close(func() error { return nil })
		}
	}
	at := where{0, v}
	c.s.mu.Lock()
	old := c.s.volumes[at]
	delete(c.s.volumes, at)
	c.s.mu.Unlock()
	c.retire(old)
}
