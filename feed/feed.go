package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sync/errgroup"

	"hayloft/feed/search"
	"hayloft/feed/timeline"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

// Group is what the feed needs of its Raft group, on any member. All methods are
// called from many goroutines.
type Group interface {
	// Propose returns the machine's answer once cmd is durable and applied here.
	Propose(ctx context.Context, cmd []byte) (any, error)
	// Fresh returns when the state here shows all that was acknowledged anywhere
	// before the call.
	Fresh(ctx context.Context) error
	// Snapshot is a consistent view of the state; it must be closed.
	Snapshot() (*raftgroup.Snapshot, error)
	// View calls f with the live state, for a single read.
	View(f func(pebble.Reader) error) error
	AppliedIndex() uint64
	WaitApplied(ctx context.Context, index uint64) error
	// Ready waits until this node leads and has applied everything before; Leading
	// tells at once.
	Ready(ctx context.Context) error
	Leading() error
	// Working tells at once whether this member can answer: it leads, or follows a
	// leader that it hears.
	Working() error
	// Staleness is how old the state here may be at most; 0 where it leads.
	Staleness() time.Duration
	Members() ([]raftgroup.Member, error)
}

// Policy holds the settings that decide something. The zero value of each
// field means its default.
type Policy struct {
	CelebrityThreshold uint64        // followers from which posts are delivered by pull; default 10,000
	DeleteGrace        time.Duration // how long a deleted photo can be restored; default 30 days
	IntentLife         time.Duration // from intent to attachment; default 1 hour
	UploadSlack        time.Duration // how long after its URL expires an upload may still begin to be written; default 1 hour
	StoredLife         time.Duration // how long a stored photo waits to be finalized; default 24 hours
	IdempotencyLife    time.Duration // default 24 hours
	PurgeLogLife       time.Duration // how long purge entries are kept; default 48 hours, at least 24
	EffectBackoff      time.Duration // before the second attempt, doubled for each further one; default 1 second
	EffectBackoffMax   time.Duration // the longest such pause, a quarter may come on top; default 10 minutes
	MaxStale           time.Duration // how old what a replica answers may be when it hears no leader; default 5 minutes
	Limits             Limits
}

// Options configure Open. Group, Machine, TimelineDirs and Mint must be given;
// the zero value of everything else works.
type Options struct {
	Group   Group
	Machine *Machine // the one that Group runs
	Member  string   // this member of Group
	// Mint makes an id under a lease of this process. It is asked for each new
	// account, photo, comment, and position.
	Mint  func(ctx context.Context) (id.ID, error)
	Clock clock.Clock // default: the machine's

	TimelineDirs []string         // one of them holds the derived timelines; each may be lost at any time
	Timeline     timeline.Options // Dirs, Source and Clock are filled in

	// SearchDirs hold the index for search, one of them at a time; each may be lost at any
	// time. None: this replica does not answer searches.
	SearchDirs []string
	Search     search.Options // Dirs, Source and Clock are filled in

	// Lender is where a member that does not lead borrows effects: the leader, over
	// whatever lies between. Nil: effects are handled by the leader alone.
	Lender Lender

	// RowBytes is the memory for decoded rows that reads share, in bytes; default
	// 256 MiB, less than 0: none.
	RowBytes int64

	Policy Policy
	// Notify, when set, is told what an operator should know. It must not block
	// and may be called by several goroutines at once.
	Notify func(Notice)
}

// NoticeKind says what a Notice is about.
type NoticeKind uint8

// The kinds of notices.
const (
	EffectRetried NoticeKind = iota + 1 // an effect failed and will be tried again: Effect, Err; not told of every failure
	EffectParked                        // an effect is poisonous and waits for an operator: Effect, Err
	SweepFailed                         // a background command was not accepted and will be tried again: Err
)

// Notice tells an operator what happened.
type Notice struct {
	Kind   NoticeKind
	Effect Effect
	Err    error
}

// Validate lists every fault of o.
func (o *Options) Validate() error {
	var errs []error
	need := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New("feed: "+text))
		}
	}
	need(o.Group != nil, "Group is nil")
	need(o.Machine != nil, "Machine is nil")
	need(o.Mint != nil, "Mint is nil")
	need(o.Member != "", "Member is empty")
	need(len(o.TimelineDirs) > 0, "TimelineDirs is empty")
	p := o.Policy
	for _, d := range []time.Duration{
		p.DeleteGrace, p.IntentLife, p.UploadSlack, p.StoredLife, p.IdempotencyLife, p.EffectBackoff, p.EffectBackoffMax, p.MaxStale,
	} {
		need(d >= 0, "a duration of Policy is negative")
	}
	need(p.PurgeLogLife == 0 || p.PurgeLogLife >= 24*time.Hour, "PurgeLogLife is under 24 hours")
	return errors.Join(errs...)
}

func orElse[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (p Policy) withDefaults() Policy {
	orElse(&p.CelebrityThreshold, 10_000)
	orElse(&p.DeleteGrace, 30*24*time.Hour)
	orElse(&p.IntentLife, time.Hour)
	orElse(&p.UploadSlack, time.Hour)
	orElse(&p.StoredLife, 24*time.Hour)
	orElse(&p.IdempotencyLife, 24*time.Hour)
	orElse(&p.PurgeLogLife, 48*time.Hour)
	orElse(&p.EffectBackoff, time.Second)
	orElse(&p.EffectBackoffMax, 10*time.Minute)
	orElse(&p.MaxStale, 5*time.Minute)
	p.Limits = p.Limits.withDefaults()
	return p
}

// Feed is the service on top of the machine. See the package comment.
type Feed struct {
	group    Group
	machine  *Machine
	member   string
	mint     func(context.Context) (id.ID, error)
	clock    clock.Clock
	policy   Policy
	notify   func(Notice)
	timeline *timeline.Store
	search   *search.Store // nil: none
	lender   Lender
	leases   leases
	guard    guard
	laggards map[string]laggard // trim's

	// Tests replace these.
	snapshot  func() (pebble.Reader, error) // Group.Snapshot
	sweepRows int
	tellRows  int
}

// Open returns the feed on a group that is open. Run must be called for the
// timelines and the sweeper to move.
func Open(o Options) (*Feed, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Notify == nil {
		o.Notify = func(Notice) {}
	}
	f := &Feed{
		group: o.Group, machine: o.Machine, member: o.Member, lender: o.Lender, mint: o.Mint, clock: o.Clock,
		policy: o.Policy.withDefaults(), notify: o.Notify, sweepRows: sweepRows, tellRows: tellChunk, laggards: map[string]laggard{},
	}
	orElse(&o.RowBytes, 256<<20)
	f.machine.rows.limit(max(o.RowBytes, 0))
	f.snapshot = func() (pebble.Reader, error) { return f.group.Snapshot() }
	to := o.Timeline
	to.Dirs, to.Source, to.Clock = o.TimelineDirs, source{f}, o.Clock
	var err error
	if f.timeline, err = timeline.Open(to); err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	if len(o.SearchDirs) > 0 {
		so := o.Search
		so.Dirs, so.Source, so.Clock = o.SearchDirs, searchSource{f}, o.Clock
		if f.search, err = search.Open(so); err != nil {
			return nil, errors.Join(fmt.Errorf("feed: %w", err), f.timeline.Close())
		}
	}
	return f, nil
}

// Run derives timelines, sweeps and trims until ctx ends, when it returns ctx's
// error, or until storage fails.
func (f *Feed) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.timeline.Run(ctx) })
	g.Go(func() error { return f.sweep(ctx) })
	g.Go(func() error { return f.trim(ctx) })
	g.Go(func() error { return f.keepTime(ctx) })
	g.Go(func() error { return f.publish(ctx) })
	g.Go(func() error { return f.listChanges(ctx) })
	g.Go(func() error { return f.tell(ctx) })
	if f.search != nil {
		g.Go(func() error { return f.search.Run(ctx) })
	}
	return g.Wait()
}

// Close closes the timelines and the index. Run and RunEffects must have returned. The group
// is its opener's to close, after this.
func (f *Feed) Close() error {
	err := f.timeline.Close()
	if f.search != nil {
		err = errors.Join(err, f.search.Close())
	}
	return err
}

// Fresh returns when what is read here from now on shows every change that was
// acknowledged, by any replica, before the call. The error is ErrUnavailable when
// that cannot be made sure of.
func (f *Feed) Fresh(ctx context.Context) error {
	if err := f.group.Fresh(ctx); err != nil {
		return unavailable(err)
	}
	return nil
}

// AppliedIndex is the Raft index this replica has applied.
func (f *Feed) AppliedIndex() uint64 { return f.group.AppliedIndex() }

// WaitApplied waits until this replica has applied an index that another one
// answered with.
func (f *Feed) WaitApplied(ctx context.Context, index uint64) error {
	return f.group.WaitApplied(ctx, index)
}

// Ready returns nil when the feed can serve and accept writes.
func (f *Feed) Ready() error {
	if err := f.group.Working(); err != nil {
		return unavailable(err)
	}
	return nil
}

// TimelinesLost tells that the disk of one of TimelineDirs is gone: what was there
// starts empty in another. Pages stay right.
func (f *Feed) TimelinesLost(dir string, why error) { f.timeline.Lost(dir, why) }

// TimelinesUsable tells that one of TimelineDirs may be used again.
func (f *Feed) TimelinesUsable(dir string) { f.timeline.Usable(dir) }

// TimelineStats describes the derived timelines.
func (f *Feed) TimelineStats() timeline.Stats { return f.timeline.Stats() }

// now is the clock's time as commands carry it.
func (f *Feed) now() time.Time { return f.clock.Now().UTC().Truncate(time.Millisecond) }

// propose has cmd applied and maps what can go wrong on the way.
func (f *Feed) propose(ctx context.Context, cmd command) (outcome, error) {
	now := f.now()
	idem, earlier := f.idempotencyOf(ctx, now)
	v, err := f.group.Propose(ctx, encodeCommand(now, idem, cmd))
	if err != nil {
		if refusal(err) {
			return outcome{}, err
		}
		return outcome{}, unavailable(err)
	}
	out, ok := v.(outcome)
	if !ok {
		return outcome{}, fmt.Errorf("feed: the group answered %T", v)
	}
	if earlier != nil && out.Repeated {
		*earlier = out.ID
	}
	return out, nil
}

// unavailable wraps what the group says when it cannot work. A context's end
// stays visible inside.
func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func (f *Feed) newID(ctx context.Context) (id.ID, error) {
	v, err := f.mint(ctx)
	if err != nil {
		return 0, unavailable(err)
	}
	return v, nil
}

// view is a consistent view for one call. Accounts are decoded once: the rows
// of a page share their authors.
type view struct {
	store
	shelf    shelf
	accounts map[id.ID]*accountRow
	ahead    fetched          // what was read ahead
	avatars  map[id.ID]Avatar // by account
	viewer   id.ID            // whose circle it has
	circle   *circle          // nil: not asked for
}

func (v *view) account(user id.ID) (*accountRow, error) {
	if a, ok := v.accounts[user]; ok {
		return a, nil
	}
	if a := v.shelf.account(user); a != nil {
		v.know(user, a)
		return a, nil
	}
	a, err := v.store.account(user)
	if err == nil {
		v.know(user, a)
		v.shelf.keepAccount(a)
	}
	return a, err
}

// know keeps an account; nil: there is none.
func (v *view) know(user id.ID, a *accountRow) {
	if v.accounts == nil {
		v.accounts = make(map[id.ID]*accountRow)
	}
	v.accounts[user] = a
}

// readSure is serve where "not found" must not only mean "not yet": a replica that
// follows may be behind what a client has been told elsewhere. It asks how far the
// others are before it says so, and says that it is unavailable when nobody answers.
func (f *Feed) readSure(ctx context.Context, do func(v *view) error) error {
	before := f.group.AppliedIndex()
	err := f.serve(ctx, do)
	if !errors.Is(err, ErrNotFound) || f.group.Leading() == nil {
		return err
	}
	if err := f.group.Fresh(ctx); err != nil {
		return unavailable(err)
	}
	if f.group.AppliedIndex() == before {
		return err
	}
	return f.serve(ctx, do)
}

// errStale is what a replica answers that has not heard of the others for too long.
var errStale = fmt.Errorf("%w: this replica is cut off", ErrUnavailable)

// serve is read for who asks from outside: of a state that is at most MaxStale old.
func (f *Feed) serve(ctx context.Context, do func(v *view) error) error {
	if f.group.Staleness() > f.policy.MaxStale {
		return errStale
	}
	return f.read(ctx, do)
}

// read calls do with a consistent view.
func (f *Feed) read(ctx context.Context, do func(v *view) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	shelf := f.machine.rows.shelf()
	snap, err := f.snapshot()
	if err != nil {
		return unavailable(err)
	}
	defer func() {
		if cerr := snap.Close(); err == nil && cerr != nil {
			err = unavailable(cerr)
		}
	}()
	return do(&view{store: store{snap}, shelf: shelf})
}
