package cache

import "hayloft/internal/offheap"

// allocator hands out the memory that cached bytes live in. Whoever Allocs
// Frees exactly once, when nobody can read the block any more. Calls come from
// many goroutines and may take system calls: no lock is held meanwhile.
type allocator interface {
	// Cost is what a block of n bytes takes from the budget.
	Cost(n int) int64
	// Alloc returns nil when there is no memory.
	Alloc(n int) []byte
	Free(b []byte)
	InFile
}

// arena is memory outside the Go heap.
type arena struct{ *offheap.Arena }

// Cost is whole pages.
func (arena) Cost(n int) int64 { return offheap.Size(n) }

// newArena returns the memory of a cache with these options.
func newArena(o Options, poison bool) (arena, error) {
	// Beside both budgets there is what is being freed, and room for an object that
	// is served alone though it is larger than them.
	a, err := offheap.New(offheap.Options{Limit: o.Budget + o.MaxLoose + minLoose, Poison: poison})
	return arena{a}, err
}
