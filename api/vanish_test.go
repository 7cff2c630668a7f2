package api

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"

	"hayloft/internal/testenv"
)

// descriptors is how many files this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(list)
}

// TestClientsThatVanishLeaveNothing: thousands of clients, in a soak a million, ask
// for photos that are in memory or not and are gone: before they have asked, in the
// middle of the request, before the answer, in the middle of it. What is left of them
// is nothing: no goroutine, no descriptor, no connection, no pinned byte, no memory.
func TestClientsThatVanishLeaveNothing(t *testing.T) {
	clients := testenv.Times("HAYLOFT_CLIENTS", testenv.Rounds(4000))
	g := newGallery(t, nil, func(o *Options) { o.Events = nil })
	vanish := func(n int, seed uint64) {
		var wg sync.WaitGroup
		for i := range 16 {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			wg.Go(func() {
				for range n / 16 {
					g.vanish(t, rng)
				}
			})
		}
		wg.Wait()
		eventually(t, "all connections are closed", func() bool {
			g.api.conns.mu.Lock()
			defer g.api.conns.mu.Unlock()
			return len(g.api.conns.open) == 0 && len(g.api.conns.from) == 0
		})
	}
	vanish(clients/10, 1) // pools and buffers grow to what so many at a time need
	before, heap := descriptors(t), liveHeap()
	vanish(clients, 2)
	if n := descriptors(t); n > before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
	grown := liveHeap() - heap
	if grown > 8*mib {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if n := g.api.server.GetOpenConnectionsCount(); n > 0 {
		eventually(t, "no worker has a connection", func() bool { return g.api.server.GetOpenConnectionsCount() == 0 })
	}
	c := g.dial(0)
	_, err := io.WriteString(c, get(1000))
	must(t, err)
	st := g.cache.Stats() // what is pinned shows when the cache is closed: see newGallery
	testenv.Tell(t, "%d clients vanished: the heap grew by %d KiB, %d bytes served, %d hits, %d fills", clients, grown/kib, st.BytesServed, st.Hits, st.Fills)
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // empties the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// vanish is the short life of a client.
func (g *gallery) vanish(t *testing.T, rng *rand.Rand) {
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Error(err)
		return
	}
	if rng.IntN(50) > 0 { // else it says goodbye
		_ = c.(*net.TCPConn).SetLinger(0) // nothing depends on it
	}
	defer c.Close()
	size := 1 + rng.IntN(40)*(1+rng.IntN(2)*rng.IntN(2000)) // the small ones stay in memory
	if rng.IntN(20) == 0 {
		size = 6 * mib // more than sockets hold: gone in the middle of sending
	}
	text, reads := get(size), rng.IntN(2) == 0
	switch rng.IntN(8) {
	case 0:
		return
	case 1:
		text, reads = text[:rng.IntN(len(text))], false
	case 2:
		text = get(size, "Range: bytes=0-")
	case 3:
		text += text + text
	}
	// The server may be faster at noticing that we go: errors are no news.
	_, _ = io.WriteString(c, text)
	if reads {
		_, _ = io.CopyN(io.Discard, c, int64(1+rng.IntN(size)))
	}
}
