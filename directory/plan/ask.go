package plan

import (
	"slices"
	"time"

	"hayloft/directory"
)

// Up tells whether a disk can be used now.
func (c *Cluster) Up(id directory.DiskID) bool {
	d := c.byID[id]
	return d != nil && d.Up && !d.gone
}

// NodeName is the name of a disk's node, empty when nobody knows.
func (c *Cluster) NodeName(id directory.DiskID) string {
	if d := c.byID[id]; d != nil {
		return d.node.Name
	}
	return ""
}

// Sources are the disks from which a volume can be copied now, in the order of its
// row.
func (c *Cluster) Sources(v Volume) (out []directory.DiskID) {
	for _, id := range v.InSync {
		if c.Up(id) {
			out = append(out, id)
		}
	}
	return out
}

// Lost are the disks that are away for longer than a delay and were not declared gone.
func (c *Cluster) Lost(delay time.Duration) (out []directory.DiskID) {
	for _, d := range c.disks {
		if !d.gone && !d.Up && d.Away >= delay {
			out = append(out, d.ID)
		}
	}
	return out
}

// Draining is the cluster with a node or a disk draining as well; 0: none.
func (c *Cluster) Draining(n directory.NodeID, d directory.DiskID) *Cluster {
	nodes, disks := slices.Clone(c.nodes), c.plain()
	for i := range nodes {
		nodes[i].Draining = nodes[i].Draining || n != 0 && nodes[i].ID == n
	}
	for i := range disks {
		disks[i].Draining = disks[i].Draining || d != 0 && disks[i].ID == d
	}
	return New(nodes, disks)
}

// Freeing is the cluster with more free room on some disks, in bytes.
func (c *Cluster) Freeing(more map[directory.DiskID]int64) *Cluster {
	if len(more) == 0 {
		return c
	}
	disks := c.plain()
	for i := range disks {
		disks[i].Free = min(disks[i].Free+more[disks[i].ID], c.byID[disks[i].ID].capacity)
	}
	return New(c.nodes, disks)
}

func (c *Cluster) plain() []Disk {
	disks := make([]Disk, len(c.disks))
	for i, d := range c.disks {
		disks[i] = d.Disk
	}
	return disks
}
