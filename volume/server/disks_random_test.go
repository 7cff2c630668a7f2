package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// comingAndGoing is a house whose disks go and come while it is at work. /c stays.
type comingAndGoing struct {
	*house
	w *ward

	mu     sync.Mutex // guards all below
	live   []stored
	dead   []stored
	dying  map[stored]bool
	on     map[stored]string // uuid of its disk
	killed map[string]bool   // uuids of disks that were wiped
}

// uuidOf returns the identity of the disk that a blob was written to.
func (c *comingAndGoing) uuidOf(b stored) string {
	p, _ := c.wire.Locate(b.blob)
	for _, d := range c.dir.Map().Disks() {
		if uint32(d.ID) == p.Disks[0] {
			return fmt.Sprintf("%x", d.UUID)
		}
	}
	return ""
}

func (c *comingAndGoing) write(r *rand.Rand) error {
	b, err := c.put([]volume.Class{variants, originals}[r.IntN(2)], 1+r.IntN(3000), 1+r.IntN(2))
	if err != nil {
		return fmt.Errorf("a write, though a disk is sound: %w", err)
	}
	uuid := c.uuidOf(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live, c.on[b] = append(c.live, b), uuid
	return nil
}

// read reads one that was acknowledged: its bytes, or a clear answer if its disk is
// one of those that go.
func (c *comingAndGoing) read(r *rand.Rand, sound string) error {
	c.mu.Lock()
	from, gone := c.live, r.IntN(4) == 0
	if gone {
		from = c.dead
	}
	if len(from) == 0 {
		c.mu.Unlock()
		return nil
	}
	b := from[r.IntN(len(from))]
	uuid := c.on[b]
	c.mu.Unlock()
	alt := uint8(r.IntN(b.alts))
	got, err := c.s.Read(context.Background(), b.blob, alt, b.cookie)
	defer got.Release()
	c.mu.Lock()
	dying := c.dying[b]
	c.mu.Unlock()
	switch {
	case err == nil && gone:
		return fmt.Errorf("%v was deleted and is read", b.blob)
	case err == nil && !bytes.Equal(got.Data, content(b.blob, alt, b.size)):
		return fmt.Errorf("%v: other bytes", b.blob)
	case err == nil, errors.Is(err, volume.ErrNotFound) && (gone || dying):
		return nil
	case uuid == sound:
		return fmt.Errorf("%v on the disk that stayed: %w", b.blob, err)
	case errors.Is(err, server.ErrUnavailable), errors.Is(err, volume.ErrCorrupt) && !errors.Is(err, volume.ErrNotFound):
		return nil
	}
	return err
}

func (c *comingAndGoing) remove(r *rand.Rand) error {
	c.mu.Lock()
	if len(c.live) < 30 {
		c.mu.Unlock()
		return nil
	}
	i := r.IntN(len(c.live))
	b := c.live[i]
	c.dying[b] = true
	c.mu.Unlock()
	err := c.s.Delete(context.Background(), b.blob)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.dead = append(c.dead, b)
		for i, l := range c.live {
			if l == b {
				c.live = append(c.live[:i], c.live[i+1:]...)
				break
			}
		}
		return nil
	}
	if errors.Is(err, server.ErrUnavailable) {
		return nil // it may be done or not
	}
	return fmt.Errorf("a delete: %w", err)
}

// strike has something happen to one of the disks that go.
func (c *comingAndGoing) strike(r *rand.Rand, hung map[string]bool) string {
	dir := []string{"/a", "/b"}[r.IntN(2)]
	what := r.IntN(6)
	switch {
	case hung[dir]:
		c.w.falls(dir, nil)
		hung[dir] = false
		return dir + " is cured"
	case what == 0:
		c.w.falls(dir, dead)
	case what == 1:
		c.w.falls(dir, hang)
	case what == 2:
		c.w.falls(dir, func(op vfs.Op) illness { return illness{hangs: op.Kind == vfs.OpSync || op.Kind == vfs.OpWrite} })
	case what == 3:
		c.w.falls(dir, func(op vfs.Op) illness {
			if op.Kind == vfs.OpSync || op.Kind == vfs.OpCreate {
				return dead(op)
			}
			return illness{}
		})
	default:
		if c.disk(dir).State == server.DiskOut {
			return "nothing"
		}
		c.mu.Lock()
		c.killed[c.disk(dir).UUID] = true
		c.mu.Unlock()
		c.w.trash(dir)
		return dir + " is wiped"
	}
	hung[dir] = true
	return fmt.Sprintf("%s falls ill of %d", dir, what)
}

// trash is wipe beside a server that makes files.
func (w *ward) trash(dir string) {
	for again := true; again; {
		names, _ := w.mem.ReadDir(dir)
		for _, n := range names {
			if errors.Is(w.mem.Remove(dir+"/"+n), unix.ENOTEMPTY) {
				w.trash(dir + "/" + n)
			}
		}
		again = errors.Is(w.mem.Remove(dir), unix.ENOTEMPTY)
	}
}

// Disks fail, hang, fail writes, are wiped and come back while everything else is at
// work: what lies on the disk that stays is always there, writes always find a
// place, nothing deleted comes back, and what was not wiped is there in the end.
func TestDisksComeAndGo(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with: go test ./volume/server -run TestDisksComeAndGo -seed %d", seed)
	w := newWard()
	c := &comingAndGoing{w: w, dying: make(map[stored]bool), on: make(map[stored]string), killed: make(map[string]bool)}
	c.house = newHouse(t, server.Options{FS: w, Dirs: []string{"/a", "/b", "/c"}, WatchEvery: second, VolumeBytes: 128 << 10})
	sound := c.disk("/c").UUID
	var over atomic.Bool
	var wg sync.WaitGroup
	worker := func(n uint64, step func(*rand.Rand) error) {
		wg.Go(func() {
			for r := rand.New(rand.NewPCG(seed, n)); !over.Load(); {
				if err := step(r); err != nil {
					t.Error(err)
					over.Store(true)
				}
			}
		})
	}
	for n := range uint64(3) {
		worker(n, func(r *rand.Rand) error { return c.read(r, sound) })
	}
	worker(10, c.write)
	worker(11, c.write)
	worker(12, c.remove)
	r, ill := rand.New(rand.NewPCG(seed, 99)), make(map[string]bool)
	for i := 0; i < testenv.Rounds(60) && !over.Load(); i++ {
		did := c.strike(r, ill)
		for range 1 + r.IntN(25) {
			c.tick()
		}
		if d := c.disk("/c"); d.State == server.DiskOut {
			t.Errorf("round %d, after %s the sound disk is %v for %v", i, did, d.State, d.Why)
		}
	}
	for dir := range ill {
		w.falls(dir, nil)
	}
	over.Store(true)
	wg.Wait()
	for _, dir := range []string{"/a", "/b"} {
		for i := 0; c.disk(dir).State != server.DiskOK; i++ {
			if i > 4_000 {
				e, n := c.said(server.EventDiskRefused, dir)
				t.Fatalf("%s is not back: %+v; refused %d times, for %v: %s", dir, c.disk(dir).Why, n, e.Err, c.w.listing(dir))
			}
			c.tick()
		}
	}
	lost := 0
	for _, b := range c.live {
		if c.killed[c.on[b]] || c.dying[b] {
			lost++
			continue
		}
		c.check(b)
	}
	for _, b := range c.dead {
		if got, err := c.s.Read(t.Context(), b.blob, 0, b.cookie); err == nil {
			got.Release()
			t.Errorf("%v was deleted and is back", b.blob)
		}
	}
	testenv.Tell(t, "%d blobs, %d deleted, %d on disks that were wiped; %d disks wiped", len(c.live), len(c.dead), lost, len(c.killed))
}
