package plan

import "hayloft/directory"

// Left is what is still on disks.
type Left struct {
	Disks    int   `json:"disks"`    // that it is about
	Replicas int   `json:"replicas"` // that rows name there
	Bytes    int64 `json:"bytes"`    // of these
	Unsealed int   `json:"unsealed"` // of these: volumes whose contents are not fixed yet
	Shards   int   `json:"shards"`
	// Only are replicas there that are the only one in sync and up.
	Only int `json:"only"`
}

// Empty tells whether nothing is there.
func (l Left) Empty() bool { return l.Replicas == 0 && l.Shards == 0 }

// Left says what rows name on some disks.
func (c *Cluster) Left(volumes []Volume, disks []directory.DiskID) Left {
	out := Left{Disks: len(disks)}
	on := make(map[directory.DiskID]bool, len(disks))
	for _, d := range disks {
		on[d] = true
	}
	for i := range volumes {
		v := &volumes[i]
		for _, d := range v.Replicas {
			if !on[d] {
				continue
			}
			out.Replicas++
			out.Bytes += v.Bytes
			if !v.Movable {
				out.Unsealed++
			}
		}
		if holders := c.Sources(*v); len(holders) == 1 && on[holders[0]] {
			out.Only++
		}
		for _, e := range v.Shards {
			for _, d := range e.Homes {
				if on[d] {
					out.Shards++
				}
			}
		}
	}
	return out
}
