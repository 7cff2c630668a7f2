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

// start is what all clocks begin with: far enough from zero to jump back.
const start = id.Millis(100_000_000)

// plane is a simulation of writers that lease slots, open volumes and write
// blobs, each by the rules that a blob server has to keep:
//
//   - nothing is minted under an older table than the lease names,
//   - a blob goes to the volume its id is located at, if that is the writer's,
//   - it is written to no tile that begins before the last fence that the writer has
//     asked the directory for under this lease: whatever answer it got, or none, the
//     tile may end there yet,
//   - otherwise a new volume is opened at the writer's fence.
//
// Volumes have replicas on several nodes, and one node's writers have no disk. Clocks
// are stepped by hours, the lead of the directory goes to members with other clocks,
// writers crash, are paused and go on (zombies), are cut off, so that requests or their
// answers are lost or come late, surrender, and fall silent until others take their
// slots. See docs/leases.md for what holds nevertheless; check and atTheEnd say it.
type plane struct {
	r       *runner
	rand    *rand.Rand
	leaders []id.Millis // clocks of the members, of which the first leads
	nodes   []*planeNode
	next    uint64 // incarnation
	minted  map[id.ID]*planeWriter
	written map[id.ID]VolumeID
	late    []lateCommand           // requests that are still on their way
	windows map[id.Slot][]id.Window // all that were ever granted, with the last end
	events  map[string]int
}

type planeNode struct {
	number  NodeID
	disks   []DiskID
	cut     int // of ten requests, so many do not arrive, or not in time, or their answers do not
	clock   *clock.Fake
	current *planeWriter
	zombies []*planeWriter
}

// planeWriter is one incarnation.
type planeWriter struct {
	node        *planeNode
	incarnation uint64
	kind        Kind
	disk        DiskID // 0: none
	lease       id.Lease
	minter      *id.Minter
	last        id.ID     // that it minted
	reached     id.Millis // it mints nothing before, whatever its slot
	asked       id.Millis // the last fence it asked the directory for, under this lease
	table       *Map      // as it knows it
}

// Now is the clock of the writer's minter: the node's, but not before what a former
// slot has reached. So does id.Keeper.
func (w *planeWriter) Now() time.Time {
	return max(id.MillisOf(w.node.clock.Now()), w.reached).Time()
}

func (w *planeWriter) Elapsed() time.Duration                 { return w.node.clock.Elapsed() }
func (w *planeWriter) After(d time.Duration) <-chan time.Time { return w.node.clock.After(d) }

func newPlane(t *testing.T, seed uint64) *plane {
	p := &plane{r: newRunner(t), rand: rand.New(rand.NewPCG(seed, 3)), leaders: []id.Millis{start, start, start},
		minted: map[id.ID]*planeWriter{}, written: map[id.ID]VolumeID{}, windows: map[id.Slot][]id.Window{}, events: map[string]int{}}
	for n := range 4 {
		node := p.r.must(opRegisterNode, &registerNode{name: fmt.Sprint(n)}).(Node)
		pn := &planeNode{number: node.ID, clock: clock.NewFake(start.Time())}
		for k := range 2 * min(3-n, 1) { // the last one has none
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
		node: n, incarnation: p.next + 1000, kind: Kind(2 + p.rand.IntN(2)),
	}
	if len(n.disks) > 0 {
		n.current.disk = n.disks[p.rand.IntN(len(n.disks))]
	}
}

func (p *plane) table() *Map { return p.r.m.current.Load() }

func (p *plane) step() error {
	n := p.nodes[p.rand.IntN(len(p.nodes))]
	w := n.current
	if len(n.zombies) > 0 && p.rand.IntN(4) == 0 {
		w = n.zombies[p.rand.IntN(len(n.zombies))]
	}
	now := id.MillisOf(w.Now())
	switch p.rand.IntN(24) {
	case 0:
		p.jump(n)
	case 1, 2:
		n.clock.Advance(time.Duration(p.rand.IntN(40_000)) * time.Millisecond)
	case 3, 4:
		p.leaders[0] += id.Millis(p.rand.IntN(60_000))
	case 5: // the lead changes, to another clock
		i := p.rand.IntN(len(p.leaders))
		p.leaders[0], p.leaders[i] = p.leaders[i], p.leaders[0]
	case 6: // crash; the process may have been paused only
		n.zombies = append(n.zombies, n.current)
		p.restart(n)
		p.events["crash"]++
	case 7:
		return p.surrender(w)
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
		if _, err := p.do(opCloseTile, &closeTile{slot: slot, now: p.leaders[0]}); err == nil {
			p.events["silent"]++
		} else if !errors.Is(err, ErrInvalid) {
			return err
		}
	case 12: // the directory restarts
		p.r.m = newMachineFrom(p)
	case 13: // a link breaks, or is mended
		n.cut = p.rand.IntN(7) * p.rand.IntN(2)
	case 14: // a request arrives at last, or once more
		if len(p.late) > 0 {
			l := p.late[p.rand.IntN(len(p.late))]
			if _, err := p.do(l.op, l.c); err == nil {
				p.events["late request"]++
			}
		}
	case 15: // the writer hears of a newer table
		w.table = p.table()
	case 16: // a replica leaves the in-sync set
		p.leave()
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

// jump steps a clock by up to six hours, back or forth: that of a node, or that of a
// member of the directory.
func (p *plane) jump(n *planeNode) {
	by := id.Millis(p.rand.IntN(12 * 3_600_000))
	if p.rand.IntN(2) == 0 {
		by = id.Millis(p.rand.IntN(600_000)) + 5*3_600_000 + 3_300_000 // a little
	}
	step := func(at id.Millis) id.Millis { return max(at+by, 6*3_600_000+start/2) - 6*3_600_000 }
	if p.rand.IntN(3) == 0 {
		i := p.rand.IntN(len(p.leaders))
		p.leaders[i] = step(p.leaders[i])
		return
	}
	n.clock.Set(step(id.MillisOf(n.clock.Now())).Time())
}

// do gives the machine a command and notes the windows that it grants.
func (p *plane) do(op uint8, c command) (any, error) {
	v, err := p.r.do(op, c)
	for s := range id.Slot(6) {
		s = 64 + s%3 + s/3*480
		w, all := p.r.m.next.Window(s), p.windows[s]
		switch last := len(all) - 1; {
		case w.Node == 0:
		case last >= 0 && all[last].Holder == w.Holder && all[last].From == w.From:
			all[last] = w
		default:
			p.windows[s] = append(all, w)
		}
	}
	return v, err
}

// ask is a request of a writer, which may be cut off.
func (p *plane) ask(w *planeWriter, op uint8, c command) (any, error) {
	if p.rand.IntN(10) >= w.node.cut {
		return p.do(op, c)
	}
	fate := p.rand.IntN(4)
	if fate == 0 {
		p.late = append(p.late, lateCommand{op, c})
	}
	if fate < 2 {
		p.events["request lost"]++
		return nil, errLost
	}
	if _, err := p.do(op, c); err == nil {
		p.events["answer lost"]++
	}
	return nil, errLost
}

// lost gives a lease up that somebody else may have taken.
func (w *planeWriter) lost() {
	w.reached = max(w.reached, w.minter.Surrender())
	w.minter = nil
}

func (p *plane) surrender(w *planeWriter) error {
	if w.minter == nil {
		return nil
	}
	x := w.minter.Surrender()
	w.lost()
	_, err := p.ask(w, opSurrender, &surrender{w.lease.Slot, w.incarnation, w.lease.From, x})
	if err != nil && !errors.Is(err, id.ErrLeaseLost) && !errors.Is(err, errLost) {
		return fmt.Errorf("surrender: %w", err)
	}
	p.events["surrender"]++
	if w == w.node.current { // it has ended, in good order
		p.restart(w.node)
	}
	return nil
}

func (p *plane) renew(w *planeWriter, now id.Millis) error {
	if w.minter != nil {
		g, err := p.ask(w, opRenew, &renew{w.lease.Slot, w.incarnation, w.lease.From, p.leaders[0], max(now, p.leaders[0]), 60_000})
		switch {
		case err == nil: // it waits for the table of the lease
			w.table = p.table()
			return w.minter.Extend(g.(granted).lease(w.table.Version()))
		case errors.Is(err, errLost): // and mints on, within what it knows to have
			return nil
		case !errors.Is(err, id.ErrLeaseLost):
			return err
		}
		p.events["lost"]++
		w.lost()
	}
	if w != w.node.current {
		return nil // a zombie knows when it asks that it is none of the node's any more
	}
	g, err := p.ask(w, opAcquire, &acquire{
		node: w.node.number, incarnation: w.incarnation, kind: w.kind, disk: w.disk,
		now: p.leaders[0], holderNow: max(now, p.leaders[0], w.reached), length: 60_000,
	})
	switch {
	case errors.Is(err, id.ErrNoSlot):
		p.events["no slot"]++
		return nil
	case errors.Is(err, errLost):
		return nil
	}
	if err != nil {
		return err
	}
	w.table = p.table()
	w.lease = g.(granted).lease(w.table.Version())
	w.minter, w.asked = id.NewMinter(w, w.lease), 0
	if tile, ok := w.table.OpenTile(w.lease.Slot); ok {
		if v, _ := w.table.Volume(tile.Volume); w.writesTo(v) {
			p.events["goes on"]++
		}
	}
	return nil
}

// writesTo reports whether a volume is one that w writes to.
func (w *planeWriter) writesTo(v Volume) bool {
	if w.disk == 0 {
		return v.Opener == w.incarnation
	}
	return v.Synced(w.disk)
}

// replicas are the writer's disk, and others.
func (p *plane) replicas(w *planeWriter) (out []DiskID) {
	if w.disk != 0 {
		out = append(out, w.disk)
	}
	for _, i := range p.rand.Perm(6)[:1+p.rand.IntN(3)] {
		if d := DiskID(i + 1); d != w.disk {
			out = append(out, d)
		}
	}
	return out
}

// leave takes a replica of some volume out of the in-sync set.
func (p *plane) leave() {
	t := p.table()
	if t.lastVolume == 0 {
		return
	}
	v, _ := t.Volume(VolumeID(1 + p.rand.IntN(int(t.lastVolume))))
	if len(v.InSync) < 2 || v.Unconfirmed {
		return
	}
	if _, err := p.do(opLeaveSync, &leaveSync{v.ID, v.InSync[p.rand.IntN(len(v.InSync))], v.Sync}); err == nil {
		p.events["replica left"]++
	}
}

// open opens a new volume at the writer's fence.
func (p *plane) open(w *planeWriter) error {
	x := w.minter.Fence()
	if x > w.minter.Lease().To {
		return nil
	}
	if p.rand.IntN(8) == 0 { // it only ends the tile
		return p.end(w, x)
	}
	disks := p.replicas(w)
	w.asked = x
	c := &openReplicated{w.lease.Slot, w.incarnation, w.lease.From, disks, uint8(len(disks)), x, p.leaders[0]}
	v, err := p.ask(w, opOpenReplicated, c)
	switch {
	case errors.Is(err, id.ErrLeaseLost):
		p.events["lost"]++
		w.lost()
		return nil
	case errors.Is(err, errLost): // it will take another fence
		return nil
	case errors.Is(err, ErrInvalid) && x == w.lease.From: // where a former holder's empty tile begins
		p.events["fence moved"]++
		return nil
	case err != nil:
		return fmt.Errorf("open volume: %w", err)
	}
	if p.rand.IntN(3) == 0 { // the answer was lost
		again, err := p.do(opOpenReplicated, c)
		if err != nil || again.(Volume).ID != v.(Volume).ID {
			return fmt.Errorf("a repeated open gave %v, %w; before %v", again, err, v)
		}
	}
	w.table = p.table()
	p.events["volume"]++
	return p.confirm(w, v.(Volume).ID)
}

// end closes the writer's tile.
func (p *plane) end(w *planeWriter, x id.Millis) error {
	w.asked = x
	_, err := p.ask(w, opCloseTile, &closeTile{w.lease.Slot, w.incarnation, w.lease.From, x, p.leaders[0]})
	switch {
	case errors.Is(err, id.ErrLeaseLost):
		w.lost()
	case err == nil:
		w.table = p.table()
		p.events["ended"]++
	case !errors.Is(err, errLost):
		return fmt.Errorf("close tile: %w", err)
	}
	return nil
}

// confirm comes back with the volume's file, unless the writer dies before, or
// somebody gives the volume up.
func (p *plane) confirm(w *planeWriter, v VolumeID) error {
	switch p.rand.IntN(6) {
	case 0:
		p.events["unconfirmed"]++
		return nil
	case 1:
		if _, err := p.do(opAbandonVolume, &abandonVolume{v, p.leaders[0]}); err != nil {
			return err
		}
		p.events["abandoned"]++
	}
	_, err := p.ask(w, opConfirmVolume, &confirmVolume{v, 1, w.incarnation})
	if err == nil {
		w.table = p.table()
	} else if !errors.Is(err, ErrStale) && !errors.Is(err, errLost) && !errors.Is(err, id.ErrLeaseLost) {
		return fmt.Errorf("confirm volume: %w", err)
	}
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
		if err == nil {
			err = p.check(w, blob)
		}
		if err != nil {
			return err
		}
		v, ok := w.table.Locate(blob)
		if !ok || !w.writesTo(v) || v.State != StateOpen || v.Unconfirmed || v.From < w.asked {
			if err := p.open(w); err != nil { // blob is thrown away; the next one will do
				return err
			}
			continue
		}
		p.written[blob] = v.ID
		p.events["blob"]++
		if w != w.node.current {
			p.events["zombie's blob"]++
		}
	}
	return nil
}

// check looks at an id when it is minted: nobody has minted it, the writer's last one
// is smaller, on whatever slot, and the writer's table is not older than its lease.
func (p *plane) check(w *planeWriter, blob id.ID) error {
	l := w.minter.Lease()
	switch at := blob.Millis(); {
	case p.minted[blob] != nil:
		return fmt.Errorf("id %d was minted by %d already", blob, p.minted[blob].incarnation)
	case blob <= w.last:
		return fmt.Errorf("id %d was minted by %d after %d", blob, w.incarnation, w.last)
	case w.table.Version() < l.Map:
		return fmt.Errorf("id %d was minted under table %d, the lease names %d", blob, w.table.Version(), l.Map)
	case blob.Slot() != l.Slot || at < l.From || at >= l.To:
		return fmt.Errorf("id %d was minted outside of %+v", blob, l)
	}
	p.minted[blob], w.last = w, blob
	return nil
}

// atTheEnd looks at all that happened: the windows of a slot do not overlap, whatever
// the clocks said; each id lies in a window of who minted it; and each that was
// written lies in exactly one tile, that of the volume it was written to, whose
// opener or writer held the slot at the time.
func (p *plane) atTheEnd() error {
	for s, all := range p.windows {
		for i := range all[1:] {
			if all[i+1].From < all[i].To {
				return fmt.Errorf("slot %d: window %+v begins inside %+v", s, all[i+1], all[i])
			}
		}
	}
	for blob, w := range p.minted {
		in := 0
		for _, win := range p.windows[blob.Slot()] {
			if blob.Millis() >= win.From && blob.Millis() < win.To {
				in++
				if win.Holder != w.incarnation {
					return fmt.Errorf("id %d of %d lies in the window %+v", blob, w.incarnation, win)
				}
			}
		}
		if in != 1 {
			return fmt.Errorf("id %d lies in %d windows", blob, in)
		}
	}
	for blob, want := range p.written {
		in := 0
		for _, tile := range p.table().Tiles(blob.Slot()) {
			if tile.Holds(blob.Millis()) {
				in++
			}
		}
		if got, ok := p.table().Locate(blob); in != 1 || !ok || got.ID != want {
			return fmt.Errorf("blob %d (slot %d, time %d) was written to volume %d, is located at %d, %v; tiles %v",
				blob, blob.Slot(), blob.Millis(), want, got.ID, ok, p.table().Tiles(blob.Slot()))
		}
	}
	return nil
}

func TestEveryBlobIsLocated(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d (repeat: put it in place of the clock's in TestEveryBlobIsLocated)", seed)
	all := map[string]int{}
	rare := func() (k string, few bool) { // an event that has hardly happened yet
		for _, k := range []string{"crash", "surrender", "replace", "silent", "lost", "no slot", "goes on", "volume", "zombie's blob", "unconfirmed", "abandoned",
			"request lost", "answer lost", "late request", "replica left", "ended"} {
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
		if err := p.atTheEnd(); err != nil {
			t.Fatalf("round %d: %v", round, err)
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
