package steward

import (
	"math/rand/v2"

	"hayloft/directory"
	"hayloft/directory/plan"
)

// Whatif is a question: what would be done if.
type Whatif struct {
	Node    directory.NodeID // it were draining; 0: none
	Disk    directory.DiskID // it were draining; 0: none
	Balance float64          // disks were to be equally full, but for that; 0: not
	Now     bool             // no repair were waited for
}

// Foreseen answers it.
type Foreseen struct {
	// Node and Disk are those of the question.
	Node     directory.NodeID `json:"node,omitempty"`
	Disk     directory.DiskID `json:"disk,omitempty"`
	Steps    []plan.Step      `json:"steps"` // of the causes that the question is about
	Others   Ahead            `json:"others"`
	Bytes    int64            `json:"bytes"` // that the steps copy
	Lacks    []plan.Lack      `json:"lacks"` // at most plan.MaxLacks
	Lacking  int              `json:"lacking"`
	Left     plan.Left        `json:"left"`     // now, on what is to be emptied
	Survives []plan.Survival  `json:"survives"` // now
}

// Foresee tells what would be done, to its end. Every node can tell; nothing is
// changed.
func (s *Steward) Foresee(q Whatif) Foreseen {
	m, view := s.o.Directory.Map(), s.o.Fleet.View()
	volumes := s.volumes(m)
	intent, _ := readIntent(s.o.Fleet.Carried())
	now := Cluster(m, view, intent.Lost...)
	out := Foreseen{Node: q.Node, Disk: q.Disk, Survives: now.Survives(volumes), Steps: []plan.Step{}, Lacks: []plan.Lack{}}
	c := now
	causes := map[plan.Cause]bool{}
	o := plan.Options{RepairDelay: s.o.RepairDelay}
	switch {
	case q.Node != 0 || q.Disk != 0:
		c = now.Draining(q.Node, q.Disk)
		disks := []directory.DiskID{q.Disk}
		if q.Node != 0 {
			disks = disksOf(m, q.Node)
		}
		out.Left = now.Left(volumes, disks)
		causes[plan.Drain] = true
	case q.Balance > 0:
		o.Balance = q.Balance
		causes[plan.Balance], causes[plan.Surplus] = true, true
	default:
		causes[plan.Repair], causes[plan.Raise], causes[plan.Return], causes[plan.Surplus] = true, true, true, true
	}
	if q.Now {
		o.RepairDelay = 1 // whatever is away at all
	}
	p := c.Foresee(volumes, o, s.source())
	for _, step := range p.Steps {
		if !causes[step.Cause] {
			out.Others.Steps++
			out.Others.Bytes += step.Bytes
			continue
		}
		out.Steps = append(out.Steps, step)
		out.Bytes += step.Bytes
	}
	out.Lacks, out.Lacking = append(out.Lacks, p.Lacks...), p.Lacking
	return out
}

// Away are the disks that are away now, however short, and were not declared gone.
func (s *Steward) Away() []directory.DiskID {
	c := Cluster(s.o.Directory.Map(), s.o.Fleet.View())
	return c.Lost(0)
}

// source is one of randomness that gives the same each time.
func (s *Steward) source() *rand.Rand { return rand.New(rand.NewPCG(s.o.Seed, 5)) }
