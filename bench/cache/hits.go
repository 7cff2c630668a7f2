package cache

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"hayloft/bench"
	"hayloft/bench/contest"
	"hayloft/bench/rig"
)

// contestant is a server and what was measured at it, for each of weights one
// value for each round.
type contestant struct {
	*server
	rates, cpus [][]float64
	p50s, p99s  [][]float64
	requests    []int
	errors      []int
}

// hits measures what a hit costs.
func (b *run) hits(ctx context.Context) error {
	if program("wrk") == "" {
		b.report.Settings["hits"] = "left out: wrk is not installed"
		b.Progress("hits are left out: wrk is not installed")
		return nil
	}
	b.Progress("filling the cache of a server")
	www := filepath.Join(b.dir, "www")
	node, err := b.startHayloft(ctx)
	if err != nil {
		return err
	}
	defer node.Kill()
	paths, err := b.fill(ctx, node, www)
	if err != nil {
		return err
	}
	drive, err := b.wrkDriver(paths)
	if err != nil {
		return err
	}
	servers, err := b.startServers(ctx, www, paths, &server{base: node.URL, pid: node.PID(), stop: func() {}})
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	if err != nil {
		return err
	}
	for _, s := range servers {
		if s.drive == nil {
			s.drive = drive(s.base)
		}
	}
	before, err := node.Metric(ctx, "hayloft_cache_misses_total")
	if err != nil {
		return err
	}
	if err := b.contest(ctx, servers); err != nil {
		return err
	}
	after, err := node.Metric(ctx, "hayloft_cache_misses_total")
	if err == nil && after != before {
		err = fmt.Errorf("%v of what was meant to be hits were misses", after-before)
	}
	b.reportHits(servers)
	return err
}

// startHayloft starts one node with default settings.
func (b *run) startHayloft(ctx context.Context) (*rig.Node, error) {
	r, err := rig.New(ctx, rig.Options{Binary: b.Binary, Dir: filepath.Join(b.dir, "hayloft"), Nodes: 1, Flags: []string{"--replicas", "1", "--disk-reserve", "64MiB"}})
	if err != nil {
		return nil, err
	}
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := r.Start(starting); err != nil {
		r.Kill()
		return nil, err
	}
	return r.Nodes[0], nil
}

// wrkDriver writes wrk's script and the lists of paths, and returns how to make a
// drive of a server's address.
func (b *run) wrkDriver(paths [][]string) (func(base string) func(context.Context, int, time.Duration) (load, error), error) {
	lists, script := make([]string, len(weights)), filepath.Join(b.dir, "paths.lua")
	if err := os.WriteFile(script, []byte(wrkScript), 0o644); err != nil {
		return nil, err
	}
	for w := range weights {
		lists[w] = filepath.Join(b.dir, weights[w].name+".paths")
		if err := writeLines(lists[w], paths[w]); err != nil {
			return nil, err
		}
	}
	return func(base string) func(context.Context, int, time.Duration) (load, error) {
		return func(ctx context.Context, w int, d time.Duration) (load, error) {
			return wrk(ctx, script, base, lists[w], d)
		}
	}, nil
}

// others are what hits are compared with besides a bare handler, as far as it is
// installed.
var others = []struct{ name, binary, ask, what string }{
	{"nginx", "nginx", "-v", "nginx %s (sendfile with tcp_nopush off and on, proxy_cache)"},
	{"varnish", "varnishd", "-V", "Varnish %s (malloc)"},
	{"memcached", "memcached", "-V", "memcached %s"},
	{"redis", "redis-server", "-v", "Redis %s"},
}

// versionOf is what a program says of its version, or ? if it says nothing.
func versionOf(ctx context.Context, path, ask string) string {
	out, err := exec.CommandContext(ctx, path, ask).CombinedOutput()
	v := version.Find(out)
	if err != nil || v == nil {
		return "?"
	}
	return string(v)
}

var version = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

// startServers starts what hits are compared with. What it returns with an error is
// running too.
func (b *run) startServers(ctx context.Context, www string, paths [][]string, own *server) (list []*contestant, err error) {
	add := func(servers ...*server) {
		for _, s := range servers {
			n := len(weights)
			list = append(list, &contestant{server: s, rates: make([][]float64, n), cpus: make([][]float64, n),
				p50s: make([][]float64, n), p99s: make([][]float64, n), requests: make([]int, n), errors: make([]int, n)})
		}
	}
	add(own)
	bare, err := b.startOwn("fasthttp", "bench-bytes", "--dir", www)
	if err != nil {
		return list, err
	}
	add(bare)
	beside, missing := "a bare fasthttp handler", ""
	for _, o := range others {
		path := program(o.binary)
		if path == "" {
			missing += " " + o.name
			continue
		}
		servers, err := b.startOther(ctx, o.name, www, paths, bare)
		if err != nil {
			return list, err
		}
		add(servers...)
		beside += ", " + fmt.Sprintf(o.what, versionOf(ctx, path, o.ask))
	}
	b.report.Settings["hits"] = fmt.Sprintf("%d photos of each size, public, in the cache of one node with default settings, asked for in turn by wrk -t1 -c64 on this machine (memcached and Redis: by as many connections of this process); beside it, in turn, %s with the same bytes; %d rounds of %v for each server and size, medians; processor time is that of all processes of a server",
		b.Photos, beside, b.Rounds, b.Slice)
	if missing != "" {
		b.report.Settings["hits"] += "; not installed:" + missing
	}
	return list, nil
}

// startOther starts one of others.
func (b *run) startOther(ctx context.Context, name, www string, paths [][]string, bare *server) ([]*server, error) {
	switch name {
	case "nginx":
		return startNginx(ctx, filepath.Join(b.dir, name), www)
	case "varnish":
		return one(startVarnish(ctx, filepath.Join(b.dir, name), bare.base))
	default:
		return one(startKV(ctx, name, www, paths))
	}
}

func one(s *server, err error) ([]*server, error) {
	if err != nil {
		return nil, err
	}
	return []*server{s}, nil
}

// contest drives every server in every round. The round before the first fills the
// other servers' caches and is not counted.
func (b *run) contest(ctx context.Context, servers []*contestant) error {
	for round := range b.Rounds + 1 {
		b.Progress(fmt.Sprintf("hits, round %d of %d", round, b.Rounds))
		for w := range weights {
			for i := range servers {
				c := servers[(round+i)%len(servers)] // who begins changes
				d := b.Slice
				if round == 0 {
					d = time.Second
				}
				if err := c.measure(ctx, w, d, round > 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (c *contestant) measure(ctx context.Context, w int, d time.Duration, counts bool) error {
	before, err := cpuOf(c.pid)
	if err != nil {
		return err
	}
	l, err := c.drive(ctx, w, d)
	if err != nil {
		return err
	}
	after, err := cpuOf(c.pid)
	if err != nil {
		return err
	}
	if l.requests == 0 || l.bytes < 0.9*l.requests*float64(weights[w].bytes) {
		return fmt.Errorf("%s sent %.0f bytes in %.0f answers", c.base, l.bytes, l.requests)
	}
	if counts {
		c.rates[w] = append(c.rates[w], l.requests/l.took.Seconds())
		c.cpus[w] = append(c.cpus[w], (after-before)/l.requests)
		c.p50s[w], c.p99s[w] = append(c.p50s[w], l.p50), append(c.p99s[w], l.p99)
		c.requests[w] += int(l.requests)
		c.errors[w] += int(l.errors)
	}
	return nil
}

// reportHits adds results and ratios.
func (b *run) reportHits(servers []*contestant) {
	own := servers[0]
	for w, weight := range weights {
		for _, s := range servers {
			prefix := ""
			if s != own {
				prefix = s.name + "_"
				b.report.Ratios["hit_cpu_"+weight.name+"_over_"+s.name] = contest.Ratio(own.cpus[w], s.cpus[w])
			}
			b.add(
				bench.Result{Name: prefix + "hits_per_s_" + weight.name, Unit: "1/s", Value: contest.Median(s.rates[w]), N: s.requests[w], Errors: s.errors[w]},
				bench.Result{Name: prefix + "hit_cpu_s_" + weight.name, Unit: "s", Value: contest.Median(s.cpus[w]), N: s.requests[w]},
				bench.Result{Name: prefix + "hit_closed_" + weight.name, Unit: "s", Value: contest.Median(s.p50s[w]), P50: contest.Median(s.p50s[w]), P99: contest.Median(s.p99s[w]), N: s.requests[w]})
		}
	}
}
