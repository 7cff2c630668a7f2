package api

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/valyala/fasthttp"
)

// pieceBytes is how much of an answer is in memory at a time.
const pieceBytes = 1 * mib

// pieceBody is the body of an answer that is read from the store as it leaves,
// one piece in memory at a time, whatever its size and however slow its reader.
type pieceBody struct {
	a      *API
	size   int64
	fetch  func(ctx context.Context, off int64, to []byte) error
	room   *booking
	nc     net.Conn
	failed Event // what is emitted when a piece cannot be read, without the error

	space []byte
	next  int64  // offset of the piece after the one in space
	ready []byte // of that one, what has not left
}

// pieces books room and reads the first piece. fetch fills all of to, from off on
// of size bytes, or says why it cannot: then the answer is cut off. waits is called
// before room is waited for: meanwhile nothing of the store should be held.
func (r *request) pieces(size int64, waits func(), fetch func(ctx context.Context, off int64, to []byte) error) (*pieceBody, error) {
	first := min(size, pieceBytes)
	room, err := r.a.masters.begin(r.payer(), first, r.cutWrite())
	if err != nil {
		return nil, err
	}
	b := &pieceBody{a: r.a, size: size, fetch: fetch, room: room, nc: r.rc.Conn(), failed: Event{
		Kind: EventFault, Method: methodName(r.rc), Route: r.route.pattern, Status: fasthttp.StatusOK, Account: r.viewer, Address: r.addr}}
	if !room.take(first) {
		waits()
		err = room.grow(r.ctx, first)
	}
	if err == nil {
		b.space = make([]byte, first)
		err = b.read(r.ctx)
	}
	if err != nil {
		room.close()
		return nil, err
	}
	if c, ok := b.nc.(*conn); ok {
		c.sends.Store(room)
	}
	room.pace(true)
	return b, nil
}

// read reads the next piece.
func (b *pieceBody) read(ctx context.Context) error {
	piece := b.space[:min(int64(len(b.space)), b.size-b.next)]
	if err := b.fetch(ctx, b.next, piece); err != nil {
		return err
	}
	b.next += int64(len(piece))
	b.ready = piece
	return nil
}

// refill reads the next piece when there is one. That is the server's work, not
// its peer's.
func (b *pieceBody) refill() error {
	if b.next == b.size {
		return io.EOF
	}
	b.room.pace(false)
	ctx, cancel := context.WithTimeout(b.a.base, b.a.opt.Limits.CallTimeout)
	defer cancel()
	if err := b.read(ctx); err != nil {
		e := b.failed
		e.Err = fmt.Errorf("api: the answer is cut off at byte %d of %d: %w", b.next, b.size, err)
		b.a.emit(e)
		return e.Err
	}
	b.room.pace(true)
	return nil
}

// Read implements io.Reader.
func (b *pieceBody) Read(p []byte) (int, error) {
	if len(b.ready) == 0 {
		if err := b.refill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.ready)
	b.ready = b.ready[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: a piece is handed to the connection at once.
func (b *pieceBody) WriteTo(w io.Writer) (sent int64, err error) {
	for {
		if len(b.ready) == 0 {
			if err = b.refill(); err == io.EOF {
				return sent, nil
			}
		}
		if err != nil {
			return sent, err
		}
		n, err := w.Write(b.ready)
		sent += int64(n)
		if err != nil {
			return sent, err
		}
		b.ready = nil
	}
}

// Close gives the room back when the answer is written.
func (b *pieceBody) Close() error {
	if c, ok := b.nc.(*conn); ok {
		c.sends.CompareAndSwap(b.room, nil)
	}
	b.room.close()
	return nil
}
