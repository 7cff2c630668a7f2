package api

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Deadlines of connections are the kernel's business and follow the machine's
// clock, not the injected one.

const (
	acceptRetry = 50 * time.Millisecond // after a temporary failure of accept
	readChunk   = 64 * kib              // deadlines move by so much
	writeChunk  = 256 * kib             // large enough that most answers are one write
	lingerTime  = 3 * time.Second
)

// longAgo is a deadline that ends what waits.
var longAgo = time.Unix(1, 0)

// connTable counts the open connections.
type connTable struct {
	max, perAddress int
	exempt          func(netip.Addr) bool // from perAddress

	mu   sync.Mutex // guards all below
	open map[*conn]struct{}
	from map[netip.Addr]int
}

func newConnTable(maxConns, perAddress int, exempt func(netip.Addr) bool) *connTable {
	return &connTable{max: maxConns, perAddress: perAddress, exempt: exempt,
		open: make(map[*conn]struct{}), from: make(map[netip.Addr]int)}
}

func (t *connTable) add(c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) >= t.max || (t.from[c.peer] >= t.perAddress && !t.exempt(c.peer)) {
		return false
	}
	t.open[c] = struct{}{}
	t.from[c.peer]++
	return true
}

func (t *connTable) remove(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.open[c]; !ok {
		return
	}
	delete(t.open, c)
	if t.from[c.peer]--; t.from[c.peer] == 0 {
		delete(t.from, c.peer)
	}
}

// closeAll ends every connection, whatever it is doing.
func (t *connTable) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		_ = c.Conn.Close() // the owner's own Close reports to nobody either
	}
}

// closeUnused ends the connections of which the machinery does not know that they
// are idle: those on which nothing was ever asked, which browsers open in advance,
// and those on which the lane alone has answered. A shutdown need not wait for them.
func (t *connTable) closeUnused() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		if !c.begun.Load() || c.lane.end() {
			_ = c.Conn.Close() // as in closeAll
		}
	}
}

// listener hands out guarded connections. It outlives failures of accept that
// pass, such as a process out of file descriptors: the HTTP machinery above
// would stop for good.
type listener struct {
	net.Listener
	a *API
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || l.a.base.Err() != nil {
				return nil, io.EOF // what the machinery takes for an orderly end
			}
			l.a.emit(Event{Kind: EventServer, Note: "accept failed", Err: err})
			select {
			case <-l.a.drain:
				return nil, io.EOF
			case <-l.a.opt.Clock.After(acceptRetry):
			}
			continue
		}
		c := &conn{Conn: nc, a: l.a, peer: addrOf(nc.RemoteAddr()), table: l.a.conns,
			grace: l.a.opt.Limits.HeaderTimeout, rate: l.a.opt.Limits.BytesPerSecond, drainBytes: l.a.opt.Limits.PhotoBytes}
		c.useTCP()
		c.lane.boundary = true
		if l.a.conns.add(c) {
			return c, nil
		}
		refuse(nc)
	}
}

// refuse answers a connection over the limit. The few bytes fit any fresh
// socket buffer, so this does not hold up accepting.
func refuse(nc net.Conn) {
	p := &problem{kind: pBusy, detail: "too many connections"}
	body := p.body()
	head := "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: " + typeProblem + "\r\nContent-Length: " + itoa(len(body)) + "\r\n"
	for _, h := range apiHeaders {
		head += h[0] + ": " + h[1] + "\r\n"
	}
	_ = nc.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = nc.Write(append([]byte(head+"\r\n"), body...)) // the peer is being refused; nothing to do if it is gone
	_ = nc.Close()
}

// conn bounds what a peer that reads slowly can hold, and closes so that a
// peer which is still sending can read why it was refused.
type conn struct {
	net.Conn
	a          *API
	peer       netip.Addr
	table      *connTable
	grace      time.Duration
	rate       int64 // bytes per second
	drainBytes int64

	sends  atomic.Pointer[booking] // the room that what is being written holds, if any
	begun  atomic.Bool             // the peer has sent something
	tcp    *net.TCPConn            // Conn, when it is one
	raw    syscall.RawConn         // of tcp
	out    outgoing
	lane   lane
	linger atomic.Bool // request bytes were left unread
	once   sync.Once
}

// probes notice within three minutes that a peer's machine is gone.
var probes = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 30 * time.Second, Count: 4}

// useTCP lets answers go straight to a TCP socket.
func (c *conn) useTCP() {
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetKeepAliveConfig(probes)             // deadlines end the connection without them
	if raw, err := tcp.SyscallConn(); err == nil { // else as on any other connection
		c.tcp, c.raw, c.out.step = tcp, raw, c.out.sendPages
	}
}

// Write sends p at no less than the least average rate after a grace.
func (c *conn) Write(p []byte) (n int, err error) {
	if c.out.tail {
		return c.sendAll(p)
	}
	c.out.armed = time.Time{}
	start := time.Now()
	for n < len(p) {
		end := min(n+writeChunk, len(p))
		if err := c.Conn.SetWriteDeadline(start.Add(c.grace + atRate(int64(end), c.rate))); err != nil {
			return n, err
		}
		room := c.sends.Load()
		if room != nil && room.ended.Load() { // after the deadline was moved: see spool.end
			return n, os.ErrDeadlineExceeded
		}
		m, err := c.Conn.Write(p[n:end])
		n += m
		if room != nil {
			room.done.Add(int64(m))
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// allowRead lets the peer take until the least average rate after a grace,
// counted from start, for done bytes and one chunk more.
func (c *conn) allowRead(start time.Time, done int64) error {
	return c.Conn.SetReadDeadline(start.Add(c.grace + atRate(done+readChunk, c.rate)))
}

// Close implements net.Conn. Closing with request bytes unread resets the
// connection, which can take the answer away from the peer before it was read;
// so after an early answer what still comes is thrown away for a moment. An answer
// of the lane is finished first, by the lane.
func (c *conn) Close() error {
	var err error
	if c.lane.state.CompareAndSwap(laneBusy, laneClosing) {
		return nil
	}
	c.once.Do(func() {
		if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.linger.Load() && half.CloseWrite() == nil {
			_ = c.Conn.SetReadDeadline(time.Now().Add(lingerTime))
			_, _ = io.CopyN(io.Discard, c.Conn, c.drainBytes) // ends by deadline or by the peer's close
		}
		err = c.Conn.Close()
		c.table.remove(c)
	})
	return err
}

// atRate is the time that n bytes take at rate bytes per second.
func atRate(n, rate int64) time.Duration {
	return time.Duration(float64(n) / float64(rate) * float64(time.Second))
}

// addrOf returns the IP address of a, or the zero address.
func addrOf(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
