package plan

import (
	"fmt"
	"slices"
	"time"
)

// MaxReplicas is how many disks a row can name.
const MaxReplicas = 8

// member is a replica of a volume as things are.
type member struct {
	*disk
	inSync bool
	lost   bool // it does not count: gone, away for longer than the delay, or to be filled on a full disk
}

// stays tells whether the replica is one to build on: it may be behind, or away for
// a moment.
func (m member) stays() bool { return !m.lost && !m.leaving }

// firm tells whether it is here now, and whole.
func (m member) firm() bool { return m.stays() && m.Up && m.inSync }

// source tells whether others can be filled from it.
func (m member) source() bool { return m.Up && m.inSync && !m.gone }

type members []member

// disks of those for which keep is true.
func (ms members) disks(keep func(member) bool) []*disk {
	out := make([]*disk, 0, len(ms))
	for _, m := range ms {
		if keep(m) {
			out = append(out, m.disk)
		}
	}
	return out
}

func (ms members) count(keep func(member) bool) (n int) {
	for _, m := range ms {
		if keep(m) {
			n++
		}
	}
	return n
}

// without a disk.
func without(disks []*disk, d *disk) []*disk {
	return slices.DeleteFunc(slices.Clone(disks), func(o *disk) bool { return o == d })
}

// members of a volume, in the order of the row. A disk that the cluster does not
// know is one that is lost.
func (p *planner) members(v *Volume) members {
	out := make(members, 0, len(v.Replicas))
	for _, id := range v.Replicas {
		d := p.c.byID[id]
		if d == nil {
			d = &disk{Disk: Disk{ID: id}, node: &Node{Name: "an unknown node"}, domains: domainsOf(&Node{}, id), number: -1, capacity: 1}
			out = append(out, member{d, slices.Contains(v.InSync, id), true})
			continue
		}
		inSync := slices.Contains(v.InSync, id)
		lost := d.gone || !d.Up && d.Away >= p.o.RepairDelay || !inSync && d.Up && d.room == 0
		out = append(out, member{d, inSync, lost})
	}
	return out
}

// apart counts the failure domains that must differ.
func (p *planner) apart(disks []*disk) int { return spreadOf(disks)[p.c.apart] }

// wants is what a volume needs next, if anything.
func (p *planner) wants(v *Volume) {
	if len(v.Replicas) == 0 || v.Coded {
		return // void, or its shards serve
	}
	ms := p.members(v)
	if m, cause, why := p.superfluous(v, ms); m != nil && v.Movable {
		p.step(v, ms, Remove, m.disk, cause, why)
		return
	}
	sources := ms.count(member.source)
	if sources > 0 && p.apart(ms.disks(member.stays)) >= v.Target {
		return
	}
	cause, why := p.missing(v, ms)
	lack := ""
	switch {
	case sources == 0:
		lack = "no replica that is in sync is up: there is nothing to copy from"
	case !v.Movable:
		lack = "it is moved when it is sealed"
	case len(v.Replicas) >= MaxReplicas:
		lack = fmt.Sprintf("its row names %d disks already", len(v.Replicas))
	}
	if lack == "" {
		if d := p.c.draw(ms.disks(member.stays), p.fits(v), p.free, p.random); d != nil {
			p.step(v, ms, Add, d, cause, why)
			return
		}
	}
	p.plan.Lacking++
	if len(p.plan.Lacks) >= MaxLacks {
		return
	}
	if lack == "" {
		lack = p.nowhere(v, ms)
	}
	p.plan.Lacks = append(p.plan.Lacks, Lack{v.ID, sources, v.Target, lack + "; " + why})
}

// fits tells of disks that could take another replica of v.
func (p *planner) fits(v *Volume) func(*disk) bool {
	return func(d *disk) bool {
		return d.taking() && p.room[d.number] >= v.Bytes && !slices.Contains(v.Replicas, d.ID)
	}
}

// nowhere says why no disk can take a replica.
func (p *planner) nowhere(v *Volume, ms members) string {
	there := ms.disks(member.stays)
	apart, full := 0, 0
	for _, d := range p.c.disks {
		if d.taking() && !slices.Contains(v.Replicas, d.ID) && novelty(d, there) >= int(p.c.apart) {
			apart++
			if p.room[d.number] < v.Bytes {
				full++
			}
		}
	}
	if apart == 0 {
		return fmt.Sprintf("no disk that takes replicas is on another %s", p.c.apart)
	}
	return fmt.Sprintf("%d disks on another %s have no room for %d bytes", full, p.c.apart, v.Bytes)
}

// missing says why a volume has too few replicas that stay.
func (p *planner) missing(v *Volume, ms members) (Cause, string) {
	lost := ms.disks(func(m member) bool { return m.lost })
	leaving := ms.disks(func(m member) bool { return m.leaving && !m.lost })
	cause, why := Raise, "it has fewer replicas than it should"
	switch {
	case len(leaving) > 0 && p.apart(ms.disks(func(m member) bool { return !m.lost })) >= v.Target:
		cause, why = Drain, names(leaving, func(*disk) string { return "is draining" })
	case len(lost) > 0:
		cause, why = Repair, names(lost, lostHow)
	case p.apart(ms.disks(member.stays)) >= v.Target:
		why = "the others are away"
	case ms.count(member.stays) >= v.Target:
		why = fmt.Sprintf("two of its replicas are on one %s", p.c.apart)
	}
	return cause, fmt.Sprintf("%d of %d copies are in sync and up, %s", ms.count(member.source), v.Target, why)
}

func lostHow(d *disk) string {
	switch {
	case d.gone:
		return "is gone"
	case d.number < 0:
		return "is not known"
	case d.Up:
		return "is full before the replica is"
	case d.Away == Forever:
		return "is away, and not waited for"
	}
	return fmt.Sprintf("is away for %v", d.Away.Round(time.Second))
}

func names(disks []*disk, how func(*disk) string) (s string) {
	for i, d := range disks {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("disk %d of %s %s", d.ID, d.node.Name, how(d))
	}
	return s
}

// superfluous finds a replica that the volume can do without now, the least useful
// first. What it leaves is never less than Target replicas that are whole, here, and
// apart, except where nothing is given up: a disk that is gone has none, and one
// that is behind counts for nothing.
func (p *planner) superfluous(v *Volume, ms members) (*member, Cause, string) {
	firm := ms.disks(member.firm)
	enough := p.apart(firm) >= v.Target
	for i, m := range ms {
		others := ms.count(member.source)
		switch {
		case m.gone && (!m.inSync && len(v.InSync) > 0 || others > 0):
			return &ms[i], Repair, "the disk is gone"
		case m.lost && enough:
			return &ms[i], Repair, fmt.Sprintf("it %s, and %s", lostHow(m.disk), whole(firm))
		case m.leaving && enough:
			return &ms[i], Drain, "it is draining, and " + whole(firm)
		case m.lost && !m.inSync && len(v.Replicas) >= MaxReplicas && others > 0:
			return &ms[i], Repair, fmt.Sprintf("it %s and is behind, and the row is full", lostHow(m.disk))
		}
	}
	// From the newest: what was there before is nearer to being in sync.
	for i, m := range slices.Backward(ms) {
		up := ms.disks(func(o member) bool { return o.stays() && o.Up && o.disk != m.disk })
		behind := m.Up && !m.inSync || enough && !m.firm() // what is away for a moment may be the better one
		if behind && m.stays() && p.apart(up) >= v.Target && !p.serves(v, firm, m.disk) {
			return &ms[i], Return, "it is not needed: " + names(up, func(*disk) string { return "is there" })
		}
	}
	if worst := p.worst(v, firm, p.soon); worst != nil {
		i := slices.IndexFunc(ms, func(m member) bool { return m.disk == worst })
		return &ms[i], Surplus, whole(without(firm, worst))
	}
	return nil, "", ""
}

func whole(firm []*disk) string {
	if len(firm) == 1 {
		return "there is 1 whole copy elsewhere"
	}
	return fmt.Sprintf("there are %d whole copies elsewhere", len(firm))
}

// worst is the replica of the firm ones whose loss leaves the best of them, of
// equals the one on the fullest disk, nil when none can be spared.
func (p *planner) worst(v *Volume, firm []*disk, full func(*disk) float64) *disk {
	var worst *disk
	var best spread
	for _, d := range firm {
		s := spreadOf(without(firm, d))
		if s[p.c.apart] < v.Target {
			continue
		}
		if c := s.compare(best); worst == nil || c > 0 || c == 0 && full(d) > full(worst) {
			worst, best = d, s
		}
	}
	return worst
}
