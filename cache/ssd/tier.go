package ssd

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/cache"
	"hayloft/internal/id"
	"hayloft/internal/slab"
)

// Tier is the second tier of one node.
type Tier struct {
	o       Options
	admit   *admission
	pool    slab.Pool
	places  chan struct{} // one element for each read under way
	closing chan struct{}
	done    chan struct{}  // closed when the tier's goroutine has ended
	reads   sync.WaitGroup // of readers

	dev atomic.Pointer[device] // nil: out of use
	n   counters

	mu      sync.Mutex
	wake    chan struct{} // has an element when the writer should look
	closed  bool
	queue   []*item // objects to be written
	queued  int64   // bytes of queue and writing
	writing []*item // objects that the writer has taken
	purges  []id.ID // to be noted on the device
	noting  []id.ID // purges that the writer has taken
	missed  []id.ID // purges while there was no device
	lost    bool    // there were too many of them to remember
}

type counters struct {
	hits, misses, timeouts, corrupt, errors, offered, admitted, known, first, refused, written, purged atomic.Uint64
}

// item is one object on its way to the device.
type item struct {
	rec  record
	size int64
	dead bool // purged meanwhile; guarded by Tier.mu
}

// Open returns a running tier; its caller must Close it. It does not wait for
// the device, and a device that is not there is no error.
func Open(o Options) (*Tier, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	t := &Tier{
		o: o, admit: newAdmission(o.generation()), places: make(chan struct{}, o.MaxReads),
		closing: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	go t.run()
	return t, nil
}

// closePatience is how long Close waits for a device that hangs.
const closePatience = 5 * time.Second

// Close writes what waits and ends all goroutines. The error says that the
// device holds some of them up.
func (t *Tier) Close() error {
	t.mu.Lock()
	first := !t.closed
	t.closed = true
	t.mu.Unlock()
	if first {
		close(t.closing)
	}
	ended := make(chan struct{})
	go func() {
		<-t.done
		t.reads.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-t.o.Clock.After(closePatience):
		return errors.New("ssd: the device does not answer")
	}
}

const (
	minPause = time.Second
	maxPause = time.Minute
)

// run opens the device, writes to it until that fails, and after a while tries
// again. It ends with Close.
func (t *Tier) run() {
	defer close(t.done)
	pause, failing := minPause, false
	for {
		began := t.o.Clock.Elapsed()
		err := t.use(func() { failing = false })
		if t.isClosing() {
			return
		}
		if !failing { // one event for each time of trouble
			failing = true
			t.o.Events(Event{Kind: Failed, Err: err})
		}
		if t.o.Clock.Elapsed()-began > maxPause { // it did well for a while
			pause = minPause
		}
		select {
		case <-t.o.Clock.After(pause):
		case <-t.closing:
			return
		}
		pause = min(2*pause, maxPause)
	}
}

func (t *Tier) isClosing() bool {
	select {
	case <-t.closing:
		return true
	default:
		return false
	}
}

// use opens the device and writes to it until it fails or the tier is closed.
func (t *Tier) use(up func()) error {
	dev, err := openDevice(t)
	if err != nil {
		t.n.errors.Add(1)
		return err
	}
	t.attach(dev)
	up()
	t.o.Events(Event{Kind: Ready, Objects: dev.index.count.Load()})
	err = t.write(dev)
	dev.fail(err)
	t.detach()
	return errors.Join(dev.why(), dev.file.Close())
}

// attach takes dev into use, less what was purged while there was none.
func (t *Tier) attach(dev *device) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lost {
		dev.index = newIndex(t.o.indexLimit())
	}
	for _, blob := range t.missed {
		t.purgeFrom(dev, blob)
	}
	t.missed, t.lost = nil, false
	t.dev.Store(dev)
}

// detach gives up what waits to be written.
func (t *Tier) detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dev.Store(nil)
	// What was not noted on the device is purged again when it is back.
	t.missed = append(append(t.missed, t.noting...), t.purges...)
	t.queue, t.writing, t.purges, t.noting, t.queued = nil, nil, nil, nil, 0
}

// Get returns the object of k, verified, when the device has it and says so in
// time.
func (t *Tier) Get(ctx context.Context, k cache.Key) (cache.Object, bool) {
	o, ok := t.get(ctx, k)
	if ok {
		t.n.hits.Add(1)
	} else {
		t.n.misses.Add(1)
	}
	return o, ok
}

func (t *Tier) get(ctx context.Context, k cache.Key) (cache.Object, bool) {
	dev := t.dev.Load()
	if dev == nil || dev.failed() {
		return cache.Object{}, false
	}
	s, ok := dev.index.find(k.Blob, tagOf(k.Cookie, k.Variant, k.Ext))
	if !ok {
		return cache.Object{}, false
	}
	select {
	case t.places <- struct{}{}:
	default:
		t.n.timeouts.Add(1)
		return cache.Object{}, false
	}
	r := &reading{result: make(chan cache.Object, 1)}
	if !t.spawn(func() { r.deliver(t.read(dev, s, k)) }) {
		<-t.places
		return cache.Object{}, false
	}
	select {
	case o := <-r.result:
		return o, o.Data != nil
	case <-ctx.Done():
		return r.giveUp()
	case <-t.o.Clock.After(t.o.ReadTimeout):
		t.n.timeouts.Add(1)
		dev.struck(errSlow)
		return r.giveUp()
	}
}

// reading is one read and the one who waits for it: who comes second to claim it
// has the object.
type reading struct {
	claimed atomic.Bool
	result  chan cache.Object // has room for one
}

// deliver hands o over, or ends its use when nobody waits any more.
func (r *reading) deliver(o cache.Object) {
	if !r.claimed.Swap(true) {
		r.result <- o
	} else if o.Release != nil {
		o.Release()
	}
}

// giveUp ends the waiting; if the object came just now it is returned.
func (r *reading) giveUp() (cache.Object, bool) {
	if !r.claimed.Swap(true) {
		return cache.Object{}, false
	}
	o := <-r.result
	return o, o.Data != nil
}

// spawn runs f on a goroutine that Close waits for; false after Close.
func (t *Tier) spawn(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.reads.Go(f)
	return true
}

// read runs on a goroutine of its own: nothing can call off a read of a device
// that hangs.
func (t *Tier) read(dev *device, s slot, k cache.Key) cache.Object {
	defer func() { <-t.places }()
	seq := dev.seqs[s.region].Load()
	lease := t.pool.Get(int(s.units)*unit + 2*blockBytes)
	b, err := dev.read(lease.Bytes(), s)
	if err != nil {
		lease.Release()
		t.n.errors.Add(1)
		dev.index.drop(k.Blob, s)
		dev.struck(err)
		return cache.Object{}
	}
	dev.strikes.Store(0)
	o, err := answer(b, dev.place(int(s.region), seq, s.unit), k)
	if err == nil {
		o.Release = func() { lease.Release() }
		return o
	}
	lease.Release()
	// It is no wonder when the region was written over meanwhile.
	if !errors.Is(err, errOther) && dev.seqs[s.region].Load() == seq && dev.index.drop(k.Blob, s) {
		t.n.corrupt.Add(1)
		t.o.Events(Event{Kind: Corrupt, Err: err})
	}
	return cache.Object{}
}

// Offer tells of an object that had to be fetched. What is kept is copied.
func (t *Tier) Offer(k cache.Key, o cache.Object) {
	t.n.offered.Add(1)
	dev := t.dev.Load()
	rec := objectRecord(k, o)
	if dev == nil || dev.failed() || !rec.fits() || len(o.Data) == 0 || rec.size() > dev.maxObject() {
		t.n.refused.Add(1)
		return
	}
	if _, there := dev.index.find(k.Blob, tagOf(k.Cookie, k.Variant, k.Ext)); there {
		t.n.known.Add(1)
		return
	}
	if !t.admit.again(k) && !t.o.everything {
		t.n.first.Add(1)
		return
	}
	it := &item{rec: rec, size: int64(unitsOf(rec.size()) * unit)}
	if !t.room(dev, it.size) {
		t.n.refused.Add(1)
		return
	}
	it.rec.data = append([]byte(nil), o.Data...) // outside the lock, into room that is booked
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dev.Load() != dev { // what was booked is void
		t.n.refused.Add(1)
		return
	}
	t.queue = append(t.queue, it)
	t.n.admitted.Add(1)
	t.rouse()
}

// room books room in the queue.
func (t *Tier) room(dev *device, n int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.dev.Load() != dev || t.queued+n > t.o.QueueBytes {
		return false
	}
	t.queued += n
	return true
}

// rouse wakes the writer. Needs mu.
func (t *Tier) rouse() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Purge forgets every object of a blob, also of those that wait to be written.
func (t *Tier) Purge(blob id.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if dev := t.dev.Load(); dev != nil {
		t.purgeFrom(dev, blob)
		return
	}
	if len(t.missed) >= maxMissed {
		t.missed, t.lost = nil, true
	}
	if !t.lost {
		t.missed = append(t.missed, blob)
	}
}

// maxMissed is how many purges are remembered for a device that is away, or writes
// nothing; when there are more, it is not believed what it held.
const maxMissed = 1 << 20

// purgeFrom purges dev. Needs mu.
func (t *Tier) purgeFrom(dev *device, blob id.ID) {
	n := dev.index.purge(blob)
	for _, list := range [][]*item{t.queue, t.writing} {
		for _, it := range list {
			if it.rec.blob == blob && !it.dead {
				it.dead = true
				n++
			}
		}
	}
	if n == 0 && !dev.index.wasHidden(blob) {
		return // nothing on the device that a restart could find
	}
	t.n.purged.Add(uint64(n))
	if len(t.purges) >= maxMissed { // nothing has been written for a long time
		t.purges, t.lost = nil, true
		dev.fail(errBehind)
	}
	if !t.lost {
		t.purges = append(t.purges, blob)
	}
	t.rouse()
}

// Stats returns counters and gauges. They are read one after the other.
func (t *Tier) Stats() Stats {
	s := Stats{
		Hits: t.n.hits.Load(), Misses: t.n.misses.Load(), Timeouts: t.n.timeouts.Load(), Corrupt: t.n.corrupt.Load(),
		Errors: t.n.errors.Load(), Offered: t.n.offered.Load(), Admitted: t.n.admitted.Load(), Known: t.n.known.Load(),
		First: t.n.first.Load(), Refused: t.n.refused.Load(), Written: t.n.written.Load(), Purged: t.n.purged.Load(),
	}
	if dev := t.dev.Load(); dev != nil && !dev.failed() {
		s.Up, s.Objects, s.IndexBytes, s.FileBytes = true, dev.index.count.Load(), dev.index.bytes(), dev.bytes()
	}
	return s
}
