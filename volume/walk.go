package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"hayloft/internal/vfs"
)

const (
	windowLarge = 1 << 20  // read ahead while records are smaller than a window
	windowSmall = 16 << 10 // after a long jump over data: only the header is wanted
	// A device delivers this much in the time that a read of its own takes to
	// begin: a shorter jump reads what it skips.
	jumpBytes   = 256 << 10
	pageSize    = 4096
	maxBadPages = 4096 // 16 MiB: then the device, not a spot on it, is broken
)

// extent is a range of the file.
type extent struct{ off, end int64 }

// walker finds records by the reader's algorithm of docs/format.md. It reads
// in large steps, and in small ones where it jumps over much data. Parts the
// device cannot read count as zeros and are listed in bad.
type walker struct {
	file io.ReaderAt
	seal *seal
	end  int64 // nothing is read from here on

	buf   []byte // window
	off   int64  // of the window
	own   []byte // memory of a window that was not read ahead
	ahead *ahead // nil: nothing is read ahead
	bad   []extent
	pages int // number of bad pages
}

// window returns the n bytes at off, fewer at the end. They are valid until
// the next call.
func (w *walker) window(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.end-off))
	if n <= 0 {
		return nil, nil
	}
	if off >= w.off && off+int64(n) <= w.off+int64(len(w.buf)) {
		return w.buf[off-w.off:][:n], nil
	}
	from, size := off, windowSmall
	if have := w.off + int64(len(w.buf)); off <= have+jumpBytes {
		if w.ahead != nil {
			if b, at, ok := w.ahead.window(off, n); ok {
				w.buf, w.off = b, at
				return b[off-at:][:n], nil
			}
		}
		// Where the kernel reads ahead, it must see that nothing is left out.
		from, size = min(off, have), windowLarge
	}
	skip := int(off - from)
	if err := w.fill(from, int(min(int64(max(size, skip+n)), w.end-from))); err != nil {
		return nil, err
	}
	return w.buf[skip:][:n], nil
}

func (w *walker) fill(off int64, n int) error {
	if cap(w.own) < n {
		w.own = make([]byte, n)
	}
	w.buf, w.off = w.own[:n], off
	return w.read(w.buf, off)
}

// read fills b from off. Where the device fails it goes page by page.
func (w *walker) read(b []byte, off int64) error {
	n, err := vfs.ReadAtSurely(w.file, b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return fmt.Errorf("%w: file ends at %d, expected %d", ErrCorrupt, off+int64(n), off+int64(len(b)))
	}
	for len(b) > 0 {
		n := min(len(b), int(pageSize-off%pageSize))
		if got, err := w.readPage(b[:n], off); got < n {
			clear(b[:n])
			if w.pages++; w.pages > maxBadPages {
				return fmt.Errorf("%w: the device fails to read at %d: %w", ErrCorrupt, off, err)
			}
			w.bad = append(w.bad, extent{off, off + int64(n)})
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// readPage reads one page. What a file cannot vouch for may be right all the same:
// the record's checksums tell.
func (w *walker) readPage(b []byte, off int64) (int, error) {
	n, err := vfs.ReadAtSurely(w.file, b, off)
	if _, sure := w.file.(vfs.Surer); sure && n < len(b) {
		return w.file.ReadAt(b, off)
	}
	return n, err
}

// unreadable tells whether any byte of [off, end) could not be read.
func (w *walker) unreadable(off, end int64) bool {
	for _, e := range w.bad {
		if e.off < end && e.end > off {
			return true
		}
	}
	return false
}

// header reads the header at off. meta (header, master info, table) is valid
// until the next call. A damaged header is ErrCorrupt; other errors than that
// and ErrUnsupported end the walk.
func (w *walker) header(off int64) (h header, meta []byte, err error) {
	b, err := w.window(off, headerSize)
	if err != nil {
		return h, nil, errWalk{err}
	}
	h, err = w.seal.decodeHeader(b, off)
	if errors.Is(err, errShort) && len(b) == headerSize {
		var p header
		p.parse(b)
		if b, err = w.window(off, p.metaLen()); err != nil {
			return h, nil, errWalk{err}
		}
		h, err = w.seal.decodeHeader(b, off)
	}
	if errors.Is(err, errShort) {
		err = fmt.Errorf("%w: record at %d: cut off", ErrCorrupt, off)
	}
	if err != nil {
		return h, nil, err
	}
	return h, b[:h.metaLen()], nil
}

// errWalk is a failure of the walk itself, not a damaged record.
type errWalk struct{ err error }

func (e errWalk) Error() string { return e.err.Error() }
func (e errWalk) Unwrap() error { return e.err }

// fatal tells whether err from header ends the walk.
func fatal(err error) bool {
	var w errWalk
	return errors.As(err, &w) || isUnsupported(err)
}

// resync returns the first offset from off on, at steps of 8, where a valid
// header lies, or the end.
func (w *walker) resync(off int64) (int64, error) {
	sign := binary.LittleEndian.Uint64(w.seal.sign[:])
	for off+headerSize <= w.end {
		b, err := w.window(off, windowLarge)
		if err != nil {
			return 0, errWalk{err}
		}
		base := off
		for i := 0; i+headerSize <= len(b); i += align {
			if binary.LittleEndian.Uint64(b[i+8:]) != sign {
				continue
			}
			off = base + int64(i)
			_, _, err := w.header(off)
			if err == nil || fatal(err) {
				return off, err
			}
			// The window may have moved.
			if b, err = w.window(base, len(b)); err != nil {
				return 0, errWalk{err}
			}
		}
		off = base + int64(len(b)-headerSize+align)&^(align-1)
	}
	return w.end, nil
}

// data reads a record's data into a buffer of its own, growing buf, and
// verifies it; with meta against the table there as well.
func (w *walker) data(h *header, meta []byte, off int64, buf []byte) ([]byte, error) {
	// Reading may move the window that meta lies in.
	if meta != nil && h.Flags&flagBlocks != 0 {
		meta = append([]byte(nil), meta...)
	}
	if int64(cap(buf)) < h.Length {
		buf = make([]byte, h.Length)
	}
	buf = buf[:h.Length]
	at := off + int64(h.metaLen())
	if at >= w.off && at+h.Length <= w.off+int64(len(w.buf)) {
		copy(buf, w.buf[at-w.off:])
	} else if err := w.read(buf, at); err != nil {
		return buf, errWalk{err}
	}
	if w.unreadable(at, at+h.Length) {
		return buf, fmt.Errorf("%w: record at %d: the device cannot read it", ErrCorrupt, off)
	}
	if meta == nil {
		return buf, h.verifyData(buf, off)
	}
	return buf, h.verifyAll(meta, buf, off)
}
