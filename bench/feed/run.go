package feed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"hayloft/bench"
	"hayloft/bench/contest"
)

const (
	// pageRate and besideRate are the load of the pages over HTTP, per second.
	pageRate   = 1000
	besideRate = 20_000 // deliveries
	bursts     = 3
	segment    = 500 // rows that a deep page keeps for those that follow it
)

// runner collects the report.
type runner struct {
	o Options
	r *bench.Report
}

// Run measures. A report that could not be finished is returned with the error.
func Run(ctx context.Context, o Options) (*bench.Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	dir := o.Dir
	if dir == "" {
		dir = os.TempDir()
	}
	r := &runner{o: o, r: &bench.Report{
		Bench: "feed", When: time.Now(), Machine: bench.ThisMachine(dir), Ratios: map[string]float64{},
		Settings: map[string]string{
			"durability": "raft with one voter, each entry synced; timelines without a log, derived again from the outbox",
			"duration":   o.Duration.String(),
		},
	}}
	small, err := r.first(ctx)
	if err == nil && o.Large > o.Readers && o.Graph == "" {
		err = r.second(ctx, small)
	}
	return r.r, err
}

func (r *runner) add(name, unit string, value float64, n int) {
	r.r.Results = append(r.r.Results, bench.Result{Name: name, Unit: unit, Value: value, N: n})
}

func (r *runner) tell(format string, args ...any) { r.o.Progress(fmt.Sprintf(format, args...)) }

// costs are the processor seconds of one delivery, one page, a reader's first page, and a page
// as the API serves it.
type costs struct{ delivery, page, first, served float64 }

// open makes a world and tells of it.
func (r *runner) open(ctx context.Context, readers int) (*world, error) {
	begin := time.Now()
	r.tell("a world of %d readers with %d entries each", readers, r.o.Cap)
	w, err := newWorld(ctx, &r.o, readers)
	if err == nil {
		r.tell("made in %.0f s: %d follows, %d posts, mean fan-out %.0f", time.Since(begin).Seconds(), len(w.g.edges), len(w.g.posts), w.g.mean)
	}
	return w, err
}

// first is all that is measured in the ordinary world.
func (r *runner) first(ctx context.Context) (c costs, err error) {
	w, err := r.open(ctx, r.o.Readers)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	source := "degrees after LinkBench, 1 to 2,000"
	if r.o.Graph != "" {
		source = "edges of " + r.o.Graph
	}
	r.r.Settings["data set"] = fmt.Sprintf("%d readers, all active, timelines of %d full; %s; mean push fan-out %.0f; authors in proportion to followers",
		w.n, r.o.Cap, source, w.g.mean)
	r.r.Settings["warm-up"] = r.o.share(0.1).String() + " of fan-out"
	// Pages come right after deliveries, as in the larger world: a quiet minute makes them cheaper.
	for _, part := range []func(context.Context, *world, *costs) error{
		r.deliveries, r.pages, r.redis, r.wide, r.http, r.burst, r.bytes,
	} {
		if err := part(ctx, w, &c); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (r *runner) deliveries(ctx context.Context, w *world, c *costs) error {
	if _, err := w.fanOut(ctx, r.o.share(0.1), 1); err != nil {
		return err
	}
	f, err := w.fanOut(ctx, r.o.Duration, 2)
	if err != nil {
		return err
	}
	r.add("deliveries_per_s", "1/s", f.rate(), int(f.deliveries))
	r.add("posts_per_s", "1/s", float64(f.posts)/f.took, int(f.posts))
	r.add("compaction_debt_start_bytes", "B", float64(f.debtBefore), 1)
	r.add("compaction_debt_end_bytes", "B", float64(f.debtEnd), 1)
	c.delivery = f.cpu / float64(f.deliveries)
	r.add("cpu_s_per_delivery", "s", c.delivery, int(f.deliveries))
	r.tell("%.0f deliveries/s", f.rate())
	return nil
}

func (r *runner) redis(ctx context.Context, w *world, _ *costs) (err error) {
	if r.o.Redis == "none" {
		return nil
	}
	s, err := startRedis(ctx, r.o.Redis, w.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.prefill(w); err != nil {
		return err
	}
	if _, _, err := s.fanOut(ctx, w, r.o.share(0.02)); err != nil {
		return err
	}
	n, took, err := s.fanOut(ctx, w, r.o.share(0.2))
	if err != nil {
		return err
	}
	used, err := s.memory()
	if err != nil {
		return err
	}
	r.r.Settings["redis"] = fmt.Sprintf("ZADD and ZREMRANGEBYRANK of each delivery, a post's in one pipeline; %d connections, no persistence; %d of the timelines, the deliveries of all",
		redisConns, s.n)
	rate := float64(n) / took
	r.add("redis_deliveries_per_s", "1/s", rate, int(n))
	r.add("redis_memory_bytes_per_delivery", "B", float64(used)/float64(s.n*r.o.Cap), s.n*r.o.Cap)
	r.r.Ratios["deliveries_over_redis"] = r.value("deliveries_per_s") / rate
	r.tell("%.0f deliveries/s with Redis", rate)
	return nil
}

func (r *runner) value(name string) float64 {
	i := slices.IndexFunc(r.r.Results, func(res bench.Result) bool { return res.Name == name })
	return r.r.Results[i].Value
}

func (r *runner) pages(ctx context.Context, w *world, c *costs) error {
	return r.readPages(ctx, w, c, "")
}

// readPages measures pages of a world, first ones and others, under names that end in at.
func (r *runner) readPages(ctx context.Context, w *world, c *costs, at string) error {
	s, err := w.openSite()
	if err != nil {
		return err
	}
	first := w.firstPages(ctx, r.o.share(0.1))
	all := w.pages(ctx, r.o.share(0.1))
	served := w.served(ctx, s, r.o.share(0.05))
	err = errors.Join(ctx.Err(), first.latency.Err(), all.latency.Err(), served.latency.Err(), s.close(context.WithoutCancel(ctx)))
	if err != nil {
		return err
	}
	c.first, c.page, c.served = first.each(), all.each(), served.each()
	r.add("cpu_s_per_served_page"+at, "s", c.served, served.n)
	r.add("feed_pages_per_s"+at, "1/s", all.rate(), all.n)
	r.r.Results = append(r.r.Results, all.latency.Result("feed_page_closed_p99"+at, 0.99))
	r.add("cpu_s_per_page"+at, "s", c.page, all.n)
	r.add("cpu_s_per_first_page"+at, "s", c.first, first.n)
	r.tell("%.0f pages/s", all.rate())
	return nil
}

// wide reads as those who follow very many.
func (r *runner) wide(ctx context.Context, w *world, _ *costs) error {
	var top, within, seam bench.Latency
	w.scroll(ctx, w.n+wide, 5*pageRows, r.o.share(0.03), func(_ int, took time.Duration, err error) { top.Add(took, err) })
	w.scroll(ctx, w.n+widest, 2*segment, r.o.share(0.06), func(row int, took time.Duration, err error) {
		if row%segment == 0 {
			seam.Add(took, err)
		} else {
			within.Add(took, err)
		}
	})
	r.r.Results = append(r.r.Results, top.Result("feed_page_2000_p99", 0.99),
		within.Result("feed_page_5000_p99", 0.99), seam.Result("feed_page_5000_seam_p99", 0.99))
	return errors.Join(ctx.Err(), top.Err(), within.Err(), seam.Err())
}

// http asks for pages over HTTP beside deliveries.
func (r *runner) http(ctx context.Context, w *world, _ *costs) error {
	s, err := w.openSite()
	if err != nil {
		return err
	}
	posting, cancel := context.WithCancel(ctx)
	posted := make(chan error, 1)
	before, begin := w.feed.TimelineStats().Deliveries, time.Now()
	go func() { posted <- w.post(posting, besideRate/w.g.mean, 3) }()
	s.open(ctx, pageRate, r.o.share(0.03)) // warm-up
	l := s.open(ctx, pageRate, r.o.share(0.15))
	cancel()
	err = errors.Join(<-posted, w.settle(ctx), l.Err())
	rate := float64(w.feed.TimelineStats().Deliveries-before) / time.Since(begin).Seconds()
	err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
	r.r.Results = append(r.r.Results, l.Result("feed_page_p99", 0.99))
	r.r.Settings["feed_page_p99"] = fmt.Sprintf("over HTTP, open-loop at %d pages/s beside %.0f deliveries/s, clients in the same process", pageRate, rate)
	return errors.Join(err, ctx.Err())
}

// count is how names in the report say a number.
func count(n int) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return fmt.Sprintf("%dm", n/1_000_000)
	case n >= 1000 && n%1000 == 0:
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprint(n)
}

// burst takes the median of a few posts that go to everybody.
func (r *runner) burst(ctx context.Context, w *world, _ *costs) error {
	var took []float64
	for range bursts {
		if _, err := w.rest(ctx, 64<<20); err != nil {
			return err
		}
		d, err := w.burst(ctx)
		if err != nil {
			return err
		}
		took = append(took, d.Seconds())
		contest.SleepUntil(ctx, time.Now().Add(100*time.Millisecond))
	}
	slices.Sort(took)
	r.add("fanout_"+count(w.n)+"_s", "s", took[bursts/2], bursts)
	return nil
}

// bytes is what an entry takes on disk when everything was compacted.
func (r *runner) bytes(ctx context.Context, w *world, _ *costs) error {
	if err := w.feed.Timelines().Compact(ctx); err != nil {
		return err
	}
	st := w.feed.TimelineStats()
	live := st.Readers * r.o.Cap
	r.add("bytes_per_delivery", "B", float64(st.DiskBytes)/float64(live), live)
	return nil
}

// second measures what grows in a larger world.
func (r *runner) second(ctx context.Context, small costs) (err error) {
	w, err := r.open(ctx, r.o.Large)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if _, err := w.fanOut(ctx, r.o.share(0.05), 1); err != nil {
		return err
	}
	f, err := w.fanOut(ctx, r.o.share(0.2), 2)
	if err != nil {
		return err
	}
	large := costs{delivery: f.cpu / float64(f.deliveries)}
	r.r.Settings["larger data set"] = fmt.Sprintf("%d readers, mean push fan-out %.0f, pages of %d of them", w.n, w.g.mean, w.visitors())
	r.add("deliveries_per_s_"+count(w.n), "1/s", f.rate(), int(f.deliveries))
	r.add("cpu_s_per_delivery_"+count(w.n), "s", large.delivery, int(f.deliveries))
	if err := r.readPages(ctx, w, &large, "_"+count(w.n)); err != nil {
		return err
	}
	r.r.Ratios["cpu_per_delivery_growth"] = large.delivery / small.delivery
	r.r.Ratios["cpu_per_page_growth"] = large.page / small.page
	r.r.Ratios["cpu_per_served_page_growth"] = large.served / small.served
	r.r.Ratios["cpu_per_first_page_growth"] = large.first / small.first
	return r.burst(ctx, w, nil)
}
