package cache

// allocator hands out the memory that cached bytes live in. Whoever Allocs
// Frees exactly once, when nobody can read the block any more: so memory that
// the garbage collector does not manage can stand behind it without a change
// elsewhere (docs/decisions/060-cache-memory.md). Calls come from many
// goroutines.
type allocator interface {
	// Cost is what a block of n bytes takes from the budget.
	Cost(n int) int64
	Alloc(n int) []byte
	Free(b []byte)
}

// heap is Go's own memory: Free leaves the block to the garbage collector.
type heap struct{}

// Cost rounds as Go's allocator does: size classes waste at most an eighth up
// to 32 KiB, above that blocks are whole 8 KiB pages.
func (heap) Cost(n int) int64 {
	if n > 32<<10 {
		return (int64(n) + 8191) &^ 8191
	}
	return int64(n) + int64(n)/8
}

func (heap) Alloc(n int) []byte { return make([]byte, n) }
func (heap) Free([]byte)        {}
