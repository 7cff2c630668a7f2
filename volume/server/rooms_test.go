package server_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/volume/server"
)

// How full disks are is told from memory: one that does not answer keeps nobody
// waiting, and the others' room is theirs.
func TestRoomsWaitForNoDisk(t *testing.T) {
	var hang atomic.Bool
	var waiting atomic.Int64
	free := make(map[string]*atomic.Int64)
	for _, dir := range []string{"/a", "/b"} {
		free[dir] = &atomic.Int64{}
		free[dir].Store(5000)
	}
	answer := make(chan struct{})
	h := newHouse(t, server.Options{
		Dirs: []string{"/a", "/b"}, KeepFree: 1000,
		Space: func(dir string) (server.Space, error) {
			if dir == "/a" && hang.Load() {
				waiting.Add(1)
				<-answer
			}
			return server.Space{Free: free[dir].Load(), Capacity: 9000}, nil
		},
	})
	rooms := func(a, b int64) func() bool {
		return func() bool {
			return slices.Equal(h.s.Rooms(), []server.DiskRoom{{Disk: 1, InService: true, Free: a, Capacity: 9000}, {Disk: 2, InService: true, Free: b, Capacity: 9000}})
		}
	}
	h.until("both have answered", rooms(4000, 4000))
	hang.Store(true)
	free["/a"].Store(3000)
	free["/b"].Store(500) // below the reserve
	h.clock.Advance(time.Second)
	h.until("b has answered again", rooms(4000, 0))
	h.until("a is asked", func() bool { return waiting.Load() > 0 })
	for range 100 {
		h.s.Rooms()
	}
	if n := waiting.Load(); n != 1 {
		t.Errorf("a is asked by %d at once", n)
	}
	hang.Store(false)
	close(answer)
	h.until("a has answered", rooms(2000, 0))
}
