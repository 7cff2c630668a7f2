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
	Replicas        Replicas `json:"replicas"`
	Leader          string   `json:"leader"` // name of the node that leads, "" when none does
	Survives        Survival `json:"survives"`
}

// Replicas counts those of all volumes that are not served out of shards.
type Replicas struct {
	Target int `json:"target"`  // how many there should be
	Listed int `json:"listed"`  // disks that should have one
	InSync int `json:"in_sync"` // that have everything that was acknowledged
}

// Survival says how much may be lost at once, whichever it is, and nothing that was
// acknowledged is.
type Survival struct {
	Disk     int      `json:"disk"`     // disks: the smaller of the next two
	Volumes  int      `json:"volumes"`  // disks, as far as photos go
	Metadata int      `json:"metadata"` // disks, as far as accounts, posts and the directory go
	Host     int      `json:"host"`     // nodes, of both
	Because  []string `json:"because"`  // what would be lost first
}

// Node is a machine of the cluster.
type Node struct {
	ID         uint32    `json:"id"`
	Name       string    `json:"name"`
	Leads      bool      `json:"leads"`
	Here       bool      `json:"here"` // the one that answers
	Up         bool      `json:"up"`   // the leader hears it
	Away       float64   `json:"away_seconds,omitempty"`
	Roles      []string  `json:"roles,omitempty"`
	Disks      int       `json:"disks"` // that are there
	Addr       string    `json:"addr"`  // of its listener for other nodes, "" without one
	Duty       string    `json:"duty"`  // active, draining or gone
	Registered time.Time `json:"registered"`
}

// Disk is a data directory of a node.
type Disk struct {
	Disk     uint32 `json:"disk"` // the directory's number
	UUID     string `json:"uuid"`
	Node     uint32 `json:"node"`
	Duty     string `json:"duty"`  // active, draining or gone
	Data     string `json:"data"`  // "": in none of the data directories of this node
	State    string `json:"state"` // ok, suspect, out, missing: it is no data directory of its node; of another node's ok, out, away, or elsewhere: nobody has told yet
	Why      string `json:"why,omitempty"`
	Capacity int64  `json:"capacity_bytes"`
	Free     int64  `json:"free_bytes"`
	Full     bool   `json:"full"`
	Volumes  int    `json:"volumes"` // files of volumes that are there, or should be
	Shards   int    `json:"shards"`  // that the directory has there
}

const (
	// StateMissing is the state of a disk that is no data directory of its node.
	StateMissing = "missing"
	// StateElsewhere is that of a disk of another node than the one that answers.
	StateElsewhere = "elsewhere"
	// StateOK, StateOut and StateAway are those of one of which the fleet has heard: in
	// service, out of it, on a node that is away.
	StateOK, StateOut, StateAway = "ok", "out", "away"
)

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
	var table []server.Row
	if d := l.o.Directory; d != nil {
		c.Nodes, c.Disks, c.Leader, table = d.Nodes(), d.Disks(), d.Leader(), d.Rows()
	}
	c.countDisks(l.o.Blobs.Stats(), coded.Volumes)
	c.countReplicas(table)
	c.survival(rows, &coded, table)
	meta := Metadata{Where: "it lies on one disk"}
	if l.o.Metadata != nil {
		meta = l.o.Metadata()
	}
	c.Survives.Metadata = meta.Disks
	c.Survives.Disk, c.Survives.Host = min(c.Survives.Volumes, meta.Disks), min(c.Survives.Host, meta.Hosts)
	c.Survives.Because = append(c.Survives.Because, fmt.Sprintf("metadata: %d (%s)", meta.Disks, meta.Where))
	return c, nil
}

// countDisks joins what the directory knows of the disks with how they are.
func (c *Cluster) countDisks(st server.Stats, coded []Coded) {
	for i := range c.Disks {
		d := &c.Disks[i]
		at := slices.IndexFunc(st.Disks, func(s server.DiskStats) bool { return s.UUID == d.UUID })
		other := slices.IndexFunc(c.Nodes, func(n Node) bool { return n.ID == d.Node && !n.Here })
		switch {
		case at < 0 && other >= 0:
			d.State = cmp.Or(d.State, StateElsewhere)
			c.Nodes[other].Disks++
		case at < 0:
			d.State = StateMissing
			if m := slices.IndexFunc(st.Missing, func(m server.MissingDisk) bool { return m.UUID == d.UUID }); m >= 0 {
				d.Volumes = st.Missing[m].Volumes
			}
		default:
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

// countReplicas counts what the directory has on disks of other nodes.
func (c *Cluster) countReplicas(table []server.Row) {
	on := map[uint32]int{}
	for _, row := range table {
		for _, d := range row.Disks {
			on[d]++
		}
	}
	for i := range c.Disks {
		if d := &c.Disks[i]; d.Data == "" && d.State != StateMissing {
			d.Volumes = on[d.Disk]
		}
	}
	// So it is with one that another node does not name: it was erased, or taken away.
	c.Disks = slices.DeleteFunc(c.Disks, func(d Disk) bool {
		left := d.State == StateOut && d.Data == "" && d.Shards == 0 && d.Volumes == 0
		if n := slices.IndexFunc(c.Nodes, func(n Node) bool { return n.ID == d.Node }); left && n >= 0 {
			c.Nodes[n].Disks--
		}
		return left
	})
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
