package volume

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

var (
	seedFlag  = flag.Uint64("volume.seed", 0, "repeat the random test with this seed alone")
	pointFlag = flag.Int("volume.points", 10_000, "crash points to try; the variable HAYLOFT_SOAK overrules it")
)

// points is how many crash points to try.
func points(t *testing.T) int {
	if s := os.Getenv("HAYLOFT_SOAK"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("HAYLOFT_SOAK: %v", err)
		}
		return n
	}
	return *pointFlag
}

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
			return fmt.Errorf("%v/%d is back from the dead", p.key, p.alt)
		case !there && !m.deleted[p.key] && !m.dying[p.key]:
			return fmt.Errorf("%v/%d is lost", p.key, p.alt)
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
			return fmt.Errorf("%v/%d is back from the dead", p.key, p.alt)
		}
		if there && !m.rotten {
			m.acked[p] = n
		}
	}
	m.tried = map[pair]Needle{}
	for key := range m.dying {
		if _, _, deleted := v.idx.get(key, 0); deleted {
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
		return false, fmt.Errorf("%v/%d has wrong content", n.Key, n.Alt)
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

// history drives one volume on one file system and remembers moments of it.
type history struct {
	rng      *rand.Rand
	mem      *vfs.Mem
	fs       *vfs.Fault
	v        *Volume
	model    *model
	next     id.ID // key of the next new needle
	captures []capture
	moments  int // so far
	keep     int // captures, evenly chosen among the moments; 0: all
	depth    int
	inject   func(vfs.Op) vfs.Outcome
	every    int // one in so many calls is a moment to remember
}

func newHistory(mem *vfs.Mem, m *model, rng *rand.Rand, depth int) *history {
	h := &history{rng: rng, mem: mem, model: m, depth: depth, every: 1, next: id.ID(rng.Uint64()>>1 + 1)}
	h.fs = &vfs.Fault{FS: mem, Before: h.before}
	return h
}

// before runs ahead of each call of the file system. The goroutine that waits
// for the call's effect is the only one running, so the model stands still.
func (h *history) before(op vfs.Op) vfs.Outcome {
	switch op.Kind {
	case vfs.OpWrite, vfs.OpSync, vfs.OpTruncate, vfs.OpAllocate, vfs.OpRename, vfs.OpSyncDir, vfs.OpCreate, vfs.OpRemove:
		if h.rng.IntN(h.every) == 0 {
			h.cut(fmt.Sprintf("depth %d, call %d (%v)", h.depth, op.N, op.Kind))
		}
	}
	if h.inject != nil {
		return h.inject(op)
	}
	return vfs.Outcome{}
}

// cut takes the picture that a power cut, or the killing of the process,
// would leave.
func (h *history) cut(what string) {
	h.moments++
	at := len(h.captures)
	if h.keep > 0 && at == h.keep { // a picture costs more than a moment: draw first
		if at = h.rng.IntN(h.moments); at >= h.keep {
			return
		}
	}
	c := capture{model: h.model.clone(), what: what, depth: h.depth}
	if h.rng.IntN(4) == 0 {
		c.mem, c.what = h.mem.Kill(), "kill at "+what
	} else {
		c.mem, c.what = h.mem.Crash(h.rng.Uint64()), "power cut at "+what
	}
	h.captures = append(h.captures[:at:at], append([]capture{c}, h.captures[min(at+1, len(h.captures)):]...)...)
}

func (h *history) options() Options { return Options{FS: h.fs, AllocChunk: 16 << 10} }

// burst queues several ops at once, so that they make one batch, and waits.
func (h *history) burst(ops int) error {
	var queued []*op
	for range ops {
		o := h.newOp()
		if o == nil {
			continue
		}
		for i := range o.needles {
			p := pair{o.needles[i].Key, o.needles[i].Alt}
			if _, ok := h.model.acked[p]; !ok {
				h.model.tried[p] = o.needles[i]
			}
		}
		if o.key != 0 {
			h.model.dying[o.key] = true
		}
		queued = append(queued, o)
	}
	h.v.queue.mu.Lock()
	h.v.queue.ops = append(h.v.queue.ops, queued...)
	h.v.queue.mu.Unlock()
	h.v.queue.signal()
	for _, o := range queued {
		if err := h.settle(o, <-o.done); err != nil {
			return err
		}
	}
	return nil
}

// settle notes the answer to o.
func (h *history) settle(o *op, err error) error {
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
	case errors.Is(err, ErrPoisoned), errors.Is(err, ErrNoSpace):
	case h.model.rotten && errors.Is(err, ErrCorrupt):
	default:
		return fmt.Errorf("unexpected answer: %w", err)
	}
	return nil
}

func (h *history) newOp() *op {
	switch h.rng.IntN(10) {
	case 0, 1: // delete something, or something that never was
		key := h.anyKey()
		if key == 0 || h.rng.IntN(8) == 0 {
			h.next++
			key = h.next
		}
		return &op{key: key, bytes: 2 * headerSize, done: make(chan error, 1)}
	case 2: // put again what is there, or was
		for p, n := range h.model.acked {
			if h.model.dying[p.key] {
				return nil
			}
			o, _ := newPut([]Needle{n})
			return o
		}
		return nil
	}
	h.next++
	group := make([]Needle, 1+h.rng.IntN(4))
	for i := range group {
		size := h.rng.IntN(1500)
		if h.rng.IntN(60) == 0 {
			size = blocksAbove + h.rng.IntN(1000)
		}
		group[i] = testNeedle(h.next, uint8(i), size)
	}
	o, _ := newPut(group)
	return o
}

func (h *history) anyKey() id.ID {
	best := id.ID(0)
	for p := range h.model.acked {
		if best == 0 || hash(p.key^h.next) < hash(best^h.next) {
			best = p.key
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
	for range 1 + h.rng.IntN(4) {
		if err := h.burst(1 + h.rng.IntN(5)); err != nil {
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
	_, err = h.v.Check(bg, func(f Finding) { err = errors.Join(err, fmt.Errorf("finding %v at %d: %w", f.Kind, f.Offset, f.Err)) })
	return err
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

// explore runs histories from crash pictures until the budget is used up.
func explore(seed uint64, budget *int, inject func(*rand.Rand) func(vfs.Op) vfs.Outcome) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	mem := vfs.NewMem(seed)
	if err := mem.MkdirAll("/d"); err != nil {
		return err
	}
	h := newHistory(mem, newModel(), rng, 0)
	h.keep = 12
	if inject != nil {
		h.inject = inject(rng)
	}
	// A fault may keep Create from making a volume; nothing else may go wrong.
	if err := h.run(true); err != nil && (inject == nil || h.v != nil) {
		return fmt.Errorf("depth 0: %w", err)
	}
	queue := h.captures
	for len(queue) > 0 && *budget > 0 {
		c := queue[0]
		queue = queue[1:]
		*budget--
		next := newHistory(c.mem, c.model, rng, c.depth+1)
		next.keep = 2 // go deep rather than wide: a crash of a recovered volume
		if inject != nil && rng.IntN(3) == 0 {
			next.inject = inject(rng)
		}
		if err := next.run(false); err != nil {
			return fmt.Errorf("%s: %w\n%v", c.what, err, c.mem)
		}
		if len(queue) < 40 {
			queue = append(queue, next.captures...)
		}
	}
	return nil
}

func seeds(n int) []uint64 {
	if *seedFlag != 0 {
		return []uint64{*seedFlag}
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = rand.Uint64()
	}
	return out
}

func repeatWith(t *testing.T, seed uint64) string {
	return fmt.Sprintf("repeat with: go test ./volume -run '^%s$' -volume.seed=%d", t.Name(), seed)
}

// TestCrashes cuts the power and kills the process at random calls, in the
// middle of recoveries too, and compares what is found with the model.
func TestCrashes(t *testing.T) {
	t.Parallel()
	exploreAll(t, points(t)*4/5, 100, nil)
}

// exploreAll tries so many crash points on all processors.
func exploreAll(t *testing.T, points, perSeed int, inject func(*rand.Rand) func(vfs.Op) vfs.Outcome) {
	var total atomic.Int64
	var failed atomic.Bool
	work := make(chan uint64)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for seed := range work {
				budget := perSeed
				if err := explore(seed, &budget, inject); err != nil && !failed.Swap(true) {
					t.Errorf("%v\n%s", err, repeatWith(t, seed))
				}
				total.Add(int64(perSeed - budget))
			}
		}()
	}
	if *seedFlag != 0 {
		work <- *seedFlag
	}
	for *seedFlag == 0 && total.Load() < int64(points) && !failed.Load() {
		work <- rand.Uint64()
	}
	close(work)
	wg.Wait()
	t.Logf("%d crash points", total.Load())
}

// TestFaultsAndCrashes also makes one random call fail: with EIO, ENOSPC, or
// after a part of a write.
func TestFaultsAndCrashes(t *testing.T) {
	t.Parallel()
	exploreAll(t, points(t)/5, 10, oneFault)
}

func oneFault(rng *rand.Rand) func(vfs.Op) vfs.Outcome {
	at := 1 + rng.Int64N(40)
	errno := []error{unix.EIO, unix.ENOSPC}[rng.IntN(2)]
	return func(op vfs.Op) vfs.Outcome {
		if op.N < at || at == 0 {
			return vfs.Outcome{}
		}
		switch op.Kind {
		case vfs.OpWrite, vfs.OpSync, vfs.OpTruncate, vfs.OpAllocate, vfs.OpRename, vfs.OpSyncDir, vfs.OpCreate, vfs.OpRemove:
			at = 0
			return vfs.Outcome{Err: errno, Short: rng.Int64N(max(1, op.Len))}
		}
		return vfs.Outcome{}
	}
}
