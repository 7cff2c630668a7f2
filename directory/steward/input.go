package steward

import (
	"math"
	"slices"

	"hayloft/directory"
	"hayloft/directory/fleet"
	"hayloft/directory/plan"
)

// Cluster is what the table and the fleet say of nodes and disks. A disk that the
// fleet says nothing of is not up, for nobody knows how long. Those of lost count as
// if they had been away for ever while they are not up.
func Cluster(m *directory.Map, v *fleet.View, lost ...directory.DiskID) *plan.Cluster {
	var nodes []plan.Node
	heard := make(map[directory.NodeID]fleet.Node)
	for _, n := range m.Nodes() {
		nodes = append(nodes, Node(n))
		if h, ok := v.Node(n.Name); ok {
			heard[n.ID] = h
		}
	}
	var disks []plan.Disk
	for _, d := range m.Disks() {
		own := plan.Disk{ID: d.ID, Node: d.Node, Draining: d.State == directory.Draining, Gone: d.State == directory.Gone, Capacity: int64(min(d.Capacity, math.MaxInt64))}
		n := heard[d.Node]
		for _, s := range n.Disks {
			if directory.DiskID(s.Disk.Disk) == d.ID {
				own.Up, own.Away, own.Free = n.Up && s.InService, max(n.Away, s.Out), s.Free
				if s.Capacity > 0 {
					own.Capacity = s.Capacity
				}
			}
		}
		if own.Up {
			own.Away = 0
		}
		if !own.Up && slices.Contains(lost, d.ID) {
			own.Away = plan.Forever
		}
		disks = append(disks, own)
	}
	return plan.New(nodes, disks)
}

// Node is a row as far as placement goes.
func Node(n directory.Node) plan.Node {
	return plan.Node{ID: n.ID, Name: n.Name, Host: n.Host, Rack: n.Rack, Zone: n.Zone, Draining: n.State == directory.Draining, Gone: n.State == directory.Gone}
}

// Volumes are the rows as far as placement goes, but for those that never held
// anything.
func Volumes(m *directory.Map) []plan.Volume {
	rows := m.Volumes()
	out := make([]plan.Volume, 0, len(rows))
	for _, r := range rows {
		if r.State == directory.StateVoid {
			continue
		}
		v := plan.Volume{ID: r.ID, Sync: r.Sync, Replicas: r.Replicas, InSync: r.InSync, Target: int(r.Target)}
		if r.Seal != nil {
			v.Bytes = int64(min(r.Seal.Bytes, math.MaxInt64))
		}
		v.Coded = r.Coding.Committed != nil
		v.Movable = r.State == directory.StateSealed && !v.Coded
		if c := r.Coding.Committed; c != nil {
			v.Shards = append(v.Shards, shardsOf(c.Data, c.Homes))
		}
		if c := r.Coding.Before; c != nil {
			v.Shards = append(v.Shards, shardsOf(c.Data, c.Homes))
		}
		out = append(out, v)
	}
	return out
}

func shardsOf[D ~uint32](data int, homes []D) plan.Shards {
	s := plan.Shards{Data: data}
	for _, h := range homes {
		s.Homes = append(s.Homes, directory.DiskID(h))
	}
	return s
}
