package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"hayloft/internal/id"
	"hayloft/volume"
)

// writer appends to the volumes of one class, one at a time: those with a replica
// on its own disk, or, when it roams, on any. It holds one slot; its tile is where
// what it mints lies.
type writer struct {
	s      *Server
	disk   *disk // nil: it roams
	class  volume.Class
	keeper *id.Keeper
	gate   chan struct{}        // held (full) by whoever changes tile; guards asked
	tile   atomic.Pointer[tile] // nil: none is open
	missed volume.ID            // whose replica elsewhere was away at tend's last look; tend's alone
	idle   atomic.Pointer[rest] // since it found no places; of one that roams
	asked  ask
	quit   atomic.Uint32 // the volume that was left last
}

// ask is the newest fence at which a writer has asked the directory for its slot's tile
// to end. The answer may be lost, and the request be granted at any later moment.
type ask struct {
	lease id.Lease
	at    id.Millis
}

// forbids reports whether a tile that begins at from may come to end where the holder of
// a lease would go on with it: see docs/leases.md.
func (a ask) forbids(l id.Lease, from id.Millis) bool {
	return a.lease.Slot == l.Slot && a.lease.Holder == l.Holder && a.lease.From == l.From && from < a.at
}

// closeTile asks the directory to end the slot's tile. The caller holds the gate, and no
// tile is open.
func (w *writer) closeTile(ctx context.Context, l id.Lease, at id.Millis) error {
	w.asked = ask{l, at}
	return w.s.o.Directory.CloseTile(ctx, l, at)
}

// tile is the open tile of a writer, from where this process may fill it.
type tile struct {
	slot  id.Slot
	from  id.Millis
	ident volume.Identity
	all   []holder    // of the volume's replicas
	h     *handle     // the one of them on the writer's own disk, or nil
	wrote atomic.Bool // something was stored
}

func (t *tile) holds(blob id.ID) bool { return blob.Slot() == t.slot && blob.Millis() >= t.from }

// newWriter returns a writer of a disk, or one that roams when d is nil.
func newWriter(s *Server, d *disk, class volume.Class, worker uint16) *writer {
	w := &writer{s: s, disk: d, class: class, gate: make(chan struct{}, 1)}
	w.keeper = id.NewKeeper(id.KeeperOptions{
		Leaser: s.o.Directory.Leaser(class, worker, w.home()),
		Clock:  s.o.Clock,
		Every:  s.o.LeaseEvery,
		Failed: func(err error) { s.o.Events(Event{Kind: EventLease, Dir: w.dir(), Err: err}) },
	})
	return w
}

// Reserve mints a blob id and draws a cookie for one Write of a class. It opens
// a volume when it must. Nothing is owed for an id that is never written.
func (s *Server) Reserve(ctx context.Context, class volume.Class) (id.ID, id.Cookie, error) {
	if err := s.enter(); err != nil {
		return 0, 0, err
	}
	defer s.calls.Done()
	if !slices.Contains(classes, class) {
		return 0, 0, fmt.Errorf("%w: class %d", volume.ErrInvalid, class)
	}
	cookie, err := newCookie()
	if err != nil {
		return 0, 0, unavailable("%w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.DirectoryTimeout)
	defer cancel()
	var errs []error
	ws := s.inTurn(class)
	for i, w := range ws {
		blob, err := w.mintWithin(ctx, i+1 < len(ws))
		if err == nil {
			return blob, cookie, nil
		}
		errs = append(errs, err)
	}
	return 0, 0, refusal(errs)
}

// inTurn returns the writers of a class in the order in which to ask them: by
// turns, those that roam after those of sound disks, and those of suspect ones last.
func (s *Server) inTurn(class volume.Class) []*writer {
	ws := s.writersOf(class)
	if len(ws) == 0 {
		return nil
	}
	turn := s.turn.Add(1)
	var ranks [3][]*writer
	for _, w := range ws {
		r := w.rank()
		ranks[r] = append(ranks[r], w)
	}
	ws = make([]*writer, 0, len(ws))
	for _, equal := range ranks { // each by turns, or the first disk got the turns of the roamers
		if n := uint64(len(equal)); n > 0 {
			ws = append(append(ws, equal[turn%n:]...), equal[:turn%n]...)
		}
	}
	return ws
}

// refusal is the one answer for what every disk refused: want of room only when
// that is all there is. That no other places are found then is for the same reason.
func refusal(errs []error) error {
	full := func(err error) bool { return errors.Is(err, ErrNoSpace) }
	if slices.ContainsFunc(errs, full) {
		errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, ErrPlacement) })
	}
	if len(errs) == 0 {
		return unavailable("%w: all of them", ErrDiskOut)
	}
	for _, err := range errs {
		if !full(err) {
			return unavailable("%w", errors.Join(errs...))
		}
	}
	return errors.Join(errs...)
}

func newCookie() (id.Cookie, error) {
	var b [8]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			return 0, err
		}
		if c := id.Cookie(binary.LittleEndian.Uint64(b[:])); c != 0 {
			return c, nil
		}
	}
}

// othersWait is the part of the time of a Reserve that one disk may take as long
// as there are others to ask.
const othersWait = 4

// mintWithin is mint, which leaves some of the time when others can be asked.
func (w *writer) mintWithin(ctx context.Context, others bool) (id.ID, error) {
	if others {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.s.o.DirectoryTimeout/othersWait)
		defer cancel()
	}
	return w.mint(ctx)
}

// mint returns an id that lies in the open tile.
func (w *writer) mint(ctx context.Context) (id.ID, error) {
	if err := w.takesWrites(); err != nil {
		return 0, err
	}
	// The lease may move to another slot between the two steps; not again and again.
	for range 4 {
		t, err := w.open(ctx)
		if err != nil {
			return 0, err
		}
		blob, err := w.keeper.Mint(ctx)
		if err != nil {
			return 0, err
		}
		if t.holds(blob) {
			return blob, nil
		}
		w.tile.CompareAndSwap(t, nil)
	}
	return 0, errors.New("server: the slot changes all the time")
}

// open returns the open tile and opens one when there is none. It does not wait
// for a disk that does not answer. The caller is counted in.
func (w *writer) open(ctx context.Context) (*tile, error) {
	if t := w.tile.Load(); t != nil {
		return t, nil
	}
	hung := w.hung()
	select {
	case w.gate <- struct{}{}:
	case <-hung:
		return nil, w.disk.whyOut()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	type result struct {
		t   *tile
		err error
	}
	done := make(chan result, 1)
	w.s.calls.Go(func() {
		defer func() { <-w.gate }()
		// Who waits no longer leaves the tile to who asks next: where nodes are far away,
		// all would begin it and none come to its end.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.s.o.DirectoryTimeout)
		defer cancel()
		defer context.AfterFunc(w.s.life, cancel)()
		t, err := w.openNext(ctx)
		done <- result{t, err}
	})
	select {
	case r := <-done:
		return r.t, r.err
	case <-hung:
		return nil, w.disk.whyOut()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// openNext is open by who holds the gate.
func (w *writer) openNext(ctx context.Context) (*tile, error) {
	if t := w.tile.Load(); t != nil {
		return t, nil
	}
	lease, fence, err := w.keeper.Fence(ctx)
	if err != nil {
		return nil, err
	}
	// After a restart the slot's tile goes on where the former process left it.
	t := w.former(ctx, lease)
	if t == nil {
		if t, err = w.create(ctx, lease, fence); err != nil {
			return nil, err
		}
	} else {
		t.slot, t.from = lease.Slot, fence
	}
	w.tile.Store(t)
	if err := w.usable(); err != nil { // it went out meanwhile
		w.tile.CompareAndSwap(t, nil)
		return nil, err
	}
	return t, nil
}

// Write appends a group, all of whose needles have blob for key, and returns
// when it is durable. The data is the caller's again then. A disk that is taken out
// meanwhile is ErrMoved, though the group may come to be stored on it: nobody is
// ever told so.
func (s *Server) Write(ctx context.Context, blob id.ID, group []volume.Needle) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	var size int64
	for i := range group {
		if group[i].Key != blob {
			return fmt.Errorf("%w: a needle of %v in the group of %v", volume.ErrInvalid, group[i].Key, blob)
		}
		size += int64(len(group[i].Data))
	}
	if size > s.o.VolumeBytes {
		return fmt.Errorf("%w: %d bytes, a volume holds %d", volume.ErrTooLarge, size, s.o.VolumeBytes)
	}
	weight := min(size, s.o.MaxWriteBytes)
	if err := s.writing.Acquire(ctx, weight); err != nil {
		return unavailable("%w", err)
	}
	defer s.writing.Release(weight)
	w, t := s.tileOf(blob)
	if w == nil {
		s.n.moved.Add(1)
		return fmt.Errorf("%w: %v", ErrMoved, blob)
	}
	if t.h != nil {
		switch err := w.disk.mayAppend(size); {
		case errors.Is(err, ErrNoSpace):
			if s.o.Peers != nil {
				s.shun(w.disk.number) // it may have room for an id, and others go first
			}
			return s.moved(w, err)
		case err != nil:
			return s.moved(w, nil)
		}
	}
	err := t.append(ctx, s, group, size)
	if err == nil {
		t.wrote.Store(true)
		s.n.writes.Add(1)
		return nil
	}
	return w.failed(ctx, t, size, err)
}

// failed is what Write answers when a volume did not take size bytes.
func (w *writer) failed(ctx context.Context, t *tile, size int64, err error) error {
	s := w.s
	switch {
	case errors.Is(err, volume.ErrFull):
		// Nearly the size of a volume: it was not certain before.
		if t.empty() {
			return fmt.Errorf("%w: %d bytes do not fit into an empty volume: %w", volume.ErrTooLarge, size, err)
		}
		w.leave(ctx, t, err)
		return s.moved(w, nil)
	case errors.Is(err, errReplica):
		w.leave(ctx, t, err)
		return s.moved(w, nil)
	case errors.Is(err, volume.ErrHung):
		// Nobody will be told whether it was stored: it is swept if it was.
		return s.moved(w, nil)
	case errors.Is(err, volume.ErrPoisoned), errors.Is(err, volume.ErrClosed), errors.Is(err, volume.ErrSealed):
		w.leave(ctx, t, err)
		return s.moved(w, nil)
	case errors.Is(err, volume.ErrNoSpace) && (t.h == nil || len(t.all) > 1):
		return s.moved(w, nil) // on some disk, while the caller was leaving
	case errors.Is(err, volume.ErrNoSpace):
		// The volume is sound and goes on when there is room again.
		w.disk.outOfRoom()
		return s.moved(w, fmt.Errorf("%w: %s: %w", ErrNoSpace, w.disk.dir, err))
	}
	return err
}

// tileOf finds the open tile that a blob lies in.
func (s *Server) tileOf(blob id.ID) (*writer, *tile) {
	for _, class := range classes {
		for _, w := range s.writersOf(class) {
			if t := w.tile.Load(); t != nil && t.holds(blob) {
				return w, t
			}
		}
	}
	return nil, nil
}

// moved is the answer to a write that has to go elsewhere: ErrMoved while there
// may be an elsewhere, else why not.
func (s *Server) moved(from *writer, why error) error {
	if why == nil {
		s.n.moved.Add(1)
		return ErrMoved
	}
	for _, w := range s.writersOf(from.class) {
		if w.disk != from.disk && w.takesWrites() == nil {
			s.n.moved.Add(1)
			return fmt.Errorf("%w: %w", ErrMoved, why)
		}
	}
	return why
}

// end closes the open tile of a volume, row's, as the holder of its slot, and
// opens no other: the next Reserve does. The row it returns is still open when
// this writer does not hold the slot any more.
func (w *writer) end(ctx context.Context, row Row) (Row, error) {
	select {
	case w.gate <- struct{}{}:
	case <-ctx.Done():
		return row, ctx.Err()
	}
	defer func() { <-w.gate }()
	// Nobody changes the tile now: what the row says lasts.
	row, err := w.s.fresh(ctx, row.Volume.Volume)
	if err != nil || row.State != StateOpen {
		return row, err
	}
	if t := w.tile.Load(); t != nil && t.ident.Volume == row.Volume.Volume && w.tile.CompareAndSwap(t, nil) {
		w.s.n.rolled.Add(1)
		w.s.o.Events(Event{Kind: EventRolled, Dir: w.dir(), Volume: row.Volume.Volume})
	}
	ctx, cancel := context.WithTimeout(ctx, w.s.o.DirectoryTimeout)
	defer cancel()
	lease, fence, err := w.keeper.Fence(ctx)
	if err != nil {
		return row, unavailable("%w", err)
	}
	if lease.Slot != row.Slot {
		return row, nil
	}
	if err := w.closeTile(ctx, lease, fence); err != nil {
		return row, unavailable("%w", err)
	}
	return w.s.fresh(ctx, row.Volume.Volume)
}

// writerOf returns the writer that appends to a volume now, or nil.
func (s *Server) writerOf(h *handle) *writer {
	for _, w := range s.writersOf(h.vol.Identity().Class) {
		if t := w.tile.Load(); t != nil && t.has(h) && !h.left.Load() {
			return w
		}
	}
	return nil
}

// leave ends a tile whose volume takes no more and opens the next, so that the
// caller's next Reserve finds it. When that fails, the next Reserve tries again,
// and the directory is told that the tile has ended.
func (w *writer) leave(ctx context.Context, t *tile, why error) {
	t.left()
	w.quit.Store(uint32(t.ident.Volume))
	if !w.tile.CompareAndSwap(t, nil) {
		return // somebody else was faster
	}
	w.s.n.rolled.Add(1)
	w.s.o.Events(Event{Kind: EventRolled, Dir: w.dir(), Volume: t.ident.Volume, Err: why})
	// The client's patience does not decide over the tile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.s.o.DirectoryTimeout)
	defer cancel()
	if _, err := w.open(ctx); err == nil {
		return
	}
	if err := w.endLeft(ctx, t); err != nil && w.usable() == nil {
		w.s.o.Events(Event{Kind: EventLease, Dir: w.dir(), Err: err})
	}
	w.kick()
}

// endLeft tells the directory that a tile has ended which was left, unless another one
// is open by now: that would be ended.
func (w *writer) endLeft(ctx context.Context, t *tile) error {
	select {
	case w.gate <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err() // the upkeep sees to it
	}
	defer func() { <-w.gate }()
	if w.tile.Load() != nil {
		return nil
	}
	lease, fence, err := w.keeper.Fence(ctx)
	if err != nil || lease.Slot != t.slot {
		return err
	}
	return w.closeTile(ctx, lease, fence)
}
