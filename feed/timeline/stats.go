package timeline

import "sync/atomic"

// counters are what Stats reports.
type counters struct {
	cursor, durable, openFanouts atomic.Uint64 // set by the writer

	// Those below only grow.
	events, deliveries, skipped atomic.Uint64
	builds, drops, wipes        atomic.Uint64
	pages, pulledPages, refused atomic.Uint64
	segmentPages                atomic.Uint64
}

// Stats is the state of a Store since it was opened.
type Stats struct {
	Cursor  uint64 // the last event processed
	Durable uint64 // the last event that a crash cannot undo

	Events     uint64 // processed
	Deliveries uint64 // entries written by fan-out
	Skipped    uint64 // followers not written to: no timeline, or not here for long
	Builds     uint64 // timelines built
	Drops      uint64 // timelines dropped
	Wipes      uint64 // times that the instance was thrown away

	Pages        uint64 // served
	PulledPages  uint64 // of these, without a timeline
	SegmentPages uint64 // of these, out of what an earlier one had merged
	Refused      uint64 // requests to the writer that found the queue full

	Readers     int // with a timeline
	OpenFanouts int // under way
	Queued      int // readers waiting for the writer

	DiskBytes           uint64 // of the instance
	CompactionDebtBytes uint64 // bytes that compactions have yet to rewrite
}

// Stats returns the present numbers.
func (s *Store) Stats() Stats {
	c := &s.counters
	st := Stats{
		Cursor: c.cursor.Load(), Durable: c.durable.Load(),
		Events: c.events.Load(), Deliveries: c.deliveries.Load(), Skipped: c.skipped.Load(),
		Builds: c.builds.Load(), Drops: c.drops.Load(), Wipes: c.wipes.Load(),
		Pages: c.pages.Load(), PulledPages: c.pulledPages.Load(), SegmentPages: c.segmentPages.Load(), Refused: c.refused.Load(),
		OpenFanouts: int(c.openFanouts.Load()), Queued: s.requests.len(),
	}
	s.readersMu.RLock()
	st.Readers = len(s.readers)
	s.readersMu.RUnlock()
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.in != nil && s.in.lost() == nil {
		m := s.in.db.Metrics()
		st.DiskBytes, st.CompactionDebtBytes = m.DiskSpaceUsage(), m.Compact.EstimatedDebt
	}
	return st
}
