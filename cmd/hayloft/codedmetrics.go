package main

import (
	"hayloft/volume/server"

	"github.com/prometheus/client_golang/prometheus"
)

// codedFigures sum up the coded volumes.
func codedFigures() []figure[*server.Stats] {
	counter := func(name, help string, read func(*server.CodedStats) uint64) figure[*server.Stats] {
		return newFigure(prometheus.CounterValue, name, help, nil, func(s *server.Stats) float64 { return float64(read(&s.Coded)) })
	}
	gauge := func(name, help string, read func(*server.CodedStats) float64) figure[*server.Stats] {
		return newFigure(prometheus.GaugeValue, name, help, nil, func(s *server.Stats) float64 { return read(&s.Coded) })
	}
	return []figure[*server.Stats]{
		gauge("coded_survives_disks", "How many disks may be lost, whichever, and every coded volume can still be read; -1 without one.",
			func(c *server.CodedStats) float64 { return float64(c.Survives) }),
		gauge("coded_live_bytes", "Bytes of readable needles in coded volumes.", func(c *server.CodedStats) float64 { return float64(c.LiveBytes) }),
		gauge("coded_shard_bytes", "Bytes of all shards of coded volumes, were they there.", func(c *server.CodedStats) float64 { return float64(c.ShardBytes) }),
		counter("coded_encodings_total", "Volumes that were coded.", func(c *server.CodedStats) uint64 { return c.Encodings }),
		counter("coded_releases_total", "Sources that were let go.", func(c *server.CodedStats) uint64 { return c.Releases }),
		counter("coded_revocations_total", "Epochs that were given up for their source.", func(c *server.CodedStats) uint64 { return c.Revocations }),
		counter("coded_reclaims_total", "Coded volumes that were written anew.", func(c *server.CodedStats) uint64 { return c.Reclaims }),
		counter("coded_computed_reads_total", "Ranges that were read by computing them from other shards.", func(c *server.CodedStats) uint64 { return c.Computed }),
		counter("coded_taken_over_total", "Coded volumes that this node keeps since their keeper was away.", func(c *server.CodedStats) uint64 { return c.TakenOver }),
		counter("shard_findings_total", "Damaged places found in shards.", func(c *server.CodedStats) uint64 { return c.Findings }),
		counter("shard_repairs_total", "Shards of which damaged places were written again.", func(c *server.CodedStats) uint64 { return c.Repairs }),
		counter("shard_rebuilds_total", "Shards that were made again.", func(c *server.CodedStats) uint64 { return c.Rebuilds }),
	}
}

// collectCoded shows volumes and shards by state.
func (m *volumeMetrics) collectCoded(ch chan<- prometheus.Metric, c *server.CodedStats) {
	type count struct {
		state string
		n     int
	}
	show := func(desc *prometheus.Desc, all ...count) {
		for _, x := range all {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(x.n), x.state)
		}
	}
	show(m.coding, count{"coding", c.Coding}, count{"coded", c.Coded}, count{"released", c.Released}, count{"lost", c.Lost})
	show(m.shards, count{"ok", c.Whole}, count{"damaged", c.Damaged}, count{"away", c.Away})
}
