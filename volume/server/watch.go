package server

import (
	"context"
	"time"
)

// watcher looks after the disk of one data directory. Everything it has is its
// goroutine's alone. What may wait for the disk runs on a goroutine of its own,
// one at a time, and hands back what the watcher is to do with the answer.
type watcher struct {
	*seat
	ctx     context.Context // of the server's life
	health  health
	last    time.Duration // the clock at the last look
	asking  bool          // something waits for the disk
	asked   time.Duration // since when, in the time of health
	answers chan func()
	probe   probeState
	vacancy vacancy
}

// watch is the goroutine: until ctx ends it looks at the disk every so often, and
// whenever a fault was seen.
func (t *seat) watch(ctx context.Context) {
	w := &watcher{seat: t, ctx: ctx, last: t.s.o.Clock.Elapsed(), answers: make(chan func(), 1)}
	if r := t.report(); r.state == DiskOut {
		w.health.goOut(r.reason, r.err)
	}
	tick := t.s.o.Clock.After(t.s.o.WatchEvery)
	for {
		ask := true
		select {
		case <-tick:
			tick = t.s.o.Clock.After(t.s.o.WatchEvery)
		case <-t.kicked:
		case then := <-w.answers:
			w.asking, ask = false, false
			then()
		case <-ctx.Done():
			return
		}
		w.look()
		if ask && !w.asking {
			w.ask()
		}
	}
}

// look has health take in what was seen, and acts on what it says.
func (w *watcher) look() {
	now := w.s.o.Clock.Elapsed()
	elapsed := lived(now-w.last, w.s.o.WatchEvery)
	w.last = now
	d := w.present()
	if d == nil || d.removed.Load() {
		w.health.now += elapsed
		w.tick.Store(int64(w.health.now))
		return
	}
	at := w.health.now + elapsed
	w.tick.Store(int64(at))
	s := d.seen.take(at)
	s.elapsed, s.probe = elapsed, w.probe
	if w.asking {
		s.waiting = at - w.asked
	}
	changed := w.health.look(s)
	d.allowWrites(w.health.readOnly())
	if changed {
		w.tell(d)
	}
}

// ask begins what is to be known of the disk.
func (w *watcher) ask() {
	if d := w.present(); d != nil && !d.removed.Load() {
		w.away(func() func() {
			gone, fault := d.probe()
			return func() {
				w.probe.n++
				if w.probe.fault = fault; gone != nil {
					w.vanished(d, gone)
				}
			}
		})
		return
	}
	if w.s.o.NoUpkeep {
		return
	}
	w.away(func() func() {
		found := w.inspect()
		return func() { w.consider(found) }
	})
}

// away runs f, which may wait for the disk, and has the watcher do what it
// returns. Nothing is asked meanwhile.
func (w *watcher) away(f func() func()) {
	w.asking, w.asked = true, w.health.now
	w.s.burying.Go(func() { w.answers <- f() }) // has room for the one
}

// publish lets others know of the disk's health.
func (w *watcher) publish() {
	h := &w.health
	w.mu.Lock()
	defer w.mu.Unlock()
	ago := h.now - h.since
	w.seat.health = healthReport{h.state, h.reason, h.err, w.s.o.Clock.Now().Add(-ago)}
	w.suspect.Store(0)
	if h.state != DiskOK {
		w.suspect.Store(1)
	}
}

// tell has the server go by what health says of a disk in use.
func (w *watcher) tell(d *disk) {
	w.publish()
	h := &w.health
	switch {
	case h.state == DiskOut:
		w.out(d)
	case d.usable() != nil:
		d.answer()
		w.s.o.Events(Event{Kind: EventDiskBack, Dir: d.dir, Reason: h.reason})
		w.s.diskBack(d)
		w.s.o.DiskChanged(d.dir, nil)
		d.kick()
	case h.state == DiskSuspect:
		w.s.o.Events(Event{Kind: EventDiskSuspect, Dir: d.dir, Reason: h.reason, Err: h.err})
	}
}

// out takes a disk out of service: nobody waits for it any more, ids reserved on
// it are moved, and nothing new is begun there.
func (w *watcher) out(d *disk) {
	err := outError(d.dir, w.health.reason, w.health.err)
	was := d.out.Swap(&err)
	if was == nil {
		w.outs.Add(1)
		close(*d.silent.Load())
	}
	for _, ws := range d.writers {
		for _, writer := range ws {
			writer.tile.Store(nil)
		}
	}
	w.s.o.Events(Event{Kind: EventDiskOut, Dir: d.dir, Reason: w.health.reason, Err: w.health.err})
	w.s.diskGone(d)
	w.s.o.DiskChanged(d.dir, err)
}

// answer puts the disk back into service.
func (d *disk) answer() {
	answers := make(chan struct{})
	d.silent.Store(&answers)
	d.out.Store(nil)
}

// allowWrites has nothing written to the disk for a reason, or with nil again.
func (d *disk) allowWrites(why error) {
	if why == nil {
		d.readOnly.Store(nil)
		return
	}
	err := unavailable("%s: %w", d.dir, why)
	d.readOnly.Store(&err)
}
