package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"hayloft/volume"
)

// VolumeInfo is what a node knows of one of its replicas.
type VolumeInfo struct {
	Volume     volume.ID
	Class      volume.Class
	Generation uint32 // that is served
	Disk       uint32
	Dir        string // data directory; "" when the disk is in none
	UUID       string // of the disk
	// Epoch and Shards say how a coded volume is served: Disk is 0 then.
	Epoch  uint32
	Shards int // that can be read, and Of how many there should be
	Of     int
	// State is the directory's: open, closing or sealed, coded for the shards of one;
	// void when it was given up and its file is still there; "sick" when the volume
	// cannot be served.
	State   string
	Writing bool // a writer of this process appends to it
	Stats   volume.Stats
	Sealed  *volume.SealRecord // of the generation that is served, or nil
	Sick    error
	// Work is what is under way: the name of a job, verifying, or nothing. Waits is what
	// that waits for: replicas that do not answer.
	Work  string
	Waits string
	// Replicas are the disks that are to have a replica, InSync those that have all that
	// was acknowledged, the primary first, and Target how many there should be. The state
	// of one that is not in sync is filling, and of one that is not listed, and is kept
	// until the others are complete, quarantined.
	Replicas, InSync []uint32
	Target           int
	// Retry is why the last seal or compaction failed, when it is to be tried
	// again by itself.
	Retry error
}

// Volumes returns every replica on this node, by volume and disk. Volumes that
// hold nothing by the directory's word are missing when they have no file.
func (s *Server) Volumes() ([]VolumeInfo, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.calls.Done()
	var out []VolumeInfo
	for _, d := range s.all() {
		rows := make(map[volume.ID]Row)
		for _, r := range s.o.Directory.Rows(d.number) {
			rows[r.Volume.Volume] = r
			if s.handle(d.number, r.Volume.Volume) == nil && !r.empty() && !r.coded() && r.inSync(d.number) {
				i := missingInfo(r, d.number, hexOf(d.ident.uuid), ErrMissing)
				i.Dir = d.dir
				out = append(out, i)
			}
		}
		for _, v := range s.on(d) {
			if _, listed := rows[v]; !listed {
				rows[v], _ = s.o.Directory.Row(v)
			}
			if h := s.pin(d.number, v); h != nil {
				out = append(out, s.info(h, v, rows[v]))
			}
		}
	}
	for _, a := range s.absent() {
		out = append(out, a.infos()...)
	}
	for _, h := range s.coder.handles() {
		if i, ok := s.infoOfCoded(h.coded.c.Volume); ok {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b VolumeInfo) int {
		return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Disk, b.Disk))
	})
	return out, nil
}

// on returns the volumes on a disk, sick ones too.
func (s *Server) on(d *disk) (out []volume.ID) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for w := range s.volumes {
		if w.disk == d.number {
			out = append(out, w.vol)
		}
	}
	return out
}

// info describes a volume and gives back its pin.
func (s *Server) info(h *handle, v volume.ID, r Row) VolumeInfo {
	i := VolumeInfo{Volume: v, Disk: h.disk.number, Dir: h.disk.dir, UUID: hexOf(h.disk.ident.uuid), State: r.State.String(), Retry: h.disk.troubles.why(v)}
	i.Replicas, i.InSync, i.Target = r.Disks, r.InSync, r.Target
	switch {
	case r.State == 0:
		i.State = "unknown" // to the directory, as this node knows it
	case !r.listed(h.disk.number) && !r.coded():
		i.State = stateQuarantined
	case r.State == StateSealed && !r.inSync(h.disk.number) && !r.coded():
		i.State = stateFilling
	}
	if h.vol == nil {
		i.Class, i.Generation, i.State, i.Sick = r.Volume.Class, r.Volume.Generation, "sick", h.sick
		return i
	}
	defer h.unpin()
	ident := h.vol.Identity()
	i.Class, i.Generation, i.Stats = ident.Class, ident.Generation, h.vol.Stats()
	if rec, ok := h.vol.Sealed(); ok {
		i.Sealed = &rec
	}
	i.Writing = s.writerOf(h) != nil
	if err := h.disk.usable(); err != nil {
		i.State, i.Sick = "sick", err
	}
	i.Work = s.workOn(where{h.disk.number, v})
	if j := s.jobOn(where{h.disk.number, v}); j != nil {
		i.Waits = j.waiting()
	}
	return i
}

// States of a replica that is not what the row of its volume says.
const (
	stateFilling     = "filling"
	stateQuarantined = "quarantined"
)

// jobOn returns a volume's job, or nil.
func (s *Server) jobOn(w where) *job {
	s.jobs.Lock()
	defer s.jobs.Unlock()
	return s.jobs.of[w]
}

func (s *Server) workOn(w where) string {
	if j := s.jobOn(w); j != nil {
		return j.kind.String()
	}
	s.jobs.Lock()
	defer s.jobs.Unlock()
	if s.jobs.verifying[w] > 0 {
		return stepVerifying
	}
	return ""
}

const stepVerifying = "verifying"

// local returns the disk of this node that has a replica of a volume: of several one
// that is in sync, the primary first.
func (s *Server) local(v volume.ID) (*disk, error) {
	row, _ := s.o.Directory.Row(v)
	for _, n := range row.InSync {
		if d := s.diskByNumber(n); d != nil && s.handle(n, v) != nil {
			return d, nil
		}
	}
	for _, d := range s.all() {
		if s.handle(d.number, v) != nil {
			return d, nil
		}
	}
	return nil, s.nowhere(v, 0)
}

// Seal closes a volume's tile, if it is open, so that its writer goes on with
// another volume, and seals it. A sealed volume stays as it is. The work goes on
// when ctx ends. report may be nil.
func (s *Server) Seal(ctx context.Context, v volume.ID, report func(Progress)) error {
	d, err := s.local(v)
	if err == nil {
		_, err = s.do(ctx, d, v, jobSeal, report)
	}
	return err
}

// Compact makes the next generation of a sealed volume, without what is deleted,
// serves it, and removes the former one. It returns what the new one holds. The
// work goes on when ctx ends. report may be nil.
//
// Of a coded volume the next generation is coded too, under a new epoch.
func (s *Server) Compact(ctx context.Context, v volume.ID, report func(Progress)) (volume.SealRecord, error) {
	if s.codedHandle(v) != nil {
		return s.coder.compact(ctx, v, report)
	}
	d, err := s.local(v)
	if err != nil {
		return volume.SealRecord{}, err
	}
	err = s.Use(v, d.number, func(vol *volume.Volume) error {
		if _, sealed := vol.Sealed(); !sealed {
			return fmt.Errorf("%w: volume %d", volume.ErrNotSealed, v)
		}
		return nil
	})
	if err != nil {
		return volume.SealRecord{}, err
	}
	rec, err := s.do(ctx, d, v, jobCompact, report)
	// Long calls may hold the former one: the volume's other jobs need not wait.
	if err == nil {
		err = s.closedOld(ctx, d, v)
	}
	if err == nil {
		_, err = s.do(ctx, d, v, jobRemove, report)
	}
	return rec, err
}

// Verify runs the engine's Check on the replica on a disk, or on every one of
// this node when disk is 0, and adds up the reports. found and report may be nil.
func (s *Server) Verify(ctx context.Context, v volume.ID, disk uint32, found func(volume.Finding), report func(Progress)) (volume.Report, error) {
	if found == nil {
		found = func(volume.Finding) {}
	}
	var sum volume.Report
	seen := false
	if s.codedHandle(v) != nil && disk == 0 {
		return s.coder.verify(ctx, v, found, report)
	}
	for _, d := range s.all() {
		if disk != 0 && disk != d.number || s.handle(d.number, v) == nil {
			continue
		}
		seen = true
		err := s.Use(v, d.number, func(vol *volume.Volume) error {
			r, err := s.verify(ctx, vol, d, found, report)
			sum.Needles += r.Needles
			sum.Tombstones += r.Tombstones
			sum.VoidBytes += r.VoidBytes
			sum.Bytes += r.Bytes
			sum.Findings += r.Findings
			return err
		})
		if err != nil {
			return sum, err
		}
	}
	if !seen {
		return sum, s.nowhere(v, disk)
	}
	return sum, nil
}

func (s *Server) verify(ctx context.Context, vol *volume.Volume, d *disk, found func(volume.Finding), report func(Progress)) (volume.Report, error) {
	return s.verifyAt(ctx, vol, where{d.number, vol.Identity().Volume}, &d.pace, found, report)
}

func (s *Server) verifyAt(ctx context.Context, vol *volume.Volume, w where, p *pace, found func(volume.Finding), report func(Progress)) (volume.Report, error) {
	s.jobs.note(w, 1)
	defer s.jobs.note(w, -1)
	total, done := vol.Stats().FileBytes, int64(0)
	r, err := vol.CheckSlowly(ctx, func(ctx context.Context, n int64) error {
		done += n
		if report != nil {
			report(Progress{Volume: w.vol, Step: stepVerifying, Done: done, Total: max(total, done)})
		}
		return p.wait(ctx, n)
	}, found)
	if report != nil {
		report(Progress{Volume: w.vol, Step: stepVerifying, Done: r.Bytes, Total: max(total, r.Bytes)})
	}
	return r, err
}

// Use calls fn with the replica of a volume on a disk, which is not closed
// before fn returns. disk 0 is the shards of a coded volume, and of others the
// first disk that has one.
func (s *Server) Use(v volume.ID, disk uint32, fn func(*volume.Volume) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	if h := s.pin(0, v); h != nil && disk == 0 {
		if h.vol == nil {
			return unavailable("volume %d: %w", v, h.sick)
		}
		defer h.unpin()
		return fn(h.vol)
	} else if h != nil && h.vol != nil {
		h.unpin()
	}
	for _, d := range s.all() {
		if disk != 0 && disk != d.number {
			continue
		}
		h := s.pin(d.number, v)
		if h == nil {
			continue
		}
		if h.vol == nil {
			return unavailable("volume %d: %w", v, h.sick)
		}
		defer h.unpin()
		if err := d.usable(); err != nil {
			return unavailable("volume %d: %w", v, err)
		}
		return h.blame(fn(h.vol))
	}
	return s.nowhere(v, disk)
}
