package volume

import (
	"time"

	"hayloft/internal/histogram"
)

// Steps counts how long the steps of the engine take and how large its batches
// are. Its zero value is ready; it must not be copied. See StepStats for what
// each one is.
type Steps struct {
	queue, assemble, write, sync, append histogram.Histogram
	read, verify                         histogram.Histogram
	checkpoint, seal, compact, open      histogram.Histogram
	batchBytes, batchRecords, walked     histogram.Sizes
}

// StepStats is what a Steps counted so far.
type StepStats struct {
	Queue      histogram.Snapshot // a put or delete, from when it is submitted until the writer has taken it
	Assemble   histogram.Snapshot // one batch: checks, headers, check sums, space reserved; with a group above 16 MiB also its writing
	Write      histogram.Snapshot // the write of one batch
	Sync       histogram.Snapshot // the sync of one batch
	Append     histogram.Snapshot // a put or delete that was acknowledged, the whole call
	Read       histogram.Snapshot // one read of the device on behalf of a needle
	Verify     histogram.Snapshot // both check sums of what one such read brought
	Checkpoint histogram.Snapshot // one checkpoint, until its name is durable
	Seal       histogram.Snapshot // one sealing, until its index is written too
	Compact    histogram.Snapshot // one compaction, until its output is verified, durable and open
	Open       histogram.Snapshot // one opening of a file, its recovery included

	BatchBytes   histogram.SizeSnapshot // of each batch written
	BatchRecords histogram.SizeSnapshot // of each batch written
	Walked       histogram.SizeSnapshot // bytes that each opening had to go through, record by record
}

// Snapshot returns what was counted so far.
func (s *Steps) Snapshot() StepStats {
	return StepStats{
		Queue: s.queue.Snapshot(), Assemble: s.assemble.Snapshot(), Write: s.write.Snapshot(), Sync: s.sync.Snapshot(),
		Append: s.append.Snapshot(), Read: s.read.Snapshot(), Verify: s.verify.Snapshot(),
		Checkpoint: s.checkpoint.Snapshot(), Seal: s.seal.Snapshot(), Compact: s.compact.Snapshot(),
		Open:       s.open.Snapshot(),
		BatchBytes: s.batchBytes.Snapshot(), BatchRecords: s.batchRecords.Snapshot(), Walked: s.walked.Snapshot(),
	}
}

// Steps returns what this volume counted, and with it whatever else was given
// the same Options.Steps.
func (v *Volume) Steps() StepStats { return v.steps.Snapshot() }

// took counts in h how long it is since begin, a reading of now.
func (v *Volume) took(h *histogram.Histogram, begin time.Duration) { h.Observe(v.now() - begin) }

// now is for took: it never steps, and is no time of the day.
func (v *Volume) now() time.Duration { return v.o.Clock.Elapsed() }
