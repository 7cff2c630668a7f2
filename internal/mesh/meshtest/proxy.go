package meshtest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Direction is which way bytes go through a Proxy.
type Direction int

// The directions.
const (
	Forth Direction = iota // to the target
	Back                   // from it
)

// Proxy passes TCP connections on to a target, and what happens to the bytes can be
// changed at any time, for connections that are open too. It acknowledges what it
// swallows: ends of a cut connection learn of it by waiting, not from TCP.
type Proxy struct {
	listener net.Listener
	dial     func(ctx context.Context) (net.Conn, error)
	work     sync.WaitGroup
	ctx      context.Context
	cancel   context.CancelFunc

	mu      sync.Mutex // guards what follows
	rules   [2]rule
	changed chan struct{} // closed, and another made, with each change
	open    map[net.Conn]struct{}
	refuse  bool
}

type rule struct {
	delay time.Duration
	cut   bool
	rate  int64 // bytes per second; 0: no limit
}

// NewProxy begins to pass on to a target, and ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	return NewProxyOn(t, Listen(t), func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", target)
	})
}

// NewProxyOn passes what comes to a listener, which is the Proxy's from now on, to what
// dial connects to: sockets of other networks.
func NewProxyOn(t testing.TB, l net.Listener, dial func(ctx context.Context) (net.Conn, error)) *Proxy {
	t.Helper()
	p := &Proxy{listener: l, dial: dial, changed: make(chan struct{}), open: map[net.Conn]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.work.Go(p.accept)
	t.Cleanup(func() {
		p.cancel()
		_ = p.listener.Close()
		p.Reset()
		p.work.Wait()
	})
	return p
}

// Addr is where to connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

func (p *Proxy) change(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Delay has bytes arrive later in both directions: half of the round trip each.
func (p *Proxy) Delay(roundTrip time.Duration) {
	p.change(func() { p.rules[Forth].delay, p.rules[Back].delay = roundTrip/2, roundTrip/2 })
}

// Limit has at most so many bytes pass per second each way; 0 is no limit.
func (p *Proxy) Limit(bytesPerSecond int64) {
	p.change(func() { p.rules[Forth].rate, p.rules[Back].rate = bytesPerSecond, bytesPerSecond })
}

// Cut swallows everything both ways, as a cable does that was pulled out. New
// connections are taken and nothing comes through.
func (p *Proxy) Cut() { p.change(func() { p.rules[Forth].cut, p.rules[Back].cut = true, true }) }

// CutOneWay swallows what goes one way.
func (p *Proxy) CutOneWay(d Direction) { p.change(func() { p.rules[d].cut = true }) }

// Refuse resets new connections, as a host does on which nobody listens.
func (p *Proxy) Refuse() { p.change(func() { p.refuse = true }) }

// Heal ends everything that was set. What was swallowed does not come back: a
// connection out of which something is missing should be reset (Reset).
func (p *Proxy) Heal() { p.change(func() { p.rules, p.refuse = [2]rule{}, false }) }

// Reset breaks every open connection.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		abort(c)
	}
}

// Open is how many connections there are to the proxy.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open) / 2
}

func abort(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // RST rather than FIN
	}
	_ = c.Close()
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.work.Go(func() { p.pass(c) })
	}
}

// pass is one connection.
func (p *Proxy) pass(in net.Conn) {
	p.mu.Lock()
	refuse := p.refuse
	p.mu.Unlock()
	var out net.Conn
	var err error
	if !refuse {
		out, err = p.dial(p.ctx)
	}
	if refuse || err != nil {
		abort(in)
		return
	}
	p.mu.Lock()
	p.open[in], p.open[out] = struct{}{}, struct{}{}
	p.mu.Unlock()
	if p.ctx.Err() != nil { // Reset may have come before
		abort(in)
		abort(out)
	}
	var both sync.WaitGroup
	both.Go(func() { p.pump(out, in, Forth) })
	both.Go(func() { p.pump(in, out, Back) })
	both.Wait()
	p.mu.Lock()
	delete(p.open, in)
	delete(p.open, out)
	p.mu.Unlock()
	_, _ = in.Close(), out.Close()
}

// chunk is what was read at a time; nil data is the end.
type chunk struct {
	data []byte
	due  time.Time
}

// pump carries one direction. Chunks wait in a queue for their time, so that a delay
// does not lower the rate.
func (p *Proxy) pump(to, from net.Conn, d Direction) {
	queue := make(chan chunk, 1024)
	go func() {
		defer close(queue)
		for {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			if n > 0 {
				p.mu.Lock()
				due := time.Now().Add(p.rules[d].delay)
				p.mu.Unlock()
				queue <- chunk{b[:n], due}
			}
			if err != nil {
				return
			}
		}
	}()
	for c := range queue {
		if !p.wait(time.Until(c.due)) {
			continue // the end: drain
		}
		p.mu.Lock()
		r := p.rules[d]
		p.mu.Unlock()
		if r.cut {
			continue
		}
		if r.rate > 0 && !p.wait(time.Duration(int64(len(c.data))*int64(time.Second)/r.rate)) {
			continue
		}
		if _, err := to.Write(c.data); err != nil {
			abort(from)
		}
	}
	p.mu.Lock()
	cut := p.rules[d].cut
	p.mu.Unlock()
	if !cut { // the end of a stream does not come through either
		if t, ok := to.(*net.TCPConn); ok {
			_ = t.CloseWrite()
		}
		return
	}
	p.awaitHeal(d)
	abort(to)
}

// wait returns false when the proxy has ended.
func (p *Proxy) wait(d time.Duration) bool {
	if d <= 0 {
		return p.ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// awaitHeal returns when the direction is not cut any more, or the proxy has ended.
func (p *Proxy) awaitHeal(d Direction) {
	for {
		p.mu.Lock()
		cut, changed := p.rules[d].cut, p.changed
		p.mu.Unlock()
		if !cut {
			return
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
			return
		}
	}
}
