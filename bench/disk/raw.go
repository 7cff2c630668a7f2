package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"hayloft/internal/slab"
)

// pageSize is the unit of the page cache: what a buffered read of an engine
// makes the device deliver.
const pageSize = 4096

// alignedBuf returns n bytes of ordinary memory on page borders, as O_DIRECT
// wants them and as fio has them. Give it back with freeBuf.
func alignedBuf(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, max(n, 1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("memory for direct reads and writes: %w", err)
	}
	return b, nil
}

func freeBuf(b []byte) {
	if b != nil {
		unix.Munmap(b) //nolint:errcheck // memory of ours
	}
}

// clientBufs is one aligned buffer for each client.
func clientBufs(clients, n int) (bufs [][]byte, free func(), err error) {
	free = func() {
		for _, b := range bufs {
			freeBuf(b)
		}
	}
	for range clients {
		b, err := alignedBuf(n)
		if err != nil {
			free()
			return nil, nil, err
		}
		bufs = append(bufs, b)
	}
	return bufs, free, nil
}

// hugeBufs is clientBufs on huge pages, if there are any, as the engine's
// buffers are: a device fills one piece of memory faster than many (decision
// 120). The collector frees it.
func hugeBufs(clients, n int) [][]byte {
	n = (n + pageSize - 1) / pageSize * pageSize
	all := slab.Alloc(max(clients*n, 1<<20))
	bufs := make([][]byte, clients)
	for i := range bufs {
		bufs[i] = all[i*n : (i+1)*n : (i+1)*n]
	}
	return bufs
}

// extent is what a direct read asks for.
type extent struct {
	off int64
	len int
}

// cover is the smallest aligned extent that holds [off, off+n).
func cover(off, n, align int64) extent {
	from := off / align * align
	to := (off + n + align - 1) / align * align
	return extent{from, int(to - from)}
}

// minAlign is the smallest offset alignment that direct I/O on the file takes.
func minAlign(f *os.File) int64 {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	if err == nil && st.Mask&unix.STATX_DIOALIGN != 0 && st.Dio_offset_align > 0 {
		return int64(st.Dio_offset_align)
	}
	return pageSize
}

// openDirect opens a file past the page cache. Where a file system does not
// know O_DIRECT (tmpfs of old kernels), direct is false and the file is an
// ordinary one: good enough to test this package, not to measure.
func openDirect(name string, flag int) (f *os.File, direct bool, err error) {
	f, err = os.OpenFile(name, flag|unix.O_DIRECT, 0o640)
	if err == nil {
		return f, true, nil
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, false, err
	}
	f, err = os.OpenFile(name, flag, 0o640)
	return f, false, err
}
