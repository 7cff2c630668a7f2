package main

import (
	"context"
	"strconv"
	"sync"
	"time"

	"hayloft/api"
	"hayloft/feed"
	"hayloft/volume"
	"hayloft/volume/server"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what /metrics shows. Counters of the parts are read when asked;
// only requests are counted as they happen.
type metrics struct {
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec

	mu      sync.Mutex // guards the two below
	backlog feed.Backlog
	counted time.Time
}

func newMetrics() *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hayloft_http_requests_total", Help: "Answered calls by route and status.",
		}, []string{"route", "status"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hayloft_http_request_seconds", Help: "Time to answer a call, by route.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}, []string{"route"}),
	}
}

func (m *metrics) request(e api.Event) {
	if e.Kind != api.EventRequest {
		return
	}
	route := e.Method + " " + e.Route
	if e.Route == "" {
		route = "other"
	}
	m.requests.WithLabelValues(route, strconv.Itoa(e.Status)).Inc()
	m.took.WithLabelValues(route).Observe(e.Took.Seconds())
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
	c := &collector{}
	const count, level = prometheus.CounterValue, prometheus.GaugeValue
	n.addBlobMetrics(c)
	cs := n.cache.Stats
	c.add(count, "cache_hits_total", "Responses from memory.", func() float64 { return float64(cs().Hits) })
	c.add(count, "cache_misses_total", "Requests that began a fill.", func() float64 { return float64(cs().Misses) })
	c.add(count, "cache_collapsed_total", "Requests that waited for another's fill.", func() float64 { return float64(cs().Collapsed) })
	c.add(count, "cache_fills_total", "Fills that brought bytes.", func() float64 { return float64(cs().Fills) })
	c.add(count, "cache_fill_errors_total", "Fills that failed.", func() float64 { return float64(cs().FillErrors) })
	c.add(count, "cache_evictions_total", "Objects that made room.", func() float64 { return float64(cs().Evictions) })
	c.add(count, "cache_purges_total", "Entries of the purge log that were followed.", func() float64 { return float64(cs().Purges) })
	c.add(level, "cache_bytes", "Bytes that count against the cache's budget.", func() float64 { return float64(cs().Bytes) })
	c.add(level, "cache_loose_bytes", "Bytes of objects that are being sent and are not kept.", func() float64 { return float64(cs().LooseBytes) })
	c.add(level, "cache_entries", "Objects in the cache.", func() float64 { return float64(cs().Entries) })

	c.add(level, "effects_pending", "External effects that are owed.", func() float64 {
		b := n.owed()
		return float64(b.Queued[feed.EffectTranscode] + b.Queued[feed.EffectReclaim])
	})
	c.add(level, "effects_parked", "External effects that are poisonous and wait for an operator.", func() float64 { return float64(n.owed().Parked) })
	c.add(level, "effects_oldest_seconds", "Age of the oldest external effect that is owed.", func() float64 { return n.owed().Oldest.Seconds() })
	c.add(level, "timeline_lag", "Events that the timelines have not processed.", func() float64 { return float64(n.owed().Events) })
	ts := n.feed.TimelineStats
	c.add(count, "timeline_deliveries_total", "Entries written by fan-out.", func() float64 { return float64(ts().Deliveries) })
	c.add(count, "feed_pages_total", "Feed pages served.", func() float64 { return float64(ts().Pages) })
	c.add(level, "timeline_readers", "Readers with a timeline.", func() float64 { return float64(ts().Readers) })

	ms := n.pool.Stats
	c.add(count, "media_made_total", "Photos whose variants were made.", func() float64 { return float64(ms().Made) })
	c.add(count, "media_refused_total", "Photos that could not be decoded.", func() float64 { return float64(ms().Refused) })
	c.add(count, "media_children_struck_total", "Decoding children that died of a photo.", func() float64 { return float64(ms().Struck) })
	c.add(level, "media_busy", "Decoding children at work.", func() float64 { return float64(ms().Busy) })

	c.add(level, "raft_applied_index", "Log index that the feed has applied.", func() float64 { return float64(n.group.AppliedIndex()) })
	c.add(count, "raft_entries_total", "Log entries that the feed has applied.", func() float64 { return float64(n.group.Stats().Entries) })
	c.add(count, "raft_commands_total", "Commands that the feed has applied.", func() float64 { return float64(n.group.Stats().Commands) })
	for _, part := range []prometheus.Collector{c, n.metrics.requests, n.metrics.took} {
		if err := r.Register(part); err != nil {
			return err
		}
	}
	return nil
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

// addBlobMetrics adds the figures of disks and volumes, summed over them.
func (n *node) addBlobMetrics(c *collector) {
	const count, level = prometheus.CounterValue, prometheus.GaugeValue
	bs := n.blobs.Stats
	overVolumes := func(of func(volume.Stats) float64) func() float64 {
		return func() (sum float64) {
			for _, v := range bs().Volumes {
				sum += of(v)
			}
			return sum
		}
	}
	overDisks := func(of func(server.DiskStats) float64) func() float64 {
		return func() (sum float64) {
			for _, d := range bs().Disks {
				sum += of(d)
			}
			return sum
		}
	}
	c.add(count, "volume_appended_bytes_total", "Bytes appended to volumes.", func() float64 { return float64(bs().BytesAppended) })
	c.add(count, "blob_writes_total", "Groups written.", func() float64 { return float64(bs().Writes) })
	c.add(count, "blob_reads_total", "Needles read.", func() float64 { return float64(bs().Reads) })
	c.add(count, "blob_deletes_total", "Blobs tombstoned.", func() float64 { return float64(bs().Deletes) })
	c.add(count, "volume_corrupt_reads_total", "Reads that failed verification.", func() float64 { return float64(bs().CorruptReads) })
	c.add(count, "volume_batches_total", "Group commits.", overVolumes(func(v volume.Stats) float64 { return float64(v.Batches) }))
	c.add(count, "volume_syncs_total", "Syncs of volume files.", overVolumes(func(v volume.Stats) float64 { return float64(v.Syncs) }))
	c.add(level, "volume_needles", "Readable needles.", overVolumes(func(v volume.Stats) float64 { return float64(v.Needles) }))
	c.add(level, "volume_live_bytes", "Bytes of readable needles.", overVolumes(func(v volume.Stats) float64 { return float64(v.LiveBytes) }))
	c.add(level, "volume_file_bytes", "Bytes of volume files.", overVolumes(func(v volume.Stats) float64 { return float64(v.FileBytes) }))
	c.add(level, "volume_index_bytes", "Memory of the indexes.", overVolumes(func(v volume.Stats) float64 { return float64(v.IndexBytes) }))
	c.add(level, "volume_poisoned", "Volumes that take no more after a failed write or sync.", overDisks(func(d server.DiskStats) float64 { return float64(d.ReadOnly) }))
	c.add(level, "volume_sick", "Volumes that can't be opened.", overDisks(func(d server.DiskStats) float64 { return float64(len(d.Sick)) }))
	c.add(level, "disk_free_bytes", "Free space of the data directories.", overDisks(func(d server.DiskStats) float64 { return float64(d.Free) }))
	c.add(level, "disk_total_bytes", "Size of the data directories' disks.", overDisks(func(d server.DiskStats) float64 { return float64(d.Total) }))
}
