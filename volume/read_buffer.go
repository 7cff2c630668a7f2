package volume

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
)

// Reads go past the page cache where the file system can (decision 015): the
// cache tier is the RAM tier. The device then wants offset, length and memory
// aligned, so a record is read with what stands around it up to the next unit,
// into a buffer that becomes the caller's.

// buffer is aligned memory of one of the sizes of bufferPools.
type buffer struct {
	space []byte
	class int
}

// Buffers come in powers of two from 8 KiB to 1 MiB, plus room for header,
// table and alignment, so that images of just such a size fit.
const (
	smallestBuffer = 8 << 10
	bufferClasses  = 8
	bufferSlack    = 2 * pageSize
)

var bufferPools [bufferClasses]sync.Pool

// getBuffer returns a buffer of at least n bytes.
func getBuffer(n int) *buffer {
	class, size := 0, smallestBuffer
	for class < bufferClasses && size+bufferSlack < n {
		class, size = class+1, size*2
	}
	if class == bufferClasses {
		return &buffer{space: alignedBytes(n), class: class}
	}
	if b, ok := bufferPools[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{space: alignedBytes(size + bufferSlack), class: class}
}

func alignedBytes(n int) []byte {
	b := make([]byte, n+pageSize)
	at := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (pageSize - 1)
	return b[at : at+n : at+n]
}

// release gives b to the next reader. A nil b is none.
func (b *buffer) release() {
	if b != nil && b.class < bufferClasses {
		bufferPools[b.class].Put(b)
	}
}

// readFile is how records are read: past the page cache if there is a way.
type readFile struct {
	past    vfs.File // past the page cache; nil: there is no way
	unit    int64    // what its reads are aligned to
	refused atomic.Bool
}

// open looks for a way past the page cache. Without one, and whatever the
// reason, reads go through it.
func (r *readFile) open(v *Volume) {
	if v.o.PageCache {
		return
	}
	f, unit, err := v.o.FS.OpenDirect(v.name)
	if err != nil {
		if !errors.Is(err, vfs.ErrNoDirect) {
			v.event(Event{Kind: EventPageCache, Err: err})
		}
		return
	}
	if unit > pageSize {
		_ = f.Close() // opened for reading only; no buffer is aligned to more
		return
	}
	r.past, r.unit = f, int64(unit)
}

// close has no error: nothing was written through it.
func (r *readFile) close() {
	if r.past != nil {
		_ = r.past.Close()
	}
}

// fetch reads [off, off+n) as far as the synced part of the file goes, with
// one read of the file. The bytes lie in the buffer, which is the caller's.
func (v *Volume) fetch(off, n int64) (*buffer, []byte, error) {
	synced := v.synced.Load()
	n = min(n, max(0, synced-off))
	if n == 0 || off < 0 {
		return nil, nil, nil
	}
	r := &v.reads
	if r.past != nil && !r.refused.Load() {
		from := off &^ (r.unit - 1)
		to := (off + n + r.unit - 1) &^ (r.unit - 1)
		// A direct read of a page that is being written waits for the writer,
		// so what shares a page with the next batch is read from the cache.
		if to <= synced&^(pageSize-1) {
			buf := getBuffer(int(to - from))
			got, err := r.past.ReadAt(buf.space[:to-from], from)
			if int64(got) == to-from {
				return buf, buf.space[off-from:][:n], nil
			}
			buf.release()
			if !errors.Is(err, unix.EINVAL) {
				return nil, nil, fmt.Errorf("%w: read %d bytes at %d: %w", ErrCorrupt, to-from, from, err)
			}
			// The file system opens such files and does not read them.
			if !r.refused.Swap(true) {
				v.event(Event{Kind: EventPageCache, Err: err})
			}
		}
	}
	buf := getBuffer(int(n))
	got, err := v.file.ReadAt(buf.space[:n], off)
	if int64(got) < n && err != nil && err != io.EOF {
		buf.release()
		return nil, nil, fmt.Errorf("%w: read %d bytes at %d: %w", ErrCorrupt, n, off, err)
	}
	return buf, buf.space[:got], nil
}
