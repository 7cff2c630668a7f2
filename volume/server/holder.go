package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hayloft/volume"
)

// holder is one replica as a writer reaches it: on a disk of this process, or at a
// peer.
type holder struct {
	number uint32
	h      *handle // here, or nil
	peer   Peer
}

// How long the other replicas of a write may take once the first one has it. One
// that takes longer costs its place in the tile. When all are slow, each has
// slowestAppend times as long.
const (
	appendWait    = 500 * time.Millisecond
	appendRate    = 20 << 20 // bytes per second
	slowestAppend = 10
)

func appendPatience(size int64) time.Duration {
	return appendWait + time.Duration(float64(size)/appendRate*float64(time.Second))
}

// errReplica: a replica of an open tile did not take a write that others may have.
var errReplica = errors.New("server: a replica did not take it")

// append stores a group on one replica, whose data is the caller's again when it
// returns: at the latest when ctx ends.
func (r *holder) append(ctx context.Context, ident volume.Identity, group []volume.Needle) error {
	if r.h != nil {
		return r.h.vol.AppendUntil(ctx, group)
	}
	return r.peer.Append(ctx, r.number, ident, group)
}

// append stores a group on all replicas of the tile and returns when each has it
// on stable storage. If only some have, the error is errReplica or the caller's
// fault.
func (t *tile) append(ctx context.Context, s *Server, group []volume.Needle, size int64) error {
	if len(t.all) == 1 && t.h != nil {
		return t.h.vol.Append(ctx, group)
	}
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		from int
		err  error
	}
	answers := make(chan answer, len(t.all))
	for i := range t.all {
		go func() { answers <- answer{i, t.all[i].append(within, t.ident, group)} }()
	}
	s.n.replicaWrites.Add(uint64(len(t.all)))
	patience := appendPatience(size)
	late := s.o.Clock.After(slowestAppend * patience)
	first, hurried := true, false
	var failed error // the others are called off, and what they say is no fault of theirs
	for range t.all {
		var a answer
		select {
		case a = <-answers:
		case <-late:
			hurried = true
			cancel() // all come back now, and nobody uses the data any more
			a = <-answers
		}
		switch {
		case a.err != nil:
			if failed == nil || hurried {
				s.blameReplica(ctx, &t.all[a.from], a.err, hurried)
			}
			failed = worse(failed, a.err)
			cancel()
		case first:
			first, late = false, s.o.Clock.After(patience)
		}
	}
	switch {
	case failed == nil, ctx.Err() != nil, callersFault(failed), errors.Is(failed, volume.ErrFull):
		return failed
	}
	return fmt.Errorf("%w: volume %d: %w", errReplica, t.ident.Volume, failed)
}

// callersFault: the same would be said everywhere.
func callersFault(err error) bool {
	return errors.Is(err, volume.ErrConflict) || errors.Is(err, volume.ErrTombstoned) ||
		errors.Is(err, volume.ErrInvalid) || errors.Is(err, volume.ErrTooLarge)
}

// worse returns which of two errors decides over a write: what every replica says
// in front of what only one does.
func worse(a, b error) error {
	switch {
	case a == nil:
		return b
	case callersFault(a) || errors.Is(a, volume.ErrFull) && !callersFault(b):
		return a
	case callersFault(b) || errors.Is(b, volume.ErrFull):
		return b
	}
	return a // those that follow were called off
}

// blameReplica notes why a write failed at a replica, so that the next tile avoids
// its disk: not for what is no fault of the disk.
func (s *Server) blameReplica(ctx context.Context, r *holder, err error, hurried bool) {
	switch {
	case ctx.Err() != nil, callersFault(err), errors.Is(err, volume.ErrFull), errors.Is(err, volume.ErrSealed):
		return
	case errors.Is(err, volume.ErrNoSpace) && r.h != nil:
		r.h.disk.outOfRoom()
		return
	}
	if hurried {
		s.n.lateReplicas.Add(1)
	}
	s.shun(r.number)
}
