package plan

import (
	"cmp"
	"math"
	"slices"
	"time"

	"hayloft/directory"
)

// Node is a machine, or one of several processes on it, that has disks.
type Node struct {
	ID               directory.NodeID
	Name             string
	Host, Rack, Zone string // failure domains, may be empty
	Draining         bool   // its replicas are to go elsewhere
	Gone             bool   // it was declared gone: it never comes back
}

// Disk is a data directory on a node.
type Disk struct {
	ID             directory.DiskID
	Node           directory.NodeID
	Draining, Gone bool
	Up             bool          // its node is heard of, and the disk is in service
	Away           time.Duration // how long it is not up; 0 when that is not known
	Free, Capacity int64         // bytes, as it last said; Free is above the reserve
}

// Forever as Disk.Away has what is on a disk replaced without delay.
const Forever time.Duration = math.MaxInt64

// Shards are those of one committed epoch of a coded volume.
type Shards struct {
	Data  int                // so many give everything back
	Homes []directory.DiskID // of each shard
}

// Volume is a row as far as placement goes.
type Volume struct {
	ID       directory.VolumeID
	Sync     uint32             // the sync epoch
	Replicas []directory.DiskID // who should hold it
	InSync   []directory.DiskID // who has everything, of Replicas
	Target   int                // how many replicas it should have
	Bytes    int64              // of its file
	// Movable: its contents are fixed, and replicas may be added and given up.
	Movable bool
	// Coded: its shards count, and its replicas are left as they are until they go.
	Coded bool
	// Shards give its contents too, each epoch by itself.
	Shards []Shards
}

// Level is how wide a failure domain is.
type Level uint8

// The levels, from the narrowest to the widest.
const (
	ByDisk Level = iota
	ByNode
	ByHost
	ByRack
	ByZone
	levels = iota
)

func (l Level) String() string {
	return [...]string{"disk", "node", "host", "rack", "zone"}[l]
}

// disk is a Disk with what its node says.
type disk struct {
	Disk
	node           *Node
	leaving, gone  bool           // by its own state or by its node's
	domains        [levels]string // what it is in, by level
	number         int            // in Cluster.disks
	room, capacity int64          // bytes: what is free and there, never negative
}

// taking tells whether replicas may be put there.
func (d *disk) taking() bool { return d.Up && !d.leaving && !d.gone }

// Cluster is what is known of nodes and disks at one moment.
type Cluster struct {
	nodes []Node
	disks []*disk // by number of the disk
	byID  map[directory.DiskID]*disk
	// apart is how far apart two replicas of a volume must be: the widest of host,
	// node and disk of which there are two.
	apart Level
}

// New makes a Cluster. Disks of nodes that are not named are left out.
func New(nodes []Node, disks []Disk) *Cluster {
	c := &Cluster{nodes: slices.Clone(nodes), byID: make(map[directory.DiskID]*disk, len(disks))}
	slices.SortFunc(c.nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	byID := make(map[directory.NodeID]*Node, len(nodes))
	for i := range c.nodes {
		byID[c.nodes[i].ID] = &c.nodes[i]
	}
	for _, d := range disks {
		n := byID[d.Node]
		if n == nil || c.byID[d.ID] != nil {
			continue
		}
		own := &disk{Disk: d, node: n, gone: d.Gone || n.Gone, domains: domainsOf(n, d.ID), room: max(d.Free, 0), capacity: max(d.Capacity, d.Free, 1)}
		own.leaving = !own.gone && (d.Draining || n.Draining)
		c.disks, c.byID[d.ID] = append(c.disks, own), own
	}
	slices.SortFunc(c.disks, func(a, b *disk) int { return cmp.Compare(a.ID, b.ID) })
	for i, d := range c.disks {
		d.number = i
	}
	c.apart = c.widest()
	return c
}

// widest is the level of Cluster.apart. Nodes that are away or draining count: an
// outage is no reason to put two replicas where one loss takes both.
func (c *Cluster) widest() Level {
	for _, l := range []Level{ByHost, ByNode} {
		first := ""
		for _, d := range c.disks {
			switch name := d.domains[l]; {
			case d.gone:
			case first == "":
				first = name
			case first != name:
				return l
			}
		}
	}
	return ByDisk
}

// Apart is how far apart the replicas of a volume are kept: ByHost when the disks
// that are not gone are on several hosts, else ByNode or ByDisk.
func (c *Cluster) Apart() Level { return c.apart }
