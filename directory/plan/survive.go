package plan

import (
	"cmp"
	"slices"

	"hayloft/directory"
)

// Survival says how many domains of a level may be lost, whichever they are, with
// every volume still readable.
type Survival struct {
	Level string `json:"level"`
	// May is how many more may be lost. -1: something cannot be read as it is. Of a
	// cluster without volumes it is the number of domains.
	May int `json:"may"`
	// Limiting are the volumes that allow no more, at most some of them.
	Limiting []directory.VolumeID `json:"limiting"`
	Limits   int                  `json:"limits"` // how many there are
}

// maxLimiting is how many volumes a Survival names.
const maxLimiting = 10

// Survives says for each level how many may be lost. A replica counts that is in
// sync and up, a shard whose home is up: what is away already is lost here.
func (c *Cluster) Survives(volumes []Volume) []Survival {
	out := make([]Survival, levels)
	for l := range out {
		s := &out[l]
		*s = Survival{Level: Level(l).String(), May: c.count(Level(l)), Limiting: []directory.VolumeID{}}
		for i := range volumes {
			v := &volumes[i]
			if len(v.Replicas) == 0 && len(v.Shards) == 0 {
				continue
			}
			may := c.survives(v, Level(l))
			if may < s.May {
				s.May, s.Limiting, s.Limits = may, s.Limiting[:0], 0
			}
			if may == s.May {
				if s.Limits++; len(s.Limiting) < maxLimiting {
					s.Limiting = append(s.Limiting, v.ID)
				}
			}
		}
	}
	return out
}

// count is the number of domains with a disk that is up.
func (c *Cluster) count(l Level) int {
	seen := make(map[string]bool)
	for _, d := range c.disks {
		if d.Up && !d.gone {
			seen[d.domains[l]] = true
		}
	}
	return len(seen)
}

// survives is how many domains of a volume may be lost: one less than the fewest
// that take everything. All that have a replica are among these, and then those
// that have the most shards. With two epochs it may be more.
func (c *Cluster) survives(v *Volume, l Level) int {
	lost := make(map[string]bool)
	for _, id := range v.InSync {
		if d := c.byID[id]; d != nil && d.Up && !d.gone {
			lost[d.domains[l]] = true
		}
	}
	// With two epochs that can be read it may be more: what takes both takes each.
	most := len(lost)
	for _, e := range v.Shards {
		most = max(most, c.shardsLast(e, lost, l))
	}
	return most - 1
}

// shardsLast is how many domains must be lost, the given ones first, until fewer
// shards are left than give everything back.
func (c *Cluster) shardsLast(e Shards, lost map[string]bool, l Level) int {
	left := make(map[string]int)
	whole := 0
	for _, id := range e.Homes {
		if d := c.byID[id]; d != nil && d.Up && !d.gone && !lost[d.domains[l]] {
			left[d.domains[l]]++
			whole++
		}
	}
	counts := make([]int, 0, len(left))
	for _, n := range left {
		counts = append(counts, n)
	}
	slices.SortFunc(counts, func(a, b int) int { return cmp.Compare(b, a) })
	n := len(lost)
	for _, k := range counts {
		if whole < e.Data {
			break
		}
		whole -= k
		n++
	}
	return n
}
