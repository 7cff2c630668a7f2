package mesh

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The greeting. When the handshake is over, the node that was dialed sends
//
//	u8 0, u64 instance, u8 length and bytes of its advertised address
//
// or another first byte and nothing more, and closes: it takes no connection from there
// now. Whoever dialed waits for it, so that a dial that succeeds was accepted, and sends
// the same; the address is empty when nobody listens there. The instance is a
// random number of the process, little-endian. The version is in the ALPN name.
const alpnPrefix = "hayloft/1/"

// helloProto is for a greeting and nothing after it.
const helloProto = "hello"

// First bytes of a greeting.
const (
	welcome = 0
	busy    = 1 // ErrBusy
)

// maxAddr is the longest address, in bytes.
const maxAddr = 255

type greeting struct {
	instance uint64
	addr     string
}

func (g greeting) append(b []byte) []byte {
	b = append(b, welcome)
	b = binary.LittleEndian.AppendUint64(b, g.instance)
	b = append(b, byte(len(g.addr)))
	return append(b, g.addr...)
}

func readGreeting(r io.Reader) (g greeting, err error) {
	var head [10]byte
	if _, err = io.ReadFull(r, head[:1]); err != nil {
		return g, err
	}
	switch head[0] {
	case welcome:
	case busy:
		return g, ErrBusy
	default:
		return g, fmt.Errorf("refused by the node (%d)", head[0])
	}
	if _, err = io.ReadFull(r, head[1:]); err != nil {
		return g, err
	}
	addr := make([]byte, head[9])
	if _, err = io.ReadFull(r, addr); err != nil {
		return g, err
	}
	g = greeting{binary.LittleEndian.Uint64(head[1:]), string(addr)}
	if g.addr != "" {
		if _, _, err := net.SplitHostPort(g.addr); err != nil {
			return g, fmt.Errorf("the advertised address: %w", err)
		}
	}
	return g, nil
}

// Conn is a connection whose other end is known. As a net.Conn it is used like any
// other.
type Conn struct {
	*tls.Conn
	m       *Mesh
	peer    Peer
	proto   string
	serving bool // the other end dialed
	once    sync.Once
	err     error
}

// Peer is who is at the other end.
func (c *Conn) Peer() Peer { return c.peer }

// Close closes the connection. It does not wait for the other end.
func (c *Conn) Close() error {
	c.once.Do(func() {
		c.m.untrack(c)
		c.err = c.Conn.Close()
	})
	return c.err
}

// within runs fn, which uses the connection, and closes that when ctx ends first.
func within(ctx context.Context, c net.Conn, fn func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	err := fn()
	if !stop() && err == nil {
		err = ctx.Err() // it is closed, or will be at once
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// How soon the kernel notices that nothing comes from the other end any more: a
// connection on which something waits to be acknowledged, or on which the other end
// takes nothing, ends after silence; an idle one is asked from probeAfter on.
const (
	silence    = 6 * time.Second
	probeAfter = 2 * time.Second
	probeEvery = time.Second
	probes     = 4
)

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: probeAfter, Interval: probeEvery, Count: probes}

// watchful sets that up on a TCP connection; others stay as they are.
func watchful(c net.Conn) error {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
	})
	return errors.Join(err, serr, t.SetKeepAliveConfig(keepAlive))
}
