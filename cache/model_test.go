package cache

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"hayloft/cache/policy"
	"hayloft/internal/id"
	"hayloft/internal/sign"
)

var seedFlag = flag.Uint64("seed", 0, "repeat a random test with this seed")

func seeds(t *testing.T, n int) []uint64 {
	if *seedFlag != 0 {
		return []uint64{*seedFlag}
	}
	var out []uint64
	for range n {
		out = append(out, rand.Uint64()|1)
	}
	return out
}

const blobs = 25

// change is a verdict and since when it holds.
type change struct {
	at time.Time
	v  Verdict
}

// model says what a right cache may answer: it knows the history of verdicts
// and whether the cache has heard of them.
type model struct {
	*world
	t       *testing.T
	c       *Cache
	r       *rand.Rand
	history map[id.ID][]change
	heard   map[id.ID]int // so many changes are known to the cache for sure
	readers []reader      // slow ones
	shared  int           // answers from a loose entry that another was reading
	crowded int           // refusals because of them
	ops     []string
}

// reader holds what it was served.
type reader struct {
	k Key
	e *entry
}

func (m *model) size(k Key) int {
	if k.Variant == "original" {
		return 250_000 + 1000*int(k.Blob) // not kept: more than a third of a shard
	}
	return 40_000 + 1000*int(k.Blob) // the budget holds a third of them
}

// shares holds e, just served under k, against the other readers of k.
func (m *model) shares(k Key, e *entry) {
	for _, r := range m.readers {
		r.e.shard.mu.Lock()
		findable := r.e.linked
		r.e.shard.mu.Unlock()
		if r.k == k && r.e.loose != nil && findable {
			m.shared++
			if r.e != e {
				m.fail("a second copy of %v %s while the first is read", k.Blob, k.Variant)
			}
		}
	}
}

// release ends a slow reader; what it reads must not have changed.
func (m *model) release() {
	i := m.r.IntN(len(m.readers))
	r := m.readers[i]
	m.readers = append(m.readers[:i], m.readers[i+1:]...)
	if string(r.e.data) != string(content(r.k, m.size(r.k))) {
		m.fail("blob %v changed while it was read", r.k.Blob)
	}
	r.e.unpin()
	m.note("a reader of %v %s ends", r.k.Blob, r.k.Variant)
}

func (m *model) note(format string, args ...any) {
	m.ops = append(m.ops, m.clock.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	for _, op := range m.ops[max(0, len(m.ops)-40):] {
		m.t.Log(op)
	}
	m.t.Fatalf(format, args...)
}

// current lists the verdicts by which an answer may go now: the true one, and
// those that were true within the last 2 s unless the cache heard of the change.
func (m *model) current(blob id.ID) []Verdict {
	h := m.history[blob]
	out := []Verdict{h[len(h)-1].v}
	for i := len(h) - 2; i >= 0; i-- {
		ended := h[i+1].at
		if m.clock.Now().Sub(ended) >= 2*time.Second || m.heard[blob] > i+1 {
			break
		}
		out = append(out, h[i].v)
	}
	return out
}

func (m *model) get() {
	blob := id.ID(1 + m.r.IntN(blobs))
	k := keyOf(blob, []string{"small", "small", "large", "large", "original"}[m.r.IntN(5)])
	if k.Variant == "original" {
		blob = 1 + blob%6 // few, so that readers of one meet
		k = keyOf(blob, k.Variant)
	}
	wrong := m.r.IntN(10) == 0
	if wrong {
		k.Cookie += 2
	}
	var grant *sign.MediaGrant
	if m.r.IntN(2) == 0 {
		grant = &sign.MediaGrant{Epoch: uint32(m.r.IntN(3))}
	}
	m.mu.Lock()
	down := m.fetchErr != nil || m.askErr != nil
	m.mu.Unlock()
	in, _ := m.c.internal(k)
	e, from, err := m.c.get(in, grant)
	m.note("get %v %s wrong=%v grant=%v: how %d, %v", blob, k.Variant, wrong, grant, from, err)
	may, mayNot := false, false
	for _, v := range m.current(blob) {
		if allows(v, grant) && !wrong {
			may = true
		} else {
			mayNot = true
		}
	}
	switch {
	case err == nil:
		if string(e.data) != string(content(k, m.size(k))) {
			m.fail("wrong bytes")
		}
		m.shares(k, e)
		if m.r.IntN(8) == 0 && len(m.readers) < 12 || e.loose != nil && m.r.IntN(2) == 0 {
			m.readers = append(m.readers, reader{k, e})
		} else {
			e.unpin()
		}
		if !may {
			m.fail("served blob %v, which is %v", blob, m.current(blob))
		}
	case errors.Is(err, ErrNotFound), errors.Is(err, errDenied):
		if !mayNot {
			m.fail("a false 404 for blob %v: %v", blob, err)
		}
	case errors.Is(err, errCrowded):
		m.crowded++
		if len(m.readers) == 0 {
			m.fail("crowded, and nobody reads")
		}
	default:
		if !down {
			m.fail("unavailable although all is well: %v", err)
		}
	}
}

// flip changes who may see a blob and tells the log.
func (m *model) flip() {
	blob := id.ID(1 + m.r.IntN(blobs))
	v := []Verdict{{}, public, public, public, {Audience: Signed}, {Audience: Signed, Epoch: 1}, {Audience: Signed, Epoch: 2}}[m.r.IntN(7)]
	m.history[blob] = append(m.history[blob], change{m.clock.Now(), v})
	m.with(func() { m.verdicts[blob] = v })
	m.purge(blob)
	m.note("flip %v to %v, log silent=%v", blob, v, m.silent)
	m.hear()
}

// hear waits until the cache has caught up, when the log speaks.
func (m *model) hear() {
	m.mu.Lock()
	silent := m.silent
	m.mu.Unlock()
	if silent {
		return
	}
	m.settle(m.c)
	for blob, h := range m.history {
		m.heard[blob] = len(h)
	}
}

func (m *model) step() {
	if m.r.IntN(12) == 0 {
		m.with(func() { m.fetchErr, m.askErr = nil, nil })
		m.note("origin and access work from here")
	}
	if len(m.readers) > 0 && m.r.IntN(16) == 0 {
		m.release()
	}
	switch p := m.r.IntN(100); {
	case p < 72:
		m.get()
	case p < 76:
		m.flip()
	case p < 80:
		k := keyOf(id.ID(1+m.r.IntN(blobs)), "small")
		m.c.Push(k, object(k, m.size(k)))
		m.note("push %v", k.Blob)
	case p < 92:
		d := time.Duration(m.r.IntN(1500)) * time.Millisecond
		m.clock.Advance(d)
		m.note("advance %v", d)
	case p < 94:
		m.with(func() { m.silent = !m.silent })
		m.note("log silent=%v", m.silent)
		m.hear()
	case p < 96:
		m.with(func() { m.fetchErr = errDown })
		m.note("the origin fails from here")
	case p < 98:
		m.with(func() { m.askErr = errDown })
		m.note("access fails from here")
	case p < 99:
		m.mu.Lock()
		silent := m.silent
		m.mu.Unlock()
		if !silent {
			m.beat(m.c)
		}
	default:
		m.with(func() { m.head, m.gap, m.silent = m.head+10, true, false })
		m.until(func() bool { return !m.gap })
		for m.c.log.seq.Load() < m.head {
			m.until(func() bool { return true })
		}
		m.note("gap")
		m.hear()
	}
}

// Random operations with failing neighbours, against a model that knows what
// may be served. It cannot tell a slow cache from a quick one, only a wrong one.
func TestModel(t *testing.T) {
	var total Stats
	shared, crowded := 0, 0
	for _, seed := range seeds(t, 8) {
		p := newPoisoned(t)
		if seed&2 != 0 {
			p = newPool()
		}
		w := newWorld()
		const maxLoose = 1 << 20
		m := &model{world: w, t: t, r: rand.New(rand.NewPCG(seed, 1)), history: make(map[id.ID][]change), heard: make(map[id.ID]int)}
		w.size = m.size
		m.note("repeat with: go test ./cache -run TestModel -seed %d", seed)
		for blob := id.ID(1); blob <= blobs; blob++ {
			m.history[blob] = []change{{w.clock.Now(), public}}
			w.verdicts[blob] = public
		}
		name := policy.Names()[seed%uint64(len(policy.Names()))]
		m.c = open(t, w, Options{Budget: 1 << 20, Policy: name, MaxLoose: maxLoose, alloc: p, shards: 2})
		t.Logf("repeat with: go test ./cache -run TestModel -seed %d", seed)
		for range 1500 {
			m.step()
			st := m.c.Stats()
			if held := p.held(); held > 1<<20+st.LooseBytes {
				m.fail("%d bytes held, %d of them loose", held, st.LooseBytes)
			}
			if st.LooseBytes > maxLoose || st.TotalBytes != st.Bytes+st.LooseBytes {
				m.fail("%d loose bytes of %d in all", st.LooseBytes, st.TotalBytes)
			}
		}
		audit(t, m.c)
		for len(m.readers) > 0 {
			m.release()
		}
		audit(t, m.c)
		st := m.c.Stats()
		if st.LeavingBytes != 0 || st.LooseBytes != 0 {
			m.fail("responses left something behind: %+v", st)
		}
		shared, crowded = shared+m.shared, crowded+m.crowded
		total.Hits += st.Hits
		total.Evictions += st.Evictions
		total.Revalidations += st.Revalidations
		total.PurgedEntries += st.PurgedEntries
		m.c.Close()
		for _, s := range m.c.shards {
			s.purgeAll()
		}
		if p.held() != 0 || len(p.faults()) > 0 {
			m.fail("%d bytes leaked; %v", p.held(), p.faults())
		}
	}
	if *seedFlag == 0 && (total.Hits < 500 || total.Evictions < 100 || total.Revalidations < 100 || total.PurgedEntries < 100 ||
		shared < 50 || crowded < 50) {
		t.Errorf("the runs proved little: %+v, %d shared, %d crowded", total, shared, crowded)
	}
}
