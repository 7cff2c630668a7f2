package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hayloft/internal/id"
	"hayloft/volume"
)

// replicas is a Server as other nodes see it: what they ask of the replicas on its
// disks. It answers for those only, and asks nobody else but the directory and, as
// the primary of a volume, its other replicas.
type replicas struct{ s *Server }

// Replicas returns the disks of this process as other nodes reach them.
func (s *Server) Replicas() Peer { return &replicas{s} }

// Node returns the node's name.
func (r *replicas) Node() string { return r.s.o.Node }

// current is nil while this node knows the directory well enough to answer for its
// replicas: it has heard of it since its start, and within MaxStale.
func (s *Server) current() error {
	if s.o.Heard == nil {
		return nil
	}
	switch age, ok := s.o.Heard(); {
	case !ok:
		return unavailable("nothing was heard of the directory since the start")
	case age > s.o.MaxStale:
		return unavailable("nothing was heard of the directory for %v, %v are allowed", age, s.o.MaxStale)
	}
	return nil
}

// onDisk returns a disk of this process that is in service.
func (s *Server) onDisk(number uint32) (*disk, error) {
	d := s.diskByNumber(number)
	if d == nil {
		return nil, unavailable("disk %d is not in service on this node", number)
	}
	return d, d.usable()
}

// rowWith returns a row that fits, as this node knows it or else as it is now. One
// that does not fit is ErrUnavailable.
func (s *Server) rowWith(ctx context.Context, v volume.ID, fits func(Row) bool) (Row, error) {
	row, ok := s.o.Directory.Row(v)
	if ok && fits(row) {
		return row, nil
	}
	row, err := s.fresh(ctx, v)
	switch {
	case err != nil && errors.Is(err, ErrUnavailable):
		return row, err
	case err != nil:
		return row, unavailable("%w", err)
	case !fits(row):
		return row, unavailable("volume %d: the directory has epoch %d with replicas on %v, in sync %v", v, row.Sync, row.Disks, row.InSync)
	}
	return row, nil
}

// replica pins the replica of a volume on a disk of this process, of which the
// directory says what fits asks for.
func (s *Server) replica(ctx context.Context, number uint32, v volume.ID, fits func(Row) bool) (*handle, Row, error) {
	if _, err := s.onDisk(number); err != nil {
		return nil, Row{}, err
	}
	row, err := s.rowWith(ctx, v, fits)
	if err != nil {
		return nil, row, err
	}
	h := s.pin(number, v)
	switch {
	case h == nil:
		return nil, row, unavailable("volume %d: %w", v, ErrMissing)
	case h.vol == nil:
		return nil, row, unavailable("volume %d: %w", v, h.sick)
	case !h.answersFor(row.Volume):
		have := h.vol.Identity()
		h.unpin()
		return nil, row, unavailable("volume %d: the directory has %+v, the disk %+v", v, row.Volume, have)
	}
	return h, row, nil
}

// Create implements PeerWriter.
func (r *replicas) Create(ctx context.Context, disk uint32, ident volume.Identity) error {
	s := r.s
	if err := s.enter(); err != nil {
		return unavailable("%w", err)
	}
	defer s.calls.Done()
	d, err := s.onDisk(disk)
	if err != nil {
		return err
	}
	_, err = s.rowWith(ctx, ident.Volume, func(row Row) bool {
		return row.Volume == ident && row.State == StateOpen && row.Unconfirmed && slices.Contains(row.Disks, disk)
	})
	if err == nil {
		_, err = s.createHere(ctx, d, ident)
	}
	return err
}

// Append implements PeerWriter. Whoever appends has opened the volume and holds its
// slot; a replica that is fenced takes nothing any more, so nothing is asked of the
// directory.
func (r *replicas) Append(ctx context.Context, disk uint32, ident volume.Identity, group []volume.Needle) error {
	s := r.s
	if err := s.enter(); err != nil {
		return unavailable("%w", err)
	}
	defer s.calls.Done()
	d, err := s.onDisk(disk)
	if err != nil {
		return err
	}
	var size int64
	for i := range group {
		size += int64(len(group[i].Data))
	}
	if err := d.mayAppend(size); err != nil {
		return err
	}
	h := s.pin(disk, ident.Volume)
	if h == nil || h.vol == nil {
		return unavailable("volume %d: %w", ident.Volume, ErrMissing)
	}
	defer h.unpin()
	if have := h.vol.Identity(); have != ident {
		return unavailable("volume %d: the disk has %+v", ident.Volume, have)
	}
	if err = h.vol.AppendUntil(ctx, group); errors.Is(err, volume.ErrNoSpace) {
		d.outOfRoom()
		return fmt.Errorf("%w: %s: %w", ErrNoSpace, d.dir, err)
	}
	return err
}

// Read implements PeerReader.
func (r *replicas) Read(ctx context.Context, disk uint32, v volume.ID, blob id.ID, alt uint8, cookie id.Cookie) (volume.Blob, error) {
	return replicaRead(ctx, r.s, where{disk, v}, blob, (*volume.Blob).Release, func(ctx context.Context, vol *volume.Volume) (volume.Blob, error) {
		return vol.Read(ctx, blob, alt, cookie)
	})
}

// ReadRange implements PeerReader.
func (r *replicas) ReadRange(ctx context.Context, disk uint32, v volume.ID, blob id.ID, alt uint8, cookie id.Cookie, off, n int64) (volume.Range, error) {
	return replicaRead(ctx, r.s, where{disk, v}, blob, (*volume.Range).Release, func(ctx context.Context, vol *volume.Volume) (volume.Range, error) {
		return vol.ReadRange(ctx, blob, alt, cookie, off, n)
	})
}

// Probe implements PeerReader.
func (r *replicas) Probe(ctx context.Context, disk uint32, v volume.ID, blob id.ID) (volume.Probed, error) {
	return replicaRead(ctx, r.s, where{disk, v}, blob, func(*volume.Probed) {}, func(ctx context.Context, vol *volume.Volume) (volume.Probed, error) {
		return vol.Probe(ctx, blob)
	})
}

// replicaRead runs f on a replica that is in sync, for another node, or on the shards
// of a coded volume. It waits for the disk as long as ctx lasts, or until that is out
// of service. drop gets what comes too late.
func replicaRead[T any](ctx context.Context, s *Server, at where, blob id.ID, drop func(*T),
	f func(context.Context, *volume.Volume) (T, error)) (got T, err error) {
	if err := s.enter(); err != nil {
		return got, unavailable("%w", err)
	}
	defer s.calls.Done()
	if err := s.current(); err != nil {
		return got, err
	}
	if h, err := s.kept(ctx, at.vol); h != nil || err != nil {
		if h == nil {
			return got, err
		}
		defer h.unpin()
		got, err = again(ctx, s, h, drop, f)
		return got, closing(err)
	}
	h, _, err := s.replica(ctx, at.disk, at.vol, func(row Row) bool { return slices.Contains(row.InSync, at.disk) })
	if err != nil {
		return got, err
	}
	defer h.unpin()
	return readHere(ctx, s, h, blob, f)
}

// readHere runs f on a replica here. What is corrupt is noted for repair.
func readHere[T any](ctx context.Context, s *Server, h *handle, blob id.ID, f func(context.Context, *volume.Volume) (T, error)) (got T, err error) {
	end, err := h.disk.beginRead(ctx)
	if err != nil {
		return got, err
	}
	defer end()
	got, err = f(ctx, h.vol)
	if err = h.disk.blame(err); errors.Is(err, volume.ErrCorrupt) {
		s.repairFrom(h.disk, h.vol.Identity().Volume, blob)
	}
	return got, closing(err)
}
