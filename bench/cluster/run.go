package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"hayloft/bench"
	"hayloft/bench/contest"
	"hayloft/bench/rig"
)

// Options say what Run measures. Binary, Dir, Key and Setting must be given.
type Options struct {
	Binary string // hayloft
	Dir    string // where both servers keep their data
	Key    string // of the blob API
	// Setting is the key as --blob-keys takes it.
	Setting string

	Nodes    int  // 0: 3
	Disks    int  // data directories of each node; 0: 2
	Replicas int  // 0: 2
	Size     int  // bytes of a blob; 0: 64 KiB
	Rounds   int  // of the comparison of writes; 0: 7
	Writes   int  // in each round and on each side; 0: 150
	Readers  int  // under which a node is killed; 0: 16
	Writers  int  // 0: 4
	Kills    int  // how many times; 0: 3
	Blobs    int  // stored before anything is killed; 0: 2,000
	Keep     bool // the directories, for who wants to see logs
	Progress func(string)
}

// Validate lists every fault of o.
func (o Options) Validate() error {
	var errs []error
	need := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New("bench cluster: "+text))
		}
	}
	need(o.Binary != "" && o.Dir != "" && o.Key != "" && o.Setting != "", "Binary, Dir, Key and Setting must be given")
	need(o.Nodes >= 0 && o.Disks >= 0 && o.Replicas >= 0 && o.Size >= 0 && o.Rounds >= 0 && o.Writes >= 0 && o.Kills >= 0 && o.Blobs >= 0 && o.Readers >= 0 && o.Writers >= 0,
		"a number is negative")
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		v   *int
		def int
	}{{&o.Nodes, 3}, {&o.Disks, 2}, {&o.Replicas, 2}, {&o.Size, 64 << 10}, {&o.Rounds, 7}, {&o.Writes, 150}, {&o.Readers, 16}, {&o.Writers, 4}, {&o.Kills, 3}, {&o.Blobs, 2000}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o
}

// repairDelay is that of the cluster: a node that is killed and started again
// within it costs no repair.
const repairDelay = 15 * time.Second

// run is the state of Run.
type run struct {
	Options
	report *bench.Report
	single *rig.Rig // one node
	rig    *rig.Rig
	lib    library
	store  *store
}

// Run measures and returns the report; also, as far as it came, when something
// failed.
func Run(ctx context.Context, o Options) (_ *bench.Report, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	dir, err := os.MkdirTemp(o.Dir, "hayloft-bench-cluster-")
	if err != nil {
		return nil, fmt.Errorf("bench cluster: %w", err)
	}
	if !o.Keep {
		defer os.RemoveAll(dir) //nolint:errcheck // what is left is named bench
	}
	b := &run{Options: o, report: &bench.Report{
		Bench: "cluster", When: time.Now().UTC(), Machine: bench.ThisMachine(o.Dir), Settings: map[string]string{}, Ratios: map[string]float64{},
	}}
	b.describe()
	if err := b.open(ctx, dir); err != nil {
		return nil, fmt.Errorf("bench cluster: %w", err)
	}
	defer b.close()
	for _, step := range []func(context.Context) error{b.writes, b.failover, b.leaders, b.repair} {
		if err := step(ctx); err != nil {
			return b.report, fmt.Errorf("bench cluster: %w", err)
		}
	}
	return b.report, nil
}

func (b *run) describe() {
	s := b.report.Settings
	s["nodes"] = fmt.Sprintf("%d processes on this machine, %d data directories each, all on one disk; the single node has as many directories", b.Nodes, b.Disks)
	s["durability"] = fmt.Sprintf("acknowledged when %d replicas have synced; the single node's one (defaults)", b.Replicas)
	s["TLS"] = "mutual, between all nodes; none towards the client, on either side"
	s["writes"] = fmt.Sprintf("one writer, closed loop, %d KiB each through the blob API: %d rounds of %d on each side in turn; the ratio is the median of the rounds' ratios of medians", b.Size>>10, b.Rounds, b.Writes)
	s["failover"] = fmt.Sprintf("%d readers and %d writers that try another node after an error or %v; a node is killed %d times; a gap is the longest that any one request took, retries included", b.Readers, b.Writers, attemptTime, b.Kills)
	s["repair delay"] = repairDelay.String()
	s["warm-up"] = "one round of writes on each side"
}

func (b *run) add(r ...bench.Result) { b.report.Results = append(b.report.Results, r...) }

// open starts both sides.
func (b *run) open(ctx context.Context, dir string) (err error) {
	b.Progress("starting the nodes")
	flags := []string{"--blob-keys", b.Setting, "--disk-reserve", "64MiB"}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	b.single, err = rig.New(ctx, rig.Options{Binary: b.Binary, Dir: filepath.Join(dir, "single"), Nodes: 1, Disks: b.Disks, Flags: append([]string{"--replicas", "1"}, flags...)})
	if err != nil {
		return err
	}
	b.rig, err = rig.New(ctx, rig.Options{Binary: b.Binary, Dir: filepath.Join(dir, "cluster"), Nodes: b.Nodes, Disks: b.Disks,
		Flags: append([]string{"--replicas", fmt.Sprint(b.Replicas), "--repair-delay", repairDelay.String()}, flags...)})
	if err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := errors.Join(b.single.Start(starting), b.rig.Start(starting)); err != nil {
		return err
	}
	var urls []string
	for _, n := range b.rig.Nodes {
		urls = append(urls, n.URL)
	}
	if b.store, err = newStore(b.Key, urls...); err != nil {
		return err
	}
	return b.settled(ctx)
}

func (b *run) close() {
	if b.store != nil {
		b.store.close()
	}
	for _, r := range []*rig.Rig{b.single, b.rig} {
		if r != nil {
			r.Kill()
		}
	}
}

// writes compares one writer's writes.
func (b *run) writes(ctx context.Context) error {
	b.Progress("one writer, single node and cluster in turn")
	single, err := newStore(b.Key, b.single.Nodes[0].URL)
	if err != nil {
		return err
	}
	defer single.close()
	// A writer uploads to one node: which one makes no difference.
	several, err := newStore(b.Key, b.rig.Nodes[0].URL)
	if err != nil {
		return err
	}
	defer several.close()
	var alone, together bench.Latency
	var ratios []float64
	for round := range b.Rounds + 1 {
		var one, all bench.Latency
		if err := b.round(ctx, single, nil, &one, &alone, round > 0); err != nil {
			return err
		}
		if err := b.round(ctx, several, &b.lib, &all, &together, round > 0); err != nil {
			return err
		}
		if round > 0 {
			ratios = append(ratios, all.Result("", 0.5).P50/one.Result("", 0.5).P50)
		}
	}
	b.report.Ratios["put_p50_ratio"] = contest.Median(ratios)
	b.add(alone.Result("put_single_closed", 0.5), together.Result("put_cluster_closed", 0.5))
	return nil
}

// round does one side's writes of a round.
func (b *run) round(ctx context.Context, s *store, lib *library, round, all *bench.Latency, counts bool) error {
	data := make([]byte, b.Size)
	for range b.Writes {
		fill(data)
		began := time.Now()
		blob, _, err := s.put(ctx, data)
		if err != nil {
			return err
		}
		if took := time.Since(began); counts {
			round.Add(took, nil)
			all.Add(took, nil)
		}
		if lib != nil {
			lib.add(blob)
		}
	}
	return nil
}
