package server_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/server"
)

// encode seals and codes the volume of a blob at the node of its primary.
func (c *cluster) encode(b stored) {
	c.t.Helper()
	c.run(func() {
		row := c.row(b.blob)
		if err := c.of(row.InSync[0]).server().Encode(context.Background(), row.Volume.Volume, nil); err != nil {
			c.t.Error(err)
		}
	})
}

// codes is how the members of a cluster code volumes.
func codes() server.Options {
	return server.Options{Replicas: 2, NoUpkeep: true, Coding: coding.Policy{Data: 2, Parity: 1}, SourceGrace: time.Hour, Maintenance: 1 << 40, CompactBytes: 1 << 40}
}

// putTogether stores blobs until there are n in one volume, and returns those.
func (m *member) putTogether(n int) (out []stored) {
	for len(out) < n {
		b := m.mustPut(40_000)
		if len(out) == 0 || m.c.row(b.blob).Volume.Volume == m.c.row(out[0].blob).Volume.Volume {
			out = append(out, b)
		}
	}
	return out
}

// TestOthersAskTheKeeper: every node reads and deletes in a coded volume through the
// node that serves it, in the grace and after it, and never out of a replica that
// lies beside the shards.
func TestOthersAskTheKeeper(t *testing.T) {
	c := newCluster(t, codes(), 3, 3, 1)
	all := c.members[0].putTogether(6)
	c.encode(all[0])
	row := c.row(all[0].blob)
	if row.Coding.Committed == nil || len(row.InSync) != 1 {
		t.Fatalf("%+v", row)
	}
	keeper := c.of(server.KeeperOf(row.Coding, row.Keeper))
	// Deleted through one node, gone at all: the replicas do not know of it.
	for i, m := range c.members {
		if err := m.delete(all[i]); err != nil {
			t.Fatal(m.name, err)
		}
		for _, other := range c.members {
			if err := other.read(all[i]); !errors.Is(err, volume.ErrNotFound) {
				t.Errorf("%s, deleted through %s: %v", other.name, m.name, err)
			}
			if err := other.read(all[5]); err != nil {
				t.Errorf("%s: %v", other.name, err)
			}
		}
	}
	// A peer that is asked for the source answers out of the shards.
	for _, m := range c.members {
		if m == keeper {
			continue
		}
		_, err := (link{m, keeper}).Read(context.Background(), row.InSync[0], row.Volume.Volume, all[0].blob, 0, all[0].cookie)
		if !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("out of the source: %v", err)
		}
	}
	// Who does not serve it says so, whatever file it has.
	for _, m := range c.members {
		if m == keeper {
			continue
		}
		for _, disk := range m.disks() {
			p := m.server().Replicas()
			_, err := p.Read(context.Background(), disk, row.Volume.Volume, all[5].blob, 0, all[5].cookie)
			if !errors.Is(err, server.ErrUnavailable) {
				t.Errorf("%s: %v", m.name, err)
			}
			if err := p.Delete(context.Background(), disk, row.Volume.Volume, all[5].blob); !errors.Is(err, server.ErrUnavailable) {
				t.Errorf("%s: %v", m.name, err)
			}
		}
	}
	probed, err := c.members[2].server().Probe(context.Background(), all[5].blob)
	if err != nil || !probed.Coded || len(probed.Needles) != 1 {
		t.Errorf("%+v, %v", probed, err)
	}
	// The source is let go: there is no replica any more.
	commit := row.Coding.Committed
	if _, err := keeper.wire.ReleaseSource(context.Background(), row.Volume.Volume, commit.Epoch, commit.Digests, 0, row.Term); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.members {
		if err := m.read(all[5]); err != nil {
			t.Errorf("%s, after the release: %v", m.name, err)
		}
		if err := m.delete(all[3]); err != nil {
			t.Errorf("%s, after the release: %v", m.name, err)
		}
		if err := m.read(all[3]); !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("%s, after the release: %v", m.name, err)
		}
	}
	// Without the keeper nobody knows.
	c.fault(nil, keeper, linkDown)
	for _, m := range c.members {
		want := server.ErrUnavailable
		if m == keeper {
			want = nil
		}
		if err := m.read(all[5]); !errors.Is(err, want) {
			t.Errorf("%s, the keeper away: %v", m.name, err)
		}
		if m != keeper {
			if err := m.delete(all[5]); !errors.Is(err, server.ErrUnavailable) {
				t.Errorf("%s deletes, the keeper away: %v", m.name, err)
			}
		}
	}
	c.fault(nil, keeper, nil)
	keeper.stop()
	keeper.start()
	for _, m := range c.members {
		if err := m.read(all[5]); err != nil {
			t.Errorf("%s, the keeper back: %v", m.name, err)
		}
		if err := m.read(all[0]); !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("%s, the keeper back: %v", m.name, err)
		}
	}
}

// sixHomes is a cluster of three nodes with two disks each, which codes 4+2: two
// shards on each node.
func sixHomes(t *testing.T) *cluster {
	o := codes()
	o.NoUpkeep, o.Coding, o.CodeAfter, o.RepairDelay, o.UpkeepEvery = false, coding.Policy{Data: 4, Parity: 2}, 1000*time.Hour, 10*time.Minute, time.Second
	return newCluster(t, o, 2, 2, 2)
}

// keeperOf returns the member that keeps the volume of a blob, and its row.
func (c *cluster) keeperOf(b stored) (*member, server.Row) {
	c.t.Helper()
	row := c.row(b.blob)
	if row.Coding.Committed == nil || row.Keeper == 0 {
		c.t.Fatalf("nobody keeps %+v", row)
	}
	return c.of(row.Keeper), row
}

// answer reads until the member knows.
func (m *member) answer(b stored) (err error) {
	m.c.t.Helper()
	m.c.run(func() {
		m.c.until("an answer", func() bool { err = m.read(b); return !errors.Is(err, server.ErrUnavailable) })
	})
	return err
}

// TestANodeWithShardsIsLost: a coded volume outlives the loss of any node, its keeper
// too, with every delete that was acknowledged, and what the node had is made again on
// those that are left.
func TestANodeWithShardsIsLost(t *testing.T) {
	for lose := range 3 {
		t.Run(fmt.Sprint(lose), func(t *testing.T) {
			c := sixHomes(t)
			all := c.members[lose].putTogether(9)
			c.encode(all[0])
			keeper, row := c.keeperOf(all[0])
			on := make(map[*member]int)
			for _, h := range row.Coding.Committed.Homes {
				on[c.of(uint32(h))]++
			}
			for _, m := range c.members {
				if on[m] != 2 {
					t.Errorf("%s has %d shards", m.name, on[m])
				}
			}
			for i, m := range c.members {
				if err := m.delete(all[i]); err != nil {
					t.Fatal(err)
				}
			}
			gone := c.members[(lose+1)%3]
			if lose == 0 {
				gone = keeper
			}
			gone.kill(1)
			var left []*member
			for _, m := range c.members {
				if m != gone {
					left = append(left, m)
				}
			}
			c.run(func() {
				c.until("a keeper", func() bool {
					_, row := c.keeperOf(all[0])
					return c.of(row.Keeper) != gone && left[0].read(all[8]) == nil
				})
			})
			for i, m := range left {
				for _, b := range all[:3] {
					if err := m.read(b); !errors.Is(err, volume.ErrNotFound) {
						t.Errorf("%s: %v was deleted: %v", m.name, b.blob, err)
					}
				}
				for _, b := range all[5:] {
					if err := m.read(b); err != nil {
						t.Errorf("%s: %v: %v", m.name, b.blob, err)
					}
				}
				if err := m.delete(all[3+i]); err != nil {
					t.Errorf("%s deletes: %v", m.name, err)
				}
			}
			c.run(func() {
				c.clock.Advance(11 * time.Minute)
				c.until("all shards on nodes that are left", func() bool {
					_, row := c.keeperOf(all[0])
					for _, h := range row.Coding.Committed.Homes {
						if c.of(uint32(h)) == gone {
							return false
						}
					}
					return true
				})
			})
			// And now the other way round: what was made again is all there is.
			gone.start()
			for _, b := range all[:5] {
				for _, m := range c.members {
					if err := m.answer(b); !errors.Is(err, volume.ErrNotFound) {
						t.Errorf("%s: %v was deleted: %v", m.name, b.blob, err)
					}
				}
			}
		})
	}
}

// TestAFormerKeeperIsRefused: a keeper that is cut off from the directory alone, and
// still reaches every disk, acknowledges nothing any more once another one has taken
// over, who serves at once.
func TestAFormerKeeperIsRefused(t *testing.T) {
	c := sixHomes(t)
	all := c.members[0].putTogether(6)
	c.encode(all[0])
	keeper, row := c.keeperOf(all[0])
	if err := keeper.delete(all[0]); err != nil {
		t.Fatal(err)
	}
	keeper.wire.cut(errAway)
	keeper.hidden.Store(true)
	if err := keeper.delete(all[1]); err != nil { // nobody has replaced it yet
		t.Fatal(err)
	}
	c.run(func() {
		c.until("another keeper", func() bool {
			next, _ := c.keeperOf(all[0])
			return next != keeper && next.read(all[5]) == nil
		})
	})
	next, now := c.keeperOf(all[0])
	if now.Term != row.Term+1 {
		t.Errorf("term %d after %d", now.Term, row.Term)
	}
	for _, m := range c.members {
		if m == keeper {
			continue
		}
		for _, b := range all[:2] {
			if err := m.read(b); !errors.Is(err, volume.ErrNotFound) {
				t.Errorf("%s: what the former keeper deleted: %v", m.name, err)
			}
		}
	}
	if err := keeper.delete(all[2]); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("the former keeper deletes: %v", err)
	}
	if err := next.delete(all[3]); err != nil {
		t.Errorf("the next keeper: %v", err)
	}
	if err := next.read(all[2]); err != nil {
		t.Errorf("what was not deleted: %v", err)
	}
	// It hears what has happened, and asks the next one.
	keeper.wire.cut(nil)
	keeper.hidden.Store(false)
	c.run(func() {
		c.until("the former keeper", func() bool { return keeper.read(all[5]) == nil })
	})
	for i, b := range all[:4] { // it may take the volume over again: it has the source
		if err := keeper.answer(b); i != 2 && !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("blob %d at the former keeper: %v", i, err)
		}
	}
}

// TestAKeeperThatHearsNothingSaysNothing: who has not heard of the directory for longer
// than is allowed shows nothing of a coded volume, to its own callers neither: another
// one may have taken deletes since.
func TestAKeeperThatHearsNothingSaysNothing(t *testing.T) {
	o := codes()
	var age atomic.Int64
	o.MaxStale, o.Heard = time.Minute, func() (time.Duration, bool) { return time.Duration(age.Load()), true }
	c := newCluster(t, o, 1, 1, 1)
	all := c.members[0].putTogether(2)
	c.encode(all[0])
	keeper, _ := c.keeperOf(all[0])
	if err := keeper.read(all[0]); err != nil {
		t.Fatal(err)
	}
	age.Store(int64(2 * time.Minute))
	for _, m := range c.members {
		if err := m.read(all[0]); !errors.Is(err, server.ErrUnavailable) {
			t.Errorf("%s: %v", m.name, err)
		}
	}
	age.Store(0)
	if err := c.members[1].read(all[0]); err != nil {
		t.Error(err)
	}
}

// TestScrubsTellTheKeeper: what the scrub of a node finds in a shard is made good by the
// keeper, wherever that is, and the keeper's own reads the delete logs of all.
func TestScrubsTellTheKeeper(t *testing.T) {
	c := sixHomes(t)
	all := c.members[0].putTogether(6)
	c.encode(all[0])
	if err := c.members[1].delete(all[1]); err != nil {
		t.Fatal(err)
	}
	keeper, row := c.keeperOf(all[0])
	spoil := func(shard int, name string, off int64) *member {
		m := c.of(uint32(row.Coding.Committed.Homes[shard]))
		dir := m.opts.Dirs[slices.Index(m.disks(), uint32(row.Coding.Committed.Homes[shard]))]
		if err := m.mem.Flip(dir+"/shards/00000001-00000001/"+name, off, 4); err != nil {
			t.Fatal(err)
		}
		return m
	}
	var at int
	for i, h := range row.Coding.Committed.Homes {
		if c.of(uint32(h)) != keeper {
			at = i
		}
	}
	scrub := func(m *member) (sum server.ScrubTotals) {
		c.run(func() {
			var err error
			if sum, err = m.server().ScrubNow(context.Background(), nil); err != nil {
				t.Error(m.name, err)
			}
		})
		return sum
	}
	other := spoil(at, coding.FileName(1, row.Volume.Generation, 1, at), 9000)
	if sum := scrub(other); sum.Corrupt != 1 || sum.Repaired != 1 || sum.Unrepairable != 0 {
		t.Errorf("a shard: %+v", sum)
	}
	if sum := scrub(other); sum.Corrupt != 0 {
		t.Errorf("after the repair: %+v", sum)
	}
	spoil(at, volume.DeleteLogName(1), 8192+40)
	if sum := scrub(keeper); sum.Corrupt != 1 || sum.Repaired != 1 || sum.Unrepairable != 0 {
		t.Errorf("a delete log: %+v", sum)
	}
	if sum := scrub(keeper); sum.Corrupt != 0 {
		t.Errorf("after the repair: %+v", sum)
	}
}

// TestShardsSpreadToNewNodes: what was coded when there was one node is spread over the
// nodes that come, until the loss of any of them loses nothing.
func TestShardsSpreadToNewNodes(t *testing.T) {
	o := codes()
	o.NoUpkeep, o.CodeAfter, o.UpkeepEvery, o.Replicas = false, 1000*time.Hour, time.Second, 1
	c := newCluster(t, o, 3, 1, 1)
	c.members[1].hidden.Store(true)
	c.members[2].hidden.Store(true)
	all := c.members[0].putTogether(6)
	c.encode(all[0])
	onNodes := func() map[*member]int {
		on := make(map[*member]int)
		for _, h := range c.row(all[0].blob).Coding.Committed.Homes {
			on[c.of(uint32(h))]++
		}
		return on
	}
	if on := onNodes(); on[c.members[0]] != 3 {
		t.Fatalf("with one node: %v", on)
	}
	if err := c.members[0].delete(all[1]); err != nil {
		t.Fatal(err)
	}
	c.members[1].hidden.Store(false)
	c.members[2].hidden.Store(false)
	c.run(func() {
		c.until("a shard on each node", func() bool {
			c.clock.Advance(time.Second)
			return len(onNodes()) == 3
		})
	})
	c.members[0].kill(1)
	for _, m := range c.members[1:] {
		c.run(func() { c.until("another keeper", func() bool { return m.read(all[5]) == nil }) })
		if err := m.read(all[1]); !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("%s: what was deleted: %v", m.name, err)
		}
	}
}

// TestShardsLeaveDrainingDisks: a node that is to be emptied loses its shards to others,
// one after the other.
func TestShardsLeaveDrainingDisks(t *testing.T) {
	o := codes()
	o.NoUpkeep, o.CodeAfter, o.UpkeepEvery = false, 1000*time.Hour, time.Second
	c := newCluster(t, o, 1, 1, 1, 1)
	all := c.members[0].putTogether(6)
	c.encode(all[0])
	_, row := c.keeperOf(all[0])
	leaving := c.of(uint32(row.Coding.Committed.Homes[1]))
	c.drain(leaving.disks()[0])
	on := func(m *member) (n int) {
		for _, h := range c.row(all[0].blob).Coding.Committed.Homes {
			if c.of(uint32(h)) == m {
				n++
			}
		}
		return n
	}
	c.run(func() {
		c.until("no shard there", func() bool {
			c.clock.Advance(time.Second)
			return on(leaving) == 0
		})
	})
	for _, m := range c.members {
		if m != leaving && on(m) != 1 {
			t.Errorf("%s has %d shards", m.name, on(m))
		}
		if err := m.answer(all[5]); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
	if err := leaving.delete(all[1]); err != nil {
		t.Error(err)
	}
}

// TestCodedVolumesAreWrittenAnew: a coded volume of which much is dead becomes a new
// epoch, on all nodes as before, with deletes going on, and after a change of the keeper.
func TestCodedVolumesAreWrittenAnew(t *testing.T) {
	for _, change := range []bool{false, true} {
		t.Run(fmt.Sprint(change), func(t *testing.T) {
			o := codes()
			o.NoUpkeep, o.Coding, o.CodeAfter, o.UpkeepEvery, o.CompactBytes = false, coding.Policy{Data: 4, Parity: 2}, 1000*time.Hour, time.Second, 1
			c := newCluster(t, o, 2, 2, 2)
			all := c.members[0].putTogether(20)
			c.encode(all[0])
			c.run(func() {
				c.clock.Advance(61 * time.Minute)
				c.until("the release", func() bool { return c.row(all[0].blob).Coding.State() == lifecycle.Released })
			})
			keeper, row := c.keeperOf(all[0])
			if change {
				keeper.kill(2)
				c.run(func() {
					c.until("another keeper", func() bool { return c.row(all[0].blob).Keeper != row.Keeper })
				})
				keeper.start()
			}
			for i, b := range all[:14] {
				if err := c.members[i%3].delete(b); err != nil {
					t.Fatal(err)
				}
			}
			c.run(func() {
				c.until("a new epoch", func() bool {
					c.clock.Advance(time.Second)
					cd := c.row(all[0].blob).Coding
					return cd.Committed.Epoch > 1 && cd.State() == lifecycle.Released
				})
			})
			now := c.row(all[0].blob)
			if now.Volume.Generation <= row.Volume.Generation || now.Seal.Needles != 6 {
				t.Errorf("%+v", now)
			}
			if err := c.members[1].delete(all[14]); err != nil {
				t.Error(err)
			}
			for i, b := range all {
				for _, m := range c.members {
					var want error
					if i < 15 {
						want = volume.ErrNotFound
					}
					if err := m.answer(b); !errors.Is(err, want) {
						t.Errorf("%s: blob %d: %v", m.name, i, err)
					}
				}
			}
		})
	}
}

// TestKeepersTakeTurns: while nodes are cut off from one another, from the directory or
// from what others hear of them, die and come back, several may take themselves for the
// keeper. Whatever was acknowledged as deleted by any of them stays deleted, and what
// nobody deleted stays.
func TestKeepersTakeTurns(t *testing.T) {
	for range 2 {
		seed := *seedFlag
		if seed == 0 {
			seed = rand.Uint64()
		}
		t.Run("", func(t *testing.T) {
			t.Logf("repeat with: go test ./volume/server -run TestKeepersTakeTurns -seed %d", seed)
			newTurns(t, rand.New(rand.NewPCG(seed, 3))).play(150)
		})
	}
}

// turns is a game with one coded volume.
type turns struct {
	*cluster
	r       *rand.Rand
	all     []stored
	asked   map[int]bool // to be deleted
	deleted map[int]bool // acknowledged
	parted  map[*member]bool
	keepers map[uint32]bool // terms that there were
}

func newTurns(t *testing.T, r *rand.Rand) *turns {
	x := &turns{cluster: sixHomes(t), r: r, asked: map[int]bool{}, deleted: map[int]bool{}, parted: map[*member]bool{}, keepers: map[uint32]bool{}}
	x.all = x.members[r.IntN(3)].putTogether(24)
	x.encode(x.all[0])
	if r.IntN(2) == 0 {
		keeper, row := x.keeperOf(x.all[0])
		c := row.Coding.Committed
		if _, err := keeper.wire.ReleaseSource(context.Background(), row.Volume.Volume, c.Epoch, c.Digests, 0, row.Term); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

func (x *turns) play(steps int) {
	x.t.Helper()
	for range steps {
		m := x.members[x.r.IntN(3)]
		switch x.r.IntN(20) {
		case 0:
			x.parted[m] = true
			x.part(m)
			m.hidden.Store(true)
		case 1, 2: // the keeper goes on, and others believe that it is away
			if m = x.of(x.row(x.all[0].blob).Keeper); m.server() != nil {
				x.parted[m] = true
				m.wire.cut(errAway)
				m.hidden.Store(true)
			}
		case 3, 4, 5:
			x.heal(m)
		case 6:
			if m.server() != nil {
				m.kill(x.r.Uint64())
			}
		case 7, 8, 9:
			if m.server() == nil {
				x.heal(m)
				m.start()
			}
		case 10, 11, 12:
			x.wait(time.Duration(3+x.r.IntN(6)) * time.Second)
		default:
			x.delete(m, x.r.IntN(len(x.all)))
		}
		x.read(x.members[x.r.IntN(3)], x.r.IntN(len(x.all)))
		x.keepers[x.row(x.all[0].blob).Term] = true
	}
	x.end()
}

func (x *turns) heal(m *member) {
	delete(x.parted, m)
	x.join(m)
	m.hidden.Store(false)
}

// wait lets so much time go by, a little at a time.
func (x *turns) wait(d time.Duration) {
	x.t.Helper()
	at := x.clock.Now().Add(d)
	x.run(func() { x.until("some time", func() bool { return !x.clock.Now().Before(at) }) })
}

func (x *turns) delete(m *member, i int) {
	if m.server() == nil {
		return
	}
	x.asked[i] = true
	if m.delete(x.all[i]) == nil {
		x.deleted[i] = true
	}
}

// read reads through a member that hears of the directory: others may show for a while
// what was deleted.
func (x *turns) read(m *member, i int) {
	x.t.Helper()
	if m.server() == nil || x.parted[m] {
		return
	}
	var err error
	x.run(func() { err = m.read(x.all[i]) })
	x.judge(m, i, err)
}

func (x *turns) judge(m *member, i int, err error) {
	x.t.Helper()
	switch {
	case errors.Is(err, server.ErrUnavailable):
	case err == nil && x.deleted[i]:
		x.t.Fatalf("%s: blob %d was deleted and is there", m.name, i)
	case errors.Is(err, volume.ErrNotFound) && !x.asked[i]:
		x.t.Fatalf("%s: blob %d is gone, and nobody has deleted it", m.name, i)
	case err != nil && !errors.Is(err, volume.ErrNotFound):
		x.t.Fatalf("%s: blob %d: %v", m.name, i, err)
	}
}

// end heals everything and looks at all.
func (x *turns) end() {
	x.t.Helper()
	for _, m := range x.members {
		x.heal(m)
		if m.server() == nil {
			m.start()
		}
	}
	for i, b := range x.all {
		for _, m := range x.members {
			var err error
			x.run(func() {
				for at := x.clock.Now().Add(10 * time.Minute); x.clock.Now().Before(at); {
					if err = m.read(b); !errors.Is(err, server.ErrUnavailable) {
						return
					}
				}
			})
			if x.judge(m, i, err); errors.Is(err, server.ErrUnavailable) {
				x.t.Fatalf("%s: %v; %+v", m.name, err, x.row(b.blob))
			}
		}
	}
	x.t.Logf("%d blobs deleted, %d asked, %d terms", len(x.deleted), len(x.asked), len(x.keepers))
}
