package plan

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// Options say how a plan is made.
type Options struct {
	// RepairDelay is how long a disk is away before what it holds is replaced.
	RepairDelay time.Duration
	// Balance is the difference of fullness, from 0 to 1, that disks may have: when
	// nothing else is to be done, replicas move until they have no more. 0: none move.
	Balance float64
	// BalanceBytes is how much a plan moves for that at most. 0: no limit.
	BalanceBytes int64
}

type planner struct {
	c       *Cluster
	o       Options
	random  *rand.Rand
	volumes []Volume
	room    []int64 // by number of the disk: bytes left when all that is under way is done
	freed   []int64 // by number of the disk: bytes that this plan's removals free
	plan    Plan
}

// Plan says what is to be done now about volumes. A cluster that has what it
// should have gets an empty plan. A step may be left out, as one that does not fit
// into what may be under way at once: the next plan has it, or a better one.
func (c *Cluster) Plan(volumes []Volume, o Options, random *rand.Rand) Plan {
	p := &planner{c: c, o: o, random: random, volumes: volumes, room: make([]int64, len(c.disks)), freed: make([]int64, len(c.disks))}
	for i, d := range c.disks {
		p.room[i] = d.room
	}
	for i := range volumes {
		p.reckon(&volumes[i])
	}
	for i := range volumes {
		p.wants(&volumes[i])
	}
	if o.Balance > 0 && !slices.ContainsFunc(p.plan.Steps, func(s Step) bool { return s.Op == Add }) {
		p.balance()
	}
	slices.SortStableFunc(p.plan.Steps, func(a, b Step) int {
		return cmp.Or(cmp.Compare(rank(a.Op), rank(b.Op)), cmp.Compare(a.Copies, b.Copies), cmp.Compare(urgency(a.Cause), urgency(b.Cause)), cmp.Compare(a.Volume, b.Volume))
	})
	return p.plan
}

// rank puts removals first: they cost nothing and make room.
func rank(o Op) int {
	if o == Remove {
		return 0
	}
	return 1
}

func urgency(c Cause) int { return slices.Index([]Cause{Repair, Raise, Drain, Balance}, c) }

// reckon takes off the room that the replicas that fill themselves will take, and
// adds what goes when they are done.
func (p *planner) reckon(v *Volume) {
	if !v.Movable || v.Coded || len(v.Replicas) == len(v.InSync) && len(v.Replicas) <= v.Target {
		return
	}
	ms := p.members(v)
	for _, m := range ms {
		if m.number >= 0 && !m.inSync && !m.lost {
			p.room[m.number] -= v.Bytes
		}
	}
	then := ms.disks(func(m member) bool { return m.stays() && m.Up })
	for worst := p.worst(v, then, p.then); worst != nil; worst = p.worst(v, then, p.then) {
		p.room[worst.number] += v.Bytes
		then = without(then, worst)
	}
}

// free is the room of a disk when all is done.
func (p *planner) free(d *disk) int64 { return p.room[d.number] }

func (p *planner) step(v *Volume, ms members, op Op, d *disk, cause Cause, why string) {
	s := Step{Volume: v.ID, Sync: v.Sync, Op: op, Disk: d.ID, Node: d.node.Name, Cause: cause, Copies: ms.count(member.source), Why: why}
	if op == Add {
		s.Bytes = v.Bytes
		p.room[d.number] -= v.Bytes
	} else if d.number >= 0 {
		p.freed[d.number] += v.Bytes
	}
	p.plan.Steps = append(p.plan.Steps, s)
}
