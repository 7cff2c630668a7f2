package directory

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/id"
)

// plane is a simulation of writers that lease slots, open volumes and write
// blobs, each by the rules that a blob server has to keep:
//
//   - nothing is minted under an older table than the lease names,
//   - a blob goes to the volume its id is located at, if that is the writer's,
//   - otherwise a new volume is opened at the writer's fence.
//
// Clocks are stepped, writers crash, are paused and go on (zombies), surrender,
// fall silent until others take their slots. In the end every id that was
// written is located at exactly the volume it was written to.
type plane struct {
	r       *runner
	rand    *rand.Rand
	leader  id.Millis
	nodes   []*planeNode
	next    uint64 // incarnation
	written map[id.ID]VolumeID
	events  map[string]int
}

type planeNode struct {
	number  NodeID
	disks   []DiskID
	clock   *clock.Fake
	current *planeWriter
	zombies []*planeWriter
}

// planeWriter is one incarnation.
type planeWriter struct {
	node        *planeNode
	incarnation uint64
	kind        Kind
	disk        DiskID
	lease       id.Lease
	minter      *id.Minter
	table       *Map // as it knows it
}

func newPlane(t *testing.T, seed uint64) *plane {
	p := &plane{r: newRunner(t), rand: rand.New(rand.NewPCG(seed, 3)), leader: 1_000_000, written: map[id.ID]VolumeID{}, events: map[string]int{}}
	for n := range 3 {
		node := p.r.must(opRegisterNode, &registerNode{name: fmt.Sprint(n)}).(Node)
		pn := &planeNode{number: node.ID, clock: clock.NewFake(id.Millis(1_000_000).Time())}
		for k := range 2 {
			disk := p.r.must(opRegisterDisk, &registerDisk{node: node.ID, uuid: [16]byte{byte(n), byte(k)}}).(Disk)
			pn.disks = append(pn.disks, disk.ID)
		}
		p.nodes = append(p.nodes, pn)
		p.restart(pn)
	}
	// All slots of a kind but a few belong to a node that holds them for ever, so
	// that the writers must fight for the rest.
	other := p.r.must(opRegisterNode, &registerNode{name: "other"}).(Node)
	for _, k := range []Kind{Variants, Originals} {
		lo, hi := k.Slots()
		for s := lo + 3; s < hi; s++ {
			w := id.Window{Node: uint32(other.ID), Holder: 1, From: 1, To: id.MaxMillis}
			p.r.m.next.putWindow(s, w)
		}
	}
	return p
}

func (p *plane) restart(n *planeNode) {
	p.next++
	n.current = &planeWriter{
		node: n, incarnation: p.next + 1000, kind: Kind(2 + p.rand.IntN(2)), disk: n.disks[p.rand.IntN(len(n.disks))],
	}
}

func (p *plane) table() *Map { return p.r.m.current.Load() }

func (p *plane) step() error {
	n := p.nodes[p.rand.IntN(len(p.nodes))]
	w := n.current
	if len(n.zombies) > 0 && p.rand.IntN(4) == 0 {
		w = n.zombies[p.rand.IntN(len(n.zombies))]
	}
	now := id.MillisOf(n.clock.Now())
	switch p.rand.IntN(20) {
	case 0:
		n.clock.Set((now + id.Millis(p.rand.IntN(600_000)) - min(now, 300_000)).Time())
	case 1, 2:
		n.clock.Advance(time.Duration(p.rand.IntN(40_000)) * time.Millisecond)
	case 3, 4:
		p.leader += id.Millis(p.rand.IntN(60_000))
	case 5:
		p.leader -= id.Millis(p.rand.IntN(40_000))
	case 6: // crash; the process may have been paused only
		n.zombies = append(n.zombies, n.current)
		p.restart(n)
		p.events["crash"]++
	case 7:
		if w.minter != nil {
			x := w.minter.Surrender()
			w.minter = nil
			_, err := p.r.do(opSurrender, &surrender{w.lease.Slot, w.incarnation, w.lease.From, x})
			if err != nil && !errors.Is(err, id.ErrLeaseLost) {
				return fmt.Errorf("surrender: %w", err)
			}
			p.events["surrender"]++
		}
	case 8, 9:
		return p.renew(w, now)
	case 10: // the volume is full or old
		if w.minter != nil {
			p.events["replace"]++
			return p.open(w)
		}
	case 11: // the directory closes a silent holder's tile
		slot := id.Slot(64 + p.rand.IntN(3))
		if p.rand.IntN(2) == 0 {
			slot += 480
		}
		if _, err := p.r.do(opCloseTile, &closeTile{slot: slot, now: p.leader}); err == nil {
			p.events["silent"]++
		} else if !errors.Is(err, ErrInvalid) {
			return err
		}
	case 12: // the directory restarts
		p.r.m = newMachineFrom(p)
	default:
		return p.write(w)
	}
	return nil
}

// newMachineFrom reopens the machine. The windows that newPlane put in place by
// hand are not in the rows.
func newMachineFrom(p *plane) *machine {
	old := p.r.m.next
	m := newMachine()
	if err := m.Restored(p.r.db); err != nil {
		p.r.t.Fatal(err)
	}
	for _, l := range old.Leases() {
		if m.next.Window(l.Slot).Node == 0 {
			m.next.putWindow(l.Slot, l.Window)
		}
	}
	return m
}

func (p *plane) renew(w *planeWriter, now id.Millis) error {
	if w.minter != nil {
		g, err := p.r.do(opRenew, &renew{w.lease.Slot, w.incarnation, w.lease.From, p.leader, max(now, p.leader), 60_000})
		if err == nil {
			w.table = p.table()
			return w.minter.Extend(g.(granted).lease(w.table.Version()))
		}
		if !errors.Is(err, id.ErrLeaseLost) {
			return err
		}
		p.events["lost"]++
		w.minter = nil
	}
	if w != w.node.current {
		return nil // a zombie knows when it asks that it is none of the node's any more
	}
	g, err := p.r.do(opAcquire, &acquire{
		node: w.node.number, incarnation: w.incarnation, kind: w.kind, disk: w.disk,
		now: p.leader, holderNow: max(now, p.leader), length: 60_000,
	})
	if errors.Is(err, id.ErrNoSlot) {
		p.events["no slot"]++
		return nil
	}
	if err != nil {
		return err
	}
	w.table = p.table()
	w.lease = g.(granted).lease(w.table.Version())
	w.minter = id.NewMinter(w.node.clock, w.lease)
	if tile, ok := w.table.OpenTile(w.lease.Slot); ok {
		if v, _ := w.table.Volume(tile.Volume); v.On(w.disk) {
			p.events["goes on"]++
		}
	}
	return nil
}

// open opens a new volume at the writer's fence.
func (p *plane) open(w *planeWriter) error {
	x := w.minter.Fence()
	if x > w.minter.Lease().To {
		return nil
	}
	c := &openVolume{w.lease.Slot, w.incarnation, w.lease.From, w.disk, x, p.leader}
	v, err := p.r.do(opOpenVolume, c)
	if errors.Is(err, id.ErrLeaseLost) {
		p.events["lost"]++
		w.minter = nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("open volume: %w", err)
	}
	if p.rand.IntN(3) == 0 { // the answer was lost
		again, err := p.r.do(opOpenVolume, c)
		if err != nil || again.(Volume).ID != v.(Volume).ID {
			return fmt.Errorf("a repeated open gave %v, %w; before %v", again, err, v)
		}
	}
	w.table = p.table()
	p.events["volume"]++
	return p.confirm(w, v.(Volume).ID)
}

// confirm comes back with the volume's file, unless the writer dies before, or
// somebody gives the volume up.
func (p *plane) confirm(w *planeWriter, v VolumeID) error {
	switch p.rand.IntN(6) {
	case 0:
		p.events["unconfirmed"]++
		return nil
	case 1:
		if _, err := p.r.do(opAbandonVolume, &abandonVolume{v, p.leader}); err != nil {
			return err
		}
		p.events["abandoned"]++
	}
	_, err := p.r.do(opConfirmVolume, &confirmVolume{v, 1, w.incarnation})
	if err != nil && !errors.Is(err, ErrStale) {
		return fmt.Errorf("confirm volume: %w", err)
	}
	w.table = p.table()
	return nil
}

// write writes a few blobs.
func (p *plane) write(w *planeWriter) error {
	for range 1 + p.rand.IntN(6) {
		if w.minter == nil {
			return nil
		}
		blob, err := w.minter.Mint()
		if errors.Is(err, id.ErrLeaseEnded) {
			return nil
		}
		if err != nil {
			return err
		}
		v, ok := w.table.Locate(blob)
		if !ok || !v.On(w.disk) || v.State != StateOpen || v.Unconfirmed {
			if err := p.open(w); err != nil { // blob is thrown away; the next one will do
				return err
			}
			continue
		}
		if was, twice := p.written[blob]; twice {
			return fmt.Errorf("id %d was written to volume %d already", blob, was)
		}
		p.written[blob] = v.ID
		p.events["blob"]++
		if w != w.node.current {
			p.events["zombie's blob"]++
		}
	}
	return nil
}

func TestEveryBlobIsLocated(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d (repeat: put it in place of the clock's in TestEveryBlobIsLocated)", seed)
	all := map[string]int{}
	rare := func() (k string, few bool) { // an event that has hardly happened yet
		for _, k := range []string{"crash", "surrender", "replace", "silent", "lost", "no slot", "goes on", "volume", "zombie's blob", "unconfirmed", "abandoned"} {
			if all[k] < 5 {
				return k, true
			}
		}
		return "", false
	}
	for round := uint64(0); ; round++ {
		if _, few := rare(); round >= 10 && (!few || round >= 60) {
			break
		}
		p := newPlane(t, seed+round)
		for n := range 2500 {
			if err := p.step(); err != nil {
				t.Fatalf("round %d, step %d: %v", round, n, err)
			}
		}
		if err := invariants(p.table()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		p.r.m = newMachineFrom(p)
		for blob, want := range p.written {
			if got, ok := p.table().Locate(blob); !ok || got.ID != want {
				t.Fatalf("round %d: blob %d (slot %d, time %d) was written to volume %d, is located at %d, %v; tiles %v",
					round, blob, blob.Slot(), blob.Millis(), want, got.ID, ok, p.table().Tiles(blob.Slot()))
			}
		}
		for k, n := range p.events {
			all[k] += n
		}
	}
	t.Logf("%v", all)
	if k, few := rare(); few {
		t.Errorf("%q happened %d times only", k, all[k])
	}
}
