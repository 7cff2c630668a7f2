package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hayloft/internal/id"
	"hayloft/volume"
)

// extent is a part of a file, in bytes.
type extent struct{ off, n int64 }

// errFilling: what is damaged is not repaired in place, the replica is filled again.
var errFilling = errors.New("it is not the same file elsewhere: the replica is filled again")

// restoreFrom writes parts of the file of a sealed replica again that are damaged, with
// the bytes that another replica in sync has. Who calls it looks again. When no other
// one has the same file, the replica is to be filled, which begins soon.
func (s *Server) restoreFrom(ctx context.Context, d *disk, h *handle, row Row, parts []extent) error {
	if row.Seal == nil || len(without(row.InSync, d.number)) == 0 || !row.inSync(d.number) || row.coded() {
		return errNoCopy
	}
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(a, b extent) int { return int(min(1, max(-1, a.off-b.off))) })
	var errs []error
	for _, n := range without(row.InSync, d.number) {
		p, err := s.peerOf(n)
		if err == nil {
			r := &restoring{s: s, d: d, h: h, parts: parts}
			err = r.from(ctx, p, n)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		errs = append(errs, fmt.Errorf("disk %d: %w", n, err))
	}
	err := errors.Join(errs...)
	if !errors.Is(err, ErrUnavailable) || h.vol.Poisoned() != nil {
		h.rotten.Store(true)
		d.kick()
		err = fmt.Errorf("%w: %w", errFilling, err)
	}
	return err
}

// restoring is one pass through the file of another replica.
type restoring struct {
	s     *Server
	d     *disk
	h     *handle
	parts []extent
	head  []byte
	at    int64
}

func (r *restoring) from(ctx context.Context, p fellow, disk uint32) error {
	own, err := headOf(ctx, r.h)
	if err != nil {
		return err
	}
	ctx, beat, end := r.s.lively(ctx, pieceWait)
	defer end()
	ident := r.h.vol.Identity()
	_, err = p.Copy(ctx, disk, ident.Volume, ident.Generation, func(b []byte) error {
		beat()
		defer beat()
		if len(r.head) < len(own) {
			r.head = append(r.head, b[:min(len(b), len(own)-len(r.head))]...)
			if len(r.head) == len(own) && !sameFile(own, r.head) {
				return errFilling
			}
		}
		if err := r.restore(ctx, b); err != nil {
			return err
		}
		if r.at += int64(len(b)); len(r.parts) == 0 {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) || err == nil && len(r.parts) == 0 {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%w: it ends at %d", volume.ErrCorrupt, r.at)
	}
	return err
}

// restore writes what a piece at r.at has of the damaged parts. A part that begins in
// front of the whole head is written when that is known to be of the same file.
func (r *restoring) restore(ctx context.Context, b []byte) error {
	if len(r.head) < volume.HeadBytes {
		return nil
	}
	from := r.at
	if from < volume.HeadBytes { // the first piece that completes the head, after others
		b, from = append(slices.Clone(r.head), b[max(0, volume.HeadBytes-from):]...), 0
	}
	for len(r.parts) > 0 {
		part := r.parts[0]
		begin, end := max(part.off, from), min(part.off+part.n, from+int64(len(b)))
		if begin < end {
			err := r.h.vol.Restore(ctx, begin, end-begin, func(to []byte, off int64) error {
				copy(to, b[off-from:])
				return r.d.slow(ctx, int64(len(to)))
			})
			if err != nil {
				return err
			}
		}
		if part.off+part.n > from+int64(len(b)) {
			return nil
		}
		r.parts = r.parts[1:]
	}
	return nil
}

// headOf returns the superblocks of a file, as far as they can be read.
func headOf(ctx context.Context, h *handle) (head []byte, err error) {
	_, err = h.vol.Copy(ctx, nil, func(b []byte) error {
		head = append(head, b[:min(len(b), volume.HeadBytes-len(head))]...)
		if len(head) == volume.HeadBytes {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return head, err
}

// sameFile compares superblocks: a copy of them that is the same has the same secret,
// and that no two files have that were not made of the same bytes.
func sameFile(a, b []byte) bool {
	half := volume.HeadBytes / 2
	return len(a) == len(b) && len(a) == 2*half && (string(a[:half]) == string(b[:half]) || string(a[half:]) == string(b[half:]))
}

// gather takes over what reads have found damaged since the last look.
func (d *disk) gather() {
	found := d.takeDamage()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range found {
		if d.ill == nil {
			d.ill = make(map[volume.ID][]id.ID)
		}
		if !slices.Contains(d.ill[f.v], f.blob) {
			d.ill[f.v] = append(d.ill[f.v], f.blob)
		}
	}
}

// isIll reports whether something of a volume is to be repaired.
func (d *disk) isIll(v volume.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.ill[v]) > 0
}

// treat returns what is to be repaired of a volume, and forgets it: the next read that
// meets it, or the scrub, finds it again.
func (d *disk) treat(v volume.ID) []id.ID {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer delete(d.ill, v)
	return d.ill[v]
}

// repairDamage is the job: restore what reads have found damaged, or have the replica
// filled again.
func (s *Server) repairDamage(ctx context.Context, d *disk, j *job) error {
	blobs := d.treat(j.v)
	row, err := s.freshOn(ctx, d, j.v)
	if err != nil || len(blobs) == 0 {
		return err
	}
	h, err := s.served(d, j.v)
	if err != nil {
		return err
	}
	defer h.unpin()
	if row.State != StateSealed || h.vol.Identity() != row.Volume {
		return nil // the seal unites, a compaction fetches
	}
	lost := false
	look := func() (parts []extent, err error) {
		for _, b := range blobs {
			got, err := h.vol.Probe(ctx, b)
			if err != nil && !errors.Is(err, volume.ErrNotFound) && !errors.Is(err, volume.ErrCorrupt) {
				return nil, err
			}
			if errors.Is(err, volume.ErrCorrupt) {
				lost = true // of the index, or the delete log
			}
			for _, n := range got.Needles {
				if n.Err != nil {
					parts = append(parts, extent{n.Offset, n.Size})
				}
			}
		}
		return parts, nil
	}
	parts, err := look()
	if lost && row.inSync(d.number) && len(row.InSync) > 1 {
		h.rotten.Store(true)
		d.kick()
		return errFilling
	}
	if err != nil || len(parts) == 0 {
		return err
	}
	if err := s.restoreFrom(ctx, d, h, row, parts); err != nil {
		return err
	}
	left, err := look()
	if err == nil && len(left) > 0 {
		h.rotten.Store(true)
		d.kick()
		return errFilling
	}
	if err == nil {
		s.n.restored.Add(1)
		s.o.Events(Event{Kind: EventReplicaRepaired, Dir: d.dir, Volume: j.v})
	}
	return err
}
