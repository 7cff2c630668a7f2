package steward

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"hayloft/directory"
	"hayloft/directory/fleet"
	"hayloft/directory/plan"
	"hayloft/internal/clock"
)

// Directory is where rows are changed. Every change may be repeated.
type Directory interface {
	Map() *directory.Map
	AddReplica(ctx context.Context, v directory.VolumeID, disk directory.DiskID, sync uint32) (directory.Volume, error)
	RemoveReplica(ctx context.Context, v directory.VolumeID, disk directory.DiskID, sync uint32) (directory.Volume, error)
	SetTarget(ctx context.Context, v directory.VolumeID, target int, sync uint32) (directory.Volume, error)
	SetNodeState(ctx context.Context, n directory.NodeID, s directory.Duty) (directory.Node, error)
	SetDiskState(ctx context.Context, d directory.DiskID, s directory.Duty) (directory.Disk, error)
}

// Fleet tells how nodes and disks are, and carries a text from leader to leader.
type Fleet interface {
	View() *fleet.View
	Carry(text string) error
	Carried() string
}

// Leadership tells who leads the directory.
type Leadership interface {
	Leader() (node string, ok bool)
	Leading() bool // this node
}

// Peers reaches the stewards of other nodes, by the names of these.
type Peers interface {
	Call(ctx context.Context, node string, request []byte) ([]byte, error)
}

// Options configure a Steward. Directory, Fleet and Leadership must be given.
type Options struct {
	Directory  Directory
	Fleet      Fleet
	Leadership Leadership
	Peers      Peers       // nil: there is no other node
	Clock      clock.Clock // nil: the machine's
	Seed       uint64      // of the choice between equal disks

	// RepairDelay is how long a disk is away before what it holds is made elsewhere; 0:
	// 10 min.
	RepairDelay time.Duration
	// Replicas is how many each volume should have at least: sealed ones whose row says
	// less are raised. 0: as their rows say.
	Replicas int
	Every    time.Duration // from plan to plan; 0: 2 s
	// Settle is how long a new leader listens before its first plan; 0: 10 s.
	Settle time.Duration
	// Fills is how many replicas that were added fill themselves at once; 0: 32.
	// DiskFills is how many of these one disk may be part of, as the target or as the
	// volume's primary; 0: 2.
	Fills, DiskFills int
	Events           func(Event)
}

// The bounds of a plan that is carried out.
const (
	maxRemovals = 256 // of a round: each is an entry of the log
	maxRaised   = 256 // the same
	// A plan begins no more moves than this for a balance.
	balanceBytes = 64 << 30
	// A fill that takes longer than patience and its bytes at slowest, in bytes/s, is
	// not waited for: others may begin.
	patience = 10 * time.Minute
	slowest  = 4 << 20
	// What a removal frees is counted as free for so long, until the disk says so.
	freeing = 2 * time.Minute
)

func (o *Options) validate() error {
	var errs []error
	for _, m := range []struct {
		missing bool
		what    string
	}{{o.Directory == nil, "Directory"}, {o.Fleet == nil, "Fleet"}, {o.Leadership == nil, "Leadership"}} {
		if m.missing {
			errs = append(errs, errors.New("steward: "+m.what+" is missing"))
		}
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	for _, d := range []struct {
		at      *time.Duration
		usually time.Duration
	}{{&o.RepairDelay, 10 * time.Minute}, {&o.Every, 2 * time.Second}, {&o.Settle, 10 * time.Second}} {
		if *d.at <= 0 {
			*d.at = d.usually
		}
	}
	if o.Fills <= 0 {
		o.Fills = 32
	}
	if o.DiskFills <= 0 {
		o.DiskFills = 2
	}
	return errors.Join(errs...)
}

// Steward is one node's.
type Steward struct {
	o      Options
	random *rand.Rand // of the goroutine of Run, as the next
	// planned is how long the last plan took.
	planned time.Duration
	kicked  chan struct{}
	asking  sync.Mutex // one change of the intent at a time

	mu      sync.Mutex // guards all below
	work    *work      // while this node leads, else nil
	totals  map[plan.Cause]Total
	failure string // why the last round ended early
}

// New makes a Steward. It works as long as Run runs.
func New(o Options) (*Steward, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Steward{o: o, random: rand.New(rand.NewPCG(o.Seed, 5)), kicked: make(chan struct{}, 1), totals: map[plan.Cause]Total{}}, nil
}

// Kick has it look now.
func (s *Steward) Kick() {
	select {
	case s.kicked <- struct{}{}:
	default:
	}
}

// Run works until ctx ends.
func (s *Steward) Run(ctx context.Context) {
	for ctx.Err() == nil {
		s.round(ctx)
		// Where there are very many volumes a plan is work: it has a tenth of the time.
		select {
		case <-ctx.Done():
		case <-s.o.Clock.After(9 * s.planned):
		}
		select {
		case <-ctx.Done():
		case <-s.kicked:
		case <-s.o.Clock.After(s.o.Every):
		}
	}
}

// leads makes work begin or end, and tells whether it is time to plan.
func (s *Steward) leads() bool {
	leading := s.o.Leadership.Leading()
	now := s.o.Clock.Elapsed()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !leading:
		s.work = nil
	case s.work == nil:
		s.work = newWork(now)
	}
	return s.work != nil && now-s.work.since >= s.o.Settle
}

// round looks once, and does what is to be done.
func (s *Steward) round(ctx context.Context) {
	if !s.leads() {
		return
	}
	m := s.o.Directory.Map()
	view := s.o.Fleet.View()
	intent, err := readIntent(s.o.Fleet.Carried())
	if err != nil {
		s.o.Events(Event{Kind: EventFailed, Err: err})
	}
	c := Cluster(m, view, intent.Lost...)
	volumes := s.volumes(m)
	now := s.o.Clock.Elapsed()

	s.mu.Lock()
	events := s.look(c, volumes, now)
	c = c.Freeing(s.work.freed(now))
	s.mu.Unlock()
	s.tell(events)

	p := c.Plan(volumes, plan.Options{RepairDelay: s.o.RepairDelay, Balance: intent.Balance, BalanceBytes: balanceBytes}, s.random)
	s.planned = s.o.Clock.Elapsed() - now
	s.mu.Lock()
	steps := s.affordable(c, volumes, p)
	s.mu.Unlock()
	err = errors.Join(s.raise(ctx, m), s.take(ctx, volumes, steps))
	err = errors.Join(err, s.fulfil(ctx, c, m, volumes, intent, p))
	s.mu.Lock()
	s.failure = ""
	if err != nil {
		s.failure = err.Error()
	}
	s.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		s.o.Events(Event{Kind: EventFailed, Err: err})
	}
}

func (s *Steward) tell(events []Event) {
	for _, e := range events {
		s.o.Events(e)
	}
}
