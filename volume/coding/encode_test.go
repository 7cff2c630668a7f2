package coding

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

// none checks that no shard has its name, and nothing unfinished is left.
func (r *rig) none() {
	r.t.Helper()
	for _, h := range r.homes {
		if all, err := List(r.fs, h.Dir); err != nil || len(all) != 0 {
			r.t.Fatalf("%s holds %v, %v", h.Dir, all, err)
		}
	}
}

// TestWhatTheDeviceHoldsCounts lets a device lie: it acknowledges a sync and holds
// something else.
func TestWhatTheDeviceHoldsCounts(t *testing.T) {
	for _, at := range []int64{100, headSize + 5, headSize + BlockSize + 5, -5} {
		rng := rand.New(rand.NewPCG(1, uint64(at)))
		r := newRig(t, rng, Policy{2, 2}, 200_000, 5000)
		fault := &vfs.Fault{FS: r.fs}
		name := ""
		// The file is touched when it is opened to be read back: it was synced.
		fault.Before = func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpOpen && op.Name == name && name != "" {
				if st, err := r.fs.Stat(name); err == nil && st.Size == r.plan.FileBytes() {
					if at < 0 {
						_ = r.fs.Flip(name, st.Size+at, 1)
					} else {
						_ = r.fs.Flip(name, at, 1)
					}
				}
			}
			return vfs.Outcome{}
		}
		for i := range r.homes {
			name = r.path(i) + tmpExt
			if _, err := Encode(context.Background(), r.plan, r.src(), r.on(fault).homes, Options{}); !errors.Is(err, volume.ErrCorrupt) {
				t.Fatalf("encode with shard %d wrong at %d: %v", i, at, err)
			}
			r.none()
		}
		name = ""
		c := r.encode()
		r.must(r.fs.Remove(r.path(2)))
		name = r.path(2) + tmpExt
		if err := Rebuild(context.Background(), c, r.open(c), []Lost{{2, r.on(fault).homes[2]}}, Options{}); !errors.Is(err, volume.ErrCorrupt) {
			t.Fatalf("rebuild with shard 2 wrong at %d: %v", at, err)
		}
		if all, _ := List(r.fs, r.homes[2].Dir); len(all) != 0 {
			t.Fatalf("rebuild left %v", all)
		}
	}
	rng := rand.New(rand.NewPCG(9, 9))
	r := newRig(t, rng, Policy{2, 1}, 200_000, 5000)
	c := r.encode()
	fault := &vfs.Fault{FS: r.fs}
	fault.Before = func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpOpen {
			_ = r.fs.Flip(op.Name, 199_999, 1)
		}
		return vfs.Outcome{}
	}
	// The first opening is for writing: the flip is overwritten. The second one
	// reads back.
	if err := Decode(context.Background(), c, r.open(c), fault, "/src/decoded", Options{}); !errors.Is(err, volume.ErrCorrupt) {
		t.Fatalf("decode: %v", err)
	}
	if _, err := r.fs.Stat("/src/decoded"); err == nil {
		t.Fatal("a wrong file got its name")
	}
}

// TestEncodeIsAskedForWhatItCannot lists what ends a run before a shard has its
// name.
func TestEncodeIsAskedForWhatItCannot(t *testing.T) {
	no := errors.New("no")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for name, tt := range map[string]struct {
		ctx    context.Context
		change func(p *Plan, s *Source, h *[]Home, o *Options)
		want   error
	}{
		"verify refuses": {nil, func(_ *Plan, _ *Source, _ *[]Home, o *Options) {
			o.Verify = func(context.Context, io.Reader) error { return no }
		}, no},
		"verify refuses at the end": {nil, func(_ *Plan, _ *Source, _ *[]Home, o *Options) {
			o.Verify = func(_ context.Context, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				return errors.Join(err, no)
			}
		}, no},
		"throttle ends": {nil, func(_ *Plan, _ *Source, _ *[]Home, o *Options) {
			o.Throttle = func(context.Context, int64) error { return no }
		}, no},
		"throttle ends later": {nil, func(_ *Plan, _ *Source, _ *[]Home, o *Options) {
			n := 0
			o.Throttle = func(context.Context, int64) error {
				if n++; n > 6 {
					return no
				}
				return nil
			}
		}, no},
		"context":          {ended, func(*Plan, *Source, *[]Home, *Options) {}, context.Canceled},
		"a home short":     {nil, func(_ *Plan, _ *Source, h *[]Home, _ *Options) { *h = (*h)[1:] }, volume.ErrInvalid},
		"index too long":   {nil, func(p *Plan, _ *Source, _ *[]Home, _ *Options) { p.IndexBytes++ }, volume.ErrInvalid},
		"policy":           {nil, func(p *Plan, _ *Source, _ *[]Home, _ *Options) { p.Parity = 9 }, volume.ErrInvalid},
		"stripes":          {nil, func(_ *Plan, _ *Source, _ *[]Home, o *Options) { o.StripeBytes = -1 }, volume.ErrInvalid},
		"source too short": {nil, func(p *Plan, _ *Source, _ *[]Home, _ *Options) { p.SourceBytes += 5000 }, volume.ErrCorrupt},
		"source too long":  {nil, func(p *Plan, _ *Source, _ *[]Home, _ *Options) { p.SourceBytes -= 5000 }, volume.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rand.New(rand.NewPCG(2, 2)), Policy{3, 2}, 300_000, 100)
			ctx, p, s, h, o := tt.ctx, r.plan, r.src(), r.homes, Options{}
			if ctx == nil {
				ctx = context.Background()
			}
			tt.change(&p, &s, &h, &o)
			if _, err := Encode(ctx, p, s, h, o); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			r.none()
			r.sourceIsThere()
		})
	}
}

// TestSourceMustNotChange gives a second call another source under the same plan.
func TestSourceMustNotChange(t *testing.T) {
	for name, change := range map[string]func(r *rig){
		"superblock": func(r *rig) { r.must(r.fs.Flip(sourceName, 100, 1)) },
		"data":       func(r *rig) { r.must(r.fs.Flip(sourceName, 100_000, 1)) },
		"index":      func(r *rig) { r.index = bytes.Clone(r.index); r.index[5]++ },
	} {
		r := newRig(t, rand.New(rand.NewPCG(2, 3)), Policy{2, 1}, 200_000, 100)
		r.encode()
		kept := r.file(0)
		r.must(r.fs.Remove(r.path(1)))
		change(r)
		if _, err := Encode(context.Background(), r.plan, r.src(), r.homes, Options{}); !errors.Is(err, volume.ErrCorrupt) || !strings.Contains(err.Error(), "another source") {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(r.file(0), kept) {
			t.Errorf("%s: shard 0 was changed", name)
		}
		if _, err := r.fs.Stat(r.path(1)); err == nil {
			t.Errorf("%s: shard 1 was made", name)
		}
	}
}

func TestProgressEndsAtTheTotal(t *testing.T) {
	r := newRig(t, rand.New(rand.NewPCG(4, 4)), Policy{3, 2}, 1_000_000, 100_000)
	steps := map[Step]Progress{}
	var throttled int64
	o := Options{StripeBytes: 1, Progress: func(p Progress) {
		if p.Done < steps[p.Step].Done || p.Done > p.Total {
			t.Errorf("%+v after %+v", p, steps[p.Step])
		}
		steps[p.Step] = p
	}, Throttle: func(_ context.Context, n int64) error { throttled += n; return nil }}
	ended := func(want ...Step) {
		t.Helper()
		for _, s := range want {
			if p := steps[s]; p.Done != p.Total || p.Total == 0 {
				t.Errorf("%s ended with %+v", s, p)
			}
		}
		if len(steps) != len(want) {
			t.Errorf("steps %v, want %v", steps, want)
		}
		clear(steps)
	}
	digests, err := Encode(context.Background(), r.plan, r.src(), r.homes, o)
	r.must(err)
	ended(StepEncode, StepVerify)
	if least := int64(len(r.source)) + 2*5*r.plan.ShardBytes(); throttled < least {
		t.Errorf("throttled %d bytes, at least %d were read and written", throttled, least)
	}
	c := Committed{Plan: r.plan, Digests: digests}
	r.must(r.fs.Remove(r.path(1)))
	r.must(Rebuild(context.Background(), c, r.open(c), []Lost{{1, r.homes[1]}}, o))
	ended(StepRebuild, StepVerify)
	r.must(Decode(context.Background(), c, r.open(c), r.fs, "/src/decoded", o))
	ended(StepDecode, StepVerify)
}

// TestRebuildReadsKShards counts what a rebuild reads of the others.
func TestRebuildReadsKShards(t *testing.T) {
	for gone := 1; gone <= 3; gone++ {
		r := newRig(t, rand.New(rand.NewPCG(5, uint64(gone))), Policy{4, 3}, 3_000_000, 200_000)
		c := r.encode()
		var lost []Lost
		for i := range gone {
			r.must(r.fs.Remove(r.path(2 * i)))
			lost = append(lost, Lost{2 * i, r.homes[2*i]})
		}
		shards, w := watch(r.open(c))
		r.must(Rebuild(context.Background(), c, shards, lost, Options{}))
		var read int64
		for _, s := range w {
			if s != nil {
				for _, e := range s.asked {
					read += e.n
				}
			}
		}
		if most := int64(c.Data) * c.FileBytes(); read > most || read < int64(c.Data)*c.ShardBytes() {
			t.Errorf("%d shards lost: %d bytes read, k shards have %d", gone, read, most)
		}
		// Again there is nothing to do, and nothing of the others is read.
		shards, w = watch(r.open(c))
		r.must(Rebuild(context.Background(), c, shards, lost, Options{}))
		for i, s := range w {
			if s != nil && s.requests() > 0 {
				t.Errorf("shard %d was read for nothing", i)
			}
		}
	}
}

func TestDecodeReplacesNothing(t *testing.T) {
	r := newRig(t, rand.New(rand.NewPCG(6, 7)), Policy{2, 1}, 100_000, 100)
	c := r.encode()
	decode := func() error {
		return Decode(context.Background(), c, r.open(c), r.fs, "/src/decoded", Options{})
	}
	r.must(decode())
	r.must(decode())
	r.must(r.fs.Flip("/src/decoded", 50_000, 1))
	for _, length := range []int64{100_000, 99_999} {
		f, err := r.fs.OpenWrite("/src/decoded")
		r.must(err)
		r.must(errors.Join(f.Truncate(length), f.Close()))
		before, _ := vfs.ReadFile(r.fs, "/src/decoded", 1<<30)
		if err := decode(); !errors.Is(err, fs.ErrExist) {
			t.Errorf("over a file of %d bytes: %v", length, err)
		}
		if after, _ := vfs.ReadFile(r.fs, "/src/decoded", 1<<30); !bytes.Equal(before, after) {
			t.Error("it was changed")
		}
	}
}

func TestRebuildIsAskedForWhatItCannot(t *testing.T) {
	r := newRig(t, rand.New(rand.NewPCG(6, 6)), Policy{2, 1}, 100_000, 100)
	c := r.encode()
	shards := r.open(c)
	h := r.homes[0]
	for name, lost := range map[string][]Lost{"number": {{3, h}}, "below": {{-1, h}}, "twice": {{0, h}, {0, h}}} {
		if err := Rebuild(context.Background(), c, shards, lost, Options{}); !errors.Is(err, volume.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := Options{StripeBytes: -1}
	for _, err := range []error{
		Rebuild(context.Background(), c, shards[:2], nil, Options{}),
		Rebuild(context.Background(), c, shards, nil, bad),
		Decode(context.Background(), c, shards[:2], r.fs, "/src/x", Options{}),
		Decode(context.Background(), c, shards, r.fs, "/src/x", bad),
		Check(context.Background(), h, c.Plan, 0, c.Digests[0], bad, nil),
		Rebuild(context.Background(), Committed{}, shards, nil, Options{}),
	} {
		if !errors.Is(err, volume.ErrInvalid) {
			t.Errorf("%v", err)
		}
	}
	if _, err := Open(h, c, 3); !errors.Is(err, volume.ErrInvalid) {
		t.Errorf("%v", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Check(ended, h, c.Plan, 0, c.Digests[0], Options{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("check with an ended context: %v", err)
	}
	no := errors.New("no")
	if err := Check(context.Background(), h, c.Plan, 0, c.Digests[0], Options{Throttle: func(context.Context, int64) error { return no }}, nil); !errors.Is(err, no) {
		t.Errorf("check that is stopped: %v", err)
	}
	if err := Rebuild(ended, c, shards, []Lost{{1, Home{r.fs, "/src"}}}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("rebuild with an ended context: %v", err)
	}
	if err := Decode(ended, c, shards, r.fs, "/src/x", Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("decode with an ended context: %v", err)
	}
}

// TestMemoryIsBounded encodes, rebuilds and decodes sources of different size on
// a real disk: all they allocate from begin to end does not grow with the source,
// but for the sums.
func TestMemoryIsBounded(t *testing.T) {
	allocated := func(sourceBytes int) map[string]uint64 {
		r := newRig(t, rand.New(rand.NewPCG(8, 8)), Policy{4, 2}, sourceBytes, 100)
		dir := t.TempDir()
		r.must(vfs.WriteFile(vfs.OS{}, dir+"/source", r.source))
		src := Source{FS: vfs.OS{}, Name: dir + "/source", Index: r.index}
		for i := range r.homes {
			r.homes[i] = Home{FS: vfs.OS{}, Dir: dir}
		}
		o := Options{StripeBytes: 1 << 20, Verify: func(_ context.Context, source io.Reader) error {
			_, err := io.Copy(io.Discard, source)
			return err
		}}
		out := map[string]uint64{}
		count := func(what string, fn func() error) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r.must(fn())
			runtime.ReadMemStats(&after)
			out[what] = after.TotalAlloc - before.TotalAlloc
		}
		c := Committed{Plan: r.plan}
		count("encode", func() (err error) {
			c.Digests, err = Encode(context.Background(), r.plan, src, r.homes, o)
			return err
		})
		r.must(vfs.OS{}.Remove(r.path(1)))
		shards := r.open(c)
		count("rebuild", func() error { return Rebuild(context.Background(), c, shards, []Lost{{1, r.homes[1]}}, o) })
		count("decode", func() error { return Decode(context.Background(), c, shards, vfs.OS{}, dir+"/decoded", o) })
		return out
	}
	allocated(8 << 20) // what is made once
	small, large := allocated(8<<20), allocated(40<<20)
	for what := range small {
		t.Logf("%s: %d KiB for 8 MiB, %d KiB for 40 MiB", what, small[what]>>10, large[what]>>10)
		if large[what] > small[what]+1<<20 {
			t.Errorf("%s allocated %d bytes for a source of 8 MiB, %d for one of 40 MiB", what, small[what], large[what])
		}
	}
}
