package server_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/server"
)

var errRefused = errors.New("the directory refuses")

// fakeDir is a directory in memory with the rules of the real one, for several
// nodes. Each sees it through a fakeNode.
type fakeDir struct {
	clock clock.Clock
	// around, unless nil, makes the changes that nodes ask for, or does not. It is set
	// before there is a node.
	around func(n *fakeNode, what string, do func() error) error

	mu  sync.Mutex // guards now
	now *table
}

// table is one state of a fakeDir. It is never changed, nor is what it holds.
type table struct {
	disks   []fakeDisk // by number, from 1
	windows map[id.Slot]id.Window
	tiles   map[id.Slot][]fakeTile // by time
	rows    map[volume.ID]fakeRow
}

type fakeDisk struct {
	node uint32
	uuid [16]byte
}

type fakeTile struct {
	from, to id.Millis // to 0: open
	v        volume.ID
}

type fakeRow struct {
	server.Row
	last uint32 // generation that was given out
}

func newFakeDir(c clock.Clock) *fakeDir {
	return &fakeDir{clock: c, now: &table{windows: map[id.Slot]id.Window{}, tiles: map[id.Slot][]fakeTile{}, rows: map[volume.ID]fakeRow{}}}
}

func (d *fakeDir) table() *table {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// change makes the next table unless fn fails.
func (d *fakeDir) change(fn func(*table) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := &table{slices.Clone(d.now.disks), maps.Clone(d.now.windows), maps.Clone(d.now.tiles), maps.Clone(d.now.rows)}
	if err := fn(next); err != nil {
		return err
	}
	d.now = next
	return nil
}

// millis is the time of a command.
func (d *fakeDir) millis() id.Millis { return id.MillisOf(d.clock.Now()) }

// Window makes a table what id.Grant reads.
func (t *table) Window(s id.Slot) id.Window { return t.windows[s] }

func (t *table) openTile(s id.Slot) (fakeTile, bool) {
	tiles := t.tiles[s]
	if len(tiles) == 0 || tiles[len(tiles)-1].to != 0 {
		return fakeTile{}, false
	}
	return tiles[len(tiles)-1], true
}

func (t *table) closeTile(s id.Slot, at, now id.Millis) {
	open, ok := t.openTile(s)
	if !ok {
		return
	}
	row, kept := t.rows[open.v], slices.Clone(t.tiles[s][:len(t.tiles[s])-1])
	row.Closed, row.To = max(now, 1), at
	if row.Unconfirmed {
		row.State, row.Unconfirmed, row.To = server.StateVoid, false, open.from
	} else {
		open.to, row.State = max(at, open.from+1), server.StateClosing
		kept = append(kept, open)
	}
	t.tiles[s], t.rows[open.v] = kept, row
}

func (t *table) place(tile fakeTile) (server.Place, bool) {
	r, ok := t.rows[tile.v]
	return server.Place{Volume: r.Volume, Disks: r.Disks, InSync: r.InSync, Sync: r.Sync, Target: r.Target, State: r.State,
		Keeper: server.KeeperOf(r.Coding, r.Keeper), Slot: r.Slot, From: tile.from, To: tile.to}, ok
}

func (t *table) locate(blob id.ID) (server.Place, bool) {
	for _, tile := range t.tiles[blob.Slot()] {
		if blob.Millis() >= tile.from && (tile.to == 0 || blob.Millis() < tile.to) {
			return t.place(tile)
		}
	}
	return server.Place{}, false
}

// with returns a row with other replicas, under the next sync epoch.
func (t *table) with(r fakeRow, disks, inSync []uint32) fakeRow {
	if slices.Equal(disks, r.Disks) && slices.Equal(inSync, r.InSync) {
		return r
	}
	r.Disks, r.InSync, r.Replicas = disks, inSync, nil
	for _, d := range disks {
		r.Replicas = append(r.Replicas, t.disks[d-1].uuid)
	}
	r.Sync++
	return r
}

// only returns those of list that are in keep.
func only(list, keep []uint32) []uint32 {
	return slices.DeleteFunc(slices.Clone(list), func(d uint32) bool { return !slices.Contains(keep, d) })
}

// fakeNode is the directory as one process of a node sees it. It can be cut off,
// and it can be made to see an old table until it asks for a fresh one.
type fakeNode struct {
	d           *fakeDir
	node        uint32
	incarnation uint64

	mu   sync.Mutex
	away error
	old  *table // what is seen, nil for the newest
	deaf bool   // old stays until the node is no longer cut off, whatever it asks for
	lose string // the change whose answer is lost, once
	told func()
}

func (n *fakeNode) cut(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away = err
	n.old, n.deaf = nil, false
	if err != nil {
		n.old = n.d.table()
	}
}

// lag has the node see the table of now until it asks for a fresh one.
func (n *fakeNode) lag() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.old = n.d.table()
}

// deafen has the node see the table of now until cut(nil), but for what it asks for.
func (n *fakeNode) deafen() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.old, n.deaf = n.d.table(), true
}

// heard is what Options.Heard tells: a node that sees an old table has heard of it
// too long ago.
func (n *fakeNode) heard() (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.old != nil {
		return time.Hour, true
	}
	return 0, true
}

func (n *fakeNode) table() *table {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.old != nil {
		return n.old
	}
	return n.d.table()
}

func (n *fakeNode) fresh() (*table, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away != nil {
		return nil, n.away
	}
	n.hear()
	return n.d.table(), nil
}

// hear ends a lag. n.mu is held.
func (n *fakeNode) hear() {
	if !n.deaf {
		n.old = nil
	}
}

// ask makes a change, unless the directory is away. The answer can be lost.
func (n *fakeNode) ask(ctx context.Context, what string, fn func(*table) error) error {
	n.mu.Lock()
	away, lose := n.away, n.lose == what
	if lose {
		n.lose = ""
	}
	n.mu.Unlock()
	if err := errors.Join(away, ctx.Err()); err != nil {
		return err
	}
	do := func() error { return n.d.change(fn) }
	if n.d.around != nil {
		do = func() error { return n.d.around(n, what, func() error { return n.d.change(fn) }) }
	}
	err := do()
	if lose {
		return errAway
	}
	n.mu.Lock()
	n.hear()
	n.mu.Unlock()
	return err
}

func (n *fakeNode) RegisterDisk(ctx context.Context, uuid [16]byte, _ uint64) (number uint32, err error) {
	err = n.ask(ctx, "disk", func(t *table) error {
		for i, d := range t.disks {
			if d.uuid == uuid {
				number = uint32(i) + 1
				t.disks[i].node = n.node
				return nil
			}
		}
		t.disks = append(t.disks, fakeDisk{n.node, uuid})
		number = uint32(len(t.disks))
		return nil
	})
	return number, err
}

func (n *fakeNode) Leaser(class volume.Class, worker uint16, disk uint32) id.Leaser {
	l := fakeLeaser{n: n, worker: worker, disk: disk, lo: 64, hi: 544}
	if class == volume.ClassOriginals {
		l.lo, l.hi = 544, id.Slots
	}
	return l
}

type fakeLeaser struct {
	n      *fakeNode
	worker uint16
	disk   uint32
	lo, hi id.Slot
}

const fakeLease = id.Millis(60_000)

func (l fakeLeaser) Acquire(ctx context.Context, now id.Millis) (lease id.Lease, err error) {
	err = l.n.ask(ctx, "acquire", func(t *table) error {
		rank := func(s id.Slot) int {
			open, ok := t.openTile(s)
			switch {
			case !ok:
				return 1
			case slices.Contains(t.rows[open.v].Disks, l.disk):
				return 0
			}
			return 2
		}
		s, w, err := id.Grant(t, id.GrantRequest{Node: l.n.node, Holder: l.n.incarnation, Worker: l.worker, Lo: l.lo, Hi: l.hi,
			Now: l.n.d.millis(), HolderNow: now, Length: fakeLease, Rank: rank})
		t.windows[s] = w
		lease = id.Lease{Slot: s, Holder: l.n.incarnation, From: w.From, To: w.To}
		return err
	})
	return lease, err
}

func (l fakeLeaser) Renew(ctx context.Context, lease id.Lease, now id.Millis) (id.Lease, error) {
	err := l.n.ask(ctx, "renew", func(t *table) error {
		w, err := id.Renew(t.windows[lease.Slot], lease.Holder, lease.From, l.n.d.millis(), now, fakeLease)
		t.windows[lease.Slot], lease.To = w, w.To
		return err
	})
	return lease, err
}

func (l fakeLeaser) Surrender(ctx context.Context, lease id.Lease, at id.Millis) error {
	return l.n.ask(ctx, "surrender", func(t *table) error {
		w, err := id.Release(t.windows[lease.Slot], lease.Holder, lease.From, at)
		t.windows[lease.Slot] = w
		return err
	})
}

func (n *fakeNode) holds(t *table, l id.Lease) error {
	if !t.windows[l.Slot].HeldBy(l.Holder, l.From) {
		return id.ErrLeaseLost
	}
	return nil
}

func (n *fakeNode) OpenVolume(ctx context.Context, l id.Lease, disks []uint32, target int, from id.Millis) (ident volume.Identity, err error) {
	err = n.ask(ctx, "open", func(t *table) error {
		if err := n.holds(t, l); err != nil {
			return err
		}
		sorted := slices.Compact(slices.Sorted(slices.Values(disks)))
		if len(sorted) != len(disks) || len(disks) == 0 || len(disks) > server.MaxReplicas || int(sorted[len(sorted)-1]) > len(t.disks) || sorted[0] == 0 {
			return fmt.Errorf("%w: replicas on %v", errRefused, disks)
		}
		if tiles := t.tiles[l.Slot]; len(tiles) > 0 {
			last := tiles[len(tiles)-1]
			r := t.rows[last.v]
			if last.to == 0 && last.from == from && slices.Equal(r.Disks, disks) {
				ident = r.Volume // a repetition
				return nil
			}
			if last.from >= from || last.to > from {
				return fmt.Errorf("%w: fence %d, the slot's last tile is [%d, %d)", errRefused, from, last.from, last.to)
			}
		}
		t.closeTile(l.Slot, from, n.d.millis())
		ident = volume.Identity{Volume: volume.ID(len(t.rows) + 1), Generation: 1, Class: classOf(l.Slot)}
		r := fakeRow{last: 1, Row: server.Row{Volume: ident, State: server.StateOpen, Unconfirmed: true, Target: target,
			Slot: l.Slot, From: from, Opened: n.d.millis()}}
		t.rows[ident.Volume] = t.with(r, slices.Clone(disks), slices.Clone(disks))
		t.tiles[l.Slot] = append(slices.Clone(t.tiles[l.Slot]), fakeTile{from: from, v: ident.Volume})
		return nil
	})
	return ident, err
}

func classOf(s id.Slot) volume.Class {
	if s >= 544 {
		return volume.ClassOriginals
	}
	return volume.ClassVariants
}

func (n *fakeNode) CloseTile(ctx context.Context, l id.Lease, at id.Millis) error {
	return n.ask(ctx, "close", func(t *table) error {
		if err := n.holds(t, l); err != nil {
			return err
		}
		if open, ok := t.openTile(l.Slot); ok && at < open.from {
			return fmt.Errorf("%w: fence %d, the tile begins at %d", errRefused, at, open.from)
		}
		t.closeTile(l.Slot, at, n.d.millis())
		return nil
	})
}

func (n *fakeNode) OpenTile(s id.Slot) (server.Place, bool) {
	t := n.table()
	tile, ok := t.openTile(s)
	if !ok {
		return server.Place{}, false
	}
	return t.place(tile)
}

func (n *fakeNode) Locate(blob id.ID) (server.Place, bool) { return n.table().locate(blob) }

func (n *fakeNode) LocateFresh(ctx context.Context, blob id.ID) (server.Place, bool, error) {
	t, err := n.fresh()
	if err != nil {
		return server.Place{}, false, err
	}
	p, ok := t.locate(blob)
	return p, ok, ctx.Err()
}

func (n *fakeNode) NodeDisks() (out []server.NodeDisk) {
	for i, d := range n.table().disks {
		if d.node == n.node {
			out = append(out, server.NodeDisk{Disk: uint32(i) + 1, UUID: d.uuid})
		}
	}
	return out
}

func (n *fakeNode) Rows(disk uint32) (out []server.Row) {
	t := n.table()
	for _, v := range slices.Sorted(maps.Keys(t.rows)) {
		if slices.Contains(t.rows[v].Disks, disk) {
			out = append(out, t.rows[v].Row)
		}
	}
	return out
}

func (n *fakeNode) Row(v volume.ID) (server.Row, bool) {
	r, ok := n.table().rows[v]
	return r.Row, ok
}

func (n *fakeNode) FreshRow(ctx context.Context, v volume.ID) (server.Row, bool, error) {
	t, err := n.fresh()
	if err != nil {
		return server.Row{}, false, err
	}
	n.mu.Lock()
	told := n.told
	n.mu.Unlock()
	if told != nil {
		told()
	}
	r, ok := t.rows[v]
	return r.Row, ok, ctx.Err()
}

// whenTold has fn called whenever the node has been told a fresh row, before it goes by it.
func (n *fakeNode) whenTold(fn func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told = fn
}

// alter makes a change of one row.
func (n *fakeNode) alter(ctx context.Context, what string, v volume.ID, fn func(*table, *fakeRow) error) (server.Row, error) {
	var row fakeRow
	err := n.ask(ctx, what, func(t *table) error {
		row = t.rows[v]
		if row.State == 0 {
			return fmt.Errorf("%w: no volume %d", errRefused, v)
		}
		if row.State == server.StateVoid && what != "give up" && what != "close" {
			return fmt.Errorf("%w: volume %d is void", errRefused, v)
		}
		if err := fn(t, &row); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		t.rows[v] = row
		return nil
	})
	return row.Row, err
}

func (n *fakeNode) ConfirmVolume(ctx context.Context, v volume.ID, generation uint32) (server.Row, error) {
	return n.alter(ctx, "confirm", v, func(t *table, r *fakeRow) error {
		w := t.windows[r.Slot]
		if r.Unconfirmed && (w.Holder != n.incarnation || w.Released || generation != r.Volume.Generation) {
			return id.ErrLeaseLost
		}
		r.Unconfirmed = false
		return nil
	})
}

func (n *fakeNode) AbandonVolume(ctx context.Context, v volume.ID) (server.Row, error) {
	return n.alter(ctx, "give up", v, func(t *table, r *fakeRow) error {
		if r.State == server.StateOpen && r.Unconfirmed {
			t.closeTile(r.Slot, r.From, n.d.millis())
			*r = t.rows[v]
		}
		return nil
	})
}

func (n *fakeNode) CloseVolume(ctx context.Context, v volume.ID) (server.Row, error) {
	return n.alter(ctx, "close", v, func(t *table, r *fakeRow) error {
		if r.State != server.StateOpen {
			return nil
		}
		w := t.windows[r.Slot]
		if !w.Over(n.d.millis()) && (w.Node != n.node || w.Holder == n.incarnation) {
			return fmt.Errorf("%w: slot %d is leased", errRefused, r.Slot)
		}
		t.closeTile(r.Slot, w.To, n.d.millis())
		w.Released = true
		t.windows[r.Slot] = w
		*r = t.rows[v]
		return nil
	})
}

func (n *fakeNode) SealVolume(ctx context.Context, v volume.ID, generation uint32, disks []uint32, s server.Sealed) (server.Row, error) {
	return n.alter(ctx, "seal", v, func(t *table, r *fakeRow) error {
		have := only(r.Disks, disks)
		switch {
		case generation != r.Volume.Generation || r.State == server.StateOpen || len(have) != len(disks):
			return fmt.Errorf("%w: generation %d of %+v on %v", errRefused, generation, r.Row, disks)
		case r.State == server.StateSealed && r.Seal.Digest != s.Digest:
			return fmt.Errorf("%w: another digest", errRefused)
		case r.State == server.StateSealed:
			return nil // a repetition: who has left since has missed deletes
		case len(only(r.InSync, disks)) == 0:
			return fmt.Errorf("%w: none of %v is in sync", errRefused, disks)
		}
		r.State, r.Seal, r.Attempt = server.StateSealed, &s, nil
		*r = t.with(*r, have, only(r.InSync, disks))
		return r.sealedAs(&s)
	})
}

func (n *fakeNode) begin(r *fakeRow, deletes uint32) {
	if r.Attempt == nil {
		r.last++
		r.Attempt = &server.Attempt{Generation: r.last, Secret: [32]byte{1, byte(r.last)}, Time: n.d.clock.Now(), Deletes: deletes}
	}
}

func (n *fakeNode) BeginCompaction(ctx context.Context, v volume.ID, generation uint32, digest volume.Digest, deletes uint32) (server.Row, error) {
	return n.alter(ctx, "begin", v, func(t *table, r *fakeRow) error {
		if generation != r.Volume.Generation || r.State != server.StateSealed || digest != r.Seal.Digest || deletes < r.Seal.Deletes {
			return fmt.Errorf("%w: from generation %d of %+v", errRefused, generation, r.Row)
		}
		n.begin(r, deletes)
		return nil
	})
}

func (n *fakeNode) BeginSalvage(ctx context.Context, v volume.ID, generation, disk uint32) (server.Row, error) {
	return n.alter(ctx, "salvage", v, func(t *table, r *fakeRow) error {
		if generation != r.Volume.Generation || r.State != server.StateClosing || !slices.Equal(r.InSync, []uint32{disk}) {
			return fmt.Errorf("%w: salvage of generation %d of %+v", errRefused, generation, r.Row)
		}
		n.begin(r, 0)
		return nil
	})
}

func (n *fakeNode) CommitCompaction(ctx context.Context, v volume.ID, generation uint32, disks []uint32, s server.Sealed) (server.Row, error) {
	return n.alter(ctx, "commit", v, func(t *table, r *fakeRow) error {
		if generation == r.Volume.Generation && r.Seal != nil && r.Seal.Digest == s.Digest {
			return nil
		}
		have := only(r.InSync, disks)
		if r.Coding.Committed != nil {
			have = disks
		}
		if r.Attempt == nil || r.Attempt.Generation != generation || r.Attempt.Deletes != s.Deletes || len(have) == 0 {
			return fmt.Errorf("%w: generation %d of %+v on %v", errRefused, generation, r.Row, disks)
		}
		r.State, r.Seal, r.Attempt, r.Volume.Generation = server.StateSealed, &s, nil, generation
		if r.Coding.Committed != nil { // made out of shards
			*r = t.with(*r, disks, disks)
		} else {
			*r = t.with(*r, r.Disks, have)
		}
		return r.sealedAs(&s)
	})
}

func (n *fakeNode) AbandonCompaction(ctx context.Context, v volume.ID, generation uint32) (server.Row, error) {
	return n.alter(ctx, "abandon", v, func(t *table, r *fakeRow) error {
		if generation > r.last || generation <= r.Volume.Generation {
			return errRefused
		}
		if r.Attempt != nil && r.Attempt.Generation == generation {
			r.Attempt = nil
		}
		return nil
	})
}

// epoch refuses a change that builds on another sync epoch than the row's.
func (r *fakeRow) epoch(sync uint32) error {
	if sync != r.Sync {
		return fmt.Errorf("%w: sync epoch %d, not %d", errRefused, r.Sync, sync)
	}
	return nil
}

func (n *fakeNode) LeaveSync(ctx context.Context, v volume.ID, disk, sync uint32) (server.Row, error) {
	return n.alter(ctx, "leave", v, func(t *table, r *fakeRow) error {
		rest := slices.DeleteFunc(slices.Clone(r.InSync), func(d uint32) bool { return d == disk })
		switch {
		case len(rest) == len(r.InSync):
			return nil // a repetition
		case len(rest) == 0:
			return fmt.Errorf("%w: disk %d is the last in sync", errRefused, disk)
		case r.epoch(sync) != nil:
			return r.epoch(sync)
		}
		*r = t.with(*r, r.Disks, rest)
		return nil
	})
}

func (n *fakeNode) JoinSync(ctx context.Context, v volume.ID, disk, generation, sync uint32) (server.Row, error) {
	return n.alter(ctx, "join", v, func(t *table, r *fakeRow) error {
		switch {
		case slices.Contains(r.InSync, disk):
			return nil
		case !slices.Contains(r.Disks, disk) || generation != r.Volume.Generation:
			return fmt.Errorf("%w: disk %d with generation %d joins %+v", errRefused, disk, generation, r.Row)
		case r.epoch(sync) != nil:
			return r.epoch(sync)
		}
		*r = t.with(*r, r.Disks, only(r.Disks, append(slices.Clone(r.InSync), disk)))
		return nil
	})
}

func (n *fakeNode) AddReplica(ctx context.Context, v volume.ID, disk, sync uint32) (server.Row, error) {
	return n.alter(ctx, "add", v, func(t *table, r *fakeRow) error {
		switch {
		case slices.Contains(r.Disks, disk):
			return nil
		case r.State != server.StateSealed || disk == 0 || int(disk) > len(t.disks) || len(r.Disks) == server.MaxReplicas:
			return fmt.Errorf("%w: disk %d for %+v", errRefused, disk, r.Row)
		case r.epoch(sync) != nil:
			return r.epoch(sync)
		}
		*r = t.with(*r, append(slices.Clone(r.Disks), disk), r.InSync)
		return nil
	})
}

func (n *fakeNode) RemoveReplica(ctx context.Context, v volume.ID, disk, sync uint32) (server.Row, error) {
	return n.alter(ctx, "remove", v, func(t *table, r *fakeRow) error {
		gone := func(d uint32) bool { return d == disk }
		rest := slices.DeleteFunc(slices.Clone(r.InSync), gone)
		switch {
		case !slices.Contains(r.Disks, disk):
			return nil
		case len(rest) == 0:
			return fmt.Errorf("%w: disk %d is the last in sync", errRefused, disk)
		case r.epoch(sync) != nil:
			return r.epoch(sync)
		}
		*r = t.with(*r, slices.DeleteFunc(slices.Clone(r.Disks), gone), rest)
		return nil
	})
}

// CodedRows are those with shards on a disk of this node.
func (n *fakeNode) CodedRows() (out []server.Row) {
	t := n.table()
	for _, v := range slices.Sorted(maps.Keys(t.rows)) {
		here := func(d lifecycle.Disk) bool { return t.disks[d-1].node == n.node }
		if r := t.rows[v]; r.Coding.Homed(here) || r.Keeper != 0 && here(lifecycle.Disk(r.Keeper)) {
			out = append(out, r.Row)
		}
	}
	return out
}

// code changes the coding of a row by a rule of package lifecycle.
func (n *fakeNode) code(ctx context.Context, what string, v volume.ID, rule func(lifecycle.Row) (lifecycle.Row, error)) (server.Row, error) {
	return n.alter(ctx, what, v, func(t *table, r *fakeRow) error { return r.code(t, rule) })
}

// codeAs does so as the keeper under a term.
func (n *fakeNode) codeAs(ctx context.Context, what string, v volume.ID, term uint32, rule func(lifecycle.Row) (lifecycle.Row, error)) (server.Row, error) {
	return n.alter(ctx, what, v, func(t *table, r *fakeRow) error {
		if term != r.Term {
			return fmt.Errorf("%w: term %d, not %d", lifecycle.ErrRefused, r.Term, term)
		}
		return r.code(t, rule)
	})
}

func (r *fakeRow) code(t *table, rule func(lifecycle.Row) (lifecycle.Row, error)) error {
	next, err := rule(r.Coding)
	if err != nil {
		return err
	}
	if r.Coding = next; r.Volume.Generation <= next.Released {
		*r = t.with(*r, nil, nil)
	}
	return nil
}

// sealedAs has the rules of coding know the newest generation.
func (r *fakeRow) sealedAs(s *server.Sealed) (err error) {
	r.Coding, err = r.Coding.Replace(lifecycle.Source{Generation: r.Volume.Generation, Digest: lifecycle.Digest(s.Digest), Bytes: max(s.Bytes, 1)})
	return err
}

func (n *fakeNode) BeginCoding(ctx context.Context, v volume.ID, run lifecycle.Run) (server.Row, error) {
	return n.code(ctx, "code", v, func(r lifecycle.Row) (lifecycle.Row, error) { return r.Begin(run) })
}

func (n *fakeNode) CommitCoding(ctx context.Context, v volume.ID, epoch uint32, encoder uint64, digests []lifecycle.Digest, term uint32) (server.Row, error) {
	return n.codeAs(ctx, "commit shards", v, term, func(r lifecycle.Row) (lifecycle.Row, error) {
		return r.Commit(epoch, encoder, digests, n.d.clock.Now())
	})
}

func (n *fakeNode) AbortCoding(ctx context.Context, v volume.ID, epoch uint32, encoder uint64) (server.Row, error) {
	return n.code(ctx, "abort", v, func(r lifecycle.Row) (lifecycle.Row, error) { return r.Abort(epoch, encoder) })
}

func (n *fakeNode) RevokeCoding(ctx context.Context, v volume.ID, epoch, term uint32) (server.Row, error) {
	return n.codeAs(ctx, "revoke", v, term, func(r lifecycle.Row) (lifecycle.Row, error) { return r.Revoke(epoch) })
}

func (n *fakeNode) ReleaseSource(ctx context.Context, v volume.ID, epoch uint32, verified []lifecycle.Digest, grace time.Duration, term uint32) (server.Row, error) {
	return n.codeAs(ctx, "release", v, term, func(r lifecycle.Row) (lifecycle.Row, error) {
		return r.Release(epoch, verified, n.d.clock.Now(), grace)
	})
}

func (n *fakeNode) MoveShard(ctx context.Context, v volume.ID, epoch uint32, shard int, to uint32, verified lifecycle.Digest, term uint32) (server.Row, error) {
	return n.codeAs(ctx, "move", v, term, func(r lifecycle.Row) (lifecycle.Row, error) {
		return r.Move(epoch, shard, lifecycle.Disk(to), verified)
	})
}

func (n *fakeNode) KeepCoded(ctx context.Context, v volume.ID, disk, term uint32) (server.Row, error) {
	return n.alter(ctx, "keep", v, func(t *table, r *fakeRow) error {
		switch {
		case r.Keeper == disk && r.Term == term+1:
			return nil
		case r.Term != term || r.Coding.Committed == nil:
			return fmt.Errorf("%w: term %d, not %d", lifecycle.ErrRefused, r.Term, term)
		}
		r.Keeper, r.Term = disk, term+1
		return nil
	})
}
