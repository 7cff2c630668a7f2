package server

import (
	"context"
	"errors"
	"fmt"

	"hayloft/internal/id"
	"hayloft/volume"
)

// ours returns the replica of a place that lies on this node.
func (s *Server) ours(p Place) (*handle, error) {
	for _, d := range p.Disks {
		h := s.handle(d, p.Volume.Volume)
		switch {
		case h == nil:
			continue
		case h.vol == nil:
			return nil, unavailable("volume %d: %w", p.Volume.Volume, h.sick)
		case h.vol.Identity() != p.Volume:
			return nil, unavailable("volume %d: the directory has %+v, the disk %+v", p.Volume.Volume, p.Volume, h.vol.Identity())
		}
		return h, nil
	}
	return nil, unavailable("volume %d: no replica on this node", p.Volume.Volume)
}

// Read returns the needle of a blob, verified; its Data is the caller's.
func (s *Server) Read(ctx context.Context, blob id.ID, alt uint8, cookie id.Cookie) (volume.Blob, error) {
	if err := s.enter(); err != nil {
		return volume.Blob{}, err
	}
	defer s.calls.Done()
	if err := s.reading.Acquire(ctx, 1); err != nil {
		return volume.Blob{}, unavailable("%w", err)
	}
	defer s.reading.Release(1)
	s.n.reads.Add(1)
	var b volume.Blob
	err := s.locate(ctx, blob, func(h *handle) (err error) {
		b, err = h.vol.Read(ctx, blob, alt, cookie)
		return err
	})
	switch {
	case errors.Is(err, volume.ErrNotFound):
		s.n.notFound.Add(1)
	case errors.Is(err, volume.ErrCorrupt):
		s.n.corrupt.Add(1)
	}
	return b, err
}

// locate runs f on the volume of a blob. What f does not find is not found only
// when the table that led there is no older than the call, or the volume itself
// holds the blob (under another cookie or variant).
func (s *Server) locate(ctx context.Context, blob id.ID, f func(*handle) error) error {
	if p, ok := s.o.Directory.Locate(blob); ok {
		h, err := s.ours(p)
		if err == nil {
			if err = f(h); !errors.Is(err, volume.ErrNotFound) || h.vol.Has(blob) {
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
	return closing(f(h))
}

// closing: a volume that was closed under a call says nothing about the blob.
func closing(err error) error {
	if errors.Is(err, volume.ErrClosed) {
		return unavailable("%w", err)
	}
	return err
}
