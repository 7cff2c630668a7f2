package plan

import (
	"fmt"
	"slices"
)

// fullness is how full a disk is, from 0 to 1, by its real free room.
func fullness(d *disk) float64 { return 1 - float64(d.room)/float64(d.capacity) }

// then is how full a disk will be when all that is under way is done, soon when
// what this plan gives up is gone.
func (p *planner) then(d *disk) float64 { return 1 - float64(p.room[d.number])/float64(d.capacity) }
func (p *planner) soon(d *disk) float64 {
	return fullness(d) - float64(p.freed[d.number])/float64(d.capacity)
}

// settled tells whether a volume has just what it should have, so that it can be
// moved, and returns where it is.
func (p *planner) settled(v *Volume) ([]*disk, bool) {
	if !v.Movable || v.Coded || len(v.Replicas) != v.Target || len(v.InSync) != v.Target || v.Target == 0 || len(v.Replicas) >= MaxReplicas {
		return nil, false
	}
	ms := p.members(v)
	firm := ms.disks(member.firm)
	return firm, p.apart(firm) == v.Target
}

// balance adds moves: replicas that could be farther apart, then such that make the
// fullest and the emptiest disk more alike. A move is an addition; which replica goes
// then is what superfluous says of it, so it is asked beforehand.
func (p *planner) balance() {
	left := p.o.BalanceBytes
	if left <= 0 {
		left = 1<<63 - 1
	}
	best := p.bestSpread()
	on := make(map[*disk][]*placed)
	for i := range p.volumes {
		v := &p.volumes[i]
		there, ok := p.settled(v)
		if !ok {
			continue
		}
		if v.Bytes <= left && p.spreadOut(v, there, best) {
			left -= v.Bytes
			continue
		}
		pl := &placed{volume: v, there: there}
		for _, d := range there {
			on[d] = append(on[d], pl)
		}
	}
	for p.levelOut(on, &left) {
	}
}

// placed is a volume that can be moved.
type placed struct {
	volume *Volume
	there  []*disk
	moved  bool // by this plan
}

// bestSpread is how many domains there are to spread over.
func (p *planner) bestSpread() spread {
	var taking []*disk
	for _, d := range p.c.disks {
		if d.taking() {
			taking = append(taking, d)
		}
	}
	var s spread
	for l := range s {
		seen := make(map[string]bool, len(taking))
		for _, d := range taking {
			seen[d.domains[l]] = true
		}
		s[l] = len(seen)
	}
	return s
}

// spreadOut moves a replica of v if that brings them farther apart.
func (p *planner) spreadOut(v *Volume, there []*disk, best spread) bool {
	now := spreadOf(there)
	could := best
	for l := range could {
		could[l] = min(could[l], v.Target)
	}
	if now.compare(could) >= 0 {
		return false
	}
	for _, from := range there {
		rest := without(there, from)
		to := p.c.draw(rest, p.fits(v), p.free, p.random)
		if to == nil || spreadOf(append(rest, to)).compare(now) <= 0 {
			continue
		}
		if p.move(v, there, to, func(from *disk) string { return fmt.Sprintf("farther apart than on disk %d", from.ID) }) {
			return true
		}
	}
	return false
}

// levelOut plans one move from the fullest disk to the emptiest that there is.
func (p *planner) levelOut(on map[*disk][]*placed, left *int64) bool {
	order := slices.DeleteFunc(slices.Clone(p.c.disks), func(d *disk) bool { return !d.taking() })
	slices.SortStableFunc(order, func(a, b *disk) int {
		switch x, y := p.then(a), p.then(b); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	for _, from := range order {
		for _, to := range slices.Backward(order) {
			if p.then(from)-p.then(to) <= p.o.Balance {
				break
			}
			if pl := p.fitting(on[from], from, to, *left); pl != nil {
				full := func(d *disk) int { return int(100 * p.then(d)) }
				why := fmt.Sprintf("disk %d is %d %% full, disk %d %d %%", from.ID, full(from), to.ID, full(to))
				pl.moved = true
				*left -= pl.volume.Bytes
				p.move(pl.volume, pl.there, to, func(*disk) string { return why })
				return true
			}
		}
	}
	return false
}

// fitting finds the largest volume of some that may go from a disk to another without
// making that the fuller one, nil when there is none.
func (p *planner) fitting(some []*placed, from, to *disk, left int64) *placed {
	var best *placed
	for _, pl := range some {
		v := pl.volume
		if pl.moved || v.Bytes == 0 || v.Bytes > left || best != nil && v.Bytes <= best.volume.Bytes || !p.fits(v)(to) {
			continue
		}
		bytes := float64(v.Bytes)
		if p.then(from)-bytes/float64(from.capacity) < p.then(to)+bytes/float64(to.capacity) {
			continue
		}
		with := append(slices.Clone(pl.there), to)
		if p.worst(v, with, p.then) == from { // so that it is no worse spread than it was
			best = pl
		}
	}
	return best
}

// move adds a replica, if another one will be given up for it.
func (p *planner) move(v *Volume, there []*disk, to *disk, why func(from *disk) string) bool {
	from := p.worst(v, append(slices.Clone(there), to), p.then)
	if from == nil || from == to {
		return false
	}
	p.step(v, p.members(v), Add, to, Balance, why(from))
	p.room[from.number] += v.Bytes
	return true
}

// serves tells whether a replica that is behind, and that the volume could do
// without, is a move for the sake of balance.
func (p *planner) serves(v *Volume, firm []*disk, d *disk) bool {
	if p.o.Balance <= 0 || !d.taking() || p.apart(firm) < v.Target {
		return false
	}
	from := p.worst(v, append(slices.Clone(firm), d), p.soon)
	if from == nil || from == d {
		return false
	}
	c := spreadOf(append(without(firm, from), d)).compare(spreadOf(firm))
	return c > 0 || c == 0 && fullness(from) > fullness(d)-p.o.Balance/2
}
