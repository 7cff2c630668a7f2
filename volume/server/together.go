package server

import (
	"context"
	"errors"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
)

// alone reports whether a volume has no replica but the one on a disk.
func (r Row) alone(disk uint32) bool { return len(r.Disks) == 1 && r.inSync(disk) }

// short reports whether replicas have left the set: a writer leaves such a volume, and
// it is sealed to have all of them again.
func (r Row) short() bool { return len(r.InSync) < len(r.Disks) }

// dueTogether is due for a volume that has replicas elsewhere too, or is to have.
func (d *disk) dueTogether(row Row, files int, k sky) jobKind {
	v := row.Volume.Volume
	if d.troubles.rests(trouble{v: v}, k.now) {
		return 0
	}
	h := d.s.pin(d.number, v)
	if h == nil || h.vol == nil {
		return d.dueUnserved(row, k)
	}
	defer h.unpin()
	switch row.State {
	case StateOpen:
		// Before its lease is over, the slot of a process that ended is taken from it only
		// by the next one of its node, which need not be the coordinator.
		if (row.short() || k.coordinator(row) == d.number) && d.toClose(row, h, k) && !d.troubles.rests(trouble{v, jobSeal}, k.now) {
			return jobSeal
		}
	case StateClosing:
		d.forget(v)
		if k.coordinator(row) == d.number {
			return jobSeal
		}
	case StateSealed:
		if row.Coding.Committed == nil {
			return d.dueSealed(row, h, files, k)
		}
	}
	return 0
}

// dueUnserved is due for a volume that the row lists here, and of which nothing is
// served.
func (d *disk) dueUnserved(row Row, k sky) jobKind {
	in := row.inSync(d.number)
	switch {
	case row.coded() || in && len(row.InSync) == 1:
		return 0 // it is missed, and nobody has another
	case row.State == StateSealed:
		return jobFill
	case in && k.coordinator(row) == d.number:
		return jobLeave
	}
	return 0
}

// dueSealed is due for a sealed replica.
func (d *disk) dueSealed(row Row, h *handle, files int, k sky) jobKind {
	in, primary := row.inSync(d.number), len(row.InSync) > 0 && row.InSync[0] == d.number
	st := h.vol.Stats()
	switch {
	case !in:
		return jobFill
	case len(row.InSync) > 1 && (st.Poisoned != nil || !d.s.right(d, row)):
		return jobFill
	case st.Generation < row.Volume.Generation:
		return jobCompact // catch up
	case row.Coding.Run != nil:
		return 0
	case len(row.InSync) > 1 && d.isIll(row.Volume.Volume):
		return jobRepair
	case !primary || !k.all(row.InSync): // what is under way waits, as what is to begin
	case row.Attempt != nil || h.vol.Poisoned() != nil:
		return jobCompact
	// While others are being filled it would have to be done again.
	case len(row.InSync) == len(row.Disks) && d.s.o.wasteful(st):
		return jobCompact
	}
	if files > 1 && row.Attempt == nil && !d.s.closingOld(where{d.number, row.Volume.Volume}) {
		return jobRemove
	}
	return 0
}

// toClose reports whether the tile of an open volume is to be closed. A writer that
// holds its slot does that itself, wherever it is, if it can.
func (d *disk) toClose(row Row, h *handle, k sky) bool {
	st := h.vol.Stats()
	if d.s.holds(row.Slot, row.Volume.Class) {
		return st.Poisoned != nil || h.left.Load() || k.now.Sub(row.Opened.Time()) >= d.s.o.SealAfter && st.Needles+st.Tombstones > 0
	}
	return row.short() || k.lost(row) || d.idle(row.Volume.Volume, st, k)
}

// holds reports whether a writer of this process holds a slot.
func (s *Server) holds(slot id.Slot, class volume.Class) bool {
	for _, w := range s.writersOf(class) {
		if lease, ok := w.keeper.Lease(); ok && lease.Slot == slot {
			return true
		}
	}
	return false
}

// idleWait is how long nothing was appended to an open volume before it is asked
// whether its writer is gone.
const idleWait = time.Minute

// idle is an open volume to which nothing is appended.
type idle struct {
	appended int64
	since    time.Time
}

// idle reports whether nothing was appended to a volume for so long that its writer,
// of another node or of an earlier process, may be gone: the directory knows.
func (d *disk) idle(v volume.ID, st volume.Stats, k sky) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.idles == nil {
		d.idles = make(map[volume.ID]idle)
	}
	was, known := d.idles[v]
	if !known || was.appended != st.Appended {
		was = idle{st.Appended, k.now}
		d.idles[v] = was
	}
	return k.now.Sub(was.since) >= idleWait
}

// forget drops what idle remembers of a volume.
func (d *disk) forget(v volume.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.idles, v)
}

// errHeld: a volume cannot be closed here, since a writer holds its slot.
var errHeld = unavailable("a writer holds its slot")

// sealSeveral is seal for a closing volume of which several replicas are in sync. When
// all are poisoned, all but the one on d leave the set, and row is what is left.
func (s *Server) sealSeveral(ctx context.Context, d *disk, j *job, row Row) (_ Row, salvage bool, err error) {
	if !row.inSync(d.number) {
		return row, false, unavailable("volume %d: the replica on disk %d is not in sync", j.v, d.number)
	}
	poisoned, err := s.sealTogether(ctx, d, j, row)
	if !poisoned {
		return row, false, err
	}
	if h := s.handle(d.number, j.v); h == nil || h.vol == nil || h.vol.Poisoned() == nil {
		return row, false, err // the others are, and this one is away
	}
	for _, n := range without(row.InSync, d.number) {
		after, leaving := s.decide(ctx, func(ctx context.Context) (Row, error) {
			return s.o.Directory.LeaveSync(ctx, j.v, n, row.Sync)
		})
		if leaving != nil {
			return row, false, errors.Join(err, leaving)
		}
		s.o.Events(Event{Kind: EventLeftSync, Dir: d.dir, Volume: j.v, Disk: n, Err: err})
		row = after
	}
	return row, true, nil
}
