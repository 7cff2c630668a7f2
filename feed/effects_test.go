package feed

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/testenv"
)

// await takes a value from ch while the clock runs on in steps.
func await[T any](h *house, ch <-chan T, step time.Duration) T {
	h.t.Helper()
	deadline := time.After(testenv.Patience)
	for {
		select {
		case v := <-ch:
			return v
		case <-deadline:
			h.t.Fatal("nothing happens")
		default:
			h.clock.Advance(step)
			runtime.Gosched()
		}
	}
}

// effects runs RunEffects in the background; the returned function ends it.
func (h *house) effects(kind EffectKind, workers int, handle func(context.Context, Effect) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.feed.RunEffects(ctx, kind, workers, handle) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			h.t.Errorf("RunEffects: %v", err)
		}
	})
}

// queued lists the effects of the state.
func (h *house) queued() (list []Effect) {
	h.must(store{h.group.db}.scan([]byte{tabEffect}, []byte{tabEffect + 1}, func(k, v []byte) error {
		var e effectRow
		list = append(list, Effect{})
		err := decodeRow(v, &e)
		list[len(list)-1] = *effectOf(parseBE(k[1:]), &e)
		return err
	}))
	return list
}

func TestEffectIsRetriedThenDone(t *testing.T) {
	h := newHouse(t, nil)
	photo := h.upload(h.user("anna"), Details{})
	calls := make(chan Effect)
	fail := errors.New("disk on fire")
	stop := h.effects(EffectTranscode, 1, func(_ context.Context, e Effect) error {
		calls <- e
		if e.Attempts < 3 {
			return fail
		}
		if e.Attempts == 3 {
			return nil // a lie, see below
		}
		return h.ready(e.Photo)
	})
	defer stop()
	for attempt := range 5 { // the fifth because a pending photo is not done
		before := h.clock.Now()
		e := await(h, calls, 10*time.Millisecond)
		if e.Photo != photo || e.Attempts != attempt {
			t.Fatalf("got %+v, want attempt %d of %v", e, attempt, photo)
		}
		if pause := h.clock.Now().Sub(before); attempt > 0 && pause < time.Second<<(attempt-1)-50*time.Millisecond {
			t.Errorf("attempt %d came after %v", attempt, pause)
		}
	}
	stop()
	if left := h.queued(); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

func TestEffectIsParkedAndTakenBack(t *testing.T) {
	parked := make(chan Notice, 1)
	h := newHouse(t, func(o *Options) {
		o.Notify = func(n Notice) {
			if n.Kind == EffectParked {
				parked <- n
			}
		}
	})
	ctx := context.Background()
	photo := h.upload(h.user("anna"), Details{})
	calls := make(chan Effect)
	poisonous := true
	handle := func(_ context.Context, e Effect) error {
		calls <- e
		switch {
		case poisonous && e.Attempts == 2:
			return fmt.Errorf("in a wrapper: %w", Poison(errors.New("bad bytes")))
		case poisonous:
			return errors.New("something else")
		}
		return h.ready(e.Photo)
	}
	stop := h.effects(EffectTranscode, 2, handle)
	for range 3 {
		await(h, calls, 100*time.Millisecond)
	}
	if n := <-parked; n.Err.Error() != "in a wrapper: bad bytes" || n.Effect.Photo != photo {
		t.Errorf("notice %+v", n)
	}
	stop()
	list, err := h.feed.ParkedEffects(ctx, 0, 10)
	h.must(err)
	if len(list) != 1 || list[0].Photo != photo || list[0].Reason != "in a wrapper: bad bytes" || list[0].Attempts != 3 {
		t.Fatalf("parked %+v", list)
	}
	h.check()
	h.wants(h.feed.RetryEffect(ctx, 99), ErrNotFound)
	h.must(h.feed.RetryEffect(ctx, list[0].Seq))
	poisonous = false
	stop = h.effects(EffectTranscode, 2, handle)
	if e := await(h, calls, time.Millisecond); e.Attempts != 0 {
		t.Errorf("after unparking: %+v", e)
	}
	stop()
	h.check()
}

// An outage, however long, holds work up and ends by itself. Its reports do not
// grow with it.
func TestOutageParksNothing(t *testing.T) {
	for _, kind := range []EffectKind{EffectTranscode, EffectReclaim} {
		var told []int
		h := newHouse(t, func(o *Options) {
			o.Notify = func(n Notice) { // one worker: no two at once
				if n.Kind != EffectRetried || n.Err.Error() != "no decoder" {
					t.Errorf("notice %+v", n)
				}
				told = append(told, n.Effect.Attempts)
			}
		})
		ctx := context.Background()
		anna := h.user("anna")
		photo := h.upload(anna, Details{})
		if kind == EffectReclaim {
			h.must(h.feed.DeletePhoto(ctx, anna, photo, true))
		}
		const fails = 300
		calls := make(chan Effect)
		stop := h.effects(kind, 1, func(_ context.Context, e Effect) error {
			calls <- e
			switch {
			case e.Attempts < fails && kind == EffectReclaim:
				return Poison(errors.New("no decoder")) // of no avail
			case e.Attempts < fails:
				return errors.New("no decoder")
			case kind == EffectReclaim:
				return nil
			}
			return h.ready(e.Photo)
		})
		for attempt := range fails + 1 {
			if e := await(h, calls, time.Minute); e.Attempts != attempt {
				t.Fatalf("attempt %d: got %+v", attempt, e)
			}
		}
		stop()
		cmd := h.feed.retry(Effect{Seq: 1, Kind: kind, Attempts: 1 << 40}, errors.New("no decoder")).(*cmdEffectFailed)
		if pause := cmd.NotBefore.Sub(h.clock.Now()); cmd.Park || pause < 10*time.Minute-time.Second || pause > 10*time.Minute*5/4 {
			t.Errorf("after many: %+v, a pause of %v", cmd, pause)
		}
		if want := []int{1, 2, 4, 8, 16, 32, 64, 128, 256}; !slices.Equal(told, want) {
			t.Errorf("told of %v, want %v", told, want)
		}
		if left := h.queued(); len(left) != 0 {
			t.Errorf("left: %+v", left)
		}
		if list, err := h.feed.ParkedEffects(ctx, 0, 10); err != nil || len(list) != 0 {
			t.Errorf("parked: %v, %v", list, err)
		}
	}
	if Poison(nil) != nil {
		t.Error("a nil is poisonous")
	}
}

// Work that was owed, or put off, while the clock ran hours ahead does not wait
// for hours once the clock is right.
func TestEffectsDoNotWaitForAClockThatRanAhead(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	find := func(what string, want bool) {
		t.Helper()
		e, wait, err := h.feed.findEffect(ctx, EffectTranscode, "n1")
		if err != nil || (e != nil) != want || e == nil && (wait <= 0 || wait > effectLook) {
			t.Errorf("%s: found %+v, wait %v, %v", what, e, wait, err)
		}
		if e != nil {
			h.feed.leases.release(e.Seq, "n1")
		}
	}
	anna := h.user("anna")
	find("nothing", false)
	ahead := func(d time.Duration) { h.clock.Set(h.clock.Now().Add(d)) }
	ahead(5 * time.Hour)
	h.upload(anna, Details{})
	ahead(-5 * time.Hour)
	find("fresh", true)
	fail := func() {
		_, err := h.feed.propose(ctx, h.feed.retry(Effect{Seq: h.queued()[0].Seq, Attempts: 30}, errors.New("no")))
		h.must(err)
	}
	fail()
	find("put off", false)
	h.check()
	h.clock.Advance(13 * time.Minute)
	find("after its pause", true)
	ahead(5 * time.Hour)
	fail()
	ahead(-5 * time.Hour)
	find("put off by a clock that ran ahead", true)
	_, err := h.feed.propose(ctx, &cmdEffectFailed{Seq: h.queued()[0].Seq, Attempt: 9, Park: true, Reason: "x"})
	h.must(err)
	ahead(time.Minute)
	h.must(h.feed.RetryEffect(ctx, h.queuedParked()))
	ahead(-time.Minute)
	find("taken back", true)
	h.check()
}

// queuedParked is the seq of the only parked effect.
func (h *house) queuedParked() uint64 {
	h.t.Helper()
	list, err := h.feed.ParkedEffects(context.Background(), 0, 2)
	if err != nil || len(list) != 1 {
		h.t.Fatalf("parked: %v, %v", list, err)
	}
	return list[0].Seq
}

// The age of what is owed counts from when it was owed, not from its latest try.
func TestBacklogAgeOutlastsRetries(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	oldest := func(what string, want time.Duration) {
		t.Helper()
		b, err := h.feed.Backlog(ctx)
		if err != nil || b.Oldest != want {
			t.Errorf("%s: %+v, %v; want an oldest of %v", what, b, err, want)
		}
	}
	oldest("nothing owed", 0)
	first := h.upload(anna, Details{})
	h.clock.Advance(time.Hour)
	second := h.upload(anna, Details{})
	h.clock.Advance(time.Hour)
	seq := h.queued()[0].Seq
	_, err := h.feed.propose(ctx, &cmdEffectFailed{Seq: seq, Attempt: 9, NotBefore: h.feed.due(time.Minute), Reason: "x"})
	h.must(err)
	oldest("after a failure", 2*time.Hour)
	_, err = h.feed.propose(ctx, &cmdEffectFailed{Seq: seq, Attempt: 10, Park: true, Reason: "x"})
	h.must(err)
	oldest("parked", time.Hour)
	h.must(h.feed.RetryEffect(ctx, seq))
	oldest("taken back", 2*time.Hour)
	h.must(h.ready(first))
	h.must(h.ready(second))
	oldest("all done", 0)
	h.upload(anna, Details{})
	h.clock.Set(h.clock.Now().Add(-time.Hour))
	oldest("clock stepped back", 0)
}

// A parked transcode effect goes when its photo does.
func TestDeleteTakesParkedEffectAlong(t *testing.T) {
	h := newHouse(t, nil)
	anna := h.user("anna")
	photo := h.upload(anna, Details{})
	calls := make(chan Effect)
	stop := h.effects(EffectTranscode, 1, func(_ context.Context, e Effect) error { calls <- e; return Poison(errors.New("no")) })
	await(h, calls, time.Millisecond)
	stop()
	h.must(h.feed.DeletePhoto(context.Background(), anna, photo, false))
	list, err := h.feed.ParkedEffects(context.Background(), 0, 10)
	if err != nil || len(list) != 0 {
		t.Errorf("parked: %v, %v", list, err)
	}
	h.check()
}

func TestEffectsRunSideBySideAndOnce(t *testing.T) {
	h := newHouse(t, nil)
	anna := h.user("anna")
	for range 6 {
		h.upload(anna, Details{})
	}
	started, release := make(chan uint64), make(chan struct{})
	stop := h.effects(EffectTranscode, 3, func(_ context.Context, e Effect) error {
		started <- e.Seq
		<-release
		return h.ready(e.Photo)
	})
	seen := map[uint64]bool{}
	for range 3 {
		seen[await(h, started, time.Millisecond)] = true
	}
	select {
	case seq := <-started:
		t.Fatalf("a fourth of three workers: %d", seq)
	default:
	}
	for range 3 {
		release <- struct{}{}
		seen[await(h, started, time.Millisecond)] = true
	}
	close(release)
	stop()
	if len(seen) != 6 {
		t.Errorf("%d of 6 effects seen", len(seen))
	}
}

// What a crash or a stop cuts short is not lost and not counted.
func TestEffectsSurviveStopAndCrash(t *testing.T) {
	h := newHouse(t, nil)
	photo := h.upload(h.user("anna"), Details{})
	started := make(chan Effect)
	stop := h.effects(EffectTranscode, 1, func(ctx context.Context, e Effect) error {
		started <- e
		<-ctx.Done()
		return ctx.Err()
	})
	await(h, started, time.Millisecond)
	stop()
	h.close()
	h.group.close(t)
	h.group.open(t)
	h.open()
	done := make(chan error, 1)
	stop = h.effects(EffectTranscode, 1, func(ctx context.Context, e Effect) error {
		if e.Photo != photo || e.Attempts != 0 {
			t.Errorf("got %+v", e)
		}
		err := h.ready(e.Photo)
		done <- err
		return err
	})
	h.must(await(h, done, time.Millisecond))
	stop()
	if last := h.group.log[len(h.group.log)-1]; last[1] != 24 {
		t.Errorf("the last command has kind %d; MarkReady alone completes the effect", last[1])
	}
	p, err := h.feed.Photo(context.Background(), 0, photo)
	if err != nil || p.Status != Ready {
		t.Errorf("photo %+v, %v", p, err)
	}
	h.check()
}

// A photo that was purged is reclaimed through effects: its master and its
// rendition, each once.
func TestReclaimAfterPurge(t *testing.T) {
	h := newHouse(t, nil)
	anna := h.user("anna")
	photo := h.post(anna, Details{})
	p, err := h.feed.Photo(context.Background(), anna, photo)
	h.must(err)
	h.must(h.feed.DeletePhoto(context.Background(), anna, photo, true))
	blobs := make(chan id.ID, 2)
	stop := h.effects(EffectReclaim, 1, func(_ context.Context, e Effect) error { blobs <- e.Blob; return nil })
	first, second := await(h, blobs, time.Millisecond), await(h, blobs, time.Millisecond)
	stop()
	if first != p.Master.Blob || second != p.Rendition.Blob || len(h.queued()) != 0 {
		t.Errorf("reclaimed %v and %v, want %v and %v; left %v", first, second, p.Master.Blob, p.Rendition.Blob, h.queued())
	}
}

func TestWaitReadyIsWoken(t *testing.T) {
	h := newHouse(t, nil)
	anna := h.user("anna")
	for what, tc := range map[string]struct {
		settle func(id.ID) error
		status Status
		err    error
	}{
		"ready":   {h.ready, Ready, nil},
		"failed":  {func(p id.ID) error { return h.feed.MarkFailed(context.Background(), p, Failure{"x", "y"}) }, Failed, nil},
		"deleted": {func(p id.ID) error { return h.feed.DeletePhoto(context.Background(), anna, p, false) }, 0, ErrNotFound},
	} {
		photo := h.upload(anna, Details{})
		type answer struct {
			p   PhotoView
			err error
		}
		got := make(chan answer, 1)
		go func() {
			p, err := h.feed.WaitReady(context.Background(), anna, photo)
			got <- answer{p, err}
		}()
		for { // until it waits
			h.group.machine.watch.mu.Lock()
			n := len(h.group.machine.watch.photos)
			h.group.machine.watch.mu.Unlock()
			if n == 1 {
				break
			}
			runtime.Gosched()
		}
		h.must(tc.settle(photo))
		if a := <-got; a.p.Status != tc.status || !errors.Is(a.err, tc.err) {
			t.Errorf("%s: got %v, %v", what, a.p.Status, a.err)
		}
		if n := len(h.group.machine.watch.photos); n != 0 {
			t.Errorf("%s: %d watches left", what, n)
		}
	}
	photo := h.upload(anna, Details{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := h.feed.WaitReady(ctx, anna, photo)
	h.wants(err, context.Canceled)
}
