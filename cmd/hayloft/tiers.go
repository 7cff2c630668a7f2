package main

import (
	"context"
	"net/http"
	"time"

	"hayloft/cache"
	"hayloft/cache/tier"
	"hayloft/directory"
	"hayloft/internal/mesh"
	"hayloft/internal/mesh/certs"

	"github.com/prometheus/client_golang/prometheus"
)

// protoTier is what cache tiers fill from one another over: for nodes, and for edges,
// which show a client's certificate.
const protoTier = "tier"

// serveTiers lends what this node's cache has to tiers in front of it.
func (n *node) serveTiers() {
	if n.mesh == nil || n.s.nodeListen == "" {
		return
	}
	n.mesh.Handle(protoTier, tier.NewServer(tier.ServerOptions{
		Name: n.who.name, Cache: n.cache, Keys: n.mediaKeys, Path: &n.tierPath,
		Push: func(ctx context.Context) bool {
			p, ok := mesh.PeerOf(ctx)
			return ok && p.Role == certs.Node
		},
	}), certs.Client)
}

// pusher puts variants that were just made into the cache that is their home: this
// node's own, or that of another node.
type pusher struct {
	n     *node
	queue chan pushed
}

type pushed struct {
	key cache.Key
	obj cache.Object
}

const (
	pushQueue = 64              // variants that wait; more are read from disks, as any photo is
	pushTime  = 3 * time.Second // for one
)

func (n *node) newPusher() *pusher { return &pusher{n, make(chan pushed, pushQueue)} }

// push never waits. The object is the pusher's.
func (p *pusher) push(k cache.Key, obj cache.Object) {
	if p.n.cache != nil {
		p.n.cache.Push(k, obj)
		return
	}
	if p.n.wire == nil {
		return
	}
	select {
	case p.queue <- pushed{k, obj}:
	default:
	}
}

// run sends what waits, until ctx ends.
func (p *pusher) run(ctx context.Context) error {
	for {
		select {
		case x := <-p.queue:
			p.send(ctx, x)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send puts an object where the tiers in front look for it first. That it does not come
// there costs one read of a disk.
func (p *pusher) send(ctx context.Context, x pushed) {
	var names, addrs []string
	for _, name := range p.n.playing(directory.RoleCache) {
		if addr, ok := p.n.mesh.Addr(name); ok && p.n.awayOf(name) == 0 {
			names, addrs = append(names, name), append(addrs, addr)
		}
	}
	if len(names) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pushTime)
	defer cancel()
	err := tier.Put(ctx, tierAt{p.n.mesh.Client(protoTier), names[tier.Home(addrs, x.key)]}, x.key, x.obj)
	if err != nil && ctx.Err() == nil {
		p.n.log.Debug("a variant was not pushed", "blob", x.key.Blob, "err", err)
	}
}

// tierAt is a tier at a node whose name is known.
type tierAt struct {
	c    *mesh.Client
	node string
}

// Do implements tier.Dialer.
func (t tierAt) Do(ctx context.Context, r *http.Request) (*http.Response, error) {
	return t.c.Do(ctx, t.node, r)
}

// tierMetrics shows each upstream of an edge.
func (n *node) tierMetrics() []prometheus.Collector {
	if n.edge == nil {
		return nil
	}
	return []prometheus.Collector{upstreamCollector{n.edge.chain}}
}

type upstreamCollector struct{ c *tier.Chain }

var upstreamDescs = map[string]*prometheus.Desc{}

func init() {
	for name, help := range map[string]string{
		"upstream_fills_total":    "Objects that an upstream sent.",
		"upstream_gutter_total":   "Of these, objects whose home is another upstream.",
		"upstream_failures_total": "Calls to an upstream that failed.",
		"upstream_refused_total":  "Fills that went elsewhere: the upstream has too many, or is left alone.",
		"upstream_hedged_total":   "Fills that were asked for elsewhere too.",
		"upstream_bytes_total":    "Bytes of objects that an upstream sent.",
		"upstream_busy":           "Fills under way at an upstream.",
		"upstream_open":           "1 while an upstream is left alone because it failed.",
	} {
		upstreamDescs[name] = prometheus.NewDesc("hayloft_"+name, help, []string{"upstream"}, nil)
	}
}

// Describe implements prometheus.Collector.
func (c upstreamCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range upstreamDescs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c upstreamCollector) Collect(ch chan<- prometheus.Metric) {
	for _, u := range c.c.Stats() {
		send := func(name string, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(upstreamDescs[name], kind, v, u.Name)
		}
		send("upstream_fills_total", counts, float64(u.Fills))
		send("upstream_gutter_total", counts, float64(u.Gutter))
		send("upstream_failures_total", counts, float64(u.Failures))
		send("upstream_refused_total", counts, float64(u.Refused))
		send("upstream_hedged_total", counts, float64(u.Hedged))
		send("upstream_bytes_total", counts, float64(u.Bytes))
		send("upstream_busy", levels, float64(u.Busy))
		open := 0.0
		if u.Open {
			open = 1
		}
		send("upstream_open", levels, open)
	}
}
