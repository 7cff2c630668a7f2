package tools

import (
	"fmt"
	"slices"

	"hayloft/volume"
	"hayloft/volume/server"
)

// survival is the search for the volumes that would be lost first.
type survival struct {
	*Cluster
	node   map[uint32]uint32 // of each disk
	away   map[uint32]bool   // disks that will not come back, and those of this node that are not there
	disks  int               // fewest that may be lost; -1: no volume holds anything
	hosts  int
	first  map[string][]volume.ID // those that are lost first, by what they are
	seen   map[volume.ID]bool
	shards map[volume.ID]*Coded
}

// survival looks at the volumes of this node, rows, and at those that only the
// directory knows of.
func (c *Cluster) survival(rows []Row, coded *CodedList, table []server.Row) {
	s := &survival{Cluster: c, node: map[uint32]uint32{}, away: map[uint32]bool{}, disks: -1, hosts: -1,
		first: map[string][]volume.ID{}, seen: map[volume.ID]bool{}, shards: map[volume.ID]*Coded{}}
	for _, d := range c.Disks {
		s.node[d.Disk] = d.Node
		s.away[d.Disk] = d.Duty == dutyGone || d.State == StateMissing || d.State == stateOut
	}
	for i := range coded.Volumes {
		if v := &coded.Volumes[i]; v.Health != HealthCoding {
			s.shards[v.ID] = v
			if v.Health != HealthRedundant {
				c.UnderReplicated++
			}
		}
	}
	known := make(map[volume.ID]*server.Row, len(table))
	for i := range table {
		known[table[i].Volume.Volume] = &table[i]
	}
	here := make(map[volume.ID][]Row)
	for _, r := range rows {
		here[r.ID] = append(here[r.ID], r)
	}
	for _, r := range rows {
		if !s.seen[r.ID] {
			s.seen[r.ID] = true
			s.local(here[r.ID], known[r.ID])
		}
	}
	for i := range table {
		if r := &table[i]; !s.seen[r.Volume.Volume] && r.Coding.Committed == nil && !r.Unconfirmed {
			c.Volumes[r.State.String()]++
			s.copies(r.Volume.Volume, r.State.String(), r, nil, r.Seal != nil && r.Seal.Needles == 0)
		}
	}
	s.tell()
}

const (
	dutyGone = "gone" // of a disk that will not come back
	stateOut = "out"  // of a disk that is out of service
)

// note is that so many disks and hosts may be lost, and a volume is still there.
func (s *survival) note(disks, hosts int, v volume.ID, format string, args ...any) {
	if s.disks < 0 || disks < s.disks {
		s.disks, s.first = disks, map[string][]volume.ID{}
	}
	if disks == s.disks {
		what := fmt.Sprintf(format, args...)
		s.first[what] = append(s.first[what], v)
	}
	if s.hosts < 0 || hosts < s.hosts {
		s.hosts = hosts
	}
}

// local takes a volume of which this node has something; row may be nil.
func (s *survival) local(here []Row, row *server.Row) {
	best := here[0]
	if i := slices.IndexFunc(here, func(r Row) bool { return r.Readable() }); i >= 0 {
		best = here[i]
	}
	s.Volumes[best.State]++
	var bad []uint32 // replicas here that cannot be read
	for _, r := range here {
		if i := slices.IndexFunc(s.Disks, func(d Disk) bool { return d.Data == r.Data && d.Data != "" }); i >= 0 && !r.Readable() {
			bad = append(bad, s.Disks[i].Disk)
		}
	}
	v := s.shards[best.ID]
	switch {
	case v != nil && (v.Survives > 0 || v.Health == HealthRedundant):
		s.note(v.Survives, s.hostsOf(v), best.ID, "coded as %s, %d of %d shards whole", v.Policy, v.Whole(), len(v.Shards))
	case v != nil:
		s.note(0, 0, best.ID, "%s: %s", v.Health, v.Trouble())
	case !best.Readable() && (row == nil || len(s.good(row, bad)) == 0):
		s.UnderReplicated++
		s.note(0, 0, best.ID, "cannot be read: %s", best.Error)
	case row != nil:
		s.copies(best.ID, best.State, row, bad, best.Empty())
	case best.Empty(): // nothing in it was acknowledged, or all of it is deleted
	default:
		n := 1
		if best.Replicas != nil {
			n = max(*best.Replicas, 1)
		}
		s.note(n-1, 0, best.ID, "%s, with %d %s of its file", best.State, n, plural(n, "copy", "copies"))
	}
}

// good are the replicas in sync of which nothing bad is known.
func (s *survival) good(row *server.Row, bad []uint32) (out []uint32) {
	for _, d := range row.InSync {
		if _, there := s.node[d]; there && !slices.Contains(bad, d) && !s.away[d] {
			out = append(out, d)
		}
	}
	return out
}

// copies takes a volume that lies on disks as a whole.
func (s *survival) copies(v volume.ID, state string, row *server.Row, bad []uint32, empty bool) {
	good := s.good(row, bad)
	s.Replicas.Target += row.Target
	s.Replicas.Listed += len(row.Disks)
	s.Replicas.InSync += len(row.InSync)
	if len(good) < row.Target {
		s.UnderReplicated++
	}
	if empty {
		return
	}
	nodes := map[uint32]bool{}
	for _, d := range good {
		nodes[s.node[d]] = true
	}
	s.note(max(len(good)-1, 0), max(len(nodes)-1, 0), v, "%s, with %d %s of its file", state, len(good), plural(len(good), "copy", "copies"))
}

// hostsOf is how many nodes may be lost, whichever, and a coded volume is still there:
// those with the most shards go first.
func (s *survival) hostsOf(v *Coded) (n int) {
	on := map[uint32]int{}
	for _, x := range v.Shards {
		if x.State == ShardOK {
			on[s.node[x.Disk]]++
		}
	}
	var most []int
	for _, k := range on {
		most = append(most, k)
	}
	slices.SortFunc(most, func(a, b int) int { return b - a })
	// As many whole shards may go as there are disks to lose, one on each, at least.
	for left := v.Survives; n < len(most) && left >= most[n]; n++ {
		left -= most[n]
	}
	return n
}

// tell says what was found.
func (s *survival) tell() {
	if s.disks < 0 { // no volume holds anything: no photo can be lost
		s.disks = len(slices.DeleteFunc(slices.Clone(s.Disks), func(d Disk) bool { return d.State == StateMissing }))
		s.hosts = len(s.Nodes)
	}
	c := &s.Cluster.Survives
	c.Volumes, c.Host, c.Because = s.disks, max(s.hosts, 0), []string{}
	for what, ids := range s.first {
		c.Because = append(c.Because, fmt.Sprintf("photos: %d (%s %s: %s)", s.disks, plural(len(ids), "volume", "volumes"), some(ids), what))
	}
	slices.Sort(c.Because)
	if n := len(c.Because); n > maxBecause {
		c.Because = append(c.Because[:maxBecause], fmt.Sprintf("and %d more reasons", n-maxBecause))
	}
}
