package server

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

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
	jobLeave   // the in-sync set, with a replica that cannot be served
	jobFill    // a replica that is not in sync
	jobRepair  // what a read found damaged
	jobDrop    // files that the directory does not list
)

// The coder's.
const (
	jobEncode  jobKind = iota + 16
	jobRelease         // the source of an epoch that is proven
	jobRevoke          // an epoch that is lost before its source was released
	jobRebuild         // shards that are lost
	jobReclaim         // what is dead in shards
	jobClear           // files that the directory has given up
	jobOpen            // the committed epoch, to be served
	jobKeep            // a coded volume whose keeper is away
)

var jobNames = map[jobKind]string{
	jobSeal: "sealing", jobCompact: "compacting", jobRemove: "removing", jobAbandon: "abandoning",
	jobLeave: "leaving", jobFill: "filling", jobRepair: "repairing", jobDrop: "dropping",
	jobEncode: "encoding", jobRelease: "releasing", jobRevoke: "revoking", jobRebuild: "rebuilding", jobReclaim: "reclaiming", jobClear: "clearing", jobOpen: "opening", jobKeep: "taking over",
}

// String returns what VolumeInfo.Work says.
func (k jobKind) String() string { return jobNames[k] }

// keeper does the jobs of some volumes, one at a time: a disk, or the coder.
type keeper interface {
	// place is under which a volume's job is known: one at a time for each.
	place(v volume.ID) where
	// bench is held (full) by the job that is at work.
	bench() chan struct{}
	// lifetime ends with the keeper, for the reason that ended says; usable is why
	// no job can be done now, or nil.
	lifetime() context.Context
	ended() error
	usable() error
	// work does the job.
	work(ctx context.Context, j *job) (volume.SealRecord, error)
	// outcome notes how a job ended.
	outcome(j *job, err error)
	// kick has the volumes looked over soon.
	kick()
}

// Progress tells how far a job is. Done and Total are bytes read and written of
// one step; Total is an estimate.
type Progress struct {
	Volume      volume.ID
	Step        string // what VolumeInfo.Work says, or a step of it
	Done, Total int64
	Began       time.Time // of the step
}

// job is one piece of work on a volume, and those who wait for it.
type job struct {
	kind jobKind
	v    volume.ID
	end  chan struct{} // closed at the end; rec and err are set then
	rec  volume.SealRecord
	err  error

	changes uint64 // the coder's, when the job began

	done, total atomic.Int64

	mu    sync.Mutex    // guards all below
	moved chan struct{} // closed and replaced when done has moved; nil when nobody looks
	step  string        // "": the kind's own name
	waits string        // what for, or ""
	began time.Time
}

func (j *job) progress() Progress {
	p := Progress{Volume: j.v, Step: j.kind.String(), Done: j.done.Load(), Total: j.total.Load()}
	j.mu.Lock()
	defer j.mu.Unlock()
	if p.Began = j.began; j.step != "" {
		p.Step = j.step
	}
	return p
}

// set says how far a step is, and wakes who looks.
func (j *job) set(step string, done, total int64, now time.Time) {
	j.mu.Lock()
	if j.step != step {
		j.step, j.began = step, now
	}
	j.mu.Unlock()
	j.done.Store(done)
	j.total.Store(total)
	j.add(0)
}

// wants says what the job waits for; "": for nothing.
func (j *job) wants(what string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waits = what
}

func (j *job) waiting() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.waits
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
func (s *Server) do(ctx context.Context, k keeper, v volume.ID, kind jobKind, report func(Progress)) (volume.SealRecord, error) {
	for {
		j, _, err := s.job(k, v, kind)
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
func (s *Server) job(k keeper, v volume.ID, kind jobKind) (j *job, begun bool, err error) {
	if err := s.enter(); err != nil {
		return nil, false, err
	}
	s.jobs.Lock()
	defer s.jobs.Unlock()
	at := k.place(v)
	if j := s.jobs.of[at]; j != nil {
		s.calls.Done()
		return j, false, nil
	}
	j = &job{kind: kind, v: v, end: make(chan struct{}), began: s.o.Clock.Now()}
	s.jobs.of[at] = j
	go func() {
		defer s.calls.Done()
		j.rec, j.err = s.runJob(k, j)
		s.jobs.Lock()
		delete(s.jobs.of, at)
		s.jobs.Unlock()
		close(j.end)
		k.kick() // what comes next may have become possible
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

func (s *Server) runJob(k keeper, j *job) (volume.SealRecord, error) {
	select {
	case k.bench() <- struct{}{}:
	case <-k.lifetime().Done():
		return volume.SealRecord{}, k.ended()
	}
	defer func() { <-k.bench() }()
	if err := k.usable(); err != nil {
		return volume.SealRecord{}, err
	}
	rec, err := k.work(k.lifetime(), j)
	k.outcome(j, err)
	return rec, err
}

func (d *disk) place(v volume.ID) where   { return where{d.number, v} }
func (d *disk) bench() chan struct{}      { return d.turn }
func (d *disk) lifetime() context.Context { return d.life }
func (d *disk) ended() error              { return d.s.ended(d) }

func (d *disk) work(ctx context.Context, j *job) (rec volume.SealRecord, err error) {
	switch j.kind {
	case jobSeal:
		rec, err = d.s.seal(ctx, d, j)
	case jobCompact:
		rec, err = d.s.compact(ctx, d, j)
	case jobRemove:
		err = d.s.removeOld(ctx, d, j)
	case jobAbandon:
		err = d.s.giveUp(ctx, d, j)
	case jobLeave:
		err = d.s.leaveSet(ctx, d, j)
	case jobFill:
		err = d.s.fill(ctx, d, j)
	case jobRepair:
		err = d.s.repairDamage(ctx, d, j)
	case jobDrop:
		err = d.s.drop(ctx, d, j)
	}
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
