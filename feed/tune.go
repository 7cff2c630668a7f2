package feed

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// Tune sets Pebble up for what the feed asks of it, before the group opens the
// state: pages are many look-ups of small rows, most of which are in memory or not
// there at all. See docs/decisions/217. blocks is the memory for blocks of the state, in
// bytes.
func Tune(blocks int64) func(*pebble.Options) {
	return func(o *pebble.Options) { tune(o, blocks) }
}

func tune(o *pebble.Options, blocks int64) {
	o.CacheSize = blocks
	o.MemTableSize = 16 << 20
	o.L0CompactionThreshold = 4
	o.LBaseMaxBytes = 64 << 20
	o.CompactionConcurrencyRange = func() (int, int) { return 1, 2 }
	for i := range o.Levels {
		o.Levels[i].IndexBlockSize = 64 << 10
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].FilterType = pebble.TableFilter
	}
}

const (
	leastBlocks = 192 << 20
	mostBlocks  = 4 << 30
)

// BlockCache is the memory for blocks of the feed's state and of its timelines together by
// default, on a machine with so much of it, both in bytes: an eighth, between 192 MiB and
// 4 GiB. It is taken as it is used. See docs/decisions/230.
func BlockCache(machine int64) int64 {
	return min(max(machine/8, leastBlocks), mostBlocks) &^ (1<<20 - 1)
}

// SplitBlocks is how much of a block cache is for the state, and how much for timelines: a
// half each. Of the state most is rows that pages keep decoded; timelines have blocks alone.
func SplitBlocks(cache int64) (state, timelines int64) {
	timelines = cache / 2
	return cache - timelines, timelines
}
