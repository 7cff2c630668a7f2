package disk

import "hayloft/internal/id"

const kib = 1 << 10

// photoKey is the i-th key of a system that takes twenty photos a second, on
// eight slots: what an index has to hold in the end. Ascending, no key twice.
func photoKey(i int) id.ID {
	const slots, every = 8, 50 // milliseconds
	h := (uint64(i) + 1) * 0x9e3779b97f4a7c15 >> 32
	return id.Make(id.Millis(1+i*every+int(h%every)), id.Slot(h>>8%slots), uint16(h>>16%3))
}

// mix7030 is workload B: 70 % of 8 KiB and 30 % of 64 KiB.
func mix7030(i int) int {
	if i*7%10 < 7 {
		return 8 * kib
	}
	return 64 * kib
}
