package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hayloft/volume"
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

// Coded describes the coded volumes that this node keeps, and those that it codes, by
// number.
func (s *Server) Coded() []CodedInfo {
	var out []CodedInfo
	for _, row := range s.o.Directory.CodedRows() {
		if row.coded() && s.coder.keeps(row) || !row.coded() && s.coder.ours(row) {
			out = append(out, s.codedInfo(row))
		}
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
			if logs[l.Disk] = l.Err; !l.InSet && l.Err == nil {
				logs[l.Disk] = errNoLog
			}
		}
	}
	for n, p := range h.coded.places() {
		si := ShardInfo{Shard: n, Disk: p.home, UUID: s.uuidOf(p.home), Dir: s.dirOf(p.home), Away: p.why, Since: p.since, Damage: len(p.damage), Log: logs[p.home]}
		if si.Away == nil {
			if at, ok := s.coder.siteOf(p.home); !ok {
				si.Away = fmt.Errorf("disk %d is not in service: %w", p.home, ErrMissing)
			} else {
				si.Away = at.usable()
			}
		}
		if si.Away != nil || si.Damage > 0 || si.Log != nil {
			homes[n] = 0
		}
		i.Shards = append(i.Shards, si)
	}
	i.Survives = survives(homes, plan.Parity)
	return i
}

// errNoLog says that a disk has no copy of the delete log that counts, yet.
var errNoLog = errors.New("no copy of the delete log there counts yet")

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
	row, ok := s.o.Directory.Row(v)
	if ok && row.Coding.Committed != nil {
		return nil
	}
	if err := s.o.Coding.Validate(); err != nil {
		return fmt.Errorf("%w: the server has no policy for coding: start it with --ec K+M", volume.ErrInvalid)
	}
	if row.Coding.Run == nil { // before anything is sealed for it; how long the shards will be is not known yet
		if _, err := spread(s.coder.candidates(nil), s.o.Coding.Shards(), s.o.Coding, 0); err != nil {
			return err
		}
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
	if !s.coder.keeps(row) {
		return unavailable("volume %d is kept by node %s: ask there", v, s.coder.nodeOf(KeeperOf(row.Coding, row.Keeper)))
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
	h.coded.expire(s.o.Clock.Now().Add(-s.o.RepairDelay))
	_, err := s.do(ctx, s.coder, v, jobRebuild, report)
	return err
}

// expire has every shard that cannot be read be away since then at the latest.
func (cv *codedVolume) expire(since time.Time) {
	cv.mu.Lock()
	defer cv.mu.Unlock()
	for i := range cv.shards {
		if p := &cv.shards[i]; p.file == nil && p.since.After(since) {
			p.since = since
		}
	}
}
