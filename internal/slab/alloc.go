package slab

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	pageBytes = 4 << 10
	hugeBytes = 2 << 20
)

// Alloc returns n bytes that begin on a page border. From 1 MiB up they lie on
// huge pages if the kernel has some to give; then they begin on the border of
// one. It is for what lives long: advising the kernel takes system calls.
func Alloc(n int) []byte {
	if n < hugeBytes/2 {
		return aligned(n, n, pageBytes)
	}
	b := aligned(n, roundUp(n, hugeBytes), hugeBytes)
	// Without huge pages everything works, slower: neither call's error counts.
	// What is fresh becomes huge when it is touched, what the heap had in use
	// before has to be collapsed.
	whole := b[:roundUp(n, hugeBytes)]
	_ = unix.Madvise(whole, unix.MADV_HUGEPAGE)
	for at := 0; at < len(whole); at += hugeBytes {
		whole[at] = 0
	}
	_ = unix.Madvise(whole, unix.MADV_COLLAPSE)
	return b[:n]
}

// aligned returns n bytes at a multiple of unit, with room for capacity.
func aligned(n, capacity, unit int) []byte {
	b := make([]byte, capacity+unit)
	at := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (unit - 1)
	return b[at : at+n : at+capacity]
}

func roundUp(n, unit int) int { return (n + unit - 1) &^ (unit - 1) }
