package plan

import (
	"math/rand/v2"
	"slices"

	"hayloft/directory"
)

// maxRounds ends Foresee whatever the plans say. A volume takes a step in each, and
// has at most as many replicas to get and to lose.
const maxRounds = 4 * MaxReplicas

// Foresee plays plans until nothing is left to do, as if every replica filled itself
// at once and no disk came or went. It returns all steps in the order they would be
// taken, and what is lacking in the end.
func (c *Cluster) Foresee(volumes []Volume, o Options, random *rand.Rand) Plan {
	volumes = slices.Clone(volumes)
	at := make(map[directory.VolumeID]*Volume, len(volumes))
	free := make(map[directory.DiskID]int64, len(c.disks))
	for i := range volumes {
		at[volumes[i].ID] = &volumes[i]
	}
	var all Plan
	limited := o.BalanceBytes > 0
	for range maxRounds {
		p := c.Plan(volumes, o, random)
		all.Lacks, all.Lacking = p.Lacks, p.Lacking
		if len(p.Steps) == 0 {
			break
		}
		all.Steps = append(all.Steps, p.Steps...)
		for _, s := range p.Steps {
			v := at[s.Volume]
			v.apply(s)
			if s.Op == Add {
				free[s.Disk] -= v.Bytes
				o.BalanceBytes -= balancing(s)
			} else {
				free[s.Disk] += v.Bytes
			}
		}
		if limited && o.BalanceBytes <= 0 {
			o.BalanceBytes = 1 // byte: no more moves, but those under way go on
		}
		c = c.Freeing(free)
		clear(free)
	}
	return all
}

func balancing(s Step) int64 {
	if s.Cause == Balance {
		return s.Bytes
	}
	return 0
}

// apply takes a step, with the new replica whole at once. The slices are replaced.
func (v *Volume) apply(s Step) {
	gone := func(d directory.DiskID) bool { return d == s.Disk }
	if s.Op == Remove {
		v.Replicas = slices.DeleteFunc(slices.Clone(v.Replicas), gone)
		v.InSync = slices.DeleteFunc(slices.Clone(v.InSync), gone)
	} else {
		v.Replicas = append(slices.Clone(v.Replicas), s.Disk)
		v.InSync = append(slices.Clone(v.InSync), s.Disk)
	}
	v.Sync++
}
