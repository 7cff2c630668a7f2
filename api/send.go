package api

import (
	"bufio"
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/cache"
)

// sendfileFrom is from which size on sending pages of a memory file costs less
// than copying bytes into the socket: docs/decisions/181-one-write-for-a-hit.md.
const sendfileFrom = 24 * kib

// outgoing is what a conn sends in one go. One goroutine uses it.
type outgoing struct {
	head, body []byte // what is left of them
	fd         int    // of the memory file; -1: the bytes are copied
	off        int64  // of body in it
	err        error

	tail bool // the next Write is head: body goes with it
	sent int  // of body
	end  int  // of body: so much goes out under the deadline that is set

	pair    [2][]byte
	vec     net.Buffers // over pair
	armed   time.Time   // the write deadline that is set; zero: none, or not known
	started time.Time   // when sending began
	step    func(fd uintptr) bool
}

// WriteTail flushes w, which writes to c, and sends body after what w had, with as
// few system calls as it takes. It returns how many bytes of body the kernel took.
func (c *conn) WriteTail(w *bufio.Writer, body []byte, file cache.InFile) (int, error) {
	if c.tcp == nil || w.Buffered() == 0 || len(body) == 0 {
		return w.Write(body)
	}
	o := &c.out
	o.prepare(body, file)
	o.tail = true
	err := w.Flush() // which is c.Write
	o.tail = false
	return o.sent, err
}

func (o *outgoing) prepare(body []byte, file cache.InFile) {
	o.body, o.sent, o.err, o.fd = body, 0, nil, -1
	if len(body) >= sendfileFrom {
		if fd, off, ok := file.File(body); ok {
			o.fd, o.off = fd, off
		}
	}
}

// sendAll sends head and then the body that was prepared, and returns how much of
// head the kernel took.
func (c *conn) sendAll(head []byte) (n int, err error) {
	o := &c.out
	o.head, o.started = head, time.Now()
	for err == nil && len(o.head)+len(o.body) > 0 {
		o.end = o.sent + min(len(o.body), writeChunk)
		if err = c.arm(o.started.Add(c.grace + atRate(int64(len(head)+o.end), c.rate))); err != nil {
			break
		}
		if o.fd < 0 {
			err = o.copyOut(c.tcp)
		} else if err = c.raw.Write(o.step); err == nil {
			err = o.err
		}
	}
	n = len(head) - len(o.head)
	o.head, o.body, o.pair = nil, nil, [2][]byte{}
	return n, err
}

// arm makes sure that writing ends by the deadline, or up to a grace later: the
// kernel's timer is not touched for every answer.
func (c *conn) arm(deadline time.Time) error {
	o := &c.out
	if left := o.armed.Sub(deadline); left >= 0 && left <= c.grace {
		return nil
	}
	o.armed = deadline.Add(c.grace)
	return c.Conn.SetWriteDeadline(o.armed)
}

// copyOut sends head and a piece of body with one writev.
func (o *outgoing) copyOut(to *net.TCPConn) error {
	piece := o.body[:o.end-o.sent]
	o.pair = [2][]byte{o.head, piece}
	o.vec = o.pair[:]
	if len(o.head) == 0 {
		o.vec = o.pair[1:]
	}
	n, err := o.vec.WriteTo(to)
	o.advance(int(n))
	return err
}

// advance notes that n bytes of head and body are the kernel's.
func (o *outgoing) advance(n int) {
	h := min(n, len(o.head))
	o.head = o.head[h:]
	o.body = o.body[n-h:]
	o.sent += n - h
	o.off += int64(n - h)
}

// sendPages sends head and a piece of body out of the memory file: head waits in
// the kernel for the first page. It is called by the runtime whenever the socket
// may take more, and returns false to wait for that.
func (o *outgoing) sendPages(fd uintptr) bool {
	for o.sent < o.end {
		var n int
		if len(o.head) > 0 {
			n, o.err = unix.SendmsgN(int(fd), o.head, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
		} else {
			off := o.off
			n, o.err = unix.Sendfile(int(fd), o.fd, &off, o.end-o.sent)
		}
		switch {
		case o.err == nil && n > 0:
			o.advance(n)
		case errors.Is(o.err, unix.EINTR):
		case errors.Is(o.err, unix.EAGAIN):
			return false
		case o.err == nil:
			o.err = errors.New("api: a memory file has no more bytes")
			return true
		default:
			return true
		}
	}
	return true
}
