package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/raftgroup"
)

// An effect is lent to one holder at a time, a member of the group or a process
// beside it, by the member that leads. Loans are in the leader's memory: one to
// another process ends after loanLife unless it is kept, so that a holder that died
// holds nothing up; a new leader knows of none. So an effect may be handled twice
// when leaders change, and handlers are made for that.

const (
	loanLife = time.Minute
	loanKeep = loanLife / 3 // between two words of a holder
	lendWait = 5 * time.Second
	lendRest = time.Second // after a lender that does not answer
)

// Lender lends effects.
type Lender interface {
	// Lend waits a few seconds for an effect of a kind that is due and nobody has, and
	// lends it to holder; nil when there was none.
	Lend(ctx context.Context, kind EffectKind, holder string) (*Effect, error)
	// Keep lengthens a loan; ErrNotFound: it is the holder's no more.
	Keep(ctx context.Context, seq uint64, holder string) error
	// Return ends a loan.
	Return(ctx context.Context, seq uint64, holder string) error
}

var _ Lender = (*Feed)(nil)

// Lend implements Lender on the member that leads; elsewhere it is ErrUnavailable.
func (f *Feed) Lend(ctx context.Context, kind EffectKind, holder string) (*Effect, error) {
	if holder == "" || holder == f.member {
		return nil, fmt.Errorf("%w: holder %q", ErrInvalid, holder)
	}
	ctx, cancel := context.WithTimeout(ctx, lendWait)
	defer cancel()
	e, err := f.lend(ctx, kind, holder)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, nil
	}
	return e, err
}

// lend waits until there is an effect, or this member does not lead.
func (f *Feed) lend(ctx context.Context, kind EffectKind, holder string) (*Effect, error) {
	w := &f.machine.watch
	for {
		if err := f.group.Leading(); err != nil {
			return nil, unavailable(err)
		}
		changed := w.on(&w.effects)
		e, wait, err := f.leaseEffect(ctx, kind, holder)
		if err != nil || e != nil {
			return e, err
		}
		select {
		case <-changed:
		case <-f.clock.After(min(wait, lendWait)): // who leads may have changed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Keep implements Lender.
func (f *Feed) Keep(_ context.Context, seq uint64, holder string) error {
	if err := f.group.Leading(); err != nil {
		return unavailable(err)
	}
	if !f.leases.extend(seq, holder, f.leaseEnd(holder), f.clock.Elapsed()) {
		return ErrNotFound
	}
	return nil
}

// Return implements Lender.
func (f *Feed) Return(_ context.Context, seq uint64, holder string) error {
	f.leases.release(seq, holder)
	return nil
}

// Lending is who lends effects now, as far as this replica knows: itself when it
// leads, else Options.Lender.
func (f *Feed) Lending() Lender {
	if f.group.Leading() == nil || f.lender == nil {
		return f
	}
	return f.lender
}

// leaseEnd is until when, by the running time of this process, a holder has what is
// lent to it now; 0: until it is given back, by this process itself.
func (f *Feed) leaseEnd(holder string) time.Duration {
	if holder == f.member {
		return 0
	}
	return f.clock.Elapsed() + loanLife
}

// loan is an effect that this process has.
type loan struct {
	effect Effect
	holder string
	from   Lender
	clock  clock.Clock
	end    context.CancelFunc
}

// obtain waits for an effect. It returns an error only when ctx ends or the group
// has stopped.
func (f *Feed) obtain(ctx context.Context, kind EffectKind) (*loan, error) {
	for {
		l, err := f.obtainNow(ctx, kind)
		switch {
		case ctx.Err() != nil:
			if l != nil {
				l.release()
			}
			return nil, ctx.Err()
		case l != nil:
			return l, nil
		case err == nil:
			continue
		}
		if f.lender == nil {
			if err := f.lead(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if err := f.group.Working(); errors.Is(err, raftgroup.ErrStopped) {
			return nil, unavailable(err)
		}
		select {
		case <-f.clock.After(lendRest):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *Feed) obtainNow(ctx context.Context, kind EffectKind) (*loan, error) {
	if f.group.Leading() == nil {
		e, err := f.lend(ctx, kind, f.member)
		if err != nil {
			return nil, err
		}
		return &loan{effect: *e, holder: f.member, from: ownLender{f}, clock: f.clock}, nil
	}
	if f.lender == nil {
		return nil, errNotLeading
	}
	e, err := f.lender.Lend(ctx, kind, f.member)
	if err != nil || e == nil {
		return nil, err
	}
	return &loan{effect: *e, holder: f.member, from: f.lender, clock: f.clock}, nil
}

var errNotLeading = fmt.Errorf("%w: another member leads", ErrUnavailable)

// ownLender lends to this process itself, for as long as it likes.
type ownLender struct{ *Feed }

// Keep implements Lender.
func (ownLender) Keep(context.Context, uint64, string) error { return nil }

// keep returns a context that ends with ctx, or when the loan is lost.
func (l *loan) keep(ctx context.Context) context.Context {
	ctx, l.end = context.WithCancel(ctx)
	if _, own := l.from.(ownLender); !own {
		go l.prolong(ctx)
	}
	return ctx
}

// prolong keeps the loan until ctx ends. Only a word that it is another's ends it: a
// lender that does not answer may be back in time.
func (l *loan) prolong(ctx context.Context) {
	for {
		select {
		case <-l.clock.After(loanKeep):
		case <-ctx.Done():
			return
		}
		if errors.Is(l.from.Keep(ctx, l.effect.Seq, l.holder), ErrNotFound) {
			l.end()
			return
		}
	}
}

// release gives the loan back.
func (l *loan) release() {
	if l.end != nil {
		l.end()
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	_ = l.from.Return(ctx, l.effect.Seq, l.holder) // else it ends by itself
}

// Borrower handles effects in a process that has no replica of the feed.
type Borrower struct {
	Lender Lender
	Holder string // who this process is; no member of the group
	Clock  clock.Clock
	// Finish records how it went; nil: well. It is repeated after an error.
	Finish func(ctx context.Context, e Effect, why *EffectFailure) error
}

// EffectFailure says why an effect could not be handled.
type EffectFailure struct {
	Reason string
	Poison bool // no repetition will cure it
}

// RunEffects is that of Feed. It returns when ctx ends.
func (b Borrower) RunEffects(ctx context.Context, kind EffectKind, workers int, handle func(context.Context, Effect) error) error {
	var running sync.WaitGroup
	defer running.Wait()
	free := make(chan struct{}, max(workers, 1))
	for {
		select {
		case free <- struct{}{}: // a worker is free
		case <-ctx.Done():
			return ctx.Err()
		}
		e, err := b.Lender.Lend(ctx, kind, b.Holder)
		if e == nil {
			<-free
			if err == nil {
				continue
			}
			select {
			case <-b.Clock.After(lendRest):
			case <-ctx.Done():
			}
			continue
		}
		l := &loan{effect: *e, holder: b.Holder, from: b.Lender, clock: b.Clock}
		running.Go(func() {
			defer func() { <-free }()
			defer l.release()
			b.work(l.keep(ctx), l.effect, handle)
		})
	}
}

func (b Borrower) work(ctx context.Context, e Effect, handle func(context.Context, Effect) error) {
	err := handle(ctx, e)
	if err != nil && ctx.Err() != nil {
		return // cut short
	}
	var why *EffectFailure
	if err != nil {
		why = &EffectFailure{Reason: shorten(err.Error()), Poison: errors.As(err, new(*poison))}
	}
	for pause := sweepRetry; b.Finish(ctx, e, why) != nil; pause = min(2*pause, effectLook) {
		select {
		case <-b.Clock.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// Finish records how a Borrower handled an effect.
func (f *Feed) Finish(ctx context.Context, e Effect, why *EffectFailure) error {
	if why == nil {
		return f.finish(ctx, e, nil)
	}
	err := errors.New(why.Reason)
	if why.Poison {
		err = Poison(err)
	}
	return f.finish(ctx, e, err)
}

// leases are the effects that are lent.
type leases struct {
	mu    sync.Mutex // guards all below
	held  map[uint64]lease
	fresh map[EffectKind]freshStart
}

// freshStart is where the queue of those effects of a kind begins that were never put off:
// none with a lower number is in it. What is done is removed, and a look from the very start
// passes over all of that until it is compacted.
type freshStart struct {
	seq      uint64
	requeued uint64 // Machine.requeued when it was looked at: an old number may be back since
}

// freshFrom is the number from which on to look at the fresh effects of a kind. requeued was
// taken before the snapshot that is looked at.
func (l *leases) freshFrom(kind EffectKind, requeued uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.fresh[kind]; s.requeued == requeued {
		return s.seq
	}
	return 0
}

// freshAt says that a look found no fresh effect with a number below seq.
func (l *leases) freshAt(kind EffectKind, seq, requeued uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fresh == nil {
		l.fresh = make(map[EffectKind]freshStart)
	}
	l.fresh[kind] = freshStart{seq, requeued}
}

type lease struct {
	holder string
	until  time.Duration // by running time; 0: until it is released
}

// take lends seq until a time, unless somebody has it.
func (l *leases) take(seq uint64, holder string, until, now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h, held := l.held[seq]; held && h.lasts(now) {
		return false
	}
	l.set(seq, lease{holder, until})
	return true
}

// extend lengthens what a holder has, also one of which a former leader knew.
func (l *leases) extend(seq uint64, holder string, until, now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h, held := l.held[seq]; held && h.holder != holder && h.lasts(now) {
		return false
	}
	l.set(seq, lease{holder, until})
	return true
}

func (h lease) lasts(now time.Duration) bool { return h.until == 0 || now < h.until }

// set is called under mu.
func (l *leases) set(seq uint64, h lease) {
	if l.held == nil {
		l.held = make(map[uint64]lease)
	}
	l.held[seq] = h
}

func (l *leases) release(seq uint64, holder string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[seq].holder == holder {
		delete(l.held, seq)
	}
}
