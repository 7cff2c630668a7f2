package volume

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"hayloft/internal/slab"
	"hayloft/internal/vfs"
)

// Reads go past the page cache where the file system can (decision 015): the
// cache tier is the RAM tier. The device then wants offset, length and memory
// aligned, so a record is read with what stands around it up to the next unit,
// into a buffer that becomes the caller's.

// buffers is the memory of all readers of the process.
var buffers slab.Pool

// hold is the right to the bytes of a buffer and to the room they are booked
// in, from fetch to release. The zero hold is that of nothing. Copies of a hold
// are one hold: once one of them was released the others do nothing, whoever
// reads into the buffer by then.
type hold struct {
	lease slab.Lease
	room  room
}

// release ends the hold, and gives buffer and room to the next reader.
func (h *hold) release() {
	if h.lease.Release() {
		h.room.leave()
	}
	*h = hold{}
}

// largestBuffer is the most data that is read at once.
const largestBuffer = 1 << 20

// bufferBytes is the memory that a buffer of n bytes takes.
func bufferBytes(n int64) int64 { return int64(slab.Size(int(n))) }

// readFile is how records are read: past the page cache if there is a way.
type readFile struct {
	past    vfs.File // past the page cache; nil: there is no way
	unit    int64    // what its reads are aligned to
	refused atomic.Bool
}

// open looks for a way past the page cache. Without one, and whatever the
// reason, reads go through it. No needle is read from a delete log.
func (r *readFile) open(v *Volume) {
	if v.o.PageCache || v.isLog() {
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

// memory is what a fetch of [off, off+n) takes.
func (r *readFile) memory(off, n int64) int64 {
	unit := max(r.unit, 1)
	return bufferBytes((off+n+unit-1)&^(unit-1) - off&^(unit-1))
}

// close has no error: nothing was written through it.
func (r *readFile) close() {
	if r.past != nil {
		_ = r.past.Close()
	}
}

// fetch reads [off, off+n) as far as the synced part of the file goes, with
// one read of the file. The bytes are the caller's while the hold lasts. With sure
// it takes the surer way of the file, which has one.
func (v *Volume) fetch(off, n int64, sure bool) (hold, []byte, error) {
	synced := v.synced.Load()
	n = min(n, max(0, synced-off))
	if n == 0 || off < 0 {
		return hold{}, nil, nil
	}
	defer v.took(&v.steps.read, v.now())
	r := &v.reads
	if r.past != nil && !r.refused.Load() && !sure {
		from := off &^ (r.unit - 1)
		to := (off + n + r.unit - 1) &^ (r.unit - 1)
		// A direct read of a page that is being written waits for the writer,
		// so what shares a page with the next batch is read from the cache.
		if to <= synced&^(pageSize-1) {
			held := hold{lease: buffers.Get(int(to - from))}
			buf := held.lease.Bytes()
			got, err := r.past.ReadAt(buf[:to-from], from)
			if int64(got) == to-from {
				return held, buf[off-from:][:n], nil
			}
			held.release()
			if !errors.Is(err, unix.EINVAL) {
				return hold{}, nil, fmt.Errorf("%w: read %d bytes at %d: %w", ErrCorrupt, to-from, from, err)
			}
			// The file system opens such files and does not read them.
			if !r.refused.Swap(true) {
				v.event(Event{Kind: EventPageCache, Err: err})
			}
		}
	}
	held := hold{lease: buffers.Get(int(n))}
	buf := held.lease.Bytes()
	read := v.file.ReadAt
	if s, ok := v.file.(vfs.Surer); ok && sure {
		read = s.ReadAtSurely
	}
	got, err := read(buf[:n], off)
	if int64(got) < n && err != nil && err != io.EOF {
		held.release()
		return hold{}, nil, fmt.Errorf("%w: read %d bytes at %d: %w", ErrCorrupt, n, off, err)
	}
	return held, buf[:got], nil
}
