package overlay

import (
	"io"
	"sync"

	"hayloft/internal/vfs"
)

const pageSize = 4096

// node is one file, whatever its name is by now.
type node struct {
	fs   *FS
	base vfs.File // nil when it was made here

	mu       sync.RWMutex // guards all below
	fromBase int64        // bytes of base that still show; behind them are zeros
	size     int64
	pages    map[int64][]byte // changed pages by number
}

// file is a node that was opened.
type file struct{ n *node }

// ReadAt implements vfs.File.
func (f file) ReadAt(b []byte, off int64) (int, error) {
	n := f.n
	n.mu.RLock()
	defer n.mu.RUnlock()
	if off >= n.size {
		return 0, io.EOF
	}
	var err error
	if rest := n.size - off; int64(len(b)) > rest {
		b, err = b[:rest], io.EOF
	}
	if got, readErr := n.original(b, off); readErr != nil {
		return got, readErr
	}
	for at := off - off%pageSize; at < off+int64(len(b)); at += pageSize {
		if p := n.pages[at/pageSize]; p != nil {
			if at < off {
				copy(b, p[off-at:])
			} else {
				copy(b[at-off:], p)
			}
		}
	}
	return len(b), err
}

// original fills b with what the machine's file holds there, and zeros.
func (n *node) original(b []byte, off int64) (int, error) {
	keep := min(max(n.fromBase-off, 0), int64(len(b)))
	if keep > 0 {
		got, err := n.base.ReadAt(b[:keep], off)
		n.fs.read.Add(int64(got))
		if int64(got) < keep {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF // somebody cut it meanwhile
			}
			return got, err
		}
	}
	clear(b[keep:])
	return len(b), nil
}

// WriteVAt implements vfs.File.
func (f file) WriteVAt(bufs [][]byte, off int64) (int, error) {
	n := f.n
	n.mu.Lock()
	defer n.mu.Unlock()
	total := 0
	for _, b := range bufs {
		for len(b) > 0 {
			p, err := n.page(off / pageSize)
			if err != nil {
				return total, err
			}
			done := copy(p[off%pageSize:], b)
			b, off, total = b[done:], off+int64(done), total+done
			n.size = max(n.size, off)
		}
	}
	return total, nil
}

// page returns the page to be changed. Called with mu held.
func (n *node) page(i int64) ([]byte, error) {
	if p := n.pages[i]; p != nil {
		return p, nil
	}
	p := make([]byte, pageSize)
	if _, err := n.original(p, i*pageSize); err != nil {
		return nil, err
	}
	if n.pages == nil {
		n.pages = map[int64][]byte{}
	}
	n.pages[i] = p
	return p, nil
}

// Truncate implements vfs.File.
func (f file) Truncate(size int64) error {
	n := f.n
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, p := range n.pages {
		switch at := i * pageSize; {
		case at >= size:
			delete(n.pages, i)
		case at+pageSize > size:
			clear(p[size-at:])
		}
	}
	n.fromBase, n.size = min(n.fromBase, size), size
	return nil
}

// Allocate implements vfs.File.
func (f file) Allocate(off, size int64) error {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	f.n.size = max(f.n.size, off+size)
	return nil
}

// Size implements vfs.File.
func (f file) Size() (int64, error) {
	f.n.mu.RLock()
	defer f.n.mu.RUnlock()
	return f.n.size, nil
}

// Evict implements vfs.File: what was not changed comes from the device again.
func (f file) Evict(off, size int64) error {
	if f.n.base == nil {
		return nil
	}
	return f.n.base.Evict(off, size)
}

// Sync implements vfs.File.
func (file) Sync() error { return nil }

// Close implements vfs.File.
func (file) Close() error { return nil }
