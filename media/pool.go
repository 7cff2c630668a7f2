package media

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/clock"
)

// PoolOptions are the settings of a Pool. Command is needed; the zero value of
// all others works.
type PoolOptions struct {
	Command      []string      // a child and its arguments; the program is an absolute path
	Env          []string      // "NAME=value" beyond what the pool sets; nothing is inherited
	Workers      int           // most children; 0: one per CPU
	Queue        int           // most jobs waiting for a child; 0: 16 per worker
	Limits       Limits        // on the files
	JobTimeout   time.Duration // per attempt, by the clock on the wall; 0: 2 min
	JobCPU       time.Duration // per attempt, whole seconds; 0: 30 s
	MemoryBytes  int64         // of address space per child, beyond the program itself; 0: 2 GiB
	JobsPerChild int           // then a fresh child; 0: 500
	Clock        clock.Clock   // nil: the machine's
	// Events, when given, is told what happens to children. It is called from
	// several goroutines and must not call back into the pool.
	Events func(Event)
}

// Validate reports every field that makes no sense.
func (o PoolOptions) Validate() error {
	errs := []error{o.Limits.Validate()}
	if len(o.Command) == 0 || o.Command[0] == "" {
		errs = append(errs, errors.New("media: no Command for the children"))
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"Workers", int64(o.Workers)}, {"Queue", int64(o.Queue)}, {"JobTimeout", int64(o.JobTimeout)},
		{"JobCPU", int64(o.JobCPU)}, {"MemoryBytes", o.MemoryBytes}, {"JobsPerChild", int64(o.JobsPerChild)},
	} {
		if n.value < 0 {
			errs = append(errs, fmt.Errorf("media: %s %d is negative", n.name, n.value))
		}
	}
	if o.JobCPU%time.Second != 0 {
		errs = append(errs, fmt.Errorf("media: JobCPU %v is not in whole seconds", o.JobCPU))
	}
	return errors.Join(errs...)
}

func (o PoolOptions) withDefaults() PoolOptions {
	o.Limits = o.Limits.withDefaults()
	if o.Workers == 0 {
		o.Workers = runtime.NumCPU()
	}
	if o.Queue == 0 {
		o.Queue = 16 * o.Workers
	}
	if o.JobTimeout == 0 {
		o.JobTimeout = 2 * time.Minute
	}
	if o.JobCPU == 0 {
		o.JobCPU = 30 * time.Second
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 2 << 30
	}
	if o.JobsPerChild == 0 {
		o.JobsPerChild = 500
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	return o
}

// EventKind says what happened to a child.
type EventKind uint8

// The kinds of events.
const (
	EventStarted     EventKind = iota + 1 // a child has greeted
	EventStartFailed                      // a child could not be started, or greeted wrongly
	EventStruck                           // a child died with a job, ran out of time, or answered nonsense
	EventRetired                          // a child ended in good order
	EventDegraded                         // a precaution could not be taken; work goes on
)

// Event is something that an operator may want to know.
type Event struct {
	Kind   EventKind
	PID    int
	Engine string
	Err    error  // with StartFailed, Struck, Degraded
	Ended  string // how the process ended, when it did
	Stderr string // its first and last words, some 4 KiB of printable text
}

// Stats are counters since the pool began, and gauges of now.
type Stats struct {
	Workers, Busy, Waiting, Alive            int
	Started, Struck, Made, Refused, Failures uint64
}

// Temporary errors of a Pool; they prove nothing against the photo.
var (
	ErrBusy   = errors.New("media: too many jobs are waiting")
	ErrClosed = errors.New("media: the pool is closed")
	ErrNoHelp = errors.New("media: no child could be started")
	// ErrKilled: somebody outside ended the child, like an operator or the kernel
	// when the machine runs out of memory.
	ErrKilled = errors.New("media: a child was killed from outside")
	// ErrHung: the child neither answered nor used up its CPU time, because the
	// machine is busy, or the photo makes the decoder wait for ever.
	ErrHung = errors.New("media: a child did not answer in time")
)

// Pool drives the decoding children. It may be used by many goroutines.
type Pool struct {
	o      PoolOptions
	env    []string
	slots  chan struct{} // one token per child that may be at work
	spawns chan spawn
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	waiting                                  atomic.Int64
	alive                                    atomic.Int64
	started, struck, made, refused, failures atomic.Uint64

	mu     sync.Mutex // guards all below
	idle   []*child   // the last used at the end
	closed bool
	users  sync.WaitGroup // calls under way; added to under mu while not closed
}

// NewPool returns a pool. No child is started before the first job; Close must
// be called.
func NewPool(o PoolOptions) (*Pool, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	p := &Pool{o: o, slots: make(chan struct{}, o.Workers), spawns: make(chan spawn)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.env = append([]string{
		"GOMAXPROCS=1", "VIPS_CONCURRENCY=1", "MALLOC_ARENA_MAX=2", "LC_ALL=C",
		fmt.Sprintf("GOMEMLIMIT=%d", o.MemoryBytes/4*3),
	}, o.Env...)
	go p.spawner()
	return p, nil
}

// spawn asks the spawning thread to start a prepared child.
type spawn struct {
	start func() error
	err   chan error
}

// spawner starts all children from one thread. Two things hang on the thread
// that forks: PR_SET_PDEATHSIG fires when that *thread* ends, not when its
// process does, so it must live as long as the pool and never be one that the
// runtime lets go; and nice(2) is per thread on Linux and inherited, so its low
// priority becomes that of every thread of every child. The goroutine ends
// still locked, which ends the thread: its priority cannot be raised again.
func (p *Pool) spawner() {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The first thread stands for the process in every listing, and cannot
		// end: it is held until another goroutine has found another thread.
		found := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(found)
			p.spawnAll()
		}()
		<-found
		runtime.UnlockOSThread()
		return
	}
	p.spawnAll()
}

// spawnAll lowers the priority of its locked thread and starts children on it
// until Close.
func (p *Pool) spawnAll() {
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), childNice); err != nil {
		p.o.Events(Event{Kind: EventDegraded, Err: fmt.Errorf("lowering the children's priority: %w", err)})
	}
	for s := range p.spawns {
		s.err <- s.start()
	}
}

// enter counts a call in; the caller calls p.users.Done.
func (p *Pool) enter() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.users.Add(1)
	return nil
}

// acquire waits for one of the slots.
func (p *Pool) acquire(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	if p.waiting.Add(1) > int64(p.o.Queue) {
		p.waiting.Add(-1)
		return ErrBusy
	}
	defer p.waiting.Add(-1)
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take returns an idle child, or a new one.
func (p *Pool) take(ctx context.Context, fresh bool) (*child, error) {
	for !fresh {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			break
		}
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if c.alive() {
			return c, nil
		}
		p.drop(c, EventRetired, nil)
	}
	return p.start(ctx)
}

// start brings up a child that has greeted and is confined.
func (p *Pool) start(ctx context.Context) (*child, error) {
	c, theirs, err := newCommand(p.o.Command, p.env)
	if err == nil {
		s := spawn{func() error { return c.start(theirs) }, make(chan error, 1)}
		p.spawns <- s // the spawner outlives every call that has entered
		err = <-s.err
	}
	if err != nil {
		p.o.Events(Event{Kind: EventStartFailed, Err: err})
		return nil, fmt.Errorf("%w: %w", ErrNoHelp, err)
	}
	p.alive.Add(1)
	err = c.within(ctx, p.o.Clock, startTimeout, func() error {
		if err := c.greet(); err != nil {
			return err
		}
		return c.confine(p.o.MemoryBytes)
	})
	if err != nil {
		p.drop(c, EventStartFailed, err)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", ErrNoHelp, err)
	}
	p.started.Add(1)
	p.o.Events(Event{Kind: EventStarted, PID: c.cmd.Process.Pid, Engine: c.hello.engine})
	return c, nil
}

// drop ends a child and tells why.
func (p *Pool) drop(c *child, kind EventKind, why error) {
	ended := c.end(p.o.Clock)
	p.alive.Add(-1)
	p.o.Events(Event{Kind: kind, PID: c.cmd.Process.Pid, Engine: c.hello.engine, Err: why, Ended: ended, Stderr: c.stderr.String()})
}

// giveBack makes a child available again, or retires it.
func (p *Pool) giveBack(c *child) {
	p.mu.Lock()
	keep := !p.closed && c.jobs < p.o.JobsPerChild && c.alive()
	if keep {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	if !keep {
		p.drop(c, EventRetired, nil)
	}
}

// session runs f with a slot, under a context that also ends with the pool.
func (p *Pool) session(ctx context.Context, f func(ctx context.Context) error) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.users.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	err := p.acquire(ctx)
	if err == nil {
		defer func() { <-p.slots }()
		err = f(ctx)
	}
	if p.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return ErrClosed
	}
	return err
}

// Probe starts a child, if none is idle, and returns what it said of itself: the
// engine's name and the content types that it decodes.
func (p *Pool) Probe(ctx context.Context) (engine string, types []string, err error) {
	err = p.session(ctx, func(ctx context.Context) error {
		c, err := p.take(ctx, false)
		if err != nil {
			return err
		}
		engine, types = c.hello.engine, append(types, c.hello.types...)
		p.giveBack(c)
		return nil
	})
	return engine, types, err
}

// Stats returns counters and gauges.
func (p *Pool) Stats() Stats {
	return Stats{
		Workers: p.o.Workers, Busy: len(p.slots), Waiting: int(p.waiting.Load()), Alive: int(p.alive.Load()),
		Started: p.started.Load(), Struck: p.struck.Load(), Made: p.made.Load(),
		Refused: p.refused.Load(), Failures: p.failures.Load(),
	}
}

// Close kills what is at work, whose callers get ErrClosed, and returns when
// every child has been reaped.
func (p *Pool) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.users.Wait()
	for _, c := range p.idle { // nobody else is left
		p.drop(c, EventRetired, nil)
	}
	p.idle = nil
	close(p.spawns)
}
