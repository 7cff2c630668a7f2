package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"

	"github.com/valyala/fasthttp"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/media"
)

// masterPiece is how much of a master is in memory at a time.
const masterPiece = 1 * mib

// getMaster is GET /photos/{id}/master: the upload byte for byte, for its
// owner alone, since nothing was taken out of it.
func (r *request) getMaster() error {
	photo, err := r.pathID(0)
	if err != nil {
		return err
	}
	v, err := r.a.opt.Feed.Photo(r.ctx, r.viewer, photo)
	if err != nil {
		return err
	}
	m := v.Master
	if v.Author != r.viewer || m.Blob == 0 {
		return pNotFound.because("")
	}
	body, err := r.masterBody(photo, m)
	if err != nil {
		return err
	}
	h := &r.rc.Response.Header
	h.SetContentType(m.ContentType)
	h.Set("Content-Disposition", `attachment; filename="`+photo.String()+"."+media.Ext(m.ContentType)+`"`)
	h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(m.Digest[:])+":")
	h.Set("ETag", `"`+hex.EncodeToString(m.Digest[:])+`"`)
	r.rc.Response.SetBodyStream(body, int(m.Size))
	return nil
}

// masterBody is a master on its way to its owner, one piece in memory at a
// time, whatever its size and however slow its reader. The last piece leaves
// only if all of them together are the upload: else the answer is cut off. A
// master of one piece is judged before anything leaves.
type masterBody struct {
	a      *API
	master feed.Master
	room   *booking
	nc     net.Conn
	failed Event // what is emitted when a piece cannot be read, without the error

	sum   hash.Hash
	space []byte
	next  int64  // offset of the piece after the one in space
	ready []byte // of that one, what has not left
}

// masterBody books room and reads the first piece.
func (r *request) masterBody(photo id.ID, m feed.Master) (*masterBody, error) {
	size := min(m.Size, masterPiece)
	room, err := r.a.masters.begin(r.viewer, size, r.cutWrite())
	if err != nil {
		return nil, err
	}
	b := &masterBody{a: r.a, master: m, room: room, nc: r.rc.Conn(), sum: sha256.New(), failed: Event{
		Kind: EventFault, Method: methodName(r.rc), Route: r.route.pattern, Status: fasthttp.StatusOK, Account: r.viewer, Address: r.addr}}
	if err = room.grow(r.ctx, size); err == nil {
		b.space = make([]byte, size)
		err = b.read(r.ctx)
	}
	if err != nil {
		room.close()
		return nil, fmt.Errorf("api: master of photo %v: %w", photo, err)
	}
	if c, ok := b.nc.(*conn); ok {
		c.sends.Store(room)
	}
	room.pace(true)
	return b, nil
}

// read reads the next piece.
func (b *masterBody) read(ctx context.Context) error {
	piece := b.space[:min(int64(len(b.space)), b.master.Size-b.next)]
	n, err := b.a.opt.Blobs.ReadMaster(ctx, b.master.Blob, b.master.Cookie, b.next, piece)
	if err != nil {
		return err
	}
	b.sum.Write(piece[:n])
	b.next += int64(n)
	if n < len(piece) || b.next == b.master.Size && [sha256.Size]byte(b.sum.Sum(nil)) != b.master.Digest {
		return errors.New("it is not what was stored")
	}
	b.ready = piece
	return nil
}

// refill reads the next piece when there is one. That is the server's work, not
// its peer's.
func (b *masterBody) refill() error {
	if b.next == b.master.Size {
		return io.EOF
	}
	b.room.pace(false)
	ctx, cancel := context.WithTimeout(b.a.base, b.a.opt.Limits.CallTimeout)
	defer cancel()
	if err := b.read(ctx); err != nil {
		e := b.failed
		e.Err = fmt.Errorf("api: the answer is cut off at byte %d of %d: %w", b.next, b.master.Size, err)
		b.a.emit(e)
		return e.Err
	}
	b.room.pace(true)
	return nil
}

// Read implements io.Reader.
func (b *masterBody) Read(p []byte) (int, error) {
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
func (b *masterBody) WriteTo(w io.Writer) (sent int64, err error) {
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
func (b *masterBody) Close() error {
	if c, ok := b.nc.(*conn); ok {
		c.sends.CompareAndSwap(b.room, nil)
	}
	b.room.close()
	return nil
}
