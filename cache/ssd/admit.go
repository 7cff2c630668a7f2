package ssd

import (
	"sync"

	"github.com/bits-and-blooms/bloom/v3"

	"hayloft/cache"
)

// admission lets in what comes for the second time: more than half of all
// objects are asked for once and never again, and writing them would wear the
// device out for nothing (docs/decisions/196-what-the-device-is-given.md). It
// remembers between generation and 2 generation keys, in two Bloom filters that
// take turns; one in a hundred is let in by mistake.
type admission struct {
	mu         sync.Mutex
	generation int
	now, prior *bloom.BloomFilter
	added      int // to now
}

func newAdmission(generation int) *admission {
	fresh := func() *bloom.BloomFilter { return bloom.NewWithEstimates(uint(generation), 0.01) }
	return &admission{generation: generation, now: fresh(), prior: fresh()}
}

// again reports whether k was here lately, and notes that it is here now.
func (a *admission) again(k cache.Key) bool {
	var b [80]byte
	name := le.AppendUint64(le.AppendUint64(b[:0], uint64(k.Blob)), uint64(k.Cookie))
	name = append(append(append(name, k.Variant...), 0), k.Ext...)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now.TestOrAdd(name) {
		return true
	}
	before := a.prior.Test(name)
	if a.added++; a.added >= a.generation {
		a.now, a.prior, a.added = a.prior.ClearAll(), a.now, 0
	}
	return before
}
