package tools

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hayloft/volume"
	"hayloft/volume/server"
)

// Cluster is how everything is, as one node sees it.
type Cluster struct {
	Nodes   []Node         `json:"nodes"`
	Disks   []Disk         `json:"disks"`
	Volumes map[string]int `json:"volumes"` // by state, as List has it
	// UnderReplicated counts volumes with fewer good copies or shards than they should
	// have.
	UnderReplicated int      `json:"under_replicated"`
	Leader          string   `json:"leader"` // name of the node that leads, "" when none does
	Survives        Survival `json:"survives"`
}

// Survival says how much may be lost at once, whichever it is, and nothing that was
// acknowledged is.
type Survival struct {
	Disk     int      `json:"disk"`     // disks: the smaller of the next two
	Volumes  int      `json:"volumes"`  // disks, as far as photos go
	Metadata int      `json:"metadata"` // disks, as far as accounts, posts and the directory go
	Host     int      `json:"host"`     // machines
	Because  []string `json:"because"`  // what would be lost first
}

// Node is a machine of the cluster.
type Node struct {
	ID         uint32    `json:"id"`
	Name       string    `json:"name"`
	Leads      bool      `json:"leads"`
	Here       bool      `json:"here"`  // the one that answers
	Disks      int       `json:"disks"` // that are there
	Registered time.Time `json:"registered"`
}

// Disk is a data directory of a node.
type Disk struct {
	Disk     uint32 `json:"disk"` // the directory's number
	UUID     string `json:"uuid"`
	Node     uint32 `json:"node"`
	Data     string `json:"data"`  // "": in none of the data directories of this node
	State    string `json:"state"` // ok, suspect, out, or missing: it is no data directory of its node
	Why      string `json:"why,omitempty"`
	Capacity int64  `json:"capacity_bytes"`
	Free     int64  `json:"free_bytes"`
	Full     bool   `json:"full"`
	Volumes  int    `json:"volumes"` // files of volumes that are there, or should be
	Shards   int    `json:"shards"`  // that the directory has there
}

// StateMissing is the state of a disk that is no data directory of its node.
const StateMissing = "missing"

// Cluster implements Keeper.
func (l *Local) Cluster(ctx context.Context) (Cluster, error) {
	c := Cluster{Nodes: []Node{}, Disks: []Disk{}, Volumes: map[string]int{StateOpen: 0, StateClosing: 0, StateSealed: 0, StateCoding: 0, StateCoded: 0}}
	rows, err := l.List(ctx)
	if err != nil {
		return c, err
	}
	coded, err := l.Coded(ctx)
	if err != nil {
		return c, err
	}
	for _, r := range rows {
		c.Volumes[r.State]++
	}
	if d := l.o.Directory; d != nil {
		c.Nodes, c.Disks, c.Leader = d.Nodes(), d.Disks(), d.Leader()
	}
	c.countDisks(l.o.Blobs.Stats(), coded.Volumes)
	c.survival(rows, &coded)
	where := "it lies on one disk"
	if l.o.Metadata != nil {
		c.Survives.Metadata, where = l.o.Metadata()
	}
	c.Survives.Disk = min(c.Survives.Volumes, c.Survives.Metadata)
	c.Survives.Because = append(c.Survives.Because, fmt.Sprintf("metadata: %d (%s)", c.Survives.Metadata, where))
	return c, nil
}

// countDisks joins what the directory knows of the disks with how they are.
func (c *Cluster) countDisks(st server.Stats, coded []Coded) {
	for i := range c.Disks {
		d := &c.Disks[i]
		at := slices.IndexFunc(st.Disks, func(s server.DiskStats) bool { return s.UUID == d.UUID })
		if at < 0 {
			d.State = StateMissing
			if m := slices.IndexFunc(st.Missing, func(m server.MissingDisk) bool { return m.UUID == d.UUID }); m >= 0 {
				d.Volumes = st.Missing[m].Volumes
			}
		} else {
			s := st.Disks[at]
			d.Data, d.State, d.Free, d.Full, d.Volumes = s.Dir, s.State.String(), s.Free, s.Full, s.Volumes
			d.Capacity = cmp.Or(s.Total, d.Capacity)
			if s.Why != nil {
				d.Why = OneLine(s.Why)
			}
		}
		for _, v := range coded {
			for _, s := range v.Shards {
				if s.Disk == d.Disk {
					d.Shards++
				}
			}
		}
		if n := slices.IndexFunc(c.Nodes, func(n Node) bool { return n.ID == d.Node }); n >= 0 && at >= 0 {
			c.Nodes[n].Disks++
		}
	}
	// One that is away and has nothing is nobody's loss: it was replaced.
	c.Disks = slices.DeleteFunc(c.Disks, func(d Disk) bool { return d.State == StateMissing && d.Shards == 0 && d.Volumes == 0 })
}

// survival finds the volumes that would be lost first.
func (c *Cluster) survival(rows []Row, coded *CodedList) {
	least, first := -1, map[string][]volume.ID{}
	note := func(n int, v volume.ID, format string, args ...any) {
		if least < 0 || n < least {
			least, first = n, map[string][]volume.ID{}
		}
		if n == least {
			what := fmt.Sprintf(format, args...)
			first[what] = append(first[what], v)
		}
	}
	shards := make(map[volume.ID]*Coded)
	for i := range coded.Volumes {
		if v := &coded.Volumes[i]; v.Health != HealthCoding {
			shards[v.ID] = v
			if v.Health != HealthRedundant {
				c.UnderReplicated++
			}
		}
	}
	seen := make(map[volume.ID]bool)
	for _, r := range rows {
		v := shards[r.ID]
		switch {
		case seen[r.ID]:
		case v != nil && (v.Survives > 0 || v.Health == HealthRedundant):
			note(v.Survives, r.ID, "coded as %s, %d of %d shards whole", v.Policy, v.Whole(), len(v.Shards))
		case v != nil:
			note(0, r.ID, "%s: %s", v.Health, v.Trouble())
		case !r.Readable():
			c.UnderReplicated++
			note(0, r.ID, "cannot be read: %s", r.Error)
		case r.Empty(): // nothing in it was acknowledged, or all of it is deleted
		default:
			copies := 1
			if r.Replicas != nil {
				copies = max(*r.Replicas, 1)
			}
			note(copies-1, r.ID, "%s, with %d copy of its file", r.State, copies)
		}
		seen[r.ID] = true
	}
	if least < 0 { // no volume holds anything: no photo can be lost
		least = len(slices.DeleteFunc(slices.Clone(c.Disks), func(d Disk) bool { return d.State == StateMissing }))
	}
	c.Survives.Volumes, c.Survives.Because = least, []string{}
	for what, ids := range first {
		c.Survives.Because = append(c.Survives.Because, fmt.Sprintf("photos: %d (%s %s: %s)", least, plural(len(ids), "volume", "volumes"), some(ids), what))
	}
	slices.Sort(c.Survives.Because)
	if n := len(c.Survives.Because); n > maxBecause {
		c.Survives.Because = append(c.Survives.Because[:maxBecause], fmt.Sprintf("and %d more reasons", n-maxBecause))
	}
}

// maxBecause is how many reasons are given.
const maxBecause = 8

func plural(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// some names a few numbers.
func some(ids []volume.ID) string {
	const most = 10
	var out []string
	for i, v := range ids {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more", len(ids)-most))
			break
		}
		out = append(out, fmt.Sprint(v))
	}
	return strings.Join(out, ", ")
}
