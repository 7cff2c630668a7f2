package feed

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// Tune sets Pebble up for what the feed asks of it, before the group opens the
// state: pages are many look-ups of small rows, most of which are in memory or not
// there at all. See docs/decisions/217.
func Tune(o *pebble.Options) {
	o.CacheSize = stateCache
	o.MemTableSize = 16 << 20
	o.L0CompactionThreshold = 4
	o.LBaseMaxBytes = 64 << 20
	o.CompactionConcurrencyRange = func() (int, int) { return 1, 2 }
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].FilterType = pebble.TableFilter
	}
}

// stateCache is the memory for blocks of the state, in bytes.
const stateCache = 128 << 20
