package volume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// The three things that no volume may do.
var (
	errLost  = errors.New("is lost")
	errBack  = errors.New("is back from the dead")
	errWrong = errors.New("has wrong content")
)

// model is what a volume must hold. It knows nothing of how it is stored.
type model struct {
	acked   map[pair]Needle // puts that were acknowledged
	deleted map[id.ID]bool  // deletes that were acknowledged
	tried   map[pair]Needle // puts that were begun and not acknowledged
	dying   map[id.ID]bool  // deletes that were begun and not acknowledged
	rotten  bool            // bits were flipped: explicit errors are fine
}

func newModel() *model {
	return &model{acked: map[pair]Needle{}, deleted: map[id.ID]bool{}, tried: map[pair]Needle{}, dying: map[id.ID]bool{}}
}

func (m *model) clone() *model {
	return &model{acked: maps.Clone(m.acked), deleted: maps.Clone(m.deleted), tried: maps.Clone(m.tried),
		dying: maps.Clone(m.dying), rotten: m.rotten}
}

// check compares v with the model, and makes certain what was open: what is
// found now has to stay.
func (m *model) check(v *Volume) error {
	for p, n := range m.acked {
		there, err := m.probe(v, n)
		if err != nil {
			return err
		}
		switch {
		case there && m.deleted[p.key]:
			return fmt.Errorf("%v/%d %w", p.key, p.alt, errBack)
		case !there && !m.deleted[p.key] && !m.dying[p.key]:
			return fmt.Errorf("%v/%d %w", p.key, p.alt, errLost)
		}
	}
	for p, n := range m.tried {
		there, err := m.probe(v, n)
		if errors.Is(err, ErrCorrupt) && v.poisoned() != nil {
			continue // a torn batch that could not be repaired looks like rot
		}
		if err != nil {
			return err
		}
		if there && m.deleted[p.key] {
			return fmt.Errorf("%v/%d %w", p.key, p.alt, errBack)
		}
		if there && !m.rotten {
			m.acked[p] = n
		}
	}
	m.tried = map[pair]Needle{}
	for key := range m.dying {
		if _, _, deleted := v.idx.Load().get(key, 0); deleted {
			m.deleted[key] = true
		}
	}
	m.dying = map[id.ID]bool{}
	return nil
}

// probe tells whether n is there; another content is an error.
func (m *model) probe(v *Volume, n Needle) (bool, error) {
	b, err := v.Read(bg, n.Key, n.Alt, n.Cookie)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case m.rotten && errors.Is(err, ErrCorrupt):
		return !m.deleted[n.Key], nil // explicit: neither lost nor back
	case err != nil:
		return false, fmt.Errorf("read %v/%d: %w", n.Key, n.Alt, err)
	case !bytes.Equal(b.Data, n.Data) || !b.Master.equal(n.Master):
		return false, fmt.Errorf("%v/%d %w", n.Key, n.Alt, errWrong)
	}
	b.Release()
	return true, nil
}

// capture is a moment at which the power fails.
type capture struct {
	mem   *vfs.Mem
	model *model
	what  string
	depth int
}

// history drives one volume on one file system and remembers moments of it. The
// moments are those ahead of a call that changes the file system, on whatever
// goroutine of the engine it is made.
type history struct {
	rng   *rand.Rand // of what is done
	mem   *vfs.Mem
	fs    *vfs.Fault
	v     *Volume
	next  id.ID // key of the next new needle
	depth int

	mu       sync.Mutex // guards all below: the engine's goroutines call before
	model    *model
	chance   *rand.Rand // of what goes wrong
	captures []capture
	moments  int          // so far
	overlaps int          // moments at which one batch was put together and another one flushed
	at       map[int]bool // the moments to take pictures of; nil: all
	inject   func(vfs.Op) vfs.Outcome
}

func newHistory(mem *vfs.Mem, m *model, rng *rand.Rand, depth int) *history {
	h := &history{rng: rng, mem: mem, model: m, depth: depth, next: id.ID(rng.Uint64()>>1 + 1),
		chance: rand.New(rand.NewPCG(rng.Uint64(), 3))}
	h.fs = &vfs.Fault{FS: mem, Before: h.before}
	return h
}

// choose draws the moments to take pictures of: a picture costs more than a
// moment. A history like this one had that many moments.
func (h *history) choose(pictures, moments int) {
	h.at = make(map[int]bool, pictures)
	for range pictures {
		h.at[1+h.rng.IntN(moments+moments/4+1)] = true
	}
}

// before runs ahead of each call of the file system.
func (h *history) before(op vfs.Op) vfs.Outcome {
	flushing := op.Name == testFile && (op.Kind == vfs.OpWrite || op.Kind == vfs.OpSync)
	if flushing {
		h.dawdle()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if flushing && h.v != nil && h.v.pipe.size.Load() > 0 {
		h.overlaps++
	}
	if mutates(op.Kind) {
		if h.moments++; h.at == nil || h.at[h.moments] {
			h.cut(fmt.Sprintf("depth %d, call %d (%v)", h.depth, op.N, op.Kind))
		}
	}
	if h.inject != nil {
		return h.inject(op)
	}
	return vfs.Outcome{}
}

// dawdle is a device that takes its time: others get on meanwhile, or do not.
func (h *history) dawdle() {
	h.mu.Lock()
	n := h.chance.IntN(60)
	h.mu.Unlock()
	for range n {
		runtime.Gosched()
	}
}

// cut takes the picture that a power cut, or the killing of the process,
// would leave. Called with mu held.
func (h *history) cut(what string) {
	c := capture{model: h.model.clone(), what: what, depth: h.depth}
	if h.chance.IntN(4) == 0 {
		c.mem, c.what = h.mem.Kill(), "kill at "+what
	} else {
		c.mem, c.what = h.mem.Crash(h.chance.Uint64()), "power cut at "+what
	}
	h.captures = append(h.captures, c)
}

// options have one life in four go through the page cache.
func (h *history) options() Options {
	return Options{FS: h.fs, AllocChunk: 16 << 10, PageCache: h.next%4 == 0}
}

// submitTogether queues several ops at once, so that they make one batch.
func submitTogether(v *Volume, ops ...*op) {
	v.queue.mu.Lock()
	v.queue.ops = append(v.queue.ops, ops...)
	v.queue.mu.Unlock()
	v.queue.signal()
}

// burst does several ops, alone and together, sooner or later after each other,
// while those in front may or may not be on their way, and waits.
func (h *history) burst(ops int) error {
	var wg sync.WaitGroup
	errs := make([]error, ops)
	var queued []*op
	for i := range ops {
		if o := h.newOp(); o != nil {
			h.begin(o)
			wg.Go(func() { errs[i] = h.settle(o, <-o.done) })
			queued = append(queued, o)
		}
		if i < ops-1 && h.rng.IntN(2) == 0 {
			continue
		}
		submitTogether(h.v, queued...)
		queued = queued[:0]
		for range h.rng.IntN(30) {
			runtime.Gosched()
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// begin notes that o may have an effect from now on.
func (h *history) begin(o *op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range o.needles {
		p := pair{o.needles[i].Key, o.needles[i].Alt}
		if _, ok := h.model.acked[p]; !ok {
			h.model.tried[p] = o.needles[i]
		}
	}
	if o.key != 0 {
		h.model.dying[o.key] = true
	}
}

// settle notes the answer to o.
func (h *history) settle(o *op, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil && o.key != 0:
		h.model.deleted[o.key] = true
		delete(h.model.dying, o.key)
	case err == nil:
		for i := range o.needles {
			p := pair{o.needles[i].Key, o.needles[i].Alt}
			h.model.acked[p] = o.needles[i]
			delete(h.model.tried, p)
		}
	case errors.Is(err, ErrTombstoned):
		for i := range o.needles {
			delete(h.model.tried, pair{o.needles[i].Key, o.needles[i].Alt})
		}
	case errors.Is(err, errOrder):
		return err // it poisons, and hides behind that
	case errors.Is(err, ErrPoisoned), errors.Is(err, ErrNoSpace):
	case h.model.rotten && errors.Is(err, ErrCorrupt):
	default:
		return fmt.Errorf("unexpected answer: %w", err)
	}
	return nil
}

func (h *history) newOp() *op {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch h.rng.IntN(10) {
	case 0, 1: // delete something, or something that never was
		key := h.anyKey()
		if key == 0 || h.rng.IntN(8) == 0 {
			h.next++
			key = h.next
		}
		return &op{key: key, bytes: 2 * headerSize, done: make(chan error, 1)}
	case 2: // put again what is there, or was, or is on its way
		p := pair{h.anyKey(), 0}
		n, ok := h.model.acked[p]
		if !ok {
			n, ok = h.model.tried[p]
		}
		if !ok || h.model.dying[n.Key] {
			return nil
		}
		o, _ := newPut([]Needle{n})
		return o
	}
	h.next++
	group := make([]Needle, 1+h.rng.IntN(4))
	for i := range group {
		size := h.rng.IntN(1500)
		if h.rng.IntN(400) == 0 { // rare: it costs as much as a hundred others
			size = blocksAbove + h.rng.IntN(1000)
		}
		group[i] = h.needle(h.next, uint8(i), size)
	}
	o, _ := newPut(group)
	return o
}

// needle is one of any content, made fast.
func (h *history) needle(key id.ID, alt uint8, size int) Needle {
	n := Needle{Key: key, Alt: alt, Cookie: id.Cookie(h.rng.Uint64() | 1), Data: make([]byte, size+8)}
	for i := 0; i < size; i += 8 {
		binary.LittleEndian.PutUint64(n.Data[i:], h.rng.Uint64())
	}
	n.Data = n.Data[:size:size]
	if alt == 0 {
		n.Master = &MasterInfo{Photo: key + 1, Owner: key + 2, ContentType: "image/jpeg", Time: time.UnixMilli(int64(key >> 20)).UTC()}
	}
	return n
}

// anyKey is some key that was put or is about to be, or 0. Called with mu held.
func (h *history) anyKey() id.ID {
	best := id.ID(0)
	for _, puts := range []map[pair]Needle{h.model.acked, h.model.tried} {
		for p := range puts {
			if best == 0 || hash(p.key^h.next) < hash(best^h.next) {
				best = p.key
			}
		}
	}
	return best
}

// run opens (or makes) the volume, compares it with the model, and works on it.
func (h *history) run(create bool) (err error) {
	if !create && h.rng.IntN(6) == 0 {
		if err := h.spoilCheckpoint(); err != nil {
			return err
		}
	}
	if create {
		h.v, err = Create("/d", testIdent, h.options())
	} else {
		h.v, err = Open("/d", testIdent.Volume, h.options())
	}
	if errors.Is(err, ErrNoVolume) && len(h.model.acked)+len(h.model.deleted) == 0 {
		return h.run(true) // the crash came before the volume was there
	}
	if err != nil {
		h.v = nil
		if create && h.inject != nil {
			return nil
		}
		return fmt.Errorf("open: %w", err)
	}
	defer func() {
		if cerr := h.v.Close(); err == nil && h.inject == nil {
			err = cerr
		}
	}()
	if err := h.model.check(h.v); err != nil {
		return fmt.Errorf("after open: %w", err)
	}
	if err := h.rot(); err != nil {
		return err
	}
	for range 1 + h.rng.IntN(2) {
		if err := h.burst(2 + h.rng.IntN(12)); err != nil {
			return err
		}
		if h.rng.IntN(3) == 0 {
			if err := h.checkpoint(); err != nil {
				return err
			}
		}
	}
	if err := h.model.clone().check(h.v); err != nil {
		return fmt.Errorf("after work: %w", err)
	}
	if h.inject != nil {
		return nil
	}
	rotten := h.model.rotten
	_, cerr := h.v.Check(bg, func(f Finding) {
		// A torn batch that could not be repaired looks like rot.
		if torn := h.v.damage.torn; !rotten && (torn == 0 || f.Offset < torn) {
			err = errors.Join(err, fmt.Errorf("finding %v at %d: %w", f.Kind, f.Offset, f.Err))
		}
	})
	return errors.Join(err, cerr)
}

// rot flips a bit of what a file that was opened well holds, now and then. From
// then on explicit errors are fine, and nothing else is.
func (h *history) rot() error {
	// Where a call fails there may have been no room for the mark that makes
	// damage to the last batch rot.
	if h.rng.IntN(24) != 0 || h.model.rotten || h.inject != nil || h.v.poisoned() != nil {
		return nil
	}
	size := h.v.synced.Load() - dataStart
	if size <= 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.model.rotten = true
	return h.mem.Flip(testFile, dataStart+h.rng.Int64N(size), 1<<h.rng.IntN(8))
}

// checkpoint writes one, of this moment or of one some batches ago, as the
// goroutine that writes behind does.
func (h *history) checkpoint() error {
	s := h.v.snapshot()
	if h.rng.IntN(2) == 0 {
		if err := h.burst(1 + h.rng.IntN(3)); err != nil {
			return err
		}
	}
	if h.v.checkpointing() {
		h.v.checkpoint(s)
	}
	return nil
}

// spoilCheckpoint takes the checkpoint away, or flips a bit of it.
func (h *history) spoilCheckpoint() error {
	st, err := h.mem.Stat(testCheckpoint)
	if errors.Is(err, fs.ErrNotExist) || err == nil && st.Size == 0 {
		return nil
	}
	if err == nil && h.rng.IntN(2) == 0 {
		return errors.Join(h.mem.Remove(testCheckpoint), h.mem.SyncDir("/d"))
	}
	off := h.rng.Int64N(st.Size)
	if err := h.mem.Flip(testCheckpoint, off, 1<<h.rng.IntN(8)); err != nil && !errors.Is(err, io.EOF) {
		return err // EOF: the device does not hold it yet
	}
	return nil
}
