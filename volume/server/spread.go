package server

import (
	"cmp"
	"fmt"
	"slices"

	"hayloft/volume/coding"
)

// candidate is a disk on which shards of one volume may be put.
type candidate struct {
	disk uint32
	node string
	room int64 // bytes above the reserve
	held int   // shards of the volume that it has already
	near int   // that its node has already, on this disk and others
}

// spread chooses disks for n more shards of fileBytes each, so that no disk has
// more than p.Parity shards of the volume: then losing any one loses nothing.
// Each goes to the node where the fewest of the volume are, to the disk there with
// the fewest, and among those to the one with the most room: with enough nodes, losing
// any one of them loses nothing. The error says what is missing.
func spread(among []candidate, n int, p coding.Policy, fileBytes int64) ([]uint32, error) {
	among = slices.Clone(among)
	nodes := make(map[string]int)
	for _, c := range among {
		nodes[c.node] = max(nodes[c.node], c.near)
	}
	out := make([]uint32, 0, n)
	for range n {
		best := -1
		for i, c := range among {
			if c.held >= p.Parity || c.room < fileBytes {
				continue
			}
			if best < 0 || cmp.Or(cmp.Compare(nodes[c.node], nodes[among[best].node]), cmp.Compare(c.held, among[best].held), -cmp.Compare(c.room, among[best].room), cmp.Compare(c.disk, among[best].disk)) < 0 {
				best = i
			}
		}
		if best < 0 {
			return nil, noPlace(among, n, p, fileBytes)
		}
		among[best].held++
		nodes[among[best].node]++
		among[best].room -= fileBytes
		out = append(out, among[best].disk)
	}
	return out, nil
}

// noPlace says why spread found no place.
func noPlace(among []candidate, n int, p coding.Policy, fileBytes int64) error {
	if need := (p.Shards() + p.Parity - 1) / p.Parity; len(among) < need {
		return fmt.Errorf("%w: %s needs %d disks in service, so that none has more than %d shards of a volume; there are %d",
			ErrPlacement, p, need, p.Parity, len(among))
	}
	return fmt.Errorf("%w: %d shards of %d bytes find no room on %d disks, of which each may have %d of a volume",
		ErrNoSpace, n, fileBytes, len(among), p.Parity)
}

// survives is how many disks may be lost, whichever, with the shards that lie on
// homes: one number for each shard, 0 for a shard that is lost already.
func survives(homes []uint32, parity int) int {
	on := make(map[uint32]int)
	for _, h := range homes {
		if h == 0 {
			parity--
			continue
		}
		on[h]++
	}
	counts := make([]int, 0, len(on))
	for _, n := range on {
		counts = append(counts, n)
	}
	slices.Sort(counts)
	disks := 0
	for _, n := range slices.Backward(counts) { // the worst ones first
		if parity -= n; parity < 0 {
			break
		}
		disks++
	}
	return disks
}
