package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coded"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
)

// CodedInfo describes a volume that is coded, or is being coded.
type CodedInfo struct {
	Volume     volume.ID
	Class      volume.Class
	Generation uint32 // of the source of the epoch
	Epoch      uint32
	Policy     coding.Policy
	State      lifecycle.State // coding, coded, released; sealed when an older epoch serves
	At         time.Time       // of the commit
	Bytes      int64           // of the source
	ShardBytes int64           // of each file
	LiveBytes  int64           // of readable needles; 0 when it cannot be served
	Shards     []ShardInfo     // none while it is being coded for the first time
	// Survives is how many more disks may be lost, whichever.
	Survives int
	Work     string
	// Done and Total are how far Work is, in bytes of one step, begun at Began.
	Done, Total int64
	Began       time.Time
	Sick        error // why it cannot be served
	Retry       error // why the last job failed, when it is tried again by itself
}

// ShardInfo describes a shard.
type ShardInfo struct {
	Shard  int
	Disk   uint32
	UUID   string
	Dir    string    // data directory; "" when the disk is not in service
	Away   error     // why it cannot be read, or nil
	Since  time.Time // that it is away
	Damage int       // places that are damaged and not repaired yet
	Log    error     // why the disk's copy of the delete log does not count, or nil
}

// Coded describes the coded volumes of this node, and those being coded, by number.
func (s *Server) Coded() []CodedInfo {
	var out []CodedInfo
	for _, row := range s.o.Directory.CodedRows() {
		out = append(out, s.codedInfo(row))
	}
	return out
}

func (s *Server) codedInfo(row Row) CodedInfo {
	v, cd := row.Volume.Volume, row.Coding
	i := CodedInfo{Volume: v, Class: row.Volume.Class, Generation: row.Volume.Generation, State: cd.State(), Retry: s.coder.troubles.why(v)}
	if j := s.jobOn(where{0, v}); j != nil {
		p := j.progress()
		i.Work, i.Done, i.Total, i.Began = p.Step, p.Done, p.Total, p.Began
	}
	run := cd.Run
	if cd.Committed != nil {
		run, i.At = &cd.Committed.Run, cd.Committed.At
	}
	if run == nil {
		return i
	}
	plan := planOf(v, *run)
	i.Epoch, i.Policy, i.Bytes, i.ShardBytes, i.Generation = run.Epoch, plan.Policy, run.Source.Bytes, plan.FileBytes(), run.Source.Generation
	if cd.Committed == nil {
		return i
	}
	h := s.pin(0, v)
	if h == nil {
		i.Sick = lost(v)
		return i
	}
	homes := homesOf(cd.Committed.Homes)
	logs := make(map[uint32]error)
	if h.vol == nil {
		i.Sick = h.sick
	} else {
		defer h.unpin()
		i.LiveBytes = h.vol.Stats().LiveBytes
		for _, l := range h.coded.v.Logs() {
			logs[l.Disk] = l.Err
		}
	}
	for n, p := range h.coded.places() {
		si := ShardInfo{Shard: n, Disk: p.home, UUID: s.uuidOf(p.home), Dir: s.dirOf(p.home), Away: p.why, Since: p.since, Damage: len(p.damage), Log: logs[p.home]}
		if si.Away == nil {
			if d := s.diskByNumber(p.home); d == nil {
				si.Away = fmt.Errorf("disk %d is not in service: %w", p.home, ErrMissing)
			} else {
				si.Away = d.usable()
			}
		}
		if si.Away != nil || si.Damage > 0 {
			homes[n] = 0
		}
		i.Shards = append(i.Shards, si)
	}
	i.Survives = survives(homes, plan.Parity)
	return i
}

// uuidOf is the uuid of a disk of this node, in service or not.
func (s *Server) uuidOf(disk uint32) string {
	for _, nd := range s.o.Directory.NodeDisks() {
		if nd.Disk == disk {
			return hexOf(nd.UUID)
		}
	}
	return ""
}

// Encode codes a sealed volume, or closes and seals it first, and returns when its
// shards are committed and serve. The source goes after the grace. One that is
// coded stays as it is. The work goes on when ctx ends. report may be nil.
func (s *Server) Encode(ctx context.Context, v volume.ID, report func(Progress)) error {
	if row, ok := s.o.Directory.Row(v); ok && row.Coding.Committed != nil {
		return nil
	}
	if err := s.o.Coding.Validate(); err != nil {
		return fmt.Errorf("%w: the server has no policy for coding: start it with --ec K+M", volume.ErrInvalid)
	}
	if err := s.Seal(ctx, v, report); err != nil {
		return err
	}
	_, err := s.do(ctx, s.coder, v, jobEncode, report)
	return err
}

// Rebuild makes every lost shard of a coded volume again now, also those whose
// disk may come back. The work goes on when ctx ends. report may be nil.
func (s *Server) Rebuild(ctx context.Context, v volume.ID, report func(Progress)) error {
	row, ok := s.o.Directory.Row(v)
	if !ok || row.empty() {
		return unknown(v)
	}
	if row.Coding.Committed == nil {
		return fmt.Errorf("%w: volume %d is not coded", volume.ErrInvalid, v)
	}
	h := s.codedHandle(v)
	if h == nil || h.vol == nil {
		if _, err := s.do(ctx, s.coder, v, jobOpen, report); err != nil {
			return err
		}
		if h = s.codedHandle(v); h == nil {
			return lost(v)
		}
	}
	h.coded.mu.Lock()
	for i := range h.coded.shards {
		h.coded.shards[i].since = time.Time{} // away for longer than any delay
	}
	h.coded.mu.Unlock()
	_, err := s.do(ctx, s.coder, v, jobRebuild, report)
	return err
}

// Decode writes the source of a coded volume to dir, byte for byte as it was coded,
// with its delete log of today, out of any k shards. They are an ordinary volume
// there. Nothing else changes.
func (s *Server) Decode(ctx context.Context, v volume.ID, dir string, report func(Progress)) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	h := s.pin(0, v)
	switch {
	case h == nil:
		return fmt.Errorf("%w: volume %d is not coded", volume.ErrInvalid, v)
	case h.vol == nil:
		return unavailable("volume %d: %w", v, h.sick)
	}
	defer h.unpin()
	var deletes []volume.Delete
	if _, err := h.vol.Deletes(ctx, 0, func(d volume.Delete) error {
		deletes = append(deletes, d)
		return nil
	}); err != nil {
		return err
	}
	o := coding.Options{Throttle: s.coder.pace.wait, Progress: func(p coding.Progress) {
		if report != nil {
			report(Progress{Volume: v, Step: string(p.Step), Done: p.Done, Total: p.Total})
		}
	}}
	fsys := vfs.OS{} // it is the operator's directory
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	c := h.coded.c
	return errors.Join(coding.Decode(ctx, c, h.coded.readers(), fsys, filepath.Join(dir, volume.FileName(v, c.Generation)), o),
		coded.WriteLog(fsys, dir, v, deletes))
}
