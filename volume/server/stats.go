package server

import (
	"cmp"
	"slices"
	"time"

	"hayloft/volume"
)

// DiskStats is the state of one disk.
type DiskStats struct {
	Dir     string
	UUID    string
	Disk    uint32 // the directory's number
	Free    int64  // bytes, as last asked
	Total   int64  // bytes
	Full    bool   // nothing is written for want of room
	Failing error  // why nothing is written for now, or nil
	State   DiskState
	Reason  Reason    // of the state
	Why     error     // the same in words; nil when the state is DiskOK
	Since   time.Time // when State or Reason last changed
	Outs    uint64    // how often the directory's disk went out since Open
	Volumes int       // in service
	Reading int64     // bytes that reads hold, of its share of MaxReadBytes
	Late    int64     // reads that the disk has not answered in time, nor yet
	Sick    map[volume.ID]error
	// ReadOnly counts poisoned volumes: served, never appended to.
	ReadOnly int
	// Steps are the latencies and batch sizes of all volumes that are or were in
	// service on the disk.
	Steps volume.StepStats
	Scrub ScrubDisk
}

// Stats is a snapshot. Counters start at Open.
type Stats struct {
	Disks   []DiskStats
	Missing []MissingDisk
	Volumes []volume.Stats // in service, by disk and id

	BytesAppended int64 // to volumes and delete logs, those no longer in service too
	Writes        uint64
	Moved         uint64 // Writes answered ErrMoved
	Rolled        uint64 // volumes left for another
	Reads         uint64
	NotFound      uint64
	CorruptReads  uint64
	Deletes       uint64
	Replication   ReplicationStats

	Classes []ClassStats
	// Seals, Compactions and UpkeepFailures count what came to its end and what
	// did not, UpkeepBytes what that read and wrote.
	Seals, Compactions, UpkeepFailures uint64
	UpkeepBytes                        uint64
	// OldestClosing is when the tile of the volume was closed that waits longest
	// for its seal; zero when none does.
	OldestClosing time.Time
	Coded         CodedStats
}

// ReplicationStats counts what replicas on several nodes bring with them. Counters
// start at Open.
type ReplicationStats struct {
	Appends     uint64 // groups sent to one of several replicas, here or elsewhere
	Late        uint64 // that a replica did not take in time
	LeftSync    uint64 // replicas that were put out of sync because they did not answer a delete
	RemoteReads uint64 // asked of other nodes
	Hedges      uint64 // that another replica was asked for too, since the first one was slow
	HedgesWon   uint64 // and was faster
	OutOfSync   int    // replicas that this node should have, and that lack something
	Filled      uint64 // replicas of this node that were filled, and are in sync
	FillBytes   uint64 // received for them, and for the union of replicas that are sealed
	Restored    uint64 // damage in replicas of this node that was restored from others
}

// ClassStats counts the replicas of a class on this node by state. Open, Closing
// and Sealed are those in service. Coded are volumes that shards serve, beside a
// sealed source in the grace.
type ClassStats struct {
	Class                       volume.Class
	Open, Closing, Sealed, Sick int
	Coded                       int
	FileBytes                   int64
	GarbageBytes                int64 // that hold nothing readable
}

// Stats returns a snapshot.
func (s *Server) Stats() Stats {
	st := Stats{
		Writes: s.n.writes.Load(), Moved: s.n.moved.Load(), Rolled: s.n.rolled.Load(), Reads: s.n.reads.Load(),
		NotFound: s.n.notFound.Load(), CorruptReads: s.n.corrupt.Load(), Deletes: s.n.deletes.Load(),
		Seals: s.n.seals.Load(), Compactions: s.n.compactions.Load(), UpkeepFailures: s.n.failures.Load(), UpkeepBytes: s.n.upkeep.Load(),
		Classes: []ClassStats{{Class: volume.ClassVariants}, {Class: volume.ClassOriginals}},
		Replication: ReplicationStats{
			Appends: s.n.replicaWrites.Load(), Late: s.n.lateReplicas.Load(), LeftSync: s.n.leftSync.Load(),
			RemoteReads: s.n.remoteReads.Load(), Hedges: s.n.hedges.Load(), HedgesWon: s.n.hedgesWon.Load(),
			Filled: s.n.filled.Load(), FillBytes: s.n.fillBytes.Load(), Restored: s.n.restored.Load(),
		},
	}
	byDisk := make(map[*disk]int)
	disks := s.all()
	for i, d := range disks {
		st.Disks = append(st.Disks, d.stats())
		st.BytesAppended += st.Disks[i].Steps.BatchBytes.Sum
		byDisk[d] = i
	}
	st.Disks = append(st.Disks, s.vacant(disks)...)
	st.BytesAppended += s.coder.steps.Snapshot().BatchBytes.Sum // delete logs of coded volumes
	inService := s.inService(&st, byDisk)
	for _, d := range disks {
		for _, r := range s.o.Directory.Rows(d.number) {
			if !r.empty() && !r.coded() && !r.inSync(d.number) {
				st.Replication.OutOfSync++
			}
			if v, ok := inService[where{d.number, r.Volume.Volume}]; !r.empty() && (ok || !r.coded()) {
				st.count(r, v, ok, r.inSync(d.number))
			}
		}
	}
	for _, a := range s.absent() {
		st.Missing = append(st.Missing, MissingDisk{a.Disk, hexOf(a.UUID), len(a.rows)})
		for _, r := range a.rows {
			st.count(r, volume.Stats{}, false, r.inSync(a.Disk))
		}
	}
	st.countCoded(s)
	return st
}

// inService fills in what the volumes in service say, by disk and id; those that
// shards serve come first, and hide their source. It returns those on disks.
func (s *Server) inService(st *Stats, byDisk map[*disk]int) map[where]volume.Stats {
	type row struct {
		at where
		v  volume.Stats
	}
	var rows []row
	shards := make(map[volume.ID]bool)
	s.mu.RLock()
	for w, h := range s.volumes {
		if h.coded != nil {
			if h.vol != nil {
				shards[w.vol] = true
				rows = append(rows, row{w, h.vol.Stats()})
			}
			continue
		}
		i, ok := byDisk[h.disk]
		if !ok {
			continue // it came meanwhile
		}
		d := &st.Disks[i]
		if out := h.disk.usable(); h.vol == nil || out != nil {
			d.Sick[w.vol] = cmp.Or(h.sick, out)
			continue
		}
		v := h.vol.Stats()
		d.Volumes++
		if v.Poisoned != nil {
			d.ReadOnly++
		}
		rows = append(rows, row{w, v})
	}
	s.mu.RUnlock()
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.at.disk, b.at.disk), cmp.Compare(a.at.vol, b.at.vol))
	})
	out := make(map[where]volume.Stats)
	for _, r := range rows {
		if r.at.disk != 0 {
			out[r.at] = r.v
		}
		if r.at.disk == 0 || !shards[r.at.vol] {
			st.Volumes = append(st.Volumes, r.v)
		}
	}
	return out
}

// count adds a replica that the directory knows. missed: it is to be in service.
func (st *Stats) count(r Row, v volume.Stats, inService, missed bool) {
	i := slices.IndexFunc(st.Classes, func(c ClassStats) bool { return c.Class == r.Volume.Class })
	if i < 0 {
		return
	}
	c := &st.Classes[i]
	if inService && r.State == StateClosing && r.Closed != 0 {
		if at := r.Closed.Time(); st.OldestClosing.IsZero() || at.Before(st.OldestClosing) {
			st.OldestClosing = at
		}
	}
	switch {
	case !inService && !missed:
		return
	case !inService:
		c.Sick++
		return
	case r.State == StateOpen:
		c.Open++
	case r.State == StateClosing:
		c.Closing++
	default:
		c.Sealed++
	}
	c.FileBytes += v.FileBytes
	c.GarbageBytes += garbage(v)
}
