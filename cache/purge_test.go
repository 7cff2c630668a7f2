package cache

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/internal/id"
)

// warm fills k and lets the cache hear from the log.
func warm(t *testing.T, w *world, c *Cache, keys ...Key) {
	t.Helper()
	for _, k := range keys {
		w.with(func() { w.verdicts[k.Blob] = public })
		if _, err := fetchOne(t, w, c, k, nil); err != nil {
			t.Fatal(err)
		}
	}
	w.beat(c)
}

func TestPurgeDropsEveryVariant(t *testing.T) {
	w := newWorld()
	c := open(t, w, Options{})
	a, b, other := keyOf(7, "small"), keyOf(7, "large"), keyOf(8, "large")
	warm(t, w, c, a, b, other)
	w.with(func() { delete(w.verdicts, 7) })
	w.purge(7)
	w.settle(c)
	for _, k := range []Key{a, b} {
		if _, err := fetchOne(t, w, c, k, nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", k.Variant, err)
		}
	}
	if from, err := fetchOne(t, w, c, other, nil); err != nil || from != byHit {
		t.Errorf("other blob: how %d, %v", from, err)
	}
	if st := c.Stats(); st.PurgedEntries != 2 || st.Purges != 1 || st.PurgeSeq != 3 {
		t.Errorf("stats %+v", st)
	}
	audit(t, c)
}

// A node that is cut off from the log may serve by what it knows for 2 s, and
// then asks about everything before it serves it.
func TestSilentLogMeansAsking(t *testing.T) {
	w := newWorld()
	c := open(t, w, Options{})
	k := keyOf(7, "large")
	warm(t, w, c, k)
	asked := w.asked
	w.with(func() { w.silent = true })

	w.clock.Advance(2*time.Second - time.Nanosecond)
	w.with(func() { delete(w.verdicts, 7) }) // nobody tells the cache
	if from, err := fetchOne(t, w, c, k, nil); err != nil || from != byHit || w.asked != asked {
		t.Errorf("within 2 s: how %d, %v, %d questions", from, err, w.asked-asked)
	}
	w.clock.Advance(time.Nanosecond)
	if _, err := fetchOne(t, w, c, k, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("after 2 s: %v", err)
	}
	if st := c.Stats(); st.Entries != 0 || st.Revalidations != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestRevalidation(t *testing.T) {
	w := newWorld()
	c := open(t, w, Options{})
	k := keyOf(7, "large")
	warm(t, w, c, k)
	w.with(func() { w.silent = true })
	w.clock.Advance(time.Hour)

	w.with(func() { w.askErr = errDown })
	if _, err := fetchOne(t, w, c, k, nil); !errors.Is(err, errDown) {
		t.Errorf("nobody to ask: %v, want an error that is no 404", err)
	}
	w.with(func() { w.askErr = nil })
	if from, err := fetchOne(t, w, c, k, nil); err != nil || from != byRevalidation {
		t.Errorf("asked and still public: how %d, %v", from, err)
	}
	asked := w.asked
	if from, err := fetchOne(t, w, c, k, nil); err != nil || from != byHit || w.asked != asked {
		t.Errorf("an answer is good for 2 s: how %d, %v", from, err)
	}
	w.clock.Advance(2 * time.Second)
	w.with(func() { w.verdicts[7] = Verdict{Audience: Signed, Epoch: 4} })
	if _, err := fetchOne(t, w, c, k, nil); !errors.Is(err, errDenied) {
		t.Errorf("now private: %v", err)
	}
	// A clock that was stepped back proves nothing about age.
	w.with(func() { w.verdicts[7] = Verdict{} })
	w.clock.Set(w.clock.Now().Add(-time.Hour))
	if _, err := fetchOne(t, w, c, k, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("clock stepped back: %v", err)
	}
}

// What the log answers holds for the moment it was asked, not for the moment
// the answer is read.
func TestLateHeartbeatProvesLittle(t *testing.T) {
	w := newWorld()
	c := open(t, w, Options{})
	k := keyOf(7, "large")
	warm(t, w, c, k)
	w.clock.Advance(time.Minute) // the call under way is a minute old
	heard := c.log.heardAt()
	w.mu.Lock()
	from := w.reached
	w.beats = 1
	w.cond.Broadcast()
	for w.reached == from {
		w.cond.Wait()
	}
	w.mu.Unlock()
	if now := c.log.heardAt(); now.After(heard) {
		t.Errorf("heard at %v, was %v", now, heard)
	}
}

func TestOneQuestionForManyReaders(t *testing.T) {
	w := newWorld()
	c := open(t, w, Options{})
	k := keyOf(7, "large")
	warm(t, w, c, k)
	w.with(func() { w.silent, w.holdAsk = true, make(chan struct{}) })
	w.clock.Advance(time.Hour)
	asked := w.asked
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := fetchOne(t, w, c, k, nil); err != nil {
				t.Error(err)
			}
		})
	}
	w.until(func() bool { return w.inAsk == 1 })
	close(w.holdAsk)
	wg.Wait()
	if n := w.asked - asked; n != 1 {
		t.Errorf("%d questions", n)
	}
}

// The answer to a question asked before a purge is not used after it.
func TestPurgeBeatsTheQuestionUnderWay(t *testing.T) {
	w := newWorld()
	c := open(t, w, Options{})
	k := keyOf(7, "large")
	warm(t, w, c, k)
	hold := make(chan struct{})
	w.with(func() { w.holdAsk, w.silent = hold, true })
	w.clock.Advance(time.Hour)
	result := make(chan error, 1)
	go func() {
		_, err := fetchOne(t, w, c, k, nil)
		result <- err
	}()
	w.until(func() bool { return w.inAsk == 1 })
	s := c.shardOf(7)
	s.purge(7)
	s.mu.Lock()
	pending := len(s.asks)
	s.mu.Unlock()
	if pending != 0 {
		t.Error("later readers would join a question from before the purge")
	}
	w.with(func() { w.holdAsk = nil })
	close(hold) // answers "public"
	if err := <-result; err != nil || w.fetched(k) != 2 {
		t.Errorf("%v after %d fetches; the purge must lead to a new fill", err, w.fetched(k))
	}
}

func TestGapDropsEverything(t *testing.T) {
	w := newWorld()
	var mu sync.Mutex
	var events []EventKind
	c := open(t, w, Options{Budget: 256 << 20, Events: func(e Event) {
		mu.Lock()
		events = append(events, e.Kind)
		mu.Unlock()
	}})
	var keys []Key
	for blob := id.ID(1); blob <= 40; blob++ {
		keys = append(keys, keyOf(blob, "small"))
	}
	w.with(func() { w.head, w.gap = 7, true }) // at the start: no news
	w.until(func() bool { return c.log.seq.Load() == 7 })
	w.beat(c)
	warm(t, w, c, keys...)
	w.with(func() { w.head, w.gap = 500, true })
	w.until(func() bool { return c.log.seq.Load() == 500 })
	w.beat(c)
	if st := c.Stats(); st.Entries != 0 || st.PurgeGaps != 2 || st.PurgedEntries != 40 {
		t.Errorf("stats %+v", st)
	}
	mu.Lock()
	if len(events) != 1 || events[0] != PurgeLogGap {
		t.Errorf("events %v", events)
	}
	mu.Unlock()
	w.purge(1) // numbered after the gap's head
	w.settle(c)
	audit(t, c)
}

// errorLog fails a few times, then answers nonsense, then works.
type errorLog struct {
	*world
	mu    sync.Mutex
	calls int
}

func (l *errorLog) Purges(ctx context.Context, after uint64, limit int) ([]Purge, time.Duration, error) {
	l.mu.Lock()
	l.calls++
	n := l.calls
	l.mu.Unlock()
	switch {
	case n <= 3:
		return nil, 0, errDown
	case n == 4:
		return []Purge{{Seq: 0, Blob: 7}}, 0, nil // not above after
	}
	return l.world.Purges(ctx, after, limit)
}

func TestLogErrorsAreRetriedAfterAPause(t *testing.T) {
	w := newWorld()
	var events []Event
	o := Options{Origin: w, Access: w, Purges: &errorLog{world: w}, Clock: w.clock, Events: func(e Event) { events = append(events, e) }}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 4 {
		for w.clock.Waiters() == 0 {
			runtime.Gosched() // the follower is about to go to sleep
		}
		if !c.log.heardAt().IsZero() {
			t.Error("an error counts as hearing")
		}
		w.clock.Advance(purgePause)
	}
	w.beat(c)
	if c.log.heardAt().IsZero() {
		t.Error("the log works and was not heard")
	}
	if len(events) != 1 || events[0].Kind != PurgeLogFailed {
		t.Errorf("events %+v, want one for one time of silence", events)
	}
}

// A batch that is full says nothing about the log's head.
func TestFullBatchIsNotTheHead(t *testing.T) {
	w := newWorld()
	w.with(func() {
		for i := range uint64(purgeBatch) {
			w.log = append(w.log, Purge{i + 1, 9})
		}
	})
	c := open(t, w, Options{})
	w.until(func() bool { return c.log.seq.Load() == purgeBatch })
	if !c.log.heardAt().IsZero() {
		t.Error("counts as heard")
	}
	w.beat(c)
	if c.log.heardAt().IsZero() {
		t.Error("not heard")
	}
}

// lateAccess says once more what was so when it was asked, after a while.
type lateAccess struct {
	*world
	asked, answer chan struct{}
	calls         atomic.Int32
}

func (l *lateAccess) Access(ctx context.Context, blob id.ID) (Verdict, error) {
	if l.calls.Add(1) > 1 {
		return Verdict{}, nil // gone meanwhile
	}
	close(l.asked)
	<-l.answer
	return public, nil
}

// What Access answers holds for the moment of the question, too: one that was on its way
// for as long as a verdict is good for is asked for again.
func TestLateVerdictIsAskedForAgain(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		w := newWorld()
		w.with(func() { w.silent = true })
		late := &lateAccess{world: w, asked: make(chan struct{}), answer: make(chan struct{})}
		c, err := New(Options{Origin: w, Access: late, Purges: w, Clock: w.clock, Ring: testRing(t)})
		if err != nil {
			t.Fatal(err)
		}
		k := keyOf(7, "large")
		if inMemory {
			c.Push(k, object(k, 1000))
		}
		got := make(chan error, 1)
		go func() {
			_, err := fetchOne(t, w, c, k, nil)
			got <- err
		}()
		<-late.asked
		w.clock.Advance(2 * time.Second)
		close(late.answer)
		if err := <-got; !errors.Is(err, ErrNotFound) || late.calls.Load() != 2 {
			t.Errorf("in memory %v: %v after %d questions", inMemory, err, late.calls.Load())
		}
		c.Close()
	}
}

// What stands behind a cache may itself be behind: its age counts from the same two
// seconds.
func TestAgesAddUp(t *testing.T) {
	const behind = 900 * time.Millisecond
	for name, ask := range map[string]func(w *world, c *Cache){
		"the log":   func(w *world, c *Cache) { w.beat(c) },
		"a verdict": func(w *world, c *Cache) {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.age = behind
			c := open(t, w, Options{})
			k := keyOf(7, "large")
			w.verdicts[7] = public
			if _, err := fetchOne(t, w, c, k, nil); err != nil {
				t.Fatal(err)
			}
			ask(w, c)
			w.with(func() { w.silent, w.verdicts[7] = true, Verdict{} })
			w.clock.Advance(2*time.Second - behind - time.Nanosecond)
			if from, err := fetchOne(t, w, c, k, nil); err != nil || from != byHit {
				t.Errorf("within 2 s of what was known: how %d, %v", from, err)
			}
			w.clock.Advance(time.Nanosecond)
			if _, err := fetchOne(t, w, c, k, nil); !errors.Is(err, ErrNotFound) {
				t.Errorf("after 2 s: %v", err)
			}
		})
	}
}

// An answer as of a moment after the question counts from that moment, and from none
// that is still to come.
func TestYoungAnswers(t *testing.T) {
	w := newWorld()
	c := open(t, w, Options{})
	w.with(func() { w.age = -300 * time.Millisecond })
	w.beat(c)
	if heard := c.log.heardAt(); heard.After(epoch0) {
		t.Errorf("heard %v ahead of the clock", heard.Sub(epoch0))
	}
	w.clock.Advance(time.Second) // the call under way is a second old
	w.mu.Lock()
	from := w.reached
	w.beats = 1
	w.cond.Broadcast()
	for w.reached == from {
		w.cond.Wait()
	}
	w.mu.Unlock()
	if heard := c.log.heardAt(); !heard.Equal(epoch0.Add(300 * time.Millisecond)) {
		t.Errorf("heard as of %v after the question", heard.Sub(epoch0))
	}
}

// An answer that is two seconds old when it comes is dropped: nothing is served by it.
func TestLateVerdictsAreDropped(t *testing.T) {
	w := newWorld()
	c := open(t, w, Options{})
	k := keyOf(7, "large")
	warm(t, w, c, k)
	w.with(func() { w.silent, w.age = true, 2*time.Second })
	w.clock.Advance(time.Hour)
	if _, err := fetchOne(t, w, c, k, nil); !errors.Is(err, errStale) {
		t.Errorf("%v, want an error that is no 404", err)
	}
	if _, err := fetchOne(t, w, c, keyOf(8, "large"), nil); err == nil {
		t.Error("filled on a verdict that is too old")
	}
}
