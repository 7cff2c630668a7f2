package raw

import (
	"fmt"

	"golang.org/x/sys/unix"

	"hayloft/internal/slab"
)

// PageSize is the unit of the page cache: what a buffered read of an engine
// makes the device deliver.
const PageSize = 4096

// AlignedBuf returns n bytes of ordinary memory on page borders, as O_DIRECT
// wants them and as fio has them. Give it back with FreeBuf.
func AlignedBuf(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, max(n, 1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("memory for direct reads and writes: %w", err)
	}
	return b, nil
}

// FreeBuf gives back what AlignedBuf returned. Of nil it does nothing.
func FreeBuf(b []byte) {
	if b != nil {
		unix.Munmap(b) //nolint:errcheck // memory of ours
	}
}

// ClientBufs is one aligned buffer for each client.
func ClientBufs(clients, n int) (bufs [][]byte, free func(), err error) {
	free = func() {
		for _, b := range bufs {
			FreeBuf(b)
		}
	}
	for range clients {
		b, err := AlignedBuf(n)
		if err != nil {
			free()
			return nil, nil, err
		}
		bufs = append(bufs, b)
	}
	return bufs, free, nil
}

// HugeBufs is ClientBufs on huge pages, if there are any, as the engine's
// buffers are: a device fills one piece of memory faster than many (decision
// 120). The collector frees it.
func HugeBufs(clients, n int) [][]byte {
	n = (n + PageSize - 1) / PageSize * PageSize
	all := slab.Alloc(max(clients*n, 1<<20))
	bufs := make([][]byte, clients)
	for i := range bufs {
		bufs[i] = all[i*n : (i+1)*n : (i+1)*n]
	}
	return bufs
}
