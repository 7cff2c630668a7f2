package server

import (
	"slices"

	"hayloft/volume/coding/lifecycle"
)

// CodedStats sums up the coded volumes of this node, and those being coded.
// Counters start at Open.
type CodedStats struct {
	// Volumes by state. Coding are those that an encoder makes the first shards of,
	// Coded those in the grace of their source, Released those whose shards are
	// alone. Lost are those of the latter two that cannot be served now.
	Coding, Coded, Released, Lost int
	// Shards of committed epochs: those that are whole as far as anybody knows, those
	// with damage that is not repaired yet, and those that cannot be read.
	Whole, Damaged, Away int
	LiveBytes            int64 // of readable needles
	ShardBytes           int64 // of the files of all shards, were they there
	// Survives is how many disks may be lost, whichever, and every coded volume can
	// still be read: the smallest of CodedInfo.Survives. -1 without a coded volume.
	Survives int

	Encodings, Releases, Reclaims, Revocations uint64 // epochs served, sources let go, volumes written anew, epochs given up
	Findings, Repairs, Rebuilds                uint64 // damaged places, shards with places written again, shards made again
	Computed                                   uint64 // ranges read by computing them from other shards
	TakenOver                                  uint64 // volumes whose keeper, of before, was away
}

func (st *Stats) countCoded(s *Server) {
	c := &st.Coded
	*c = CodedStats{
		Survives:  -1,
		Encodings: s.n.coded.Load(), Releases: s.n.released.Load(), Reclaims: s.n.reclaimed.Load(), Revocations: s.n.revoked.Load(),
		Findings: s.n.damaged.Load(), Repairs: s.n.repaired.Load(), Rebuilds: s.n.rebuilt.Load(), Computed: s.n.computed.Load(), TakenOver: s.n.takenOver.Load(),
	}
	for _, i := range s.Coded() {
		if len(i.Shards) == 0 && i.Sick == nil {
			c.Coding++
			continue
		}
		switch {
		case i.State == lifecycle.Coded:
			c.Coded++
		default: // released, or being written anew
			c.Released++
		}
		at := slices.IndexFunc(st.Classes, func(k ClassStats) bool { return k.Class == i.Class })
		if i.Sick != nil {
			c.Lost++
		} else if at >= 0 {
			st.Classes[at].Coded++
		}
		if c.Survives < 0 || i.Survives < c.Survives {
			c.Survives = i.Survives
		}
		c.LiveBytes += i.LiveBytes
		c.ShardBytes += i.ShardBytes * int64(i.Policy.Shards())
		for _, sh := range i.Shards {
			switch {
			case sh.Away != nil:
				c.Away++
			case sh.Damage > 0:
				c.Damaged++
			default:
				c.Whole++
			}
		}
	}
}
