package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"hayloft/bench"
	"hayloft/bench/trace"
	"hayloft/cache/policy"
)

// sizes are the caches that a trace is replayed through, as a share of what the
// trace asks for.
var sizes = []struct {
	name, label string
	share       float64
}{{"0_1pct", "0.1 %", 0.001}, {"1pct", "1 %", 0.01}, {"10pct", "10 %", 0.1}}

// ledger is the administration of one entry in the photo cache, in bytes
// (docs/cache.md).
const ledger = 300

// object is what one object takes from a budget that is counted in objects: so
// much that beside it ghosts weigh nothing.
const object = 1 << 30

// missed is what one replay missed.
type missed struct{ requests, bytes int64 }

// replays are those of one policy, for each of sizes: by objects in a cache for a
// share of the objects, by bytes in a cache for a share of the bytes.
type replays struct{ byObjects, byBytes []missed }

// openTrace returns how to open the trace, and what it is.
func (b *run) openTrace() (open func() (trace.Source, func() error, error), what string, err error) {
	nothing := func() error { return nil }
	if b.Trace == "" {
		g, err := trace.Generate(model, b.Requests, b.Seed)
		if err != nil {
			return nil, "", err
		}
		return func() (trace.Source, func() error, error) { return g.Open(), nothing, nil },
			fmt.Sprintf("generated, seed %d, %g days", b.Seed, model.Days), nil
	}
	return b.openFile, b.Trace, nil
}

// openFile opens the trace's file, and unpacks it if its name ends in .zst.
func (b *run) openFile() (trace.Source, func() error, error) {
	f, err := os.Open(b.Trace)
	if err != nil {
		return nil, nil, err
	}
	var r io.Reader = f
	done := f.Close
	if strings.HasSuffix(b.Trace, ".zst") {
		d, err := zstd.NewReader(f)
		if err != nil {
			return nil, nil, errors.Join(err, f.Close())
		}
		r = d
		done = func() error { d.Close(); return f.Close() }
	}
	if b.Format == "oracle" {
		return trace.NewOracle(r), done, nil
	}
	return trace.NewCSV(r), done, nil
}

// misses replays the trace through every policy.
func (b *run) misses(ctx context.Context) error {
	b.Progress("replaying the trace")
	open, what, err := b.openTrace()
	if err != nil {
		return err
	}
	src, done, err := open()
	if err != nil {
		return err
	}
	sum, err := trace.Summarize(src)
	if err = errors.Join(err, done()); err != nil {
		return err
	}
	if sum.Requests == 0 {
		return errors.New("the trace has no requests")
	}
	b.describeTrace(what, sum)
	found := make([]replays, len(policy.Names()))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i, name := range policy.Names() {
		g.Go(func() error {
			src, done, err := open()
			if err != nil {
				return err
			}
			found[i], err = replay(ctx, src, name, sum)
			return errors.Join(err, done())
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b.reportMisses(sum, found)
	return nil
}

// replay sends a trace through one policy.
func replay(ctx context.Context, src trace.Source, name string, sum trace.Summary) (r replays, err error) {
	var objects, bytes []*policy.Replay
	for _, s := range sizes {
		objects = append(objects, policy.NewReplay(name, max(3, int64(s.share*float64(sum.Objects)))*object+object/2))
		bytes = append(bytes, policy.NewReplay(name, int64(s.share*float64(sum.ObjectBytes))))
	}
	r.byObjects, r.byBytes = make([]missed, len(sizes)), make([]missed, len(sizes))
	for n := 0; ; n++ {
		if n&0xffff == 0 && ctx.Err() != nil {
			return r, ctx.Err()
		}
		q, err := src.Next()
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return r, err
		}
		for i := range sizes {
			r.byObjects[i].note(objects[i].Get(q.ID, object), q.Size)
			r.byBytes[i].note(bytes[i].Get(q.ID, q.Size+ledger), q.Size)
		}
	}
}

func (m *missed) note(hit bool, size int64) {
	if !hit {
		m.requests++
		m.bytes += size
	}
}

func (b *run) describeTrace(what string, sum trace.Summary) {
	b.report.Settings["trace"] = fmt.Sprintf("%s: %d requests for %d objects, %.1f for each, %.0f %% asked for once, %.0f %% of the requests to 1 %% of the objects, %.1f GB in objects of %.0f KB on average; one of %d objects counted",
		what, sum.Requests, sum.Objects, float64(sum.Requests)/float64(max(1, sum.Objects)), 100*sum.OneHit, 100*sum.TopPercent,
		float64(sum.ObjectBytes)/1e9, float64(sum.ObjectBytes)/1e3/float64(max(1, sum.Objects)), sum.Sampled)
	b.report.Settings["miss ratios"] = "miss_…: requests missed by a cache for so many of the objects, each counted as one; " +
		"miss_…_of_bytes and byte_miss_…: requests and bytes missed by a cache for so many of the bytes, with " + fmt.Sprint(ledger) + " bytes for each entry and 96 for each ghost; the cache is empty at the start"
	b.add(bench.Result{Name: "miss_compulsory", Unit: "1", Value: float64(sum.Objects) / float64(sum.Requests), N: int(sum.Requests)})
}

// reportMisses adds results, ratios and plots.
func (b *run) reportMisses(sum trace.Summary, found []replays) {
	plots := []bench.Plot{
		{File: "miss.svg", Title: "bench cache: share of requests missed, cache for so many of the objects"},
		{File: "byte-miss.svg", Title: "bench cache: share of bytes missed, cache for so many of the bytes"},
	}
	lru := map[string]float64{}
	for k := range plots {
		for _, s := range sizes {
			plots[k].X, plots[k].XNames = append(plots[k].X, s.share), append(plots[k].XNames, s.label)
		}
	}
	for p, name := range policy.Names() {
		lines := [2]bench.Line{{Name: name}, {Name: name}}
		for i, s := range sizes {
			all, bytes := float64(sum.Requests), float64(max(1, sum.RequestBytes))
			for _, v := range []struct {
				name  string
				value float64
			}{
				{"miss_%s_" + s.name, float64(found[p].byObjects[i].requests) / all},
				{"miss_%s_" + s.name + "_of_bytes", float64(found[p].byBytes[i].requests) / all},
				{"byte_miss_%s_" + s.name, float64(found[p].byBytes[i].bytes) / bytes},
			} {
				b.add(bench.Result{Name: fmt.Sprintf(v.name, name), Unit: "1", Value: v.value, N: int(sum.Requests)})
				if name == "lru" {
					lru[v.name] = v.value
				}
				if base := lru[v.name]; name == policy.Default && base > 0 {
					b.report.Ratios[fmt.Sprintf(v.name, name)+"_over_lru"] = v.value / base
				}
			}
			lines[0].Y = append(lines[0].Y, float64(found[p].byObjects[i].requests)/all)
			lines[1].Y = append(lines[1].Y, float64(found[p].byBytes[i].bytes)/bytes)
		}
		for k := range plots {
			plots[k].Lines = append(plots[k].Lines, lines[k])
		}
	}
	b.report.Plots = append(b.report.Plots, plots...)
}
