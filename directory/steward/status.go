package steward

import (
	"maps"
	"slices"
	"time"

	"hayloft/directory"
	"hayloft/directory/plan"
)

// Total is what was filled.
type Total struct {
	Replicas uint64
	Bytes    int64
}

// Filled is what came in sync since this process started, of replicas that its
// steward had added, by cause. Those of another leader are under the empty one.
func (s *Steward) Filled() map[plan.Cause]Total {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.totals)
}

// Fill is a replica that is filling itself.
type Fill struct {
	Volume directory.VolumeID `json:"volume"`
	Disk   directory.DiskID   `json:"disk"`
	Node   string             `json:"node"`
	Bytes  int64              `json:"bytes"` // of the whole replica
	Up     bool               `json:"up"`    // the disk, and one to copy from
	// Of the node that leads alone: what for, how long, and whether that is too long.
	Cause   plan.Cause `json:"cause,omitempty"`
	Seconds int        `json:"seconds,omitempty"`
	Slow    bool       `json:"slow,omitempty"`
}

// Leaving is a node or a disk that is to be emptied.
type Leaving struct {
	Node directory.NodeID `json:"node"`
	Disk directory.DiskID `json:"disk,omitempty"` // 0: the whole node
	Name string           `json:"name"`           // of the node
	Then string           `json:"then"`           // "draining" or "gone": what it is when it is empty
	Left plan.Left        `json:"left"`
}

// Ahead sums up what a plan has to do.
type Ahead struct {
	Steps int   `json:"steps"`
	Bytes int64 `json:"bytes"` // to be copied
}

// Status is how far the work is, as the rows have it.
type Status struct {
	Leader   string             `json:"leader"`
	Intent   Intent             `json:"intent"`
	Fills    []Fill             `json:"fills"` // at most some
	Filling  Ahead              `json:"filling"`
	Ahead    map[string]Ahead   `json:"ahead"` // what is not begun, by cause
	Lacks    []plan.Lack        `json:"lacks"` // at most some
	Lacking  int                `json:"lacking"`
	Leaving  []Leaving          `json:"leaving"`
	Lost     []directory.DiskID `json:"lost"` // disks that are away for longer than the delay
	Survives []plan.Survival    `json:"survives"`
	// Failure is why the steward's last round ended early; of the node that leads alone.
	Failure string `json:"failure,omitempty"`
}

// maxListed is how many fills and lacks a Status names.
const maxListed = 100

// Status tells how far the work is. Every node can tell.
func (s *Steward) Status() Status {
	m, view := s.o.Directory.Map(), s.o.Fleet.View()
	intent, _ := readIntent(s.o.Fleet.Carried()) // what cannot be read is not acted upon either
	c, volumes := Cluster(m, view, intent.Lost...), s.volumes(m)
	st := Status{Leader: view.Leader, Intent: intent, Ahead: map[string]Ahead{}, Fills: []Fill{}, Lacks: []plan.Lack{}, Leaving: leaving(c, m, volumes, intent),
		Lost: []directory.DiskID{}, Survives: c.Survives(volumes)}
	if leader, ok := s.o.Leadership.Leader(); ok {
		st.Leader = leader
	}
	p := c.Foresee(volumes, plan.Options{RepairDelay: s.o.RepairDelay, Balance: intent.Balance}, s.source())
	for _, step := range p.Steps {
		a := st.Ahead[string(step.Cause)]
		a.Steps++
		a.Bytes += step.Bytes
		st.Ahead[string(step.Cause)] = a
	}
	st.Lacking = p.Lacking
	st.Lacks = append(st.Lacks, p.Lacks[:min(len(p.Lacks), maxListed)]...)
	st.Lost = append(st.Lost, c.Lost(s.o.RepairDelay)...)
	s.fills(&st, c, volumes)
	return st
}

// fills lists what fills itself.
func (s *Steward) fills(st *Status, c *plan.Cluster, volumes []plan.Volume) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range volumes {
		for _, d := range v.Replicas {
			if v.Coded || slices.Contains(v.InSync, d) {
				continue
			}
			f := Fill{Volume: v.ID, Disk: d, Node: c.NodeName(d), Bytes: v.Bytes, Up: c.Up(d) && len(c.Sources(v)) > 0}
			if s.work != nil && s.work.fills[replica{v.ID, d}] != nil {
				own := s.work.fills[replica{v.ID, d}]
				f.Cause, f.Seconds, f.Slow = own.cause, int((s.o.Clock.Elapsed()-own.since)/time.Second), own.slow
			}
			st.Filling.Steps++
			st.Filling.Bytes += v.Bytes
			if len(st.Fills) < maxListed {
				st.Fills = append(st.Fills, f)
			}
		}
	}
	if s.work != nil {
		st.Failure = s.failure
	}
}

func leaving(c *plan.Cluster, m *directory.Map, volumes []plan.Volume, i Intent) []Leaving {
	out := []Leaving{}
	then := func(gone bool) string {
		if gone {
			return directory.Gone.String()
		}
		return directory.Draining.String()
	}
	for _, n := range m.Nodes() {
		if n.State == directory.Draining {
			out = append(out, Leaving{Node: n.ID, Name: n.Name, Then: then(slices.Contains(i.Nodes, n.ID)), Left: c.Left(volumes, disksOf(m, n.ID))})
		}
	}
	for _, d := range m.Disks() {
		if d.State == directory.Draining {
			out = append(out, Leaving{Node: d.Node, Disk: d.ID, Name: c.NodeName(d.ID), Then: then(slices.Contains(i.Disks, d.ID)), Left: c.Left(volumes, []directory.DiskID{d.ID})})
		}
	}
	return out
}
