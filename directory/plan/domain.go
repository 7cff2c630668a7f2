package plan

import (
	"strconv"

	"hayloft/directory"
)

// domainsOf names what a disk is in, level by level. A name holds those of the
// wider levels, so that rack 1 of two zones is two racks. Nodes that name no zone
// or rack share one; a node that names no host is one of its own.
func domainsOf(n *Node, d directory.DiskID) (out [levels]string) {
	quoted := func(s string) string { return strconv.Itoa(len(s)) + ":" + s } // so that no two pairs look alike
	host := "h" + quoted(n.Host)
	if n.Host == "" {
		host = "n" + quoted(n.Name)
	}
	out[ByZone] = quoted(n.Zone)
	out[ByRack] = out[ByZone] + quoted(n.Rack)
	out[ByHost] = out[ByRack] + host
	out[ByNode] = out[ByHost] + quoted(strconv.Itoa(int(n.ID)))
	out[ByDisk] = out[ByNode] + quoted(strconv.Itoa(int(d)))
	return out
}

// Distance is how far two nodes are from each other: 0 for the same, 1 on the same
// host, 2 in the same rack, 3 in the same zone, 4 elsewhere.
func Distance(a, b Node) int {
	x, y := domainsOf(&a, 0), domainsOf(&b, 0)
	for l := ByNode; l < levels; l++ {
		if x[l] == y[l] {
			return int(l - ByNode)
		}
	}
	return levels - int(ByNode)
}

// spread says how well disks are spread: how many domains of each level they are in.
type spread [levels]int

func spreadOf(disks []*disk) (s spread) {
	for i, d := range disks {
		for l := range s {
			if new := !containsDomain(disks[:i], Level(l), d); new {
				s[l]++
			}
		}
	}
	return s
}

func containsDomain(disks []*disk, l Level, d *disk) bool {
	for _, o := range disks {
		if o.domains[l] == d.domains[l] {
			return true
		}
	}
	return false
}

// compare is positive when s is better: the widest level at which they differ counts.
func (s spread) compare(o spread) int {
	for l := levels - 1; l >= 0; l-- {
		if s[l] != o[l] {
			return s[l] - o[l]
		}
	}
	return 0
}

// novelty is the widest level at which d is in none of the domains of the others.
// -1: it is one of them.
func novelty(d *disk, others []*disk) int {
	for l := levels - 1; l >= 0; l-- {
		if !containsDomain(others, Level(l), d) {
			return l
		}
	}
	return -1
}
