package directory

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

// machine is the replicated state machine. The table lives twice: as rows in
// Pebble, and as a Map that readers hold. Apply works on a copy of the Map and
// writes the rows it changes; Applied publishes the copy.
type machine struct {
	next    *Map // apply goroutine only: the table after the last command
	current atomic.Pointer[Map]

	mu    sync.Mutex    // guards moved
	moved chan struct{} // closed and replaced when current changes
}

var _ raftgroup.Machine = (*machine)(nil)

func newMachine() *machine {
	m := &machine{next: &Map{}, moved: make(chan struct{})}
	m.current.Store(m.next)
	return m
}

// answer is what a proposer gets: the command's result and the version it left.
type answer struct {
	value   any
	version uint64
}

// Apply implements raftgroup.Machine.
func (m *machine) Apply(b *pebble.Batch, cmd []byte) (any, error) {
	c, err := decodeCommand(cmd)
	if err != nil {
		return nil, err
	}
	next := *m.next
	t := &table{Map: &next}
	v, err := c.apply(t)
	if err != nil {
		return nil, err
	}
	if len(t.rows) == 0 {
		return answer{v, next.version}, nil
	}
	next.version++
	t.put(keyMeta(), next.metaValue())
	for _, r := range t.rows {
		if r.value == nil {
			err = b.Delete(r.key, nil)
		} else {
			err = b.Set(r.key, r.value, nil)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", raftgroup.ErrBroken, err)
		}
	}
	m.next = &next
	return answer{v, next.version}, nil
}

// Applied implements raftgroup.Machine.
func (m *machine) Applied(*pebble.DB, uint64) { m.publish() }

// Restored implements raftgroup.Machine.
func (m *machine) Restored(db *pebble.DB) error {
	l := &loader{}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{0x01}})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := l.add(it.Key(), it.Value()); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return err
	}
	if m.next, err = l.table(); err != nil {
		return err
	}
	m.publish()
	return nil
}

func (m *machine) publish() {
	if m.current.Load() == m.next {
		return
	}
	m.current.Store(m.next)
	m.mu.Lock()
	close(m.moved)
	m.moved = make(chan struct{})
	m.mu.Unlock()
}

func (m *machine) movedChan() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.moved
}

// table is the copy of a Map that one command works on, with the rows it has
// changed so far.
type table struct {
	*Map
	rows []changed
}

type changed struct{ key, value []byte } // a nil value is a removed row

func (t *table) put(key, value []byte) { t.rows = append(t.rows, changed{key, value}) }

func (t *table) setNode(n Node) {
	t.putNode(n)
	t.put(keyNode(n.ID), n.value())
}

func (t *table) setDisk(d Disk) {
	t.putDisk(d)
	t.put(keyDisk(d.ID), d.value())
}

func (t *table) setVolume(v Volume) {
	t.putVolume(v)
	t.put(keyVol(v.ID), v.value())
}

func (t *table) setWindow(s id.Slot, w id.Window) {
	if t.Window(s) == w {
		return
	}
	t.putWindow(s, w)
	t.put(keyWindow(s), windowValue(w))
}

func (t *table) setKey(k Key) {
	t.putKey(k)
	t.put(keyKey(k.Purpose, k.Version), k.value())
}

func (t *table) setTile(tile Tile) {
	t.putTile(tile)
	t.put(keyTile(tile.Slot, tile.From), tile.value())
}

func (t *table) lastTile(s id.Slot) (Tile, bool) {
	ts := t.Tiles(s)
	if len(ts) == 0 {
		return Tile{}, false
	}
	return ts[len(ts)-1], true
}

// closeTile closes the open tile of a slot at x, which is not before its
// beginning. One that would be empty is removed, and so is that of a volume that
// nobody confirmed.
func (t *table) closeTile(tile Tile, x, now id.Millis) {
	if v, ok := t.Volume(tile.Volume); ok && v.State == StateOpen && v.Unconfirmed {
		t.abandon(tile, v, now)
		return
	}
	if x == tile.From {
		t.dropTile(tile.Slot)
		t.put(keyTile(tile.Slot, tile.From), nil)
	} else {
		tile.To = x
		t.setTile(tile)
	}
	if v, ok := t.Volume(tile.Volume); ok && v.State == StateOpen {
		v.State, v.Slot, v.From, v.To, v.Closed = StateClosing, tile.Slot, tile.From, x, max(now, 1)
		t.setVolume(v)
	}
}
