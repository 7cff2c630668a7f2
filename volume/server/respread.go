package server

import "slices"

// crowded finds a shard that is to move, because its disk is to be emptied, or because
// its node, or on one node its disk, has two more of the volume than another one: it was
// made there when there was no other place. ok is false while anything of the volume is
// lost, and when there is no better place.
func (c *coder) crowded(cv *codedVolume) (l lostShard, ok bool) {
	held := make(map[uint32]int)
	places := cv.places()
	for _, p := range places {
		at, ok := c.siteOf(p.home)
		if p.file == nil || len(p.damage) > 0 || !ok || at.usable() != nil {
			return l, false
		}
		held[p.home]++
	}
	among := c.candidates(held)
	found, err := spread(among, 1, cv.c.Policy, cv.c.FileBytes())
	if err != nil {
		return l, false
	}
	nodes := c.onNodes(held)
	to, node := found[0], c.nodeOf(found[0])
	from, draining := -1, c.draining()
	for i, p := range places {
		if draining[p.home] {
			from = i
			break
		}
		have := c.nodeOf(p.home)
		safer := nodes[have] >= nodes[node]+2 || have == node && held[p.home] >= held[to]+2
		if safer && (from < 0 || nodes[have] > nodes[c.nodeOf(places[from].home)] || held[p.home] >= held[places[from].home]) {
			from = i
		}
	}
	at, there := c.siteOf(to)
	if from < 0 || !there {
		return l, false
	}
	return lostShard{shard: from, on: at, moves: true}, true
}

// draining are the disks that are to be emptied.
func (c *coder) draining() map[uint32]bool {
	out := make(map[uint32]bool)
	if c.s.o.Peers == nil {
		return out
	}
	for _, f := range c.s.o.Peers.Disks() {
		if f.Up && !f.Taking {
			out[f.Disk] = true
		}
	}
	return out
}

// nodeOf is the node of a disk, "" on one that is alone.
func (c *coder) nodeOf(disk uint32) string {
	if c.s.o.Peers == nil {
		return ""
	}
	if c.s.ownDisk(disk) {
		return c.s.o.Node
	}
	all := c.s.o.Peers.Disks()
	if i := slices.IndexFunc(all, func(f FleetDisk) bool { return f.Disk == disk }); i >= 0 {
		return all[i].Node
	}
	return ""
}

// onNodes counts by node what is counted by disk.
func (c *coder) onNodes(held map[uint32]int) map[string]int {
	nodes := make(map[string]int)
	for disk, n := range held {
		nodes[c.nodeOf(disk)] += n
	}
	return nodes
}
