package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime/debug"

	"github.com/valyala/fasthttp"

	"hayloft/internal/id"
)

// pieceBytes is how much of an answer is in memory at a time.
const pieceBytes = 1 * mib

// pieceBody is the body of an answer that is made as it leaves, one piece in memory at a
// time, whatever its size and however slow its reader.
type pieceBody struct {
	a      *API
	fill   func(ctx context.Context) ([]byte, error) // the next piece, valid until it is called again; io.EOF: there is none
	room   *booking
	nc     net.Conn
	failed Event  // what is emitted when a piece cannot be made, without the error
	ended  func() // is called once, when the answer is written or cut off; may be nil

	made  int64  // bytes of the pieces so far
	ready []byte // of the last one, what has not left
}

// pieces is stream for an answer of so many bytes that is read from the store.
func (r *request) pieces(size int64, waits func(), fetch fetchFunc) (*pieceBody, error) {
	return r.stream(r.payer(), min(size, pieceBytes), waits, piecesOf(size, fetch))
}

// fetchFunc fills all of to, from off on, or says why it cannot.
type fetchFunc func(ctx context.Context, off int64, to []byte) error

// piecesOf is the fill of a pieceBody for so many bytes that fetch reads.
func piecesOf(size int64, fetch fetchFunc) func(ctx context.Context) ([]byte, error) {
	var space []byte
	var next int64
	return func(ctx context.Context) ([]byte, error) {
		if space == nil {
			space = make([]byte, min(size, pieceBytes))
		} else if next == size {
			return nil, io.EOF
		}
		piece := space[:min(int64(len(space)), size-next)]
		if err := fetch(ctx, next, piece); err != nil {
			return nil, err
		}
		next += int64(len(piece))
		return piece, nil
	}
}

// stream books memory, in bytes, for an answer that payer asked for, and has its first piece
// made. When fill says later that it cannot, the answer is cut off. waits is called before
// room is waited for: meanwhile nothing of the store should be held.
func (r *request) stream(payer id.ID, memory int64, waits func(), fill func(ctx context.Context) ([]byte, error)) (*pieceBody, error) {
	room, err := r.a.masters.begin(payer, memory, r.cutWrite())
	if err != nil {
		return nil, err
	}
	b := &pieceBody{a: r.a, fill: fill, room: room, nc: r.rc.Conn(), failed: Event{
		Kind: EventFault, Method: methodName(r.rc), Route: r.route.pattern, Status: fasthttp.StatusOK, Account: payer, Address: r.addr}}
	if !room.take(memory) {
		waits()
		err = room.grow(r.ctx, memory)
	}
	if err == nil {
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

// read has the next piece made. It runs on the machinery's own time, where nobody else tells
// of a panic.
func (b *pieceBody) read(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			e := b.failed
			e.Kind, e.Err = EventPanic, fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			b.a.emit(e)
			err = errPanic
		}
	}()
	if b.ready, err = b.fill(ctx); err == nil {
		b.made += int64(len(b.ready))
	}
	return err
}

// refill has the next piece made when there is one. That is the server's work, not its
// peer's.
func (b *pieceBody) refill() error {
	b.room.pace(false)
	ctx, cancel := context.WithTimeout(b.a.base, b.a.opt.Limits.CallTimeout)
	defer cancel()
	err := b.read(ctx)
	if err != nil && err != io.EOF {
		e := b.failed
		e.Err = fmt.Errorf("api: the answer is cut off at byte %d: %w", b.made, err)
		b.a.emit(e)
		return e.Err
	}
	b.room.pace(true)
	return err
}

// SupportsBodyWriteTo says to the machinery that a piece may be one chunk: in small ones each
// would have a time of its own, however slow its reader.
func (b *pieceBody) SupportsBodyWriteTo() bool { return true }

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
	if b.ended != nil {
		b.ended()
	}
	return nil
}
