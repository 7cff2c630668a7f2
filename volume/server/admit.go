package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
)

// joinWait is how long deletes wait for a replica that joins, and then as long for the
// directory.
const joinWait = 500 * time.Millisecond

// errJoining shuts the gate of a volume while it is not known whether a replica joined.
var errJoining = unavailable("it is not known yet whether a replica has joined")

// Admit implements PeerLife; see decision 169. All that the other node says of its
// replica is proven: it is sent the whole delete log, which compares.
func (r *replicas) Admit(ctx context.Context, number uint32, v volume.ID, joining uint32) error {
	return r.s.with(number, v, func(d *disk, h *handle) error {
		a := &admission{s: r.s, d: d, h: h, v: v, joining: joining}
		row, err := a.row(ctx)
		if err != nil || row.inSync(joining) {
			return err
		}
		if a.peer, err = r.s.peerOf(joining); err != nil {
			return err
		}
		if err := a.prove(ctx, row); err != nil {
			return err
		}
		sent, err := a.send(ctx, row, 0)
		if err != nil {
			return err
		}
		// It is current, so what the directory says when nobody deletes is.
		if _, err = a.row(ctx); err != nil {
			return err
		}
		// A delete on a disk that hangs must not keep this call, and others behind it.
		patience, end := r.s.within(ctx, askWait)
		defer end()
		shut := h.gate.hold(patience, func() error {
			var shut error
			err, shut = a.join(ctx, sent)
			return shut
		})
		if shut != nil && err == nil {
			err = shut
		}
		return err
	})
}

// admission is one replica that joins, at the primary.
type admission struct {
	s       *Server
	d       *disk
	h       *handle
	v       volume.ID
	joining uint32
	peer    fellow
}

// row returns the row of now, if a replica may join here.
func (a *admission) row(ctx context.Context) (Row, error) {
	row, err := a.s.fresh(ctx, a.v)
	if err == nil {
		err = a.may(row)
	}
	return row, err
}

// may is why a replica cannot join, or nil.
func (a *admission) may(row Row) error {
	switch {
	case row.State != StateSealed || row.coded():
		return fmt.Errorf("%w: volume %d is %v, or coded", ErrMoved, a.v, row.State)
	case len(row.InSync) == 0 || row.InSync[0] != a.d.number:
		return fmt.Errorf("%w: disk %d does not have the primary of volume %d", ErrMoved, a.d.number, a.v)
	case !row.listed(a.joining):
		return fmt.Errorf("%w: volume %d is to have no replica on disk %d", ErrMoved, a.v, a.joining)
	case !a.s.standingOf(a.h).good(row):
		return unavailable("volume %d: the primary on disk %d is not as it should be", a.v, a.d.number)
	}
	return nil
}

// prove asks whether the other replica's file is what was sealed.
func (a *admission) prove(ctx context.Context, row Row) error {
	ctx, end := a.s.within(ctx, askWait)
	defer end()
	st, err := a.peer.Standing(ctx, a.joining, a.v)
	switch {
	case err != nil:
		return err
	case !st.good(row):
		return fmt.Errorf("%w: disk %d does not have generation %d of volume %d as it was sealed", ErrMoved, a.joining, row.Volume.Generation, a.v)
	}
	return nil
}

// send sends the entries of the delete log above after, and returns the number of the
// last one. What the replica has of them is compared; what differs is ErrConflict.
func (a *admission) send(ctx context.Context, row Row, after uint32) (sent uint32, err error) {
	sent = after
	var keys []id.ID
	flush := func() error {
		newest, err := a.peer.LogDeletes(ctx, a.joining, a.v, row.Sync, sent, keys)
		switch upTo := sent + uint32(len(keys)); {
		case err != nil:
			return err
		case newest < upTo:
			return fmt.Errorf("%w: the log on disk %d ends at %d", volume.ErrConflict, a.joining, newest)
		default:
			sent, keys = upTo, keys[:0]
			return nil
		}
	}
	newest, err := a.h.vol.Deletes(ctx, after, func(e volume.Delete) error {
		if e.Number != sent+uint32(len(keys))+1 {
			return fmt.Errorf("%w: delete %d of volume %d is lost", volume.ErrCorrupt, sent+uint32(len(keys))+1, a.v)
		}
		if keys = append(keys, e.Key); len(keys) < logPage {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err == nil && sent < newest {
		err = fmt.Errorf("%w: deletes of volume %d are lost behind %d", volume.ErrCorrupt, a.v, sent)
	}
	return sent, err
}

// join sends the last deletes and has the join committed, while nobody deletes. shut is
// why nobody may, from now on.
func (a *admission) join(ctx context.Context, sent uint32) (err, shut error) {
	row, ok := a.s.o.Directory.Row(a.v)
	if !ok {
		return unknown(a.v), nil
	}
	if err := a.may(row); err != nil || row.inSync(a.joining) {
		return err, nil
	}
	last, end := a.s.within(ctx, joinWait)
	defer end()
	sent, err = a.send(last, row, sent)
	if err != nil {
		return err, nil
	}
	// One that has more was told by somebody who was primary, of what never counted.
	newest, err := a.peer.LogDeletes(last, a.joining, a.v, row.Sync, sent, nil)
	if err == nil && newest != sent {
		err = fmt.Errorf("%w: the log on disk %d ends at %d, the primary's at %d", volume.ErrConflict, a.joining, newest, sent)
	}
	if err != nil {
		return err, nil
	}
	known, err := a.decide(ctx, row)
	if known {
		return err, nil
	}
	a.s.doubtJoin(where{a.d.number, a.v}, errJoining)
	a.s.retiring.Go(func() { a.settle(row) })
	return err, errJoining
}

// decide asks the directory for the join. known: it was committed, or will never be.
func (a *admission) decide(ctx context.Context, row Row) (known bool, err error) {
	ask, end := a.s.within(ctx, joinWait)
	defer end()
	_, err = a.s.o.Directory.JoinSync(ask, a.v, a.joining, row.Volume.Generation, row.Sync)
	if err == nil {
		return true, nil
	}
	err = unavailable("%w", err)
	now, ok, fresh := a.s.o.Directory.FreshRow(ask, a.v)
	switch {
	case fresh != nil || !ok:
		return false, errors.Join(err, fresh)
	case now.inSync(a.joining):
		return true, nil
	}
	// A join that is on its way still builds on what has changed.
	return now.Sync != row.Sync || now.Volume != row.Volume || now.coded(), err
}

// settle finds out what became of a join whose answer was lost, by asking for it again
// and again, and opens the gate then.
func (a *admission) settle(row Row) {
	for {
		select {
		case <-a.s.o.Clock.After(time.Second):
		case <-a.s.life.Done():
			return
		}
		if known, _ := a.decide(a.s.life, row); known {
			now := a.s.doubtJoin(where{a.d.number, a.v}, nil)
			a.h.gate.release()
			if now != nil {
				now.gate.release()
			}
			return
		}
	}
}

// doubtJoin notes, for handles that are made meanwhile, that it is not known whether a
// replica joined the volume that a disk has the primary of; nil when it is. It returns the
// one there is now.
func (s *Server) doubtJoin(at where, doubt error) *handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	if doubt == nil {
		delete(s.joining, at)
		return s.volumes[at]
	}
	if s.joining == nil {
		s.joining = make(map[where]error)
	}
	s.joining[at] = doubt
	return nil
}
