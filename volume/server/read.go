package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// ours returns the replica of a place that lies on this node, pinned: of a coded
// volume its shards, whatever else there is, since they know all deletes. Its
// generation may be another than the table's: see doc.go.
func (s *Server) ours(p Place) (*handle, error) {
	if h, err := s.shardsOf(p); h != nil || err != nil {
		return h, err
	}
	for _, d := range p.Disks {
		h := s.pin(d, p.Volume.Volume)
		switch {
		case h == nil:
			continue
		case h.vol == nil:
			return nil, unavailable("volume %d: %w", p.Volume.Volume, h.sick)
		case h.disk.usable() != nil:
			h.unpin()
			return nil, unavailable("volume %d: %w", p.Volume.Volume, h.disk.usable())
		case !h.answersFor(p.Volume):
			h.unpin()
			return nil, unavailable("volume %d: the directory has %+v, the disk %+v", p.Volume.Volume, p.Volume, h.vol.Identity())
		}
		return h, nil
	}
	return nil, s.noReplica(p)
}

// shardsOf returns the handle of a coded volume, pinned, or nil when it is not
// coded.
func (s *Server) shardsOf(p Place) (*handle, error) {
	h := s.pin(0, p.Volume.Volume)
	switch {
	case h == nil:
		return nil, nil
	case s.keptElsewhere(p):
		if h.vol != nil {
			h.unpin()
		}
		return nil, nil // the coder lets go of it soon
	case h.vol == nil:
		return nil, unavailable("volume %d: %w", p.Volume.Volume, h.sick)
	case !h.answersFor(p.Volume):
		have := h.vol.Identity()
		h.unpin()
		return nil, unavailable("volume %d: the directory has %+v, the shards %+v", p.Volume.Volume, p.Volume, have)
	}
	return h, nil
}

// Read returns the needle of a blob, verified. Its memory is the caller's, who
// owes Release or Take and asks for no other meanwhile; see volume.Blob.
func (s *Server) Read(ctx context.Context, blob id.ID, alt uint8, cookie id.Cookie) (volume.Blob, error) {
	return read(ctx, s, reading[volume.Blob]{
		blob: blob, drop: (*volume.Blob).Release,
		here: func(ctx context.Context, v *volume.Volume) (volume.Blob, error) {
			return v.Read(ctx, blob, alt, cookie)
		},
		there: func(ctx context.Context, p Peer, disk uint32, v volume.Identity) (volume.Blob, error) {
			return p.Read(ctx, disk, v.Volume, blob, alt, cookie)
		},
	})
}

// ReadRange returns up to n bytes of the needle of a blob from offset off,
// verified as Volume.ReadRange does, and owed Release as by Read. What is read
// piece by piece is of one needle as long as Size and ETag stay the same.
func (s *Server) ReadRange(ctx context.Context, blob id.ID, alt uint8, cookie id.Cookie, off, n int64) (volume.Range, error) {
	return read(ctx, s, reading[volume.Range]{
		blob: blob, drop: (*volume.Range).Release,
		here: func(ctx context.Context, v *volume.Volume) (volume.Range, error) {
			return v.ReadRange(ctx, blob, alt, cookie, off, n)
		},
		there: func(ctx context.Context, p Peer, disk uint32, v volume.Identity) (volume.Range, error) {
			return p.ReadRange(ctx, disk, v.Volume, blob, alt, cookie, off, n)
		},
	})
}

// errSlow is why a read ends that has no better reason.
var errSlow = errors.New("server: the disk did not answer in time")

// reading is a read of a blob: how it is done on a replica here and on one at a
// peer. drop gets what comes too late.
type reading[T any] struct {
	blob  id.ID
	drop  func(*T)
	here  func(context.Context, *volume.Volume) (T, error)
	there func(context.Context, Peer, uint32, volume.Identity) (T, error)
}

// read does a reading and returns when it has ended or ctx has. A read that hangs
// in the kernel cannot be called off: it keeps its goroutine and its part of the
// disk's budget.
func read[T any](ctx context.Context, s *Server, rd reading[T]) (T, error) {
	type result struct {
		got T
		err error
	}
	var none T
	if err := s.enter(); err != nil {
		return none, err
	}
	s.n.reads.Add(1)
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.ReadTimeout, errSlow)
	defer cancel()
	done := make(chan result)
	go func() {
		defer s.calls.Done()
		var r result
		if s.o.Peers != nil {
			r.got, r.err = anywhere(ctx, s, &rd)
		} else {
			r.err = s.locate(ctx, rd.blob, func(h *handle) (err error) {
				r.got, err = readOn(ctx, s, h, &rd)
				return err
			})
		}
		select {
		case done <- r:
		case <-ctx.Done(): // the caller has gone, or goes
			rd.drop(&r.got)
		}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		return none, unavailable("%w", context.Cause(ctx))
	}
	switch {
	case errors.Is(r.err, volume.ErrNotFound):
		s.n.notFound.Add(1)
	case errors.Is(r.err, volume.ErrCorrupt):
		s.n.corrupt.Add(1)
	case r.err != nil && ctx.Err() != nil && !errors.Is(r.err, ErrUnavailable):
		return none, unavailable("%w", context.Cause(ctx))
	}
	return r.got, r.err
}

// readOn does a reading on a replica here, or on the shards of a coded volume.
func readOn[T any](ctx context.Context, s *Server, h *handle, rd *reading[T]) (T, error) {
	if h.coded != nil {
		return again(ctx, s, h, rd.drop, rd.here)
	}
	return readHere(ctx, s, h, rd.blob, rd.here)
}

// again runs f on a coded volume, and once more beside it when that takes so long
// that a disk must hang: its shards are passed over then (diskShard). The first
// answer counts, and drop gets the other one.
func again[T any](ctx context.Context, s *Server, h *handle, drop func(*T), f func(context.Context, *volume.Volume) (T, error)) (T, error) {
	type result struct {
		got T
		err error
	}
	results, gone := make(chan result), make(chan struct{})
	defer close(gone)
	try := func() {
		defer s.calls.Done()
		defer h.unpin()
		var r result
		r.got, r.err = f(ctx, h.vol)
		select {
		case results <- r:
		case <-gone:
			drop(&r.got)
		}
	}
	begin := func() {
		s.calls.Add(1) // the caller's own is counted
		h.repin()
		go try()
	}
	begin()
	late := s.o.Clock.After(slowRead + time.Second)
	for tries := 1; ; {
		select {
		case r := <-results:
			if tries--; r.err == nil || tries == 0 || ctx.Err() != nil {
				return r.got, lostShards(r.err)
			}
		case <-late:
			late = nil
			tries++
			begin()
		}
	}
}

// lostShards tells bytes that are wrong from bytes that are away: of those that
// are away, with the shards that have them, nothing is known.
func lostShards(err error) error {
	if errors.Is(err, coding.ErrLost) || errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%w: %v", ErrUnavailable, err)
	}
	return err
}

// locate runs f on the volume of a blob. What f does not find is not found only
// when the table that led there is no older than the call, or the volume itself
// holds the blob (under another cookie or variant).
func (s *Server) locate(ctx context.Context, blob id.ID, f func(*handle) error) error {
	if p, ok := s.o.Directory.Locate(blob); ok {
		h, err := s.ours(p)
		if err == nil {
			err = f(h)
			sure := !errors.Is(err, volume.ErrNotFound) || h.vol.Has(blob)
			h.unpin()
			if sure {
				return closing(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.DirectoryTimeout)
	defer cancel()
	p, ok, err := s.o.Directory.LocateFresh(ctx, blob)
	if err != nil {
		return unavailable("%w", err)
	}
	if !ok {
		return fmt.Errorf("%w: no tile holds %v", volume.ErrNotFound, blob)
	}
	h, err := s.ours(p)
	if err != nil {
		return err
	}
	defer h.unpin()
	return closing(f(h))
}

// closing: a volume that was closed under a call says nothing about the blob.
func closing(err error) error {
	if errors.Is(err, volume.ErrClosed) {
		return unavailable("%w", err)
	}
	return err
}
