package main

import (
	"time"

	"hayloft/internal/histogram"
	"hayloft/volume"
	"hayloft/volume/server"

	"github.com/prometheus/client_golang/prometheus"
)

// volumeMetrics shows disks and volumes. It asks for their figures once at each
// scrape. Labels are bounded: the data directory ("disk"), the class, the state,
// the step; never the volume, of which there are thousands. Those are what
// hayloft volume ls and GET /admin/volumes show.
type volumeMetrics struct {
	stats func() server.Stats
	now   func() time.Time

	sums    []figure[*server.Stats]      // of the whole node
	disks   []figure[*server.DiskStats]  // label disk
	classes []figure[*server.ClassStats] // label class
	states  *prometheus.Desc             // labels class, state
	coding  *prometheus.Desc             // label state
	shards  *prometheus.Desc             // label state

	steps                            *prometheus.Desc // labels disk, step
	batchBytes, batchRecords, walked *prometheus.Desc // label disk
}

// figure is one value that is read of T.
type figure[T any] struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(T) float64
}

func newFigure[T any](kind prometheus.ValueType, name, help string, labels []string, read func(T) float64) figure[T] {
	return figure[T]{prometheus.NewDesc("hayloft_"+name, help, labels, nil), kind, read}
}

func newVolumeMetrics(stats func() server.Stats, now func() time.Time) *volumeMetrics {
	disk, class := []string{"disk"}, []string{"class"}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hayloft_"+name, help, labels, nil)
	}
	return &volumeMetrics{
		stats: stats, now: now,
		sums: append(blobFigures(), append(volumeFigures(), append(upkeepFigures(now), append(codedFigures(), replicaFigures()...)...)...)...), disks: diskFigures(disk),
		classes: []figure[*server.ClassStats]{
			newFigure(prometheus.GaugeValue, "volume_file_bytes", "Bytes of volume files, by class.", class,
				func(c *server.ClassStats) float64 { return float64(c.FileBytes) }),
			newFigure(prometheus.GaugeValue, "volume_garbage_bytes", "Bytes of volume files that hold nothing readable, by class.", class,
				func(c *server.ClassStats) float64 { return float64(c.GarbageBytes) }),
		},
		states:       desc("volumes", "Replicas of volumes on this node, and volumes that shards serve, by class and state.", "class", "state"),
		coding:       desc("coded_volumes", "Volumes that are coded or are being coded, by state.", "state"),
		shards:       desc("shards", "Shards of coded volumes, by state.", "state"),
		steps:        desc("volume_step_seconds", "Time that a step of the engine takes, by disk.", "disk", "step"),
		batchBytes:   desc("volume_batch_bytes", "Bytes of one batch: written together, synced once.", "disk"),
		batchRecords: desc("volume_batch_records", "Records of one batch.", "disk"),
		walked:       desc("volume_open_walked_bytes", "Bytes that opening one volume had to go through, for want of a checkpoint that covers them.", "disk"),
	}
}

// blobFigures count what the node was asked to do.
func blobFigures() []figure[*server.Stats] {
	counter := func(name, help string, read func(*server.Stats) float64) figure[*server.Stats] {
		return newFigure(prometheus.CounterValue, name, help, nil, read)
	}
	return []figure[*server.Stats]{
		counter("blob_writes_total", "Groups written.", func(s *server.Stats) float64 { return float64(s.Writes) }),
		counter("blob_writes_moved_total", "Groups that had to be minted again elsewhere.", func(s *server.Stats) float64 { return float64(s.Moved) }),
		counter("blob_reads_total", "Needles read.", func(s *server.Stats) float64 { return float64(s.Reads) }),
		counter("blob_not_found_total", "Reads of what is not there, or has another cookie.", func(s *server.Stats) float64 { return float64(s.NotFound) }),
		counter("blob_deletes_total", "Blobs tombstoned.", func(s *server.Stats) float64 { return float64(s.Deletes) }),
		counter("volume_corrupt_reads_total", "Reads that failed verification, or that the device failed.", func(s *server.Stats) float64 { return float64(s.CorruptReads) }),
		counter("volume_appended_bytes_total", "Bytes appended to volumes and their delete logs.", func(s *server.Stats) float64 { return float64(s.BytesAppended) }),
		newFigure(prometheus.GaugeValue, "disks_missing", "Disks of this node that have volumes and are not in service.", nil,
			func(s *server.Stats) float64 { return float64(len(s.Missing)) }),
		counter("volume_batches_total", "Batches written.", func(s *server.Stats) float64 {
			return overDisks(s, func(d *server.DiskStats) float64 { return float64(d.Steps.BatchBytes.Count) })
		}),
		counter("volume_syncs_total", "Syncs of batches.", func(s *server.Stats) float64 {
			return overDisks(s, func(d *server.DiskStats) float64 { return float64(d.Steps.Sync.Count) })
		}),
	}
}

// volumeFigures sum up the volumes in service.
func volumeFigures() []figure[*server.Stats] {
	gauge := func(name, help string, read func(*volume.Stats) float64) figure[*server.Stats] {
		return newFigure(prometheus.GaugeValue, name, help, nil, func(s *server.Stats) (sum float64) {
			for i := range s.Volumes {
				sum += read(&s.Volumes[i])
			}
			return sum
		})
	}
	return []figure[*server.Stats]{
		gauge("volume_needles", "Readable needles.", func(v *volume.Stats) float64 { return float64(v.Needles) }),
		gauge("volume_tombstones", "Deleted keys that open volumes and delete logs know.", func(v *volume.Stats) float64 { return float64(v.Tombstones) }),
		gauge("volume_live_bytes", "Bytes of readable needles.", func(v *volume.Stats) float64 { return float64(v.LiveBytes) }),
		gauge("volume_index_bytes", "Memory of the indexes.", func(v *volume.Stats) float64 { return float64(v.IndexBytes) }),
		gauge("volume_delete_log_bytes", "Bytes of the delete logs of sealed volumes.", func(v *volume.Stats) float64 { return float64(v.DeleteLogBytes) }),
		gauge("volume_rot", "Damaged parts that opening found in the volumes in service.", func(v *volume.Stats) float64 { return float64(v.Rot) }),
		gauge("volume_recovered_records", "Records that opening the volumes in service kept behind the last known sync.",
			func(v *volume.Stats) float64 { return float64(v.Recovery.Kept) }),
		gauge("volume_void_bytes", "Bytes of torn batches that opening the volumes in service dropped.", func(v *volume.Stats) float64 { return float64(v.VoidBytes) }),
	}
}

// upkeepFigures count sealing and compaction.
func upkeepFigures(now func() time.Time) []figure[*server.Stats] {
	counter := func(name, help string, read func(*server.Stats) float64) figure[*server.Stats] {
		return newFigure(prometheus.CounterValue, name, help, nil, read)
	}
	return []figure[*server.Stats]{
		counter("volume_rolled_total", "Volumes left for another.", func(s *server.Stats) float64 { return float64(s.Rolled) }),
		counter("volume_seals_total", "Volumes sealed.", func(s *server.Stats) float64 { return float64(s.Seals) }),
		counter("volume_compactions_total", "Volumes compacted.", func(s *server.Stats) float64 { return float64(s.Compactions) }),
		counter("volume_upkeep_failures_total", "Seals and compactions that failed and will be tried again.",
			func(s *server.Stats) float64 { return float64(s.UpkeepFailures) }),
		counter("volume_upkeep_bytes_total", "Bytes that sealing and compaction read and wrote.", func(s *server.Stats) float64 { return float64(s.UpkeepBytes) }),
		newFigure(prometheus.GaugeValue, "volume_oldest_closing_seconds", "Age of the oldest volume that was closed and waits for its seal.", nil,
			func(s *server.Stats) float64 {
				if s.OldestClosing.IsZero() {
					return 0
				}
				return max(0, now().Sub(s.OldestClosing).Seconds())
			}),
	}
}

func diskFigures(labels []string) []figure[*server.DiskStats] {
	gauge := func(name, help string, read func(*server.DiskStats) float64) figure[*server.DiskStats] {
		return newFigure(prometheus.GaugeValue, name, help, labels, read)
	}
	one := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	return []figure[*server.DiskStats]{
		gauge("disk_free_bytes", "Free space of the data directory.", func(d *server.DiskStats) float64 { return float64(d.Free) }),
		gauge("disk_total_bytes", "Size of the data directory's disk.", func(d *server.DiskStats) float64 { return float64(d.Total) }),
		gauge("disk_full", "1: nothing is written there for want of room.", func(d *server.DiskStats) float64 { return one(d.Full) }),
		gauge("disk_failing", "1: nothing is written there because the disk fails.", func(d *server.DiskStats) float64 { return one(d.Failing != nil) }),
		gauge("disk_suspect", "1: the disk errs or is slow, and is in service.", func(d *server.DiskStats) float64 { return one(d.State == server.DiskSuspect) }),
		gauge("disk_out", "1: the disk is out of service.", func(d *server.DiskStats) float64 { return one(d.State == server.DiskOut) }),
		newFigure(prometheus.CounterValue, "disk_outs_total", "How often the disk went out of service.", labels,
			func(d *server.DiskStats) float64 { return float64(d.Outs) }),
		gauge("disk_reading_bytes", "Memory that reads of the disk hold.", func(d *server.DiskStats) float64 { return float64(d.Reading) }),
		gauge("disk_late_reads", "Reads that the disk has not answered in time, nor yet.", func(d *server.DiskStats) float64 { return float64(d.Late) }),
		gauge("volume_poisoned", "Volumes that take no more after a failed write or sync.", func(d *server.DiskStats) float64 { return float64(d.ReadOnly) }),
		gauge("volume_sick", "Volumes that can't be opened.", func(d *server.DiskStats) float64 { return float64(len(d.Sick)) }),
	}
}

func overDisks(s *server.Stats, of func(*server.DiskStats) float64) (sum float64) {
	for i := range s.Disks {
		sum += of(&s.Disks[i])
	}
	return sum
}

// Describe implements prometheus.Collector.
func (m *volumeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range m.sums {
		ch <- f.desc
	}
	for _, f := range m.disks {
		ch <- f.desc
	}
	for _, f := range m.classes {
		ch <- f.desc
	}
	for _, d := range []*prometheus.Desc{m.states, m.coding, m.shards, m.steps, m.batchBytes, m.batchRecords, m.walked} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *volumeMetrics) Collect(ch chan<- prometheus.Metric) {
	st := m.stats()
	for _, f := range m.sums {
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.read(&st))
	}
	for i := range st.Classes {
		c := &st.Classes[i]
		class := c.Class.String()
		for _, f := range m.classes {
			ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.read(c), class)
		}
		for _, s := range []struct {
			state string
			n     int
		}{{"open", c.Open}, {"closing", c.Closing}, {"sealed", c.Sealed}, {"coded", c.Coded}, {"sick", c.Sick}} {
			ch <- prometheus.MustNewConstMetric(m.states, prometheus.GaugeValue, float64(s.n), class, s.state)
		}
	}
	m.collectCoded(ch, &st.Coded)
	for i := range st.Disks {
		d := &st.Disks[i]
		for _, f := range m.disks {
			ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.read(d), d.Dir)
		}
		m.collectSteps(ch, d)
	}
}

// collectSteps shows the histograms of one disk. Their buckets are doublings, a
// quarter as many as the engine counts.
func (m *volumeMetrics) collectSteps(ch chan<- prometheus.Metric, d *server.DiskStats) {
	s := &d.Steps
	for _, step := range []struct {
		name string
		h    histogram.Snapshot
	}{
		{"queue", s.Queue}, {"assemble", s.Assemble}, {"write", s.Write}, {"sync", s.Sync}, {"append", s.Append},
		{"read", s.Read}, {"verify", s.Verify},
		{"checkpoint", s.Checkpoint}, {"seal", s.Seal}, {"compact", s.Compact}, {"open", s.Open},
	} {
		buckets := make(map[float64]uint64)
		for b := 8192 * time.Nanosecond; b <= 1<<37; b *= 2 {
			buckets[b.Seconds()] = step.h.AtMost(b)
		}
		ch <- prometheus.MustNewConstHistogram(m.steps, step.h.Count, step.h.Sum.Seconds(), buckets, d.Dir, step.name)
	}
	sizes := func(desc *prometheus.Desc, h histogram.SizeSnapshot, from, to, factor int64) {
		buckets := make(map[float64]uint64)
		for b := from; b <= to; b *= factor {
			buckets[float64(b)] = h.AtMost(b)
		}
		ch <- prometheus.MustNewConstHistogram(desc, h.Count, float64(h.Sum), buckets, d.Dir)
	}
	sizes(m.batchBytes, s.BatchBytes, 4<<10, 64<<20, 4)
	sizes(m.batchRecords, s.BatchRecords, 1, 1024, 2)
	sizes(m.walked, s.Walked, 1<<20, 1<<30, 4)
}
