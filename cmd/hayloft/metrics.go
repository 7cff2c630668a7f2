package main

import (
	"context"
	"strconv"
	"sync"
	"time"

	"hayloft/api"
	"hayloft/feed"
	"hayloft/internal/raftgroup"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what /metrics shows. Counters of the parts are read when asked;
// only requests are counted as they happen.
type metrics struct {
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	events   *prometheus.CounterVec // of the volumes

	routes sync.RWMutex // guards routed
	routed map[routeStatus]routeMetrics

	mu      sync.Mutex // guards the two below
	backlog feed.Backlog
	counted time.Time
}

// routeStatus is what requests are counted by. There are as many as routes and
// statuses of theirs.
type routeStatus struct {
	method, route string
	status        int
}

// routeMetrics are found once: looking for them by their labels costs more than
// counting.
type routeMetrics struct {
	requests prometheus.Counter
	took     prometheus.Observer
}

func newMetrics() *metrics {
	return &metrics{
		routed: make(map[routeStatus]routeMetrics),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hayloft_http_requests_total", Help: "Answered calls by route and status.",
		}, []string{"route", "status"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hayloft_http_request_seconds", Help: "Time to answer a call, by route.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}, []string{"route"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hayloft_volume_events_total", Help: "What volumes report, by disk and kind of event.",
		}, []string{"disk", "event"}),
	}
}

func (m *metrics) request(e api.Event) {
	if e.Kind != api.EventRequest {
		return
	}
	r := m.of(routeStatus{e.Method, e.Route, e.Status})
	r.requests.Inc()
	r.took.Observe(e.Took.Seconds())
}

func (m *metrics) of(k routeStatus) routeMetrics {
	m.routes.RLock()
	r, ok := m.routed[k]
	m.routes.RUnlock()
	if ok {
		return r
	}
	route := k.method + " " + k.route
	if k.route == "" {
		route = "other"
	}
	r = routeMetrics{m.requests.WithLabelValues(route, strconv.Itoa(k.status)), m.took.WithLabelValues(route)}
	m.routes.Lock()
	defer m.routes.Unlock()
	m.routed[k] = r
	return r
}

// gauge describes one figure that is read when it is asked for.
type gauge struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func() float64
}

// collector reads figures of the parts at each scrape.
type collector []gauge

func (c *collector) add(kind prometheus.ValueType, name, help string, read func() float64) {
	*c = append(*c, gauge{prometheus.NewDesc("hayloft_"+name, help, nil, nil), kind, read})
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range *c {
		ch <- g.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, g := range *c {
		ch <- prometheus.MustNewConstMetric(g.desc, g.kind, g.read())
	}
}

// register adds every figure of this node.
func (n *node) register(r *prometheus.Registry) error {
	if n.edge != nil {
		return n.registerParts(r, n.edgeCollectors())
	}
	for _, d := range n.blobs.Stats().Disks { // from 0 on: an alarm needs the step to 1
		for kind := range engineLines {
			n.metrics.events.WithLabelValues(d.Dir, kind.String())
		}
	}
	return n.registerParts(r, n.collectors())
}

func (n *node) registerParts(r *prometheus.Registry, parts []prometheus.Collector) error {
	for _, part := range parts {
		if err := r.Register(part); err != nil {
			return err
		}
	}
	return nil
}

const (
	counts = prometheus.CounterValue
	levels = prometheus.GaugeValue
)

// collectors are everything that shows figures of this node: of the parts that its
// roles give it.
func (n *node) collectors() []prometheus.Collector {
	c := &collector{}
	n.cacheMetrics(c)
	n.deviceMetrics(c)
	n.pagesMetrics(c)
	n.feedMetrics(c)
	n.mediaMetrics(c)
	c.add(levels, "directory_leads", "1 while this node leads the directory's group.", func() float64 { return leads(n.directory.Stats()) })
	c.add(levels, "directory_term", "Term of the directory's group.", func() float64 { return float64(n.directory.Stats().Term) })
	c.add(levels, "metadata_mirrors", "Data directories that hold all metadata; of directory and feed the one that has fewer.", func() float64 {
		mirrors := mirrorsOf(n.directory.Mirrors())
		if n.group != nil {
			mirrors = min(mirrors, mirrorsOf(n.group.Mirrors()))
		}
		return float64(mirrors)
	})
	c.add(levels, "metadata_mirrors_wanted", "Data directories that should hold all metadata.", func() float64 { return float64(n.s.mirrors()) })
	n.meshMetrics(c)
	return []prometheus.Collector{c, filledCollector{n.steward}, newVolumeMetrics(n.blobs.Stats, n.clock.Now), newScrubMetrics(n.blobs.ScrubStatus, n.clock.Now), n.metrics.requests, n.metrics.took, n.metrics.events}
}

// edgeCollectors are those of a node that has a cache and nothing else.
func (n *node) edgeCollectors() []prometheus.Collector {
	c := &collector{}
	n.cacheMetrics(c)
	n.deviceMetrics(c)
	n.meshMetrics(c)
	return append(n.tierMetrics(), c, n.metrics.requests, n.metrics.took)
}

func (n *node) cacheMetrics(c *collector) {
	if n.cache == nil {
		return
	}
	cs := n.cache.Stats
	c.add(counts, "cache_hits_total", "Responses from memory.", func() float64 { return float64(cs().Hits) })
	c.add(counts, "cache_misses_total", "Requests that began a fill.", func() float64 { return float64(cs().Misses) })
	c.add(counts, "cache_collapsed_total", "Requests that waited for another's fill.", func() float64 { return float64(cs().Collapsed) })
	c.add(counts, "cache_fills_total", "Fills that brought bytes.", func() float64 { return float64(cs().Fills) })
	c.add(counts, "cache_fill_errors_total", "Fills that failed.", func() float64 { return float64(cs().FillErrors) })
	c.add(counts, "cache_evictions_total", "Objects that made room.", func() float64 { return float64(cs().Evictions) })
	c.add(counts, "cache_purges_total", "Entries of the purge log that were followed.", func() float64 { return float64(cs().Purges) })
	c.add(levels, "cache_bytes", "Bytes that count against the cache's budget.", func() float64 { return float64(cs().Bytes) })
	c.add(levels, "cache_loose_bytes", "Bytes of objects that are being sent and are not kept.", func() float64 { return float64(cs().LooseBytes) })
	c.add(levels, "cache_entries", "Objects in the cache.", func() float64 { return float64(cs().Entries) })
}

func (n *node) feedMetrics(c *collector) {
	if n.feed == nil {
		return
	}
	c.add(levels, "effects_pending", "External effects that are owed.", func() float64 {
		b := n.owed()
		return float64(b.Queued[feed.EffectTranscode] + b.Queued[feed.EffectReclaim])
	})
	c.add(levels, "effects_parked", "External effects that are poisonous and wait for an operator.", func() float64 { return float64(n.owed().Parked) })
	c.add(levels, "effects_oldest_seconds", "Age of the oldest external effect that is owed.", func() float64 { return n.owed().Oldest.Seconds() })
	c.add(levels, "notification_tellings", "New photos of which listeners are still to be told.", func() float64 { return float64(n.owed().Tell) })
	c.add(levels, "timeline_lag", "Events that the timelines have not processed.", func() float64 { return float64(n.owed().Events) })
	ts := n.feed.TimelineStats
	c.add(counts, "timeline_deliveries_total", "Entries written by fan-out.", func() float64 { return float64(ts().Deliveries) })
	c.add(counts, "feed_pages_total", "Feed pages served.", func() float64 { return float64(ts().Pages) })
	c.add(counts, "feed_pages_pulled_total", "Of these, made without a timeline.", func() float64 { return float64(ts().PulledPages) })
	c.add(counts, "feed_pages_segment_total", "Of these, made of what an earlier one has gathered.", func() float64 { return float64(ts().SegmentPages) })
	c.add(levels, "timeline_readers", "Readers with a timeline.", func() float64 { return float64(ts().Readers) })
	n.searchMetrics(c)

	c.add(levels, "raft_applied_index", "Log index that the feed has applied.", func() float64 { return float64(n.group.AppliedIndex()) })
	c.add(counts, "raft_entries_total", "Log entries that the feed has applied.", func() float64 { return float64(n.group.Stats().Entries) })
	c.add(counts, "raft_commands_total", "Commands that the feed has applied.", func() float64 { return float64(n.group.Stats().Commands) })
	c.add(levels, "feed_leads", "1 while this node leads the feed's group.", func() float64 { return leads(n.group.Stats()) })
	c.add(levels, "feed_term", "Term of the feed's group.", func() float64 { return float64(n.group.Stats().Term) })
}

func (n *node) mediaMetrics(c *collector) {
	if n.pool == nil {
		return
	}
	ms := n.pool.Stats
	c.add(counts, "media_made_total", "Photos whose variants were made.", func() float64 { return float64(ms().Made) })
	c.add(counts, "media_refused_total", "Photos that could not be decoded.", func() float64 { return float64(ms().Refused) })
	c.add(counts, "media_children_struck_total", "Decoding children that died of a photo.", func() float64 { return float64(ms().Struck) })
	c.add(levels, "media_busy", "Decoding children at work.", func() float64 { return float64(ms().Busy) })
}

func leads(s raftgroup.Stats) float64 {
	if s.Leader {
		return 1
	}
	return 0
}

func mirrorsOf(dirs []raftgroup.MirrorState) (n int) {
	for _, d := range dirs {
		if d.Mirror && d.Lost == nil {
			n++
		}
	}
	return n
}

// owed is the feed's backlog, counted at most once in two seconds: counting
// walks the queues.
func (n *node) owed() feed.Backlog {
	m := n.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := n.clock.Now(); now.Sub(m.counted).Abs() > 2*time.Second {
		ctx, cancel := context.WithTimeout(n.work, time.Second)
		defer cancel()
		if b, err := n.feed.Backlog(ctx); err == nil {
			m.backlog, m.counted = b, now
		}
	}
	return m.backlog
}
