package timeline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// writer is the state of Run: the only goroutine that writes to the instance.
// Each step commits one batch, and memory changes only after the commit, so
// that the two cannot differ whatever fails.
type writer struct {
	s  *Store
	in *instance // nil: there is none
	db *pebble.DB

	started bool // the state row is there
	state        // as committed; the first of open is next
	turn    int  // the kind of work to begin with at the next step

	nextSweep time.Time
	expired   []id.ID // readers to drop, found by the last sweep

	unflushed      int             // deliveries since the last flush began
	dirty          bool            // anything written since then
	dirtySince     time.Time       //
	flushing       <-chan struct{} // nil: no flush is under way
	flushingCursor uint64          // becomes durable with it

	followers []id.ID // scratch
	posts     []Post  // scratch
}

// Run consumes the source's events until ctx ends, when it returns ctx's
// error, or until storage or source fail. It may be called again after that;
// never twice at once.
func (s *Store) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("timeline: Run is running")
	}
	defer s.running.Store(false)
	waiter := startWaiter(s.o.Source)
	defer waiter.stop()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		worked, err := s.step()
		if err != nil {
			return err
		}
		if err := s.w.flush(); err != nil {
			if s.in.lost() == nil {
				return err
			}
			worked = true // the next step moves
		}
		if worked {
			continue
		}
		if err := s.idle(ctx, waiter); err != nil {
			return err
		}
	}
}

// idle returns when there may be something to do.
func (s *Store) idle(ctx context.Context, waiter *waiter) error {
	w := s.w
	waiter.ask(w.cursor)
	now := s.o.Clock.Now()
	next := w.nextSweep.Sub(now)
	if w.dirty && w.flushing == nil {
		next = min(next, w.dirtySince.Add(s.o.tune.flushEvery).Sub(now))
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-waiter.answer:
		waiter.asked = false
		return err
	case <-s.requests.wake:
	case <-w.flushing:
	case <-s.o.Clock.After(next):
	}
	return nil
}

// follow does what there is to do without an instance: it takes a directory that
// has become usable, and otherwise needs no event.
func (s *Store) follow() (worked bool, err error) {
	if len(s.places.list()) > 0 {
		return true, s.reset(errors.New("a directory can be used again"))
	}
	snap := s.snapshot()
	last, err := snap.LastSeq()
	if err := errors.Join(err, snap.Close()); err != nil {
		return false, fmt.Errorf("timeline: %w", err)
	}
	s.w = &writer{s: s, state: state{cursor: last}}
	s.pullers.reset()
	s.segments.reset(last)
	s.w.publish()
	s.counters.durable.Store(last)
	return false, nil
}

// step does one piece of work, so small that the others need not wait long,
// and reports whether there was any. The kinds take turns.
func (s *Store) step() (worked bool, err error) {
	if s.in == nil {
		return s.follow()
	}
	if why := s.in.lost(); why != nil {
		return true, s.reset(why)
	}
	if p := s.corrupt.Load(); p != nil {
		return true, s.reset(*p)
	}
	worked, err = s.w.work()
	if why := s.in.lost(); err != nil && why != nil {
		return true, s.reset(why)
	}
	if damaged(err) {
		return true, s.reset(err)
	}
	if err != nil {
		return false, fmt.Errorf("timeline: %w", err)
	}
	return worked, nil
}

// Step does one piece of Run's work, sees a flush that it began through, and reports
// whether there was any. It is for tests that want to look in between, and never runs
// beside Run.
func (s *Store) Step() (worked bool, err error) {
	if worked, err = s.step(); err != nil {
		return false, err
	}
	if err := s.w.flush(); err != nil {
		return false, err
	}
	if s.w.flushing != nil {
		<-s.w.flushing
	}
	return worked, nil
}

// reset wipes the instance under the feet of the pages.
func (s *Store) reset(why error) error {
	s.dbMu.Lock()
	defer s.dbMu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.wipe(why)
	return nil
}

func (w *writer) work() (bool, error) {
	if !w.started {
		return true, w.start()
	}
	kinds := [...]func() (bool, error){w.events, w.fanoutChunk, w.serve, w.expire}
	for range kinds {
		kind := kinds[w.turn%len(kinds)]
		w.turn = (w.turn + 1) % len(kinds)
		if worked, err := kind(); worked || err != nil {
			return worked, err
		}
	}
	return false, nil
}

// start puts the cursor of an empty instance at the newest event: as nobody
// has a timeline yet, no event before it matters.
func (w *writer) start() error {
	snap := w.s.snapshot()
	last, err := snap.LastSeq()
	if err := errors.Join(err, snap.Close()); err != nil {
		return err
	}
	w.s.pullers.reset()
	w.s.segments.reset(last)
	return w.commit(w.db.NewBatch(), state{cursor: last}, func() {})
}

// commit writes b with the new state, then runs applied, which brings the rest
// of memory up to date. It closes b.
func (w *writer) commit(b *pebble.Batch, st state, applied func()) (err error) {
	defer closeInto(&err, b)
	if err := b.Set(key1(keyState), encodeState(st), nil); err != nil {
		return err
	}
	return w.commitOnly(b, func() {
		w.state, w.started = st, true
		w.publish()
		applied()
	})
}

// commitOnly is commit for a batch that leaves the state as it is.
func (w *writer) commitOnly(b *pebble.Batch, applied func()) error {
	if err := w.in.guard(func() error { return b.Commit(pebble.NoSync) }); err != nil {
		return err
	}
	if !w.dirty {
		w.dirty, w.dirtySince = true, w.s.o.Clock.Now()
	}
	applied()
	return nil
}

// publish shows the writer's state to pages and Stats.
func (w *writer) publish() {
	if w.started {
		st := w.state
		w.in.shown.Store(&st)
	}
	w.s.counters.cursor.Store(w.cursor)
	w.s.counters.openFanouts.Store(uint64(len(w.open)))
}

// flush moves the durable cursor: it begins a flush when enough has been
// written or when the first of it is old, and notes one that has ended.
func (w *writer) flush() error {
	if w.in == nil {
		return nil
	}
	if w.flushing != nil {
		select {
		case <-w.flushing:
			w.flushing = nil
			w.s.counters.durable.Store(w.flushingCursor)
		default:
			return nil
		}
	}
	t := w.s.o.tune
	if !w.dirty || w.unflushed < t.flushCount && w.s.o.Clock.Now().Before(w.dirtySince.Add(t.flushEvery)) {
		return nil
	}
	return w.beginFlush()
}

func (w *writer) beginFlush() error {
	var flushed <-chan struct{}
	err := w.in.guard(func() (err error) { flushed, err = w.db.AsyncFlush(); return err })
	if err != nil {
		return fmt.Errorf("timeline: flush: %w", err)
	}
	w.flushing, w.flushingCursor = flushed, w.cursor
	w.dirty, w.unflushed = false, 0
	return nil
}

// serve grants one wish.
func (w *writer) serve() (bool, error) {
	reader, wish, ok := w.s.requests.take()
	if !ok {
		return false, nil
	}
	_, built := w.s.readers[reader]
	switch {
	case wish == drop:
		return true, w.drop([]id.ID{reader})
	case wish == rebuild || wish == build && !built:
		return true, w.build(reader)
	case built:
		return true, w.touch(reader)
	}
	return true, nil
}

func (s *Store) now() seconds { return seconds(max(0, s.o.Clock.Now().Unix())) }

// touchEvery is how old the time at which a reader was last seen may become
// before a page has it written again.
func (s *Store) touchEvery() time.Duration { return min(s.o.ActiveWindow/8, time.Hour) }

func setReader(b *pebble.Batch, reader id.ID, at seconds) error {
	return b.Set(key8(keyReader, uint64(reader)), binary.BigEndian.AppendUint32(nil, uint32(at)), nil)
}

func (w *writer) setSeen(reader id.ID, at seconds) {
	w.s.readersMu.Lock()
	w.s.readers[reader] = at
	w.s.readersMu.Unlock()
}

// touch notes that the reader was here.
func (w *writer) touch(reader id.ID) (err error) {
	b, now := w.db.NewBatch(), w.s.now()
	defer closeInto(&err, b)
	if err := setReader(b, reader, now); err != nil {
		return err
	}
	return w.commitOnly(b, func() { w.setSeen(reader, now) })
}

// drop forgets timelines.
func (w *writer) drop(readers []id.ID) (err error) {
	b := w.db.NewBatch()
	defer closeInto(&err, b)
	for _, r := range readers {
		err := errors.Join(
			b.Delete(key8(keyReader, uint64(r)), nil),
			b.Delete(key8(keyTimeline, uint64(r)), nil))
		if err != nil {
			return err
		}
	}
	return w.commitOnly(b, func() {
		w.s.readersMu.Lock()
		for _, r := range readers {
			delete(w.s.readers, r)
		}
		w.s.readersMu.Unlock()
		w.s.counters.drops.Add(uint64(len(readers)))
	})
}

// expire drops those who were not here for the active window, some at a time.
func (w *writer) expire() (bool, error) {
	now := w.s.o.Clock.Now()
	if len(w.expired) == 0 && !now.Before(w.nextSweep) {
		window := w.s.o.ActiveWindow
		w.nextSweep = now.Add(min(max(window/16, time.Second), 6*time.Hour))
		oldest := now.Add(-window - w.s.touchEvery()).Unix()
		for r, seen := range w.s.readers {
			if int64(seen) <= oldest {
				w.expired = append(w.expired, r)
			}
		}
		slices.Sort(w.expired)
	}
	if len(w.expired) == 0 {
		return false, nil
	}
	some := w.expired[:min(len(w.expired), w.s.o.tune.chunk)]
	if err := w.drop(some); err != nil {
		return false, err
	}
	w.expired = w.expired[len(some):]
	return true, nil
}

// waiter calls Source.Wait on a goroutine of its own, so that Run can wait for
// other things too.
type waiter struct {
	done   chan struct{} // closed to stop
	ended  chan struct{}
	seq    chan uint64
	answer chan error
	asked  bool // Run's: an answer is owed
}

func startWaiter(src Source) *waiter {
	w := &waiter{
		done: make(chan struct{}), ended: make(chan struct{}),
		seq: make(chan uint64), answer: make(chan error),
	}
	go func() {
		defer close(w.ended)
		for {
			select {
			case <-w.done:
				return
			case seq := <-w.seq:
				err := src.Wait(w.done, seq)
				select {
				case w.answer <- err:
				case <-w.done:
					return
				}
			}
		}
	}()
	return w
}

// ask begins to wait for an event after seq, unless it waits already. A wait
// that began earlier is for an event no later than that.
func (w *waiter) ask(seq uint64) {
	if !w.asked {
		w.seq <- seq
		w.asked = true
	}
}

func (w *waiter) stop() {
	close(w.done)
	<-w.ended
}
