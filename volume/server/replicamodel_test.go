package server_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"hayloft/internal/testenv"
	"hayloft/volume"
	"hayloft/volume/server"
)

// fate is what the clients of a cluster know of a blob.
type fate int

const (
	fateStored  fate = iota // acknowledged
	fateDoubted             // a delete was asked for and not acknowledged
	fateDeleted             // acknowledged
)

// clients are what uses a cluster and remembers what it was told.
type clients struct {
	*cluster

	mu    sync.Mutex // guards all below
	blobs []stored
	fates []fate
}

// some returns one of the blobs, or -1.
func (c *clients) some(r *rand.Rand) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.blobs) == 0 {
		return -1
	}
	return r.IntN(len(c.blobs))
}

func (c *clients) known(i int) (stored, fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blobs[i], c.fates[i]
}

func (c *clients) write(m *member, size int) error {
	b, _, err := m.put(volume.ClassOriginals, size)
	if err != nil {
		return allowed(err, server.ErrUnavailable)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blobs, c.fates = append(c.blobs, b), append(c.fates, fateStored)
	return nil
}

func (c *clients) remove(m *member, i int) error {
	c.mu.Lock()
	b := c.blobs[i]
	c.fates[i] = max(c.fates[i], fateDoubted)
	c.mu.Unlock()
	s := m.server()
	if s == nil {
		return nil
	}
	if err := s.Delete(context.Background(), b.blob); err != nil || m.server() != s {
		return allowed(err, server.ErrUnavailable)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fates[i] = fateDeleted
	return nil
}

// look reads a blob. What it may find depends on what was known before and after.
func (c *clients) look(m *member, i int) error {
	b, before := c.known(i)
	err := m.read(b)
	_, after := c.known(i)
	switch {
	case err == nil && before == fateDeleted:
		return fmt.Errorf("%s: %v came back after it was deleted", m.name, b.blob)
	case errors.Is(err, volume.ErrNotFound) && after == fateStored:
		return fmt.Errorf("%s: %v is not found", m.name, b.blob)
	case err != nil:
		return allowed(err, server.ErrUnavailable, volume.ErrNotFound)
	}
	return nil
}

// allowed is nil for some errors, and else err. A node that was stopped is closed.
func allowed(err error, some ...error) error {
	if errors.Is(err, server.ErrClosed) {
		return nil
	}
	for _, target := range some {
		if errors.Is(err, target) {
			return nil
		}
	}
	return err
}

// burst has a few clients do something at the same time, at nodes that are up, while
// something else happens.
func (c *clients) burst(r *rand.Rand, meanwhile func()) error {
	var up []*member
	for _, m := range c.members {
		if m.server() != nil {
			up = append(up, m)
		}
	}
	errs := make(chan error, 4)
	for range cap(errs) {
		m, size, i := up[r.IntN(len(up))], 1+r.IntN(4000), c.some(r)
		do := func() error { return c.write(m, size) }
		switch k := r.IntN(10); {
		case i < 0 || k < 4:
		case k < 6:
			do = func() error { return c.remove(m, i) }
		default:
			do = func() error { return c.look(m, i) }
		}
		go func() { errs <- do() }()
	}
	meanwhile()
	var err error
	c.run(func() {
		for range cap(errs) {
			err = errors.Join(err, <-errs)
		}
	})
	return err
}

// trouble changes what is wrong with one node. One at a time has something, so that
// two of three replicas can do without it.
func (c *clients) trouble(r *rand.Rand, sick *member) *member {
	if sick != nil {
		c.join(sick)
		if sick.server() == nil {
			sick.start()
		}
		return nil
	}
	m := c.members[r.IntN(len(c.members))]
	switch r.IntN(6) {
	case 0:
		m.kill(r.Uint64())
	case 1:
		c.part(m)
	case 2:
		c.fault(nil, m, linkSilent)
	case 3:
		c.fault(nil, m, linkLoses([]string{"Append", "Entomb", "LogDeletes", "Delete", "Create"}[r.IntN(5)]))
	case 4:
		m.wire.lag()
		c.fault(m, c.members[r.IntN(len(c.members))], linkDown)
	case 5: // a tile ends, though nothing is wrong
		if i := c.some(r); i >= 0 {
			b, _ := c.known(i)
			if c.row(b.blob).State == server.StateOpen {
				c.close(b)
			}
		}
		return nil
	}
	return m
}

// Whatever becomes of one node at a time: what was acknowledged is found, what was
// deleted does not come back, and bytes are never wrong.
func TestReplicasModel(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with: go test ./volume/server -run TestReplicasModel -seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 5))
	o := three
	o.NoUpkeep, o.UpkeepEvery = false, 2*time.Second
	o.VolumeBytes = 64 << 10                    // tiles end by themselves too
	o.DirectoryTimeout = 400 * time.Millisecond // what a client waits for at a node that is cut off
	o.ReadTimeout = 2 * time.Second
	c := &clients{cluster: newCluster(t, o, 1, 2, 1, 1)}
	var sick *member
	rounds := testenv.Rounds(120)
	for range rounds {
		err := c.burst(r, func() {
			if r.IntN(4) == 0 {
				sick = c.trouble(r, sick)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if sick != nil {
		c.trouble(r, sick)
	}
	found := 0
	for i := range c.blobs {
		for _, m := range c.members {
			if err := c.look(m, i); err != nil {
				t.Error(err)
			}
		}
		if b, f := c.known(i); f == fateStored {
			found++
			if err := c.members[0].read(b); err != nil {
				t.Errorf("%v: %v", b.blob, err)
			}
		}
	}
	if found < rounds/6 || found > len(c.blobs)-rounds/24 {
		t.Errorf("%d of %d are stored: this run says little", found, len(c.blobs))
	}
}
