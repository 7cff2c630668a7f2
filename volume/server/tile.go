package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
)

// lonelyRoamers is how many writers of a class roam, at least, in a process without
// disks.
const lonelyRoamers = 2

// newRoamers makes the writers that have no disk of their own: there are some when
// there are other nodes. They take no slot before they are needed.
func (s *Server) newRoamers() map[volume.Class][]*writer {
	if s.o.Peers == nil {
		return nil
	}
	n := s.o.OpenPerDisk
	if len(s.o.Dirs) == 0 {
		n = max(n, lonelyRoamers)
	}
	ws := make(map[volume.Class][]*writer)
	for i, class := range classes {
		for range n {
			ws[class] = append(ws[class], newWriter(s, nil, class, s.worker(i)))
		}
	}
	return ws
}

// worker returns the number of a new writer of a class. None comes twice: a lease
// that could not be given back is nobody's.
func (s *Server) worker(class int) uint16 { return uint16(s.workers[class].Add(1) - 1) }

// home is the directory's number of the writer's own disk, 0 when it roams.
func (w *writer) home() uint32 {
	if w.disk == nil {
		return 0
	}
	return w.disk.number
}

// dir is the data directory that events of the writer name.
func (w *writer) dir() string {
	if w.disk == nil {
		return ""
	}
	return w.disk.dir
}

// hung is closed while nobody waits for the writer's disk.
func (w *writer) hung() <-chan struct{} {
	if w.disk == nil {
		return nil
	}
	return w.disk.hung()
}

func (w *writer) usable() error {
	if w.disk == nil {
		return nil
	}
	return w.disk.usable()
}

// rest is why a writer that roams is not asked before a time.
type rest struct {
	err   error
	until time.Time
}

func (w *writer) takesWrites() error {
	if w.disk != nil {
		return w.disk.takesWrites(0)
	}
	if r := w.idle.Load(); r != nil && w.s.o.Clock.Now().Before(r.until) {
		return r.err
	}
	return nil
}

func (w *writer) kick() {
	if w.disk != nil {
		w.disk.kick()
	}
}

// rank is low for the writers that are asked first.
func (w *writer) rank() int {
	switch {
	case w.disk == nil:
		return 1
	case w.disk.seat.suspect.Load() != 0 || w.s.shuns(w.disk.number):
		return 2
	}
	return 0
}

// has reports whether one of the tile's replicas is h.
func (t *tile) has(h *handle) bool {
	return slices.ContainsFunc(t.all, func(r holder) bool { return r.h == h })
}

// left notes that no writer of this process appends to the volume any more.
func (t *tile) left() {
	for _, r := range t.all {
		if r.h != nil {
			r.h.left.Store(true)
		}
	}
}

// empty reports whether nothing was ever stored in the volume.
func (t *tile) empty() bool {
	if t.h == nil {
		return !t.wrote.Load()
	}
	st := t.h.vol.Stats()
	return st.Needles == 0 && st.Tombstones == 0
}

// taking reports whether new replicas may be put on disks: none of them is to be emptied,
// as far as this node has heard.
func (s *Server) taking(disks []uint32) bool {
	if s.o.Peers == nil {
		return true
	}
	return !slices.ContainsFunc(s.o.Peers.Disks(), func(d FleetDisk) bool { return !d.Taking && slices.Contains(disks, d.Disk) })
}

// holder returns how a replica on a disk is reached.
func (s *Server) holder(number uint32) (holder, error) {
	if s.o.Peers != nil && s.diskByNumber(number) == nil {
		if p := s.o.Peers.Of(number); p != nil {
			return holder{number: number, peer: p}, nil
		}
	}
	if s.diskByNumber(number) == nil {
		return holder{}, unavailable("nobody knows disk %d", number)
	}
	return holder{number: number}, nil
}

// former returns the slot's open tile when this writer can go on with it: its file
// is here, and every other replica of it answers that it takes puts too. One that it has
// left, or asked to be ended, it does not go on with.
func (w *writer) former(ctx context.Context, l id.Lease) *tile {
	p, ok := w.s.o.Directory.OpenTile(l.Slot)
	switch {
	case !ok || len(p.Disks) == 0 || !slices.Equal(p.Disks, p.InSync) || p.Target != w.s.o.Replicas:
		return nil
	case w.asked.forbids(l, p.From), w.quit.Load() == uint32(p.Volume.Volume), !w.s.taking(p.Disks):
		return nil
	case w.disk != nil && !slices.Contains(p.Disks, w.disk.number):
		return nil
	}
	if row, ok := w.s.o.Directory.Row(p.Volume.Volume); !ok || row.Unconfirmed {
		return nil // its maker ended, or does not know whether it was confirmed
	}
	t := &tile{ident: p.Volume}
	for _, number := range p.Disks {
		r, err := w.s.holder(number)
		if err != nil || !w.s.goesOn(ctx, &r, p.Volume) {
			return nil
		}
		if w.disk != nil && number == w.disk.number {
			t.h = r.h
		}
		t.all = append(t.all, r)
	}
	t.wrote.Store(true) // as far as is known
	return t
}

// goesOn reports whether a replica takes puts.
func (s *Server) goesOn(ctx context.Context, r *holder, ident volume.Identity) bool {
	if r.peer != nil {
		ctx, cancel := context.WithTimeout(ctx, s.o.DirectoryTimeout/othersWait)
		defer cancel()
		st, err := r.peer.Standing(ctx, r.number, ident.Volume)
		return err == nil && st.Generation == ident.Generation && !st.Fenced && !st.Poisoned
	}
	r.h = s.handle(r.number, ident.Volume)
	return r.h.appendable() && r.h.vol.Identity() == ident && !r.h.left.Load()
}

// createWait is how long a replica may take to make its file.
const createWait = time.Second

// createTries is how many sets of disks are tried for a volume at a time.
const createTries = 3

// create opens a tile with a new volume: its row is committed, then its files made
// on all its disks, then the row confirmed, and nothing is written there before
// that. When it fails on the way, the upkeep gives the volume up. One of which it is
// not known whether it was confirmed stays in service: it may have been.
func (w *writer) create(ctx context.Context, lease id.Lease, fence id.Millis) (*tile, error) {
	var errs []error
	for range createTries {
		disks, err := w.choose()
		if err != nil {
			w.idle.Store(&rest{err, w.s.o.Clock.Now().Add(failPause)})
			return nil, errors.Join(append(errs, err)...)
		}
		t, again, err := w.createOn(ctx, lease, fence, disks)
		if err == nil {
			return t, nil
		}
		w.kick()
		if errs = append(errs, err); !again || ctx.Err() != nil {
			break
		}
		// Another volume begins at another fence.
		if lease, fence, err = w.keeper.Fence(ctx); err != nil {
			return nil, errors.Join(append(errs, err)...)
		}
	}
	return nil, errors.Join(errs...)
}

// choose returns the disks of a new volume: first the writer's own, if it has one.
func (w *writer) choose() ([]uint32, error) {
	if own := []uint32{w.home()}; w.disk != nil && (w.s.o.Peers == nil || w.s.o.Replicas == 1) {
		if !w.s.taking(own) {
			return nil, fmt.Errorf("%w: disk %d is to be emptied", ErrPlacement, own[0])
		}
		return own, nil
	}
	avoid := w.s.avoided()
	disks, err := w.s.o.Peers.Choose(w.class, w.home(), w.s.o.Replicas, avoid)
	for errors.Is(err, ErrPlacement) && len(avoid) > 0 { // rather where there was trouble longest ago than nowhere
		avoid = avoid[1:]
		disks, err = w.s.o.Peers.Choose(w.class, w.home(), w.s.o.Replicas, avoid)
	}
	if err != nil || len(disks) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrPlacement, err)
	}
	return disks, nil
}

// createOn is create with one set of disks. again: another set may do.
func (w *writer) createOn(ctx context.Context, lease id.Lease, fence id.Millis, disks []uint32) (t *tile, again bool, err error) {
	if w.disk != nil {
		end, err := w.disk.beginBirth(ctx)
		if err != nil {
			return nil, false, err
		}
		defer end()
	}
	w.asked = ask{lease, fence}
	ident, err := w.s.o.Directory.OpenVolume(ctx, lease, disks, w.s.o.Replicas, fence)
	if err != nil {
		return nil, false, err
	}
	w.kick() // the slot's former volume is to be sealed
	t = &tile{slot: lease.Slot, from: fence, ident: ident}
	if again, err = w.make(ctx, t, disks); err != nil {
		return nil, again, err
	}
	row, err := w.s.o.Directory.ConfirmVolume(ctx, ident.Volume, ident.Generation)
	if err == nil && (row.State != StateOpen || row.Slot != lease.Slot) {
		err = fmt.Errorf("server: volume %d is %v before its first write", ident.Volume, row.State)
	}
	return t, false, err
}

// make makes the files of the tile's volume on all disks, at the same time. again:
// those that did not are shunned now, and the writer's own disk is none of them.
func (w *writer) make(ctx context.Context, t *tile, disks []uint32) (again bool, err error) {
	others := make(chan error, len(disks))
	asked := 0
	within, cancel := context.WithTimeout(ctx, createWait)
	defer cancel()
	t.all = make([]holder, len(disks))
	for i, number := range disks {
		if t.all[i], err = w.s.holder(number); err != nil {
			return false, err
		}
		if number == w.home() {
			continue
		}
		asked++
		go func() { others <- w.s.makeAt(within, &t.all[i], t.ident) }()
	}
	var own error
	if i := slices.Index(disks, w.home()); i >= 0 && w.disk != nil {
		if t.h, own = w.disk.make(t.ident); own == nil {
			t.all[i].h = t.h
		}
	}
	for range asked {
		err = errors.Join(err, <-others)
	}
	return own == nil, errors.Join(own, err)
}

// makeAt makes the file of a volume at a replica that is not on the writer's own
// disk.
func (s *Server) makeAt(ctx context.Context, r *holder, ident volume.Identity) (err error) {
	if r.peer != nil {
		err = r.peer.Create(ctx, r.number, ident)
	} else {
		r.h, err = s.createHere(ctx, s.diskByNumber(r.number), ident)
	}
	if err != nil {
		s.shun(r.number)
		err = fmt.Errorf("replica on disk %d: %w", r.number, err)
	}
	return err
}

// createHere makes the file of a volume, of which somebody else holds the slot. It does
// not wait for a disk that does not answer, though that may make the file after all, and
// for no writer of the disk: those wait for other nodes, whose writers may wait for this
// one.
func (s *Server) createHere(ctx context.Context, d *disk, ident volume.Identity) (*handle, error) {
	if d == nil {
		return nil, lost(ident.Volume)
	}
	select {
	case d.making <- struct{}{}:
	case <-ctx.Done():
		return nil, unavailable("%w", ctx.Err())
	}
	end := func() { <-d.making }
	if err := d.takesWrites(0); err != nil {
		end()
		return nil, err
	}
	type result struct {
		h   *handle
		err error
	}
	done := make(chan result, 1)
	s.calls.Add(1) // the caller's own is counted
	go func() {
		defer s.calls.Done()
		defer end()
		h, err := d.make(ident)
		done <- result{h, err}
	}()
	select {
	case r := <-done:
		return r.h, r.err
	case <-d.hung():
		return nil, d.whyOut()
	case <-ctx.Done():
		return nil, unavailable("%w", ctx.Err())
	}
}

// make makes the file of a volume and serves it. A former process may have made
// it, and given its slot back before it confirmed: then the directory opened the
// same volume once more.
func (d *disk) make(ident volume.Identity) (*handle, error) {
	s := d.s
	h := s.handle(d.number, ident.Volume)
	if h.appendable() && h.vol.Identity() == ident && h.vol.Stats().Needles == 0 {
		return h, nil
	}
	vol, err := volume.Create(d.volumesDir(), ident, s.volumeOptions(d))
	switch {
	case err == nil:
		d.failed(nil)
		return s.serve(d, ident.Volume, vol, nil), nil
	case errors.Is(err, volume.ErrNoSpace):
		d.outOfRoom()
		return nil, fmt.Errorf("%w: %s: %w", ErrNoSpace, d.dir, err)
	}
	d.failed(err)
	return nil, err
}
