package server

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"hayloft/volume"
)

// jobKind is what is done to a volume. There is one job at a time per volume
// and per disk.
type jobKind uint8

const (
	jobSeal jobKind = iota + 1
	jobCompact
	jobRemove  // of generations that were replaced
	jobAbandon // of what was never confirmed
)

// String returns what VolumeInfo.Work says.
func (k jobKind) String() string {
	return [...]string{"", "sealing", "compacting", "removing", "abandoning"}[k]
}

// Progress tells how far a job is. Done and Total are bytes read and written of
// one step; Total is an estimate.
type Progress struct {
	Volume      volume.ID
	Step        string // sealing, compacting, removing, abandoning, verifying
	Done, Total int64
}

// job is one piece of work on a volume, and those who wait for it.
type job struct {
	kind jobKind
	v    volume.ID
	end  chan struct{} // closed at the end; rec and err are set then
	rec  volume.SealRecord
	err  error

	done, total atomic.Int64

	mu    sync.Mutex    // guards moved
	moved chan struct{} // closed and replaced when done has moved; nil when nobody looks
}

func (j *job) progress() Progress {
	return Progress{Volume: j.v, Step: j.kind.String(), Done: j.done.Load(), Total: j.total.Load()}
}

// add counts n bytes and wakes who looks.
func (j *job) add(n int64) {
	j.done.Add(n)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.moved != nil {
		close(j.moved)
		j.moved = nil
	}
}

func (j *job) look() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.moved == nil {
		j.moved = make(chan struct{})
	}
	return j.moved
}

// wait returns the job's result. It calls report, if not nil, on this goroutine.
func (j *job) wait(ctx context.Context, report func(Progress)) (volume.SealRecord, error) {
	for {
		var moved <-chan struct{}
		if report != nil {
			moved = j.look()
			report(j.progress())
		}
		select {
		case <-j.end:
			return j.rec, j.err
		case <-moved:
		case <-ctx.Done():
			return volume.SealRecord{}, ctx.Err()
		}
	}
}

// do runs a job, or joins one of the kind that runs for the volume. A job that
// was begun goes on when its callers leave; it ends with the server.
func (s *Server) do(ctx context.Context, d *disk, v volume.ID, kind jobKind, report func(Progress)) (volume.SealRecord, error) {
	for {
		j, _, err := s.job(d, v, kind)
		if err != nil {
			return volume.SealRecord{}, err
		}
		if j.kind == kind {
			return j.wait(ctx, report)
		}
		select { // another kind: what it leaves is where this one begins
		case <-j.end:
		case <-ctx.Done():
			return volume.SealRecord{}, ctx.Err()
		}
	}
}

// job returns the volume's job, a new one of the kind when it has none.
func (s *Server) job(d *disk, v volume.ID, kind jobKind) (j *job, begun bool, err error) {
	if err := s.enter(); err != nil {
		return nil, false, err
	}
	s.jobs.Lock()
	defer s.jobs.Unlock()
	at := where{d.number, v}
	if j := s.jobs.of[at]; j != nil {
		s.calls.Done()
		return j, false, nil
	}
	j = &job{kind: kind, v: v, end: make(chan struct{})}
	s.jobs.of[at] = j
	go func() {
		defer s.calls.Done()
		j.rec, j.err = s.runJob(d, j)
		s.jobs.Lock()
		delete(s.jobs.of, at)
		s.jobs.Unlock()
		close(j.end)
		d.kick() // what comes next may have become possible
	}()
	return j, true, nil
}

// jobs are those under way.
type jobs struct {
	sync.Mutex // guards all below
	of         map[where]*job
	verifying  map[where]int
}

func (j *jobs) note(w where, n int) {
	j.Lock()
	defer j.Unlock()
	if j.verifying[w] += n; j.verifying[w] == 0 {
		delete(j.verifying, w)
	}
}

func (s *Server) runJob(d *disk, j *job) (volume.SealRecord, error) {
	select {
	case d.turn <- struct{}{}:
	case <-d.life.Done():
		return volume.SealRecord{}, s.ended(d)
	}
	defer func() { <-d.turn }()
	if err := d.usable(); err != nil {
		return volume.SealRecord{}, err
	}
	var rec volume.SealRecord
	var err error
	switch j.kind {
	case jobSeal:
		rec, err = s.seal(d.life, d, j)
	case jobCompact:
		rec, err = s.compact(d.life, d, j)
	case jobRemove:
		err = s.removeOld(d.life, d, j)
	case jobAbandon:
		err = s.giveUp(d.life, d, j)
	}
	d.outcome(j, err)
	return rec, err
}

// ended is why nothing more is done on a disk whose life is over.
func (s *Server) ended(d *disk) error {
	if s.life.Err() != nil {
		return ErrClosed
	}
	return d.whyOut()
}

// throttle is what the engine asks before it reads or writes n bytes.
func (j *job) throttle(d *disk) func(context.Context, int64) error {
	return func(ctx context.Context, n int64) error {
		j.add(n)
		d.s.n.upkeep.Add(uint64(n))
		return d.pace.wait(ctx, n)
	}
}

// lost is the error for a volume that is on no disk of this node.
func lost(v volume.ID) error { return unavailable("volume %d: no replica on this node", v) }

func unknown(v volume.ID) error { return fmt.Errorf("%w: %d", volume.ErrNoVolume, v) }
