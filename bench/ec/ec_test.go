package ec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"hayloft/bench"
	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/bench/raw"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
)

var (
	small = coding.Policy{Data: 2, Parity: 1}
	usual = coding.Policy{Data: 4, Parity: 2}
)

// tiny are options that go down every road within a few seconds.
func tiny(dirs ...string) Options {
	return Options{
		Dirs: dirs, Policies: []coding.Policy{small, usual}, Rounds: 1,
		Slice: 20 * time.Millisecond, Bytes: minBytes, Flips: 40,
		Maintenance: 1 << 30, // a rebuild that takes a moment
	}
}

// TestRun checks that the report has the names that docs and scripts go by,
// that something was measured under each, and that nothing is left on disk.
func TestRun(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	r, err := Run(t.Context(), tiny(dirs...))
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Errors(); n != 0 {
		t.Errorf("%d errors", n)
	}
	for _, name := range []string{
		"encode_throughput", "coded_read_latency", "coded_read_200k_latency", "degraded_read_latency", "stored_over_live", "stored_over_policy",
		"read_p99_during_rebuild", "read_p99_during_rebuild_over_shard_away_4_2", "encode_throughput_2_1", "encode_over_huge_4_2",
		"degraded_read_over_huge_2_1", "rebuild_read_over_shard_of_1_2_1", "rebuild_read_over_shard_of_1_4_2", "rebuild_read_over_shard_of_2_4_2",
	} {
		if r.Ratios[name] <= 0 {
			t.Errorf("ratio %s is %v", name, r.Ratios[name])
		}
	}
	for _, name := range []string{
		"coded_needles_identical_4_2", "degraded_needles_identical_2_1", "stored_bytes_4_2", "rebuild_seconds_of_2_4_2",
		"rebuild_bytes_per_s_of_1_2_1", "read_p99_quiet_4_2", "read_p99_rebuilding_4_2_load", "scrub_check_bytes_per_s_2_1",
	} {
		if find(t, r, name).Value <= 0 {
			t.Errorf("result %s is not above 0", name)
		}
	}
	for _, name := range []string{"scrub_found", "scrub_repaired", "scrub_found_2_1", "scrub_repaired_4_2"} {
		if got := find(t, r, name); got.Value != 40 || got.N != 40 {
			t.Errorf("%s: %v of %d, 40 bits were flipped", name, got.Value, got.N)
		}
	}
	// The volume is small: heads and tables weigh more than they may.
	if x := r.Ratios["stored_over_policy_4_2"]; x < 1 || x > 1.1 {
		t.Errorf("stored over live is %v of (k+m)/k", x)
	}
	if x := r.Ratios["rebuild_read_over_shard_of_2_4_2"]; x < 3.9 || x > 4.2 {
		t.Errorf("a rebuild of two shards read %v shards", x)
	}
	for _, dir := range dirs {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 0 {
			t.Errorf("%s holds %v afterwards (%v)", dir, left, err)
		}
	}
	if _, err := json.Marshal(r); err != nil { // no infinite ratio
		t.Error(err)
	}
}

func find(t *testing.T, r *bench.Report, name string) bench.Result {
	t.Helper()
	i := slices.IndexFunc(r.Results, func(x bench.Result) bool { return x.Name == name })
	if i < 0 {
		t.Fatalf("no result %s", name)
	}
	return r.Results[i]
}

// TestEndsEarly checks that a benchmark that is called off at any of its steps says
// so and cleans up.
func TestEndsEarly(t *testing.T) {
	for step := 1; ; step++ {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		o := tiny(dir)
		o.Policies = o.Policies[1:]
		left := step
		o.Progress = func(string) {
			if left--; left == 0 {
				cancel()
			}
		}
		_, err := Run(ctx, o)
		cancel()
		if left > 0 && err == nil {
			if step < 6 {
				t.Errorf("only %d steps", step)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("step %d: got %v", step, err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("step %d left behind: %v", step, left)
		}
	}
}

func TestOptions(t *testing.T) {
	d := []string{t.TempDir()}
	for _, o := range []Options{
		{}, {Dirs: d, Rounds: -1}, {Dirs: d, Bytes: 5}, {Dirs: d, Flips: -1}, {Dirs: d, Policies: []coding.Policy{{Data: 4}}},
		{Dirs: d, Policies: []coding.Policy{usual, usual}},
	} {
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("ran with %+v", o)
		}
	}
}

// testShards is a run, and shards of a small volume.
func testShards(t *testing.T, p coding.Policy) (*run, *shards) {
	t.Helper()
	b := &run{Options: tiny(t.TempDir()).withDefaults(), report: &bench.Report{Settings: map[string]string{}, Ratios: map[string]float64{}}}
	var err error
	if b.src, err = makeSource(t.Context(), filepath.Join(b.Dirs[0], "source"), minBytes, sizes); err != nil {
		t.Fatal(err)
	}
	s, err := b.code(t.Context(), b.src, p, "shards")
	if err != nil {
		t.Fatal(err)
	}
	return b, s
}

// TestScrubIsCounted gives the damage to scrubbers that do a part of their work: what
// is not found, not repaired, or done to others is an error.
func TestScrubIsCounted(t *testing.T) {
	b, s := testShards(t, usual)
	for name, tt := range map[string]struct {
		scrub           scrubber
		found, repaired bool
	}{
		"all of it":  {checkAndRepair, true, true},
		"nothing":    {func(context.Context, *shards) ([]coding.Finding, error) { return nil, nil }, false, false},
		"only looks": {check, true, false},
		"says nothing": {func(ctx context.Context, s *shards) ([]coding.Finding, error) {
			_, err := checkAndRepair(ctx, s)
			return nil, err
		}, false, true},
		"finds the wrong shard": {func(ctx context.Context, s *shards) ([]coding.Finding, error) {
			all, err := checkAndRepair(ctx, s)
			for i := range all {
				all[i].Shard = -1
			}
			return all, err
		}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			b.report.Results = nil
			b.Seed++
			if err := b.scrubWith(t.Context(), s, tt.scrub); err != nil {
				t.Fatal(err)
			}
			want := func(name string, all bool) {
				r := find(t, b.report, name+"_4_2")
				if all && (int(r.Value) != b.Flips || r.Errors != 0) || !all && (r.Value != 0 || r.Errors == 0) {
					t.Errorf("%s is %v of %d with %d errors", name, r.Value, r.N, r.Errors)
				}
			}
			want("scrub_found", tt.found)
			want("scrub_repaired", tt.repaired)
			if _, err := checkAndRepair(t.Context(), s); err != nil { // for the next one
				t.Fatal(err)
			}
		})
	}
}

// TestBlocksUnderTheirTable checks that a damaged page of the table is taken for a
// finding of every block that it has the sums of, and of no other.
func TestBlocksUnderTheirTable(t *testing.T) {
	_, s := testShards(t, usual)
	body := bodyBytes(s.c.Plan)
	flips := []flip{{shard: 1, off: shardHead + body + 8}, {shard: 1, off: shardHead + 5}, {shard: 2, off: shardHead + 5}}
	if err := errors.Join(s.flip(flips), s.evict()); err != nil {
		t.Fatal(err)
	}
	findings, err := check(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(findings) != 2 {
		t.Errorf("found %v, one page and one block are to be found", findings)
	}
	for _, c := range []struct {
		findings []coding.Finding
		found    int
	}{{findings, 3}, {findings[:1], 2}, {findings[1:], 1}} {
		if found, _, err := s.count(flips, c.findings); err != nil || found != c.found {
			t.Errorf("%d flips found (%v), %d were by %v", found, err, c.found, c.findings)
		}
	}
}

var seedFlag = flag.Uint64("ec.seed", 0, "draw the flips of the test with this seed")

// TestFlipsCanBeRepaired draws flips for plans of all kinds: no byte twice, no
// stripe with more than m shards hurt, never both heads of a shard.
func TestFlipsCanBeRepaired(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()>>20 + 1
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with: go test ./bench/ec -run '^TestFlipsCanBeRepaired$' -ec.seed=%d", seed)
		}
	})
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 50 {
		p := coding.Plan{
			Policy: coding.Policy{Data: 1 + rng.IntN(12), Parity: 1 + rng.IntN(5)}, Volume: 1, Generation: 1, Epoch: 1, Encoder: 1,
			SourceBytes: 1<<20 + rng.Int64N(1<<28), IndexBytes: rng.Int64N(1 << 20),
		}
		flips, err := drawFlips(rng, p, 500)
		if err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
		type place struct{ shard, off int64 }
		seen, heads := make(map[place]bool), make(map[place]bool)
		hurt := make(map[int64]map[int]bool)
		body := p.FileBytes() - 2*shardHead
		pages := int64(0)
		for body-pages*4096 > pages*sumsPerPage*coding.BlockSize {
			pages++
		}
		body -= pages * 4096
		for _, f := range flips {
			if at := (place{int64(f.shard), f.off}); seen[at] {
				t.Fatalf("byte %d of shard %d is hit twice", f.off, f.shard)
			} else {
				seen[at] = true
			}
			at := f.off - shardHead
			from, to := at/coding.BlockSize, at/coding.BlockSize+1
			switch {
			case f.off < shardHead || f.off >= p.FileBytes()-shardHead:
				side := int64(0)
				if f.off < shardHead {
					side = 1
				}
				heads[place{int64(f.shard), side}] = true
				continue
			case at >= body:
				from = (at - body) / 4096 * sumsPerPage
				to = from + sumsPerPage
			}
			for i := from; i < to; i++ {
				if hurt[i] == nil {
					hurt[i] = make(map[int]bool)
				}
				hurt[i][f.shard] = true
			}
		}
		for i, shards := range hurt {
			if len(shards) > p.Parity {
				t.Fatalf("%s: stripe %d lacks %d shards", p.Policy, i, len(shards))
			}
		}
		for h := range heads {
			if heads[place{h.shard, 1 - h.off}] {
				t.Fatalf("both heads of shard %d are hit", h.shard)
			}
		}
	}
	if _, err := drawFlips(rng, coding.Plan{Policy: small, SourceBytes: 8192}, 100_000); err == nil {
		t.Error("more flips than there are bytes")
	}
}

// TestRawExtents checks that the raw side of degraded reads asks for the bytes that
// the engine computes: where the shard that is away would have them.
func TestRawExtents(t *testing.T) {
	b, s := testShards(t, usual)
	source, err := os.ReadFile(b.src.File)
	if err != nil {
		t.Fatal(err)
	}
	for away := range usual.Data {
		r, err := s.openRaw(away)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.files) != usual.Data {
			t.Errorf("%d files, want k", len(r.files))
		}
		shard, err := os.ReadFile(s.path(away))
		if err != nil {
			t.Fatal(err)
		}
		inside := b.src.Of(r.inside)
		if len(inside.Needles) == 0 {
			t.Fatalf("nothing lies in shard %d", away)
		}
		for i := range inside.Needles {
			n := &inside.Needles[i]
			e, from := r.extent(n), raw.Cover(n.Off, n.Span, raw.PageSize)
			end := min(from.End(), int64(len(source)))
			if !bytes.Equal(shard[e.Off:e.End()][:end-from.Off], source[from.Off:end]) {
				t.Fatalf("needle at %d does not lie at %d of shard %d", n.Off, e.Off, away)
			}
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRawPass checks that the raw side of a coding makes the engine's calls, ends
// when it is called off, and says what fails.
func TestRawPass(t *testing.T) {
	b, s := testShards(t, usual)
	seen := raw.NewRecorder()
	if err := b.encodeOnce(t.Context(), usual, seen); err != nil {
		t.Fatal(err)
	}
	p, err := newRawPass(seen.Ops, b.src.File)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.back) != usual.Shards() {
		t.Fatalf("%d files", len(p.back))
	}
	file := s.c.FileBytes()
	for i, back := range p.back {
		read := int64(0)
		for _, e := range back {
			read += int64(e.Len)
		}
		if p.room[i] != file || read < file || read > file+64*kib {
			t.Errorf("file %d has %d bytes, of which %d are read back; a shard has %d", i, p.room[i], read, file)
		}
	}
	if least := b.src.rec.End + 2*file*int64(usual.Shards()); p.bytes < least || p.bytes > least*11/10 {
		t.Errorf("%d bytes are read and written, want about %d", p.bytes, least)
	}
	memory, free, err := p.memory(false)
	if err != nil {
		t.Fatal(err)
	}
	defer free()
	if err := p.run(t.Context(), b.src.File, s.dir, memory); err != nil {
		t.Fatal(err)
	}
	for _, dir := range s.dir {
		if st, err := os.Stat(filepath.Join(dir, "raw")); err != nil || st.Size() != file {
			t.Errorf("the pass left %v (%v)", st, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.run(ctx, b.src.File, s.dir, memory); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
	p.source[len(p.source)/2].Off = -raw.PageSize
	if err := p.run(t.Context(), b.src.File, s.dir, memory); err == nil {
		t.Error("a read that fails is no error")
	}
	if _, err := newRawPass(nil, b.src.File); err == nil {
		t.Error("a pass of nothing")
	}
}

// TestErrorsAreCounted damages a needle in every shard, which nothing can mend, and
// checks that reading it is an error and no throughput.
func TestErrorsAreCounted(t *testing.T) {
	b, s := testShards(t, small)
	n := b.src.Needles[10]
	at := n.Off%s.c.ShardBytes() + shardHead + 1000
	for i := range small.Shards() {
		f, err := os.OpenFile(s.path(i), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte{0xff, 0, 0xff, 0}, at)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.evict(); err != nil {
		t.Fatal(err)
	}
	v, err := s.serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close() //nolint:errcheck // read only
	lib := b.src.Of(func(x *library.Needle) bool { return x.Off >= n.Off })
	a := s.order(lib).Engine("damaged", 4, v.Engine())
	c := contest.Contest{Rounds: 1, Slice: time.Hour, Arms: []*contest.Arm{a}}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if res := a.Results("1/s", 1)[0]; res.Errors == 0 || res.N == 0 || !errors.Is(a.All.Err(), volume.ErrCorrupt) {
		t.Errorf("%d needles read and %d errors: %v", res.N, res.Errors, a.All.Err())
	}
}

// TestUsage checks that room counts and not size.
func TestUsage(t *testing.T) {
	dir := t.TempDir()
	f, err := vfs.OS{}.Create(dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Allocate(0, 1<<20), f.Truncate(4<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	allocated, size, err := usage(dir)
	if err != nil || size != 4<<20 || allocated < 1<<20 || allocated > 2<<20 {
		t.Errorf("%d bytes allocated of %d (%v)", allocated, size, err)
	}
}

// TestWorst checks which policy gives the plain names.
func TestWorst(t *testing.T) {
	b := &run{Options: Options{Policies: []coding.Policy{small, usual}}, report: &bench.Report{
		Ratios: map[string]float64{
			"encode_throughput_2_1": 0.9, "encode_throughput_4_2": 0.8, "degraded_read_latency_2_1": 1.2, "degraded_read_latency_4_2": 1.1,
			"stored_over_live_2_1": 1.6, "stored_over_policy_2_1": 1.001, "stored_over_live_4_2": 1.5, "stored_over_policy_4_2": 1.002,
		},
		Results: []bench.Result{{Name: "scrub_found_2_1", Value: 3, N: 4, Errors: 1}, {Name: "scrub_found_4_2", Value: 4, N: 4}},
	}}
	b.worst()
	for name, want := range map[string]float64{"encode_throughput": 0.8, "degraded_read_latency": 1.2, "stored_over_live": 1.5, "stored_over_policy": 1.002} {
		if got := b.report.Ratios[name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if got := find(t, b.report, "scrub_found"); got.Value != 3 || got.Errors != 0 {
		t.Errorf("scrub_found: %+v", got)
	}
}

// TestBudget checks the rate against that of a server with as many disks.
func TestBudget(t *testing.T) {
	for disks, want := range map[int]int64{1: 16 << 20, 2: 16 << 20, 3: 32 << 20, 6: 48 << 20} {
		b := &run{Options: Options{Dirs: make([]string, disks)}.withDefaults()}
		if got := b.budget(); got != want {
			t.Errorf("%d disks: %d bytes per second, want %d", disks, got, want)
		}
	}
}
