package server_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// trio is three nodes with a disk each, and a volume with a replica on each of them
// that was made by hand. One fault can be put at one of the calls between them, or of
// them to the directory.
type trio struct {
	*cluster
	v     volume.ID
	slot  id.Slot
	disks []uint32 // that have the replicas
	began id.Millis
	kept  []planted // acknowledged
	maybe []planted // never acknowledged: there or not, on all alike
	dead  []id.ID   // deleted, acknowledged

	tmu   sync.Mutex // guards all below
	calls int
	at    int
	mode  faultMode
	hit   string
	fell  map[*member]*vfs.Mem
	extra func(n *fakeNode, what string, do func() error) error

	ops, cutAt int // calls that change files, and the one before which the power goes

	busy atomic.Int64 // calls that files or nodes were asked

	noSteward bool
	seed      uint64
}

type planted struct {
	key  id.ID
	size int
}

// faultMode is what happens at a call.
type faultMode uint8

const (
	faultFails  faultMode = iota // it is not made
	faultLost                    // its answer is lost
	faultCaller                  // the power of who calls goes, before it
	faultCallee                  // the power of who was called goes, after it
	faultModes
)

func (m faultMode) String() string {
	return [...]string{"is not made", "loses its answer", "kills who calls", "kills who was called"}[m]
}

const trioCookie = id.Cookie(77)

func newTrio(t testing.TB, o server.Options) *trio { return newTrioOf(t, o, 1) }

// newTrioOf is newTrio with several disks on the first node.
func newTrioOf(t testing.TB, o server.Options, first int) *trio {
	o.Replicas = 3
	x := &trio{cluster: newCluster(t, o, first, 1, 1), slot: 600, fell: make(map[*member]*vfs.Mem)}
	for _, m := range x.members {
		x.disks = append(x.disks, m.disks()[0])
	}
	x.began = id.MillisOf(x.clock.Now())
	for _, m := range x.members {
		m.stop()
	}
	x.dir.around = x.around
	for _, m := range x.members {
		m.sicken(func(op vfs.Op) error { return x.onDisk(m, op) })
	}
	for _, from := range x.members {
		for _, to := range x.members {
			if from != to {
				x.fault(from, to, x.between(from, to))
			}
		}
	}
	return x
}

// key is the n-th blob of the trio's tile.
func (x *trio) key(n int) id.ID { return id.Make(x.began-1000, x.slot, uint16(n)) }

// plant makes the row of a closing volume, and its file on each disk with what fill
// puts there.
func (x *trio) plant(fill func(disk int, vol *volume.Volume)) {
	x.t.Helper()
	now := x.began
	ident := volume.Identity{Volume: 9, Generation: 1, Class: volume.ClassOriginals}
	x.v = ident.Volume
	if err := x.dir.change(func(tb *table) error {
		r := fakeRow{last: 1, Row: server.Row{Volume: ident, State: server.StateClosing, Target: 3, Slot: x.slot, From: now - 5000, To: now - 10, Opened: now - 5000, Closed: now - 10}}
		tb.rows[ident.Volume] = tb.with(r, x.disks, x.disks)
		tb.tiles[x.slot] = []fakeTile{{now - 5000, now - 10, ident.Volume}}
		return nil
	}); err != nil {
		x.t.Fatal(err)
	}
	for i, m := range x.members {
		vol, err := volume.Create("/d0/volumes", ident, volume.Options{FS: m.mem, Clock: x.clock, AllocChunk: 4096})
		if err != nil {
			x.t.Fatal(err)
		}
		fill(i, vol)
		if err := vol.Close(); err != nil {
			x.t.Fatal(err)
		}
	}
}

func (x *trio) put(vol *volume.Volume, n, size int) {
	x.t.Helper()
	if err := vol.Append(context.Background(), needlesOf(x.key(n), size)); err != nil {
		x.t.Fatal(err)
	}
}

func needlesOf(key id.ID, size int) []volume.Needle { return group(key, trioCookie, size, 2) }

func (x *trio) bury(vol *volume.Volume, n int) {
	x.t.Helper()
	if err := vol.Delete(context.Background(), x.key(n)); err != nil {
		x.t.Fatal(err)
	}
}

// plantUnequal plants replicas that differ in what was never acknowledged.
func (x *trio) plantUnequal() {
	x.plant(func(disk int, vol *volume.Volume) {
		for n := 1; n <= 6; n++ {
			at := n
			if disk == 1 { // in another order
				at = 7 - n
			}
			x.put(vol, at, 1000*at)
		}
		x.bury(vol, 2)
		if disk == 1 {
			x.bury(vol, 3)
		}
		x.put(vol, 10+disk, 3000)
	})
	for _, n := range []int{1, 4, 5, 6} {
		x.kept = append(x.kept, planted{x.key(n), 1000 * n})
	}
	x.dead = append(x.dead, x.key(2))
	x.maybe = append(x.maybe, planted{x.key(3), 3000}, planted{x.key(10), 3000}, planted{x.key(11), 3000}, planted{x.key(12), 3000})
}

// plantSealed plants a volume that was sealed on all three, and gives it deletes.
func (x *trio) plantSealed() {
	x.plantUnequal()
	x.start()
	x.settle()
	for _, n := range []int{4, 5} {
		x.delete(n)
	}
}

func (x *trio) start() {
	x.t.Helper()
	for _, m := range x.members {
		if m.server() == nil {
			m.start()
		}
	}
}

func (x *trio) stopAll() {
	for _, m := range x.members {
		if s := m.server(); s != nil {
			m.set(nil)
			if err := x.close(s); err != nil && !errors.Is(err, errAway) && !x.down(m) {
				x.t.Error(m.name, err)
			}
		}
	}
}

// between is the link between two members.
func (x *trio) between(from, to *member) linkFault {
	return func(ctx context.Context, method string, call func(context.Context) error) error {
		if x.down(from) || x.down(to) {
			return server.ErrUnavailable
		}
		mode, hit := x.count(fmt.Sprintf("%s.%s of %s", from.name, method, to.name))
		if !hit {
			err := call(ctx)
			if x.down(from) || x.down(to) {
				return server.ErrUnavailable
			}
			return err
		}
		switch mode {
		case faultFails:
			return server.ErrUnavailable
		case faultCaller:
			x.fall(from)
			return server.ErrUnavailable
		case faultCallee:
			_ = call(ctx)
			x.fall(to)
			return server.ErrUnavailable
		}
		_ = call(ctx)
		return server.ErrUnavailable
	}
}

// around makes a change that a member asks of the directory.
func (x *trio) around(n *fakeNode, what string, do func() error) error {
	if n.node > 3 {
		return do() // the steward's
	}
	x.tmu.Lock()
	extra := x.extra
	x.tmu.Unlock()
	if extra != nil {
		return extra(n, what, do)
	}
	m := x.members[n.node-1]
	if x.down(m) {
		return errAway
	}
	if what == "disk" || what == "acquire" || what == "renew" || what == "surrender" {
		return do() // not of a row
	}
	mode, hit := x.count(fmt.Sprintf("%s asks the directory: %s", m.name, what))
	if !hit {
		return do()
	}
	switch mode {
	case faultFails:
		return errAway
	case faultCaller:
		x.fall(m)
		return errAway
	}
	_ = do()
	if mode == faultCallee {
		x.fall(m)
	}
	return errAway
}

func (x *trio) count(call string) (faultMode, bool) {
	x.tmu.Lock()
	defer x.tmu.Unlock()
	x.busy.Add(1)
	x.calls++
	if x.calls != x.at {
		return 0, false
	}
	x.hit = call
	return x.mode, true
}

// fall has the power of a member go, at this moment.
func (x *trio) fall(m *member) {
	if m.server() == nil {
		return // it is not up yet
	}
	x.tmu.Lock()
	defer x.tmu.Unlock()
	if x.fell[m] == nil {
		x.fell[m] = m.mem.Crash(x.seed)
	}
}

// onDisk counts a call that changes a member's files. The power of one goes before the
// call number cutAt, and from then on it reaches no file.
func (x *trio) onDisk(m *member, op vfs.Op) error {
	x.busy.Add(1)
	switch op.Kind {
	case vfs.OpCreate, vfs.OpRemove, vfs.OpRename, vfs.OpMkdirAll, vfs.OpSyncDir, vfs.OpWrite, vfs.OpSync, vfs.OpAllocate, vfs.OpTruncate:
		x.tmu.Lock()
		x.ops++
		hit := x.ops == x.cutAt
		if hit {
			x.hit = fmt.Sprintf("%s: %+v", m.name, op)
		}
		x.tmu.Unlock()
		if hit {
			x.fall(m)
		}
	}
	if x.down(m) {
		return errDead
	}
	return nil
}

// cut has the power of whoever makes a call that changes files go, once, 0 for never.
func (x *trio) cut(at int, seed uint64) {
	x.arm(0, 0, seed)
	x.tmu.Lock()
	defer x.tmu.Unlock()
	x.ops, x.cutAt = 0, at
}

func (x *trio) down(m *member) bool {
	x.tmu.Lock()
	defer x.tmu.Unlock()
	return x.fell[m] != nil
}

// close closes a server while time goes by: others may wait for it that it waits for.
func (x *trio) close(s *server.Server) error {
	done := make(chan error, 1)
	go func() { done <- s.Close(context.Background()) }()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(time.Millisecond):
			x.clock.Advance(time.Second)
		}
	}
}

// rise starts those again whose power went.
func (x *trio) rise() {
	x.t.Helper()
	for _, m := range x.members {
		if !x.down(m) {
			continue
		}
		m.wire.cut(errAway)
		s := m.server()
		m.set(nil)
		_ = x.close(s) // nothing that the dead say counts
		x.tmu.Lock()
		m.mem = x.fell[m]
		delete(x.fell, m)
		x.tmu.Unlock()
		m.start()
	}
}

// arm puts a fault at one of the calls from now on, 0 for none.
func (x *trio) arm(at int, mode faultMode, seed uint64) {
	x.tmu.Lock()
	defer x.tmu.Unlock()
	x.calls, x.at, x.mode, x.hit, x.seed = 0, at, mode, "", seed
}

// setAround has changes that nodes ask of the directory made by fn.
func (x *trio) setAround(fn func(n *fakeNode, what string, do func() error) error) {
	x.tmu.Lock()
	defer x.tmu.Unlock()
	x.extra = fn
}

func (x *trio) row() server.Row { return x.dir.table().rows[x.v].Row }

// steward lists a disk again that lost its place.
func (x *trio) steward() {
	row := x.row()
	if x.noSteward || row.State != server.StateSealed || len(row.Disks) >= 3 || row.Coding.Committed != nil {
		return
	}
	for _, disk := range x.disks {
		if !slices.Contains(row.Disks, disk) {
			n := &fakeNode{d: x.dir, node: 9}
			_, _ = n.AddReplica(context.Background(), x.v, disk, row.Sync)
			return
		}
	}
}

// settle lets time go by until the volume is sealed, nothing is under way, and all
// replicas are in sync and serve what the row says.
func (x *trio) settle() { x.until("all replicas are in sync", x.settled) }

func (x *trio) until(what string, ok func() bool) {
	x.t.Helper()
	limit := time.Now().Add(testenv.Patience)
	last := int64(-1)
	for !ok() {
		<-time.After(time.Millisecond)
		x.rise()
		x.steward()
		busy := x.busy.Load()
		if busy == last {
			x.clock.Advance(time.Second)
		}
		last = busy
		if time.Now().After(limit) {
			x.mu.Lock()
			for _, e := range x.events[max(0, len(x.events)-20):] {
				x.t.Log(e.Kind, e.Dir, e.Work, e.Err)
			}
			x.mu.Unlock()
			x.t.Fatalf("waited %v until %s: the row is %+v", testenv.Patience, what, x.row())
		}
	}
}

func (x *trio) settled() bool {
	row := x.row()
	if row.State != server.StateSealed || row.Attempt != nil || len(row.InSync) < 3 {
		return false
	}
	for _, m := range x.members {
		if m.server() == nil || x.down(m) {
			return false
		}
		all, err := m.server().Volumes()
		if err != nil {
			return false
		}
		for _, i := range all {
			if i.Volume == x.v && (i.Work != "" || i.Sick != nil || i.Generation != row.Volume.Generation) {
				return false
			}
		}
	}
	return true
}

// delete deletes through the primary, as a node does that has no replica, until it is
// acknowledged.
func (x *trio) delete(n int) {
	x.t.Helper()
	done := make(chan error, 1)
	begin := func() { go func() { done <- x.tryDelete(n) }() }
	begin()
	x.until(fmt.Sprintf("blob %d is deleted", n), func() bool {
		select {
		case err := <-done:
			if err == nil {
				return true
			}
			begin()
		default:
		}
		return false
	})
	x.kept = slices.DeleteFunc(x.kept, func(p planted) bool { return p.key == x.key(n) })
	x.dead = append(x.dead, x.key(n))
}

// tryDelete deletes through the primary, which is put out when it does not answer.
func (x *trio) tryDelete(n int) error {
	row := x.row()
	if row.Coding.Committed != nil { // its shards are on the first node
		return x.members[0].server().Delete(context.Background(), x.key(n))
	}
	m := x.of(row.InSync[0])
	err := server.ErrUnavailable
	if s := m.server(); s != nil && !x.down(m) {
		err = s.Replicas().Delete(context.Background(), row.InSync[0], x.v, x.key(n))
		if x.down(m) {
			err = server.ErrUnavailable
		}
	}
	if err != nil && len(row.InSync) > 1 && (m.server() == nil || x.down(m)) && x.good(row.InSync[1]) {
		other := &fakeNode{d: x.dir, node: 9}
		_, _ = other.LeaveSync(context.Background(), x.v, row.InSync[0], row.Sync)
	}
	return err
}

// good reports whether a replica has what was sealed.
func (x *trio) good(disk uint32) bool {
	s := x.of(disk).server()
	if s == nil || x.down(x.of(disk)) {
		return false
	}
	st, err := s.Replicas().Standing(context.Background(), disk, x.v)
	return err == nil && st.Generation != 0 && !st.Poisoned
}

// disarm has no fault come any more: what nodes do by themselves goes on, and one that has
// not come by now would come in the middle of a look at them. One that came just now is got
// over first.
func (x *trio) disarm() {
	x.tmu.Lock()
	x.at, x.cutAt = 0, 0
	fell := len(x.fell) > 0
	x.tmu.Unlock()
	if fell {
		x.settle()
	}
}

// check compares every replica in sync with what was acknowledged, and with the others.
func (x *trio) check() {
	x.t.Helper()
	x.disarm()
	row := x.row()
	holds := make(map[uint32]string)
	for _, disk := range row.InSync {
		m := x.of(disk)
		err := m.server().Use(x.v, disk, func(vol *volume.Volume) error {
			digest, _, findings, err := vol.Inventory(context.Background())
			if err != nil || len(findings) > 0 {
				x.t.Errorf("disk %d: %v %v", disk, findings, err)
			}
			if digest != row.Seal.Digest {
				x.t.Errorf("disk %d holds %x, the directory has %x", disk, digest[:4], row.Seal.Digest[:4])
			}
			var out []string
			for _, p := range slices.Concat(x.kept, x.maybe) {
				for _, want := range needlesOf(p.key, p.size) {
					got, err := vol.Read(context.Background(), p.key, want.Alt, trioCookie)
					kept := slices.Contains(x.kept, p)
					switch {
					case err == nil && string(got.Data) != string(want.Data):
						x.t.Errorf("disk %d: wrong bytes of %v", disk, p.key)
					case err != nil && (kept || !errors.Is(err, volume.ErrNotFound)):
						x.t.Errorf("disk %d: %v: %v", disk, p.key, err)
					}
					out = append(out, fmt.Sprint(p.key, err == nil))
					got.Release()
				}
			}
			for _, key := range x.dead {
				if _, err := vol.Read(context.Background(), key, 0, trioCookie); !errors.Is(err, volume.ErrNotFound) {
					x.t.Errorf("disk %d: deleted %v: %v", disk, key, err)
				}
			}
			var log []volume.Delete
			if _, err := vol.Deletes(context.Background(), 0, func(d volume.Delete) error { log = append(log, d); return nil }); err != nil {
				x.t.Errorf("disk %d: %v", disk, err)
			}
			holds[disk] = fmt.Sprint(out, log)
			return nil
		})
		if err != nil {
			x.t.Errorf("disk %d: %v", disk, err)
		}
	}
	for disk, h := range holds {
		if h != holds[row.InSync[0]] {
			x.t.Errorf("disk %d holds\n%s\ndisk %d\n%s", disk, h, row.InSync[0], holds[row.InSync[0]])
		}
	}
}
