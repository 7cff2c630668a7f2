package id

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hayloft/internal/clock"
)

func at(ms Millis) time.Time { return Epoch.Add(time.Duration(ms) * time.Millisecond) }

func TestMinter(t *testing.T) {
	c := clock.NewFake(at(5_000))
	m := NewMinter(c, Lease{Slot: 7, Holder: 1, From: 10_000, To: 10_003})
	want := func(want ID) {
		t.Helper()
		if got, err := m.Mint(); err != nil || got != want {
			t.Fatalf("minted %d/%d/%d, %v; want %d/%d/%d", got.Millis(), got.Slot(), got.Seq(), err, want.Millis(), want.Slot(), want.Seq())
		}
	}
	ended := func() {
		t.Helper()
		if got, err := m.Mint(); !errors.Is(err, ErrLeaseEnded) {
			t.Fatalf("minted %d, %v", got, err)
		}
	}
	want(Make(10_000, 7, 0)) // the clock is before the window
	want(Make(10_000, 7, 1))
	if x := m.Fence(); x != 10_001 {
		t.Fatalf("fence %d", x)
	}
	if x := m.Fence(); x != 10_002 {
		t.Fatalf("a second fence must be greater: %d", x)
	}
	want(Make(10_002, 7, 0))
	c.Set(at(1)) // back
	for seq := uint16(1); seq <= MaxSeq; seq++ {
		want(Make(10_002, 7, seq))
	}
	ended() // the sequence is used up and the next millisecond is not ours
	if err := m.Extend(Lease{Slot: 7, Holder: 1, From: 10_000, To: 20_000, Map: 4}); err != nil {
		t.Fatal(err)
	}
	if err := m.Extend(Lease{Slot: 7, Holder: 1, From: 10_000, To: 15_000, Map: 3}); err != nil {
		t.Fatal(err)
	}
	if l := m.Lease(); l.To != 20_000 || l.Map != 4 {
		t.Fatalf("an older answer cut the lease: %+v", l)
	}
	want(Make(10_003, 7, 0))
	c.Set(at(19_999))
	want(Make(19_999, 7, 0))
	c.Set(at(20_000))
	ended() // the clock is beyond the window
	c.Set(at(0))
	want(Make(19_999, 7, 1))
	for _, l := range []Lease{{Slot: 8, Holder: 1, From: 10_000}, {Slot: 7, Holder: 2, From: 10_000}, {Slot: 7, Holder: 1, From: 10_001}} {
		if err := m.Extend(l); err == nil {
			t.Errorf("extended by %+v", l)
		}
	}
	if x := m.Surrender(); x != 20_000 {
		t.Fatalf("surrendered at %d", x)
	}
	ended()
}

func TestZeroIsNeverMinted(t *testing.T) {
	m := NewMinter(clock.NewFake(Epoch), Lease{Holder: 1, To: 100})
	if i, err := m.Mint(); err != nil || i == 0 {
		t.Fatalf("%d, %v", i, err)
	}
}

func TestMinterIsShared(t *testing.T) {
	m := NewMinter(clock.NewFake(at(1000)), Lease{Slot: 3, Holder: 1, From: 1, To: 1 << 30})
	var mu sync.Mutex
	seen := map[ID]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			last := ID(0)
			for range 5000 {
				i, err := m.Mint()
				if err != nil || i <= last {
					t.Errorf("%d after %d, %v", i, last, err)
					return
				}
				last = i
				mu.Lock()
				if seen[i] {
					t.Errorf("%d twice", i)
				}
				seen[i] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// slots is the table of windows of the tests.
type slots map[Slot]Window

func (s slots) Window(i Slot) Window { return s[i] }

func TestGrantChoosesSlots(t *testing.T) {
	const now, day = Millis(1_000_000_000), Millis(24 * 3600 * 1000)
	req := func(node uint32, holder uint64, worker uint16) GrantRequest {
		return GrantRequest{Node: node, Holder: holder, Worker: worker, Lo: 10, Hi: 14, Now: now, HolderNow: now, Length: 60_000}
	}
	ws := slots{}
	grant := func(r GrantRequest, slot Slot, from, to Millis) {
		t.Helper()
		s, w, err := Grant(ws, r)
		if err != nil || s != slot || w.From != from || w.To != to {
			t.Fatalf("slot %d [%d, %d), %v; want slot %d [%d, %d)", s, w.From, w.To, err, slot, from, to)
		}
		ws[s] = w
	}
	grant(req(1, 100, 0), 10, now, now+60_000)
	grant(req(1, 100, 0), 10, now, now+60_000) // the same request again
	grant(req(1, 100, 1), 11, now, now+60_000)
	grant(req(2, 200, 0), 12, now, now+60_000)
	ws[13] = Window{Node: 3, Holder: 300, From: 0, To: now + day, Released: true}
	grant(req(2, 200, 1), 13, now+day, now+day+60_000) // far ahead, but the only one that is free
	if _, _, err := Grant(ws, req(4, 400, 0)); !errors.Is(err, ErrNoSlot) {
		t.Fatalf("no slot is free: %v", err)
	}
	// Node 1 restarts: its former incarnation is gone, its slots are free for it
	// alone, and go on where their windows end.
	r := req(1, 101, 0)
	r.Rank = func(s Slot) int {
		if s == 11 {
			return 0
		}
		return 1
	}
	grant(r, 11, now+60_000, now+120_000)
	// A holder whose clock is ahead gets a window that reaches it.
	r = req(1, 101, 1)
	r.HolderNow = now + day
	grant(r, 10, now+60_000, now+day+60_000)
	// A slot at the end of id time is used up.
	ws = slots{10: {Node: 9, Holder: 9, From: 1, To: MaxMillis, Released: true}, 11: {Node: 9, Holder: 9, From: 1, To: MaxMillis, Released: true}}
	r = req(1, 1, 0)
	r.Hi = 12
	if _, _, err := Grant(ws, r); !errors.Is(err, ErrNoSlot) {
		t.Fatalf("used up: %v", err)
	}
}

func TestRenewAndRelease(t *testing.T) {
	w := Window{Node: 1, Holder: 5, From: 100, To: 200}
	if _, err := Renew(w, 6, 100, 150, 150, 100); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("another holder renewed: %v", err)
	}
	if _, err := Renew(w, 5, 99, 150, 150, 100); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("another window was renewed: %v", err)
	}
	if got, err := Renew(w, 5, 100, 10, 20, 100); err != nil || got.To != 200 {
		t.Errorf("a renewal cut the window: %+v, %v", got, err)
	}
	if got, err := Renew(w, 5, 100, 500, 700, 100); err != nil || got.To != 800 {
		t.Errorf("a late renewal: %+v, %v", got, err)
	}
	for _, x := range []Millis{99, 201} {
		if _, err := Release(w, 5, 100, x); err == nil {
			t.Errorf("surrendered at %d", x)
		}
	}
	got, err := Release(w, 5, 100, 150)
	if err != nil || got.To != 150 || !got.Released {
		t.Fatalf("%+v, %v", got, err)
	}
	if again, err := Release(got, 5, 100, 120); err != nil || again != got {
		t.Errorf("a repeated surrender: %+v, %v", again, err)
	}
	if _, err := Renew(got, 5, 100, 150, 150, 100); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("renewed after the surrender: %v", err)
	}
}

// world is a simulation of several nodes that lease slots of one small range,
// with clocks that are stepped back and forth, crashes and restarts.
type world struct {
	draw   func(n int) int // a choice in [0, n)
	table  slots
	leader Millis // the directory's clock
	nodes  []*simNode
	next   uint64 // incarnation
	ids    []ID
}

type simNode struct {
	number      uint32
	clock       *clock.Fake
	incarnation uint64
	minter      *Minter
	last        ID // of this incarnation's minter
	zombies     []*Minter
}

func newWorld(draw func(int) int) *world {
	w := &world{draw: draw, table: slots{}, leader: 1_000_000}
	for n := range 4 {
		w.next++
		w.nodes = append(w.nodes, &simNode{number: uint32(n + 1), clock: clock.NewFake(at(1_000_000)), incarnation: w.next})
	}
	return w
}

// step does one random thing; burst is how many ids are minted at most.
func (w *world) step(burst int) error {
	n := w.nodes[w.draw(len(w.nodes))]
	now := MillisOf(n.clock.Now())
	switch w.draw(12) {
	case 0: // the clock is stepped by up to an hour, back or forth
		n.clock.Set(at(now + Millis(w.draw(7_200_000)) - min(now, 3_600_000)))
	case 1: // time passes
		n.clock.Advance(time.Duration(w.draw(30_000)) * time.Millisecond)
	case 2:
		w.leader += Millis(w.draw(120_000))
	case 3:
		w.leader -= min(w.leader, Millis(w.draw(120_000)))
	case 4: // crash without surrender; the old process may go on for a while, as after a pause
		if n.minter != nil {
			n.zombies = append(n.zombies, n.minter)
		}
		w.next++
		n.incarnation, n.minter, n.last = w.next, nil, 0
	case 5:
		if n.minter != nil {
			l, x := n.minter.Lease(), n.minter.Surrender()
			got, err := Release(w.table[l.Slot], l.Holder, l.From, x)
			if err == nil {
				w.table[l.Slot] = got
			} else if !errors.Is(err, ErrLeaseLost) {
				return err
			}
			n.minter, n.last = nil, 0
		}
	case 6, 7:
		return w.renew(n, now)
	default:
		return w.mint(n, burst)
	}
	return nil
}

func (w *world) renew(n *simNode, now Millis) error {
	if n.minter != nil {
		l := n.minter.Lease()
		win, err := Renew(w.table[l.Slot], l.Holder, l.From, w.leader, now, 60_000)
		if err == nil {
			w.table[l.Slot] = win
			return n.minter.Extend(Lease{Slot: l.Slot, Holder: l.Holder, From: win.From, To: win.To})
		}
		if !errors.Is(err, ErrLeaseLost) {
			return err
		}
	}
	s, win, err := Grant(w.table, GrantRequest{
		Node: n.number, Holder: n.incarnation, Lo: 0, Hi: 6, Now: w.leader, HolderNow: now, Length: 60_000,
	})
	if errors.Is(err, ErrNoSlot) {
		return nil
	}
	if err != nil {
		return err
	}
	if old := w.table[s]; win.From < old.To && !(old.Holder == n.incarnation && old.From == win.From) {
		return fmt.Errorf("slot %d: window [%d, %d) begins inside [%d, %d)", s, win.From, win.To, old.From, old.To)
	}
	w.table[s] = win
	n.minter, n.last = NewMinter(n.clock, Lease{Slot: s, Holder: win.Holder, From: win.From, To: win.To}), 0
	return nil
}

func (w *world) mint(n *simNode, burst int) error {
	m, ordered := n.minter, true
	if len(n.zombies) > 0 && w.draw(3) == 0 {
		m, ordered = n.zombies[w.draw(len(n.zombies))], false
	}
	if m == nil {
		return nil
	}
	for range 1 + w.draw(burst) {
		i, err := m.Mint()
		if errors.Is(err, ErrLeaseEnded) {
			return nil
		}
		if err != nil {
			return err
		}
		if ordered {
			if i <= n.last {
				return fmt.Errorf("node %d minted %d after %d", n.number, i, n.last)
			}
			n.last = i
		}
		w.ids = append(w.ids, i)
	}
	return nil
}

func (w *world) unique() error {
	slices.Sort(w.ids)
	for k := 1; k < len(w.ids); k++ {
		if w.ids[k] == w.ids[k-1] {
			return fmt.Errorf("id %d (slot %d, time %d) was minted twice", w.ids[k], w.ids[k].Slot(), w.ids[k].Millis())
		}
	}
	return nil
}

func TestIDsAreUnique(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") })
		for range rapid.IntRange(20, 200).Draw(t, "steps") {
			if err := w.step(300); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.unique(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestMillionIDs is the same at length. To repeat a failure set the seed.
func TestMillionIDs(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d (repeat: put it in place of the clock's in TestMillionIDs)", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(r.IntN)
	for len(w.ids) < 1_000_000 {
		if err := w.step(5_000); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.unique(); err != nil {
		t.Fatal(err)
	}
	if w.next < 50 {
		t.Fatalf("only %d incarnations", w.next)
	}
	t.Logf("%d ids of %d incarnations on 6 slots", len(w.ids), w.next)
}
