package meta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	maxValue  = 256 << 10 // of one value, sealed
	maxAnswer = 8 << 20   // of one call
	maxLine   = 512
)

var errTooMuch = errors.New("meta: a server answers more than anybody asked for")

// conn is a connection to a server whose answers are bounded, in time and in size: the
// client behind it would take any number of values for as long as they come, and makes room
// for any size that it is told. It also tells how the server does.
type conn struct {
	net.Conn
	timeout time.Duration
	failed  func(error)
	ok      func()

	deadline time.Time // of the call under way
	read     int       // bytes of its answer
	line     []byte    // of the answer, as far as it was read
	skip     int       // bytes of a value that are still to come
}

func (c *servers) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	s := c.ring.find(addr)
	if s == nil {
		return nil, errNoServer
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, addr)
	if err != nil {
		c.failed(s, err)
		return nil, err
	}
	return &conn{Conn: nc, timeout: c.o.Timeout, failed: func(err error) { c.failed(s, err) }, ok: func() { c.ring.answered(s) }}, nil
}

// SetDeadline bounds a call as a whole, however often its deadline is put off.
func (c *conn) SetDeadline(t time.Time) error {
	if !c.deadline.IsZero() && t.After(c.deadline) {
		t = c.deadline
	}
	if c.deadline.IsZero() {
		c.deadline = t
	}
	return c.Conn.SetDeadline(t)
}

// Write sends a request. What was read before belongs to an earlier one.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
		c.failed(err)
	}
	return n, err
}

// Read returns a part of an answer, after a look at it.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		c.failed(err)
		return n, err
	}
	c.read += n
	if c.read > maxAnswer {
		err = errTooMuch
	} else {
		err = c.look(b[:n])
	}
	if err != nil {
		c.failed(err)
		return 0, err
	}
	return n, nil
}

// look follows the answer: lines, and after one that announces a value its bytes.
func (c *conn) look(b []byte) error {
	for len(b) > 0 {
		if c.skip > 0 {
			n := min(c.skip, len(b))
			c.skip -= n
			b = b[n:]
			continue
		}
		i := 0
		for i < len(b) && b[i] != '\n' {
			i++
		}
		if c.line = append(c.line, b[:i]...); len(c.line) > maxLine {
			return errTooMuch
		}
		if i == len(b) {
			return nil
		}
		b = b[i+1:]
		if err := c.heard(strings.TrimSuffix(string(c.line), "\r")); err != nil {
			return err
		}
		c.line = c.line[:0]
	}
	return nil
}

// heard judges one line.
func (c *conn) heard(line string) error {
	rest, value := strings.CutPrefix(line, "VALUE ")
	if !value {
		switch line {
		case "END", "STORED", "NOT_STORED", "DELETED", "NOT_FOUND": // the answer is complete
			c.deadline, c.read = time.Time{}, 0
			c.ok()
			return nil
		}
		return fmt.Errorf("meta: a server answers %q", line)
	}
	fields := strings.Fields(rest)
	if len(fields) < 3 {
		return errTooMuch
	}
	size, err := strconv.ParseUint(fields[2], 10, 32)
	if err != nil || size > maxValue {
		return errTooMuch
	}
	c.skip = int(size) + len("\r\n")
	return nil
}
