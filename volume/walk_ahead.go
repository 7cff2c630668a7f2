package volume

import (
	"errors"

	"hayloft/internal/slab"
	"hayloft/internal/vfs"
)

const (
	// pieceBytes is what is read at a time, aheadPieces how many of them are
	// under way or in use: enough to keep a disk busy while the headers of the
	// last piece are looked at.
	pieceBytes  = 1 << 20
	aheadPieces = 4
	// frontBytes in front of a piece take the end of the one before, so that a
	// header across the border is whole.
	frontBytes = 64 << 10
	// aheadFrom is how long a walk must be to be worth it.
	aheadFrom = 4 << 20
)

// ahead reads a file from front to back past the page cache, a few pieces
// before they are asked for. A walk through the page cache takes the
// processor's time twice, for copying and for bookkeeping, and drives out of it
// what is of use. It hands out only what was read whole; whatever goes wrong is
// for the walker to find out with reads of its own.
type ahead struct {
	file vfs.File
	end  int64 // of the file

	first  int64 // number of the first piece in queue
	queue  []*aheadPiece
	spare  []*aheadPiece
	broken bool // a read failed: nothing more is handed out
}

// aheadPiece is one piece of the file.
type aheadPiece struct {
	space []byte // front, then the piece
	n     int    // bytes of the piece
	done  chan error
}

// newAhead returns nil where the file cannot be read past the page cache.
func newAhead(fsys vfs.FS, name string) *ahead {
	file, unit, err := fsys.OpenDirect(name)
	if err != nil {
		return nil
	}
	a := &ahead{file: file}
	if a.end, err = file.Size(); err != nil || pieceBytes%unit != 0 || frontBytes%unit != 0 {
		a.broken = true
	}
	const each = frontBytes + pieceBytes
	space := slab.Alloc(aheadPieces * each)
	for i := range aheadPieces {
		a.spare = append(a.spare, &aheadPiece{space: space[i*each : (i+1)*each : (i+1)*each], done: make(chan error, 1)})
	}
	return a
}

// window returns a buffer that holds the n bytes from off on, and the offset
// where it begins. It is valid until the next call. Offsets must not descend.
func (a *ahead) window(off int64, n int) (b []byte, at int64, ok bool) {
	if a.broken || off+int64(n) > a.end {
		return nil, 0, false
	}
	number := off / pieceBytes
	if len(a.queue) == 0 {
		a.first = number
	}
	if number < a.first {
		return nil, 0, false
	}
	for a.first < number && len(a.queue) > 0 {
		a.drop()
	}
	a.first = number
	a.start()
	p := a.queue[0]
	if !a.wait(p) {
		return nil, 0, false
	}
	at = number * pieceBytes
	b = p.space[frontBytes:][:p.n]
	over := int(off - at)
	if over+n <= p.n {
		return b, at, true
	}
	// Across the border: what is left of this piece goes in front of the next.
	left := b[over:]
	if len(left) > frontBytes || len(a.queue) < 2 || !a.wait(a.queue[1]) {
		return nil, 0, false
	}
	q := a.queue[1]
	copy(q.space[frontBytes-len(left):], left)
	a.drop()
	a.start()
	b = q.space[frontBytes-len(left):][:len(left)+q.n]
	return b, off, n <= len(b)
}

// start reads the pieces that come next.
func (a *ahead) start() {
	for len(a.spare) > 0 {
		at := (a.first + int64(len(a.queue))) * pieceBytes
		if at >= a.end {
			return
		}
		p := a.spare[len(a.spare)-1]
		a.spare = a.spare[:len(a.spare)-1]
		a.queue = append(a.queue, p)
		p.n = int(min(pieceBytes, a.end-at))
		go func() {
			// All of the piece is asked for, as direct reads want it; the end
			// of the file may be short of it.
			n, err := a.file.ReadAt(p.space[frontBytes:], at)
			if n >= p.n {
				err = nil
			} else if err == nil {
				err = errors.New("short read")
			}
			p.done <- err
		}()
	}
}

// wait waits until p is read. It may be called again.
func (a *ahead) wait(p *aheadPiece) bool {
	err := <-p.done
	p.done <- err
	a.broken = a.broken || err != nil
	return err == nil
}

// drop gives up the first piece.
func (a *ahead) drop() {
	p := a.queue[0]
	<-p.done
	a.spare = append(a.spare, p)
	a.queue = a.queue[1:]
	a.first++
}

// close waits for what is under way and closes the file, which was only read.
func (a *ahead) close() {
	for len(a.queue) > 0 {
		a.drop()
	}
	_ = a.file.Close() //nolint:errcheck // nothing depends on it
}

// readAhead lets w read ahead from off on, if that is worth it, until the
// returned function is called. name is the file's.
func (w *walker) readAhead(fsys vfs.FS, name string, off int64) (end func()) {
	if w.end-off < aheadFrom {
		return func() {}
	}
	if w.ahead = newAhead(fsys, name); w.ahead == nil {
		return func() {}
	}
	return func() {
		w.ahead.close()
		w.ahead, w.buf, w.off = nil, nil, 0
	}
}
