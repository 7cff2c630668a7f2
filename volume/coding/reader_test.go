package coding

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/internal/clock"
	"hayloft/volume"
)

var errDisk = errors.New("the disk fails")

// watched is a Shard that counts what it is asked, and may fail or hang.
type watched struct {
	Shard
	mu    sync.Mutex // guards all below
	asked []extent
	err   error
	hang  bool
}

type extent struct{ off, n int64 }

func (s *watched) ReadAt(ctx context.Context, p []byte, off int64) error {
	s.mu.Lock()
	s.asked = append(s.asked, extent{off, int64(len(p))})
	err, hang := s.err, s.hang
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return s.Shard.ReadAt(ctx, p, off)
}

func (s *watched) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errDisk
}

func (s *watched) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang = true
}

func (s *watched) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// watch wraps all shards there are.
func watch(shards []Shard) (all []Shard, w []*watched) {
	for _, s := range shards {
		if s == nil {
			all, w = append(all, nil), append(w, nil)
			continue
		}
		w = append(w, &watched{Shard: s})
		all = append(all, w[len(w)-1])
	}
	return all, w
}

func counts(w []*watched) (out []int) {
	for _, s := range w {
		if s == nil {
			out = append(out, 0)
			continue
		}
		out = append(out, s.requests())
	}
	return out
}

// reading is a coded volume of 4+2 whose shards are watched.
func reading(t *testing.T) (*rig, Committed, []Shard, []*watched) { return readingOf(t, Policy{4, 2}) }

func readingOf(t *testing.T, p Policy) (*rig, Committed, []Shard, []*watched) {
	rng := rand.New(rand.NewPCG(7, 8))
	r := newRig(t, rng, p, p.Data*3*BlockSize-1000, 3000)
	c := r.encode()
	all, w := watch(r.open(c))
	return r, c, all, w
}

func (r *rig) reads(reader *Reader, off, n int64, degraded bool) {
	r.t.Helper()
	b, err := reader.Read(context.Background(), off, n, r.valid(off))
	r.must(err)
	r.must(r.valid(off)(b.Data))
	if b.Degraded != degraded || int64(len(b.Data)) != n {
		r.t.Fatalf("%d bytes at %d: %d bytes, degraded %v, want %v", n, off, len(b.Data), b.Degraded, degraded)
	}
	b.Release()
	b.Release()
}

func TestHealthyReadsAskOneShard(t *testing.T) {
	r, c, all, w := reading(t)
	reader, err := NewReader(c, all, ReaderOptions{})
	r.must(err)
	r.reads(reader, 70_001, 3000, false)
	if got := counts(w); !slices.Equal(got, []int{1, 0, 0, 0, 0, 0}) {
		t.Errorf("a read in one shard asked %v", got)
	}
	if e := w[0].asked[0]; e.n > 3000+2*pageSize {
		t.Errorf("%d bytes were read for 3000", e.n)
	}
	r.reads(reader, 2*c.ShardBytes()-10, 100, false)
	if got := counts(w); !slices.Equal(got, []int{1, 1, 1, 0, 0, 0}) {
		t.Errorf("then one over a border %v", got)
	}
	r.reads(reader, c.SourceBytes-1, 1, false)
	r.reads(reader, 0, c.SourceBytes, false)
	for _, bad := range []extent{{-1, 1}, {0, 0}, {0, c.SourceBytes + 1}, {c.SourceBytes, 1}, {c.SourceBytes - 1, 2}, {1 << 62, 1 << 62}} {
		if _, err := reader.Read(context.Background(), bad.off, bad.n, nil); !errors.Is(err, volume.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestDegradedReadsAskForTheRangeAlone(t *testing.T) {
	r, c, all, w := reading(t)
	all[1] = nil
	var found atomic.Int32
	reader, err := NewReader(c, all, ReaderOptions{Found: func(Finding) { found.Add(1) }})
	r.must(err)
	off := c.ShardBytes() + 5000
	r.reads(reader, off, 3000, true)
	if got := counts(w); !slices.Equal(got, []int{1, 0, 1, 1, 1, 0}) {
		t.Errorf("a degraded read asked %v", got)
	}
	for _, i := range []int{0, 2, 3, 4} {
		if e := w[i].asked[0]; e.off != headSize+4096 || e.n != 4096 {
			t.Errorf("shard %d was asked for %+v", i, e)
		}
	}
	// One fails: another one takes its place, and it is told.
	w[0].fail()
	r.reads(reader, off, 3000, true)
	if got := counts(w); !slices.Equal(got, []int{2, 0, 2, 2, 2, 1}) || found.Load() != 1 {
		t.Errorf("with one that fails it asked %v, %d findings", got, found.Load())
	}
	// Two fail: that is one too many. The careful reading does not help.
	w[2].fail()
	_, err = reader.Read(context.Background(), off, 3000, r.valid(off))
	var lost *LostError
	if !errors.As(err, &lost) || !slices.Equal(lost.Lost, []int{0, 1, 2}) || !errors.Is(err, errDisk) {
		t.Errorf("with two that fail: %v", err)
	}
	// The others are read as before.
	r.reads(reader, 3*c.ShardBytes()+10, 500, false)
}

func TestOneHedgeAndNoMore(t *testing.T) {
	r, c, all, w := readingOf(t, Policy{4, 3})
	all[1] = nil
	fake := clock.NewFake(time.Unix(0, 0))
	reader, err := NewReader(c, all, ReaderOptions{Clock: fake, HedgeAfter: func() time.Duration { return time.Millisecond }})
	r.must(err)
	off := c.ShardBytes() + 5000
	read := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		go func() {
			b, err := reader.Read(ctx, off, 3000, r.valid(off))
			b.Release()
			done <- err
		}()
		return done
	}
	w[0].stop()
	done := read(context.Background())
	for fake.Waiters() == 0 {
		runtime.Gosched()
	}
	if w[5].requests() != 0 {
		t.Error("a hedge before its time")
	}
	fake.Advance(time.Millisecond)
	r.must(<-done)
	if got := counts(w); !slices.Equal(got, []int{1, 0, 1, 1, 1, 1, 0}) {
		t.Errorf("asked %v", got)
	}
	// Two hang, one hedge is not enough, and there is no second one.
	w[2].stop()
	ctx, cancel := context.WithCancel(context.Background())
	done = read(ctx)
	asked := func() (n int) {
		for _, c := range counts(w) {
			n += c
		}
		return n
	}
	for range 3 {
		for fake.Waiters() == 0 && asked() < 10 {
			runtime.Gosched()
		}
		fake.Advance(time.Hour)
	}
	for asked() < 10 {
		runtime.Gosched()
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if got := counts(w); !slices.Equal(got, []int{2, 0, 2, 2, 2, 2, 0}) || fake.Waiters() != 0 {
		t.Errorf("asked %v", got)
	}
}

func TestCorruptShardsAreFoundByTheReader(t *testing.T) {
	r, c, all, w := reading(t)
	var mu sync.Mutex
	var found []Finding
	reader, err := NewReader(c, all, ReaderOptions{Found: func(f Finding) {
		mu.Lock()
		defer mu.Unlock()
		found = append(found, f)
	}})
	r.must(err)
	off := c.ShardBytes() + 5000
	r.must(r.fs.Flip(r.path(1), headSize+6000, 1))
	r.reads(reader, off, 3000, true)
	if len(found) != 1 || found[0].Shard != 1 || found[0].Offset != headSize || found[0].Length != BlockSize || !errors.Is(found[0].Err, volume.ErrCorrupt) {
		t.Errorf("findings %v", found)
	}
	// Behind the range that is flipped, in the same block, the record is right
	// and nobody looks further.
	r.reads(reader, off+3000, 1000, false)
	// The shard itself is away, and one of those it is computed from is wrong.
	found = nil
	w[1].fail()
	r.must(r.fs.Flip(r.path(3), headSize+5500, 1))
	r.reads(reader, off, 3000, true)
	if !slices.ContainsFunc(found, func(f Finding) bool { return f.Shard == 3 && errors.Is(f.Err, volume.ErrCorrupt) }) {
		t.Errorf("findings %v", found)
	}
	// With sums alone, too.
	b, err := reader.Read(context.Background(), off, 3000, nil)
	r.must(err)
	r.must(r.valid(off)(b.Data))
	// A source that was wrong before it was coded stays so.
	_, err = reader.Read(context.Background(), 100, 100, func([]byte) error { return errWrong })
	if !errors.Is(err, errWrong) {
		t.Errorf("records that are wrong: %v", err)
	}
}

// TestDifferentBlocksAreLost loses one more shard than m, each in another block.
func TestDifferentBlocksAreLost(t *testing.T) {
	r, c, _, _ := reading(t)
	for i, block := range []int64{0, 1, 2} {
		r.must(r.fs.Flip(r.path(i), headSize+block*BlockSize+77, 1))
	}
	shards := r.open(c)
	shards[5] = nil
	r.must(r.fs.Remove(r.path(5)))
	reader, err := NewReader(c, shards, ReaderOptions{})
	r.must(err)
	r.reads(reader, 0, c.SourceBytes, true)
	r.must(Decode(context.Background(), c, shards, r.fs, "/src/decoded", Options{}))
	var lost []Lost
	for _, i := range []int{0, 1, 2, 5} { // four of 4+2
		lost = append(lost, Lost{i, r.homes[i]})
	}
	r.must(Rebuild(context.Background(), c, shards, lost, Options{}))
	for i := range c.Shards() {
		if f := r.findings(c, i); len(f) != 0 {
			t.Errorf("shard %d: %v", i, f)
		}
	}
}

func TestIndexComesFromAnyShard(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 9))
	r := newRig(t, rng, Policy{2, 1}, 100_000, 200_001)
	c := r.encode()
	shards, w := watch(r.open(c))
	reader, err := NewReader(c, shards, ReaderOptions{})
	r.must(err)
	read := func(off, n int64) {
		t.Helper()
		b := make([]byte, n)
		r.must(reader.ReadIndex(context.Background(), b, off, 1))
		if string(b) != string(r.index[off:off+n]) {
			t.Errorf("%d bytes at %d differ", n, off)
		}
	}
	read(0, 200_001)
	read(65_530, 10)
	read(200_001, 0)
	if got := counts(w); got[0] != 0 || got[2] != 0 || got[1] == 0 {
		t.Errorf("asked %v", got)
	}
	r.must(r.fs.Flip(r.path(1), headSize+c.ShardBytes()+70_000, 1))
	read(70_000, 10)
	if got := counts(w); got[0] == 0 {
		t.Errorf("asked %v", got)
	}
	for _, bad := range []extent{{-1, 1}, {200_001, 1}, {0, 200_002}} {
		if err := reader.ReadIndex(context.Background(), make([]byte, bad.n), bad.off, 0); !errors.Is(err, volume.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	for _, s := range w {
		s.fail()
	}
	if err := reader.ReadIndex(context.Background(), make([]byte, 1), 0, 0); !errors.Is(err, ErrLost) {
		t.Errorf("without a shard: %v", err)
	}
}

func TestReconstructionsAskFirst(t *testing.T) {
	r, c, all, _ := reading(t)
	all[0] = nil
	var under atomic.Int32
	refuse := errors.New("enough of that")
	var verdict error
	reader, err := NewReader(c, all, ReaderOptions{Admit: func(context.Context) (func(), error) {
		if verdict != nil {
			return nil, verdict
		}
		under.Add(1)
		return func() { under.Add(-1) }, nil
	}})
	r.must(err)
	r.reads(reader, 100, 100, true)
	verdict = refuse
	for _, valid := range []func([]byte) error{r.valid(100), nil} {
		if _, err := reader.Read(context.Background(), 100, 100, valid); !errors.Is(err, refuse) {
			t.Errorf("refused: %v", err)
		}
	}
	r.reads(reader, c.ShardBytes(), 100, false)
	if under.Load() != 0 {
		t.Error("a reconstruction never ended")
	}
	if _, err := NewReader(c, all[:3], ReaderOptions{}); !errors.Is(err, volume.ErrInvalid) {
		t.Errorf("three shards for 4+2: %v", err)
	}
}
