package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"hayloft/cache/policy"
	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// flight is one fill and those who wait for it. A purge of its blob takes it
// out of its shard's map and marks it doomed: nobody joins it any more, its
// result is thrown away and its waiters start again.
type flight struct {
	key  key
	ctx  context.Context // of the fill: with a deadline, and no client's
	stop context.CancelCauseFunc
	done chan struct{} // closed when the result below is there

	// Guarded by shard.mu.
	waiters int
	epochs  []uint32 // of the signatures that waiters came with, each once
	tiers   bool     // a tier waits, which may have it whatever the epoch
	doomed  bool
	over    bool

	// The result; written under shard.mu before done is closed, then constant.
	entry   *entry // pinned once for each waiter
	verdict Verdict
	err     error
}

// miss joins or begins the fill of k and waits for it. The caller holds s.mu;
// miss releases it.
func (c *Cache) miss(s *shard, k key, grant *sign.MediaGrant) (e *entry, joined bool, err error) {
	f := s.flights[k]
	if joined = f != nil; !joined {
		if f, err = c.begin(s, k); err != nil {
			s.mu.Unlock()
			return nil, false, err
		}
	}
	f.waiters++
	if forTier(grant) {
		f.tiers = true
	} else if grant != nil && !slices.Contains(f.epochs, grant.Epoch) {
		f.epochs = append(f.epochs, grant.Epoch)
	}
	s.mu.Unlock()
	if joined {
		c.n.collapsed.Add(1)
	} else {
		c.n.misses.Add(1)
	}

	select {
	case <-f.done:
	case <-f.ctx.Done():
		// Usually the fill ends at the same moment and says why. One whose
		// origin does not keep to its context is not waited for.
		s.mu.Lock()
		if !f.over {
			f.waiters--
			s.mu.Unlock()
			return nil, joined, context.Cause(f.ctx)
		}
		s.mu.Unlock()
	}
	if f.err != nil {
		return nil, joined, f.err
	}
	if !allows(f.verdict, grant) {
		f.entry.unpin()
		return nil, joined, errDenied
	}
	return f.entry, joined, nil
}

// begin starts a fill. Needs s.mu.
func (c *Cache) begin(s *shard, k key) (*flight, error) {
	lanes := c.lanesOf(k)
	for _, l := range lanes {
		if l.queued.Load() >= l.queue {
			c.n.fillsRefused.Add(1)
			return nil, errBusy
		}
	}
	parent, stop := context.WithCancelCause(c.ctx)
	ctx, cancel := context.WithTimeoutCause(parent, c.opts.FillTimeout, errTimeout)
	f := &flight{key: k, ctx: ctx, stop: stop, done: make(chan struct{})}
	for _, l := range lanes {
		l.queued.Add(1)
	}
	if !c.spawn(func() {
		defer stop(nil)
		defer cancel()
		c.fill(s, f, lanes)
	}) {
		for _, l := range lanes {
			l.queued.Add(-1)
		}
		cancel()
		stop(nil)
		return nil, errClosed
	}
	s.flights[k] = f
	return f, nil
}

// lane bounds how many fills are under way at once.
type lane struct {
	places chan struct{} // one element for each fill under way
	queue  int64         // most that wait for a place
	queued atomic.Int64
}

func newLane(places, queue int) *lane {
	return &lane{places: make(chan struct{}, places), queue: int64(queue)}
}

// lanesOf returns the lanes that a fill of k needs a place in, in the order in
// which it takes them: who waits for a rare place holds no common one.
func (c *Cache) lanesOf(k key) []*lane {
	if c.names.large[k.variant] {
		return []*lane{c.large, c.fills}
	}
	return []*lane{c.fills}
}

// fill runs on the flight's goroutine.
func (c *Cache) fill(s *shard, f *flight, lanes []*lane) {
	for i, l := range lanes {
		select {
		case l.places <- struct{}{}:
			l.queued.Add(-1)
			defer func() { <-l.places }()
		case <-f.ctx.Done():
			for _, l := range lanes[i:] {
				l.queued.Add(-1)
			}
			c.finish(s, f, context.Cause(f.ctx))
			return
		}
	}
	verdict, asked, ok := c.rights(s, f)
	if !ok {
		return
	}
	obj, err := c.opts.Origin.Fetch(f.ctx, c.external(f.key))
	if err == nil {
		defer func() { obj.done() }()
		err = c.check(f.key, obj)
	}
	if err != nil {
		c.finish(s, f, err)
		return
	}
	if verdict, asked, ok = c.still(s, f, verdict, asked); !ok {
		return
	}
	e := c.newEntry(s, f.key, obj)
	if e == nil {
		if e = c.newLoose(s, f.key, obj); e == nil {
			c.n.looseRefused.Add(1)
			c.finish(s, f, errCrowded)
			return
		}
	}
	e.verdict, e.asked = verdict, asked
	if obj.Rest == nil {
		c.land(s, f, e)
		return
	}
	e.growth = newGrowth(obj.Size)
	if c.land(s, f, e) {
		rest := obj.Rest
		obj.Rest = nil
		c.grow(f.ctx, s, e, rest)
	}
}

// rights asks Access for the fill, and ends it unless a waiter may have the
// object.
func (c *Cache) rights(s *shard, f *flight) (v Verdict, asked time.Time, ok bool) {
	asked = c.clock.Now()
	v, err := c.opts.Access.Access(f.ctx, id.ID(f.key.blob))
	if err != nil {
		c.finish(s, f, fmt.Errorf("cache: access: %w", err))
		return v, asked, false
	}
	return v, asked.Add(-v.Age), c.wanted(s, f, v)
}

// wanted records the verdict and reports whether any waiter may have the
// object. If none may, the fill ends here, and nothing is read for those who
// only try: they learn no more than from a blob that does not exist.
func (c *Cache) wanted(s *shard, f *flight, v Verdict) bool {
	s.mu.Lock()
	f.verdict = v
	want := v.Audience == Public || v.Audience == Signed && (f.tiers || slices.Contains(f.epochs, v.Epoch))
	if !want && s.flights[f.key] == f {
		delete(s.flights, f.key) // who may have it comes too late for this fill, and begins another
	}
	s.mu.Unlock()
	switch {
	case want:
		return true
	case v.Audience == Signed:
		c.finish(s, f, errDenied)
	default:
		c.finish(s, f, ErrNotFound)
	}
	return false
}

// check checks what can be checked without knowing better than the origin, and
// refuses an object that may not be served under its key. That the
// extension is literal makes another type an answer to another question.
func (c *Cache) check(k key, obj Object) error {
	if want := c.names.types[k.format]; obj.ContentType != want {
		return fmt.Errorf("%w as %s: it is %q", ErrNotFound, want, obj.ContentType)
	}
	if obj.size() <= 0 {
		return errors.New("cache: the object is empty")
	}
	if obj.ETag == "" || len(obj.ETag) > 128 {
		return fmt.Errorf("cache: the object has an ETag of %d bytes", len(obj.ETag))
	}
	for _, b := range []byte(obj.ETag) {
		if b != '!' && (b < '#' || b > '~') {
			return fmt.Errorf("cache: the object's ETag %q has a character that is not allowed", obj.ETag)
		}
	}
	return nil
}

// newEntry copies an object into memory of the shard; nil when there is no
// room. The caller inserts it or discards it.
func (c *Cache) newEntry(s *shard, k key, obj Object) *entry {
	cost, ok := s.reserve(obj.size())
	if !ok {
		return nil
	}
	// Copying happens outside the lock, into room that is booked.
	e := c.describe(s, k, obj)
	e.node = policy.Node{Hash: k.hash(), Cost: cost}
	if !e.load(obj) {
		s.unreserve(cost)
		return nil
	}
	return e
}

// load copies what is there of an object into memory of the entry's own; false when
// there is none.
func (e *entry) load(obj Object) bool {
	e.data = e.shard.alloc.Alloc(obj.size())
	copy(e.data, obj.Data)
	return e.data != nil
}

// newLoose makes a loose entry; nil when readers hold too many of them. A
// quarter of the room is left to small objects: whoever reads large ones slowly
// does not keep thumbnails from anybody. An object larger than its room is let in
// when it is the only one: else it could not be served at all.
func (c *Cache) newLoose(s *shard, k key, obj Object) *entry {
	cost := s.alloc.Cost(obj.size()) + entryCost
	limit := c.opts.MaxLoose
	if cost > limit/16 {
		limit -= limit / 4
	}
	for {
		held := c.loose.Load()
		if held > 0 && held+cost > limit {
			return nil
		}
		if c.loose.CompareAndSwap(held, held+cost) {
			break
		}
	}
	e := c.describe(s, k, obj)
	e.loose, e.node = &c.loose, policy.Node{Cost: cost}
	if !e.load(obj) {
		c.loose.Add(-cost)
		return nil
	}
	return e
}

// describe returns an entry without its bytes.
func (c *Cache) describe(s *shard, k key, obj Object) *entry {
	return &entry{key: k, etag: `"` + obj.ETag + `"`, typ: c.names.types[k.format], filled: c.clock.Now().Add(-obj.Age), shard: s}
}

// discard gives up an entry that was not published. Needs mu of its shard, which
// its unlock gives up.
func (e *entry) discard() {
	s := e.shard
	if e.loose == nil {
		s.used -= e.node.Cost
		s.leaving.Add(e.node.Cost)
	}
	s.dead = append(s.dead, e)
}

// land ends a fill that brought e. An entry that is to grow it pins once more, for
// whoever brings the bytes; false: nobody can have it.
func (c *Cache) land(s *shard, f *flight, e *entry) bool {
	c.n.fills.Add(1)
	var feeder int32
	if e.growth != nil {
		feeder = 1
	}
	s.mu.Lock()
	if f.doomed {
		e.discard()
		s.unlock()
		c.finish(s, f, errPurged)
		return false
	}
	there := true
	switch {
	case e.loose == nil:
		e.refs.Store(1 + int32(f.waiters) + feeder)
		s.insert(e)
	case f.waiters == 0:
		e.discard()
		c.n.unkept.Add(1)
		there = false
	default:
		e.refs.Store(int32(f.waiters) + feeder)
		if s.present(e.key) == nil { // else it was pushed in meanwhile, and kept
			s.chain(e)
		}
		c.n.unkept.Add(1)
	}
	f.entry = e
	c.settle(s, f)
	s.unlock()
	return there
}

// finish ends a fill without an entry.
func (c *Cache) finish(s *shard, f *flight, err error) {
	s.mu.Lock()
	if f.doomed {
		err = errPurged
	}
	f.err = err
	c.settle(s, f)
	s.mu.Unlock()
	switch {
	case errors.Is(err, errPurged):
		c.n.fillsPurged.Add(1)
	case errors.Is(err, ErrNotFound), errors.Is(err, errDenied):
		c.n.fillNotFound.Add(1)
	case errors.Is(err, errCrowded): // counted already, and no news for an operator
	default:
		c.n.fillErrors.Add(1)
		if c.ctx.Err() == nil {
			c.opts.Events(Event{Kind: FillFailed, Key: c.external(f.key), Err: err})
		}
	}
}

// settle publishes the flight's result. Needs mu.
func (c *Cache) settle(s *shard, f *flight) {
	if s.flights[f.key] == f { // not doomed, else another may be there
		delete(s.flights, f.key)
	}
	f.over = true
	close(f.done)
}

// Push puts in an object that was just made, so that its first reader finds it
// warm. Whether it may be served is asked when it is first asked for. What does
// not fit its key, finds no room or is there already is ignored.
func (c *Cache) Push(k Key, obj Object) {
	defer obj.done()
	in, ok := c.internal(k)
	if !ok || c.check(in, obj) != nil {
		return
	}
	s := c.shardOf(k.Blob)
	s.mu.Lock()
	there := s.present(in) != nil
	s.mu.Unlock()
	if there {
		return
	}
	e := c.newEntry(s, in, obj)
	if e == nil {
		return
	}
	s.mu.Lock()
	defer s.unlock()
	if s.present(in) != nil { // a fill was faster, and knows its verdict
		e.discard()
		return
	}
	e.refs.Store(1)
	s.insert(e)
	c.n.pushes.Add(1)
}

// asking is one revalidation and those who wait for it.
type asking struct {
	done    chan struct{}
	asked   time.Time // as of when verdict holds
	doomed  bool      // guarded by shard.mu, constant once done is closed
	verdict Verdict
	err     error
}

// askAgain asks Access about a blob in memory, once for all who want to know,
// and renews or drops the blob's entries. The caller holds s.mu; askAgain
// releases it.
func (c *Cache) askAgain(s *shard, blob id.ID) (Verdict, error) {
	a, err := c.question(s, blob) // unlocks
	if err != nil {
		return Verdict{}, err
	}
	<-a.done
	if a.doomed {
		return Verdict{}, errPurged
	}
	return a.verdict, a.err
}

// question joins or begins the question about a blob. The caller holds s.mu; question
// releases it.
func (c *Cache) question(s *shard, blob id.ID) (*asking, error) {
	defer s.mu.Unlock()
	a := s.asks[blob]
	if a == nil {
		a = &asking{done: make(chan struct{})}
		if !c.spawn(func() { c.ask(s, blob, a) }) {
			return nil, errClosed
		}
		s.asks[blob] = a
	}
	return a, nil
}

func (c *Cache) ask(s *shard, blob id.ID, a *asking) {
	ctx, cancel := context.WithTimeout(c.ctx, min(c.opts.FillTimeout, askTimeout))
	defer cancel()
	asked := c.clock.Now()
	verdict, err := c.opts.Access.Access(ctx, blob)
	c.n.revalidations.Add(1)
	if err != nil && c.ctx.Err() == nil {
		c.opts.Events(Event{Kind: AccessFailed, Key: Key{Blob: blob}, Err: err})
	}
	s.mu.Lock()
	defer s.unlock()
	defer close(a.done)
	if s.asks[blob] == a {
		delete(s.asks, blob)
	}
	asked = asked.Add(-verdict.Age)
	a.verdict, a.asked, a.err = verdict, asked, err
	if a.doomed || err != nil {
		return
	}
	for e := s.blobs[blob]; e != nil; {
		next := e.sibling
		if verdict.Audience == Gone {
			s.drop(e)
			s.purged++
		} else if asked.After(e.asked) || e.asked.IsZero() {
			e.verdict, e.asked = verdict, asked
		}
		e = next
	}
}

// askTimeout bounds a revalidation: a client waits for it, and a verdict that
// took longer than PurgeSilence is of no use.
const askTimeout = 2 * time.Second
