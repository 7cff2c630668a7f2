package directory

import (
	"fmt"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

const commandVersion = 1

// The operations, by their number in a command.
const (
	opRegisterNode      = 1
	opRegisterDisk      = 2
	opAcquire           = 3
	opRenew             = 4
	opSurrender         = 5
	opOpenVolume        = 6
	opCloseTile         = 7
	opAddKey            = 8
	opCloseVolume       = 9
	opSealVolume        = 10
	opBeginCompaction   = 11
	opCommitCompaction  = 12
	opAbandonCompaction = 13
	opConfirmVolume     = 14
	opAbandonVolume     = 15
	opBeginSalvage      = 16
	opBeginCoding       = 17
	opCommitCoding      = 18
	opAbortCoding       = 19
	opRevokeCoding      = 20
	opReleaseSource     = 21
	opMoveShard         = 22
	opRestoreVolume     = 23
)

// command is one change of the table. apply checks everything before it changes
// anything, so a refusal leaves no trace. It reads and writes nothing but t.
type command interface {
	encode(e *enc)
	decode(d *dec)
	apply(t *table) (any, error)
}

// newCommand returns an empty command of an operation, nil for an unknown one.
func newCommand(op uint8) command {
	switch op {
	case opRegisterNode:
		return new(registerNode)
	case opRegisterDisk:
		return new(registerDisk)
	case opAcquire:
		return new(acquire)
	case opRenew:
		return new(renew)
	case opSurrender:
		return new(surrender)
	case opOpenVolume:
		return new(openVolume)
	case opCloseTile:
		return new(closeTile)
	case opAddKey:
		return new(addKey)
	case opCloseVolume:
		return new(closeVolume)
	case opSealVolume:
		return new(sealVolume)
	case opBeginCompaction:
		return new(beginCompaction)
	case opCommitCompaction:
		return new(commitCompaction)
	case opAbandonCompaction:
		return new(abandonCompaction)
	case opConfirmVolume:
		return new(confirmVolume)
	case opAbandonVolume:
		return new(abandonVolume)
	case opBeginSalvage:
		return new(beginSalvage)
	case opBeginCoding:
		return new(beginCoding)
	case opCommitCoding:
		return new(commitCoding)
	case opAbortCoding:
		return new(abortCoding)
	case opRevokeCoding:
		return new(revokeCoding)
	case opReleaseSource:
		return new(releaseSource)
	case opMoveShard:
		return new(moveShard)
	case opRestoreVolume:
		return new(restoreVolume)
	}
	return nil
}

func encodeCommand(op uint8, c command) []byte {
	e := &enc{b: []byte{commandVersion, op}}
	c.encode(e)
	return e.b
}

func decodeCommand(b []byte) (command, error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("%w: command of %d bytes", ErrInvalid, len(b))
	}
	if b[0] != commandVersion {
		return nil, fmt.Errorf("%w: directory command version %d", raftgroup.ErrUnsupported, b[0])
	}
	c := newCommand(b[1])
	if c == nil {
		return nil, fmt.Errorf("%w: directory operation %d", raftgroup.ErrUnsupported, b[1])
	}
	d := &dec{b: b[2:]}
	c.decode(d)
	if !d.whole() {
		return nil, fmt.Errorf("%w: operation %d does not parse", ErrInvalid, b[1])
	}
	return c, nil
}

type registerNode struct {
	name, host, rack, zone string
	now                    id.Millis
}

func (c *registerNode) encode(e *enc) {
	e.text(c.name)
	e.text(c.host)
	e.text(c.rack)
	e.text(c.zone)
	e.millis(c.now)
}

func (c *registerNode) decode(d *dec) {
	*c = registerNode{d.text(), d.text(), d.text(), d.text(), d.millis()}
}

func (c *registerNode) apply(t *table) (any, error) {
	if c.name == "" {
		return nil, fmt.Errorf("%w: a node needs a name", ErrInvalid)
	}
	n := Node{ID: t.lastNode + 1, Registered: c.now}
	for _, have := range t.Nodes() {
		if have.Name == c.name {
			n = have
		}
	}
	before := n
	n.Name, n.Host, n.Rack, n.Zone = c.name, c.host, c.rack, c.zone
	if n != before {
		t.setNode(n)
	}
	return n, nil
}

type registerDisk struct {
	node     NodeID
	uuid     [16]byte
	capacity uint64
	now      id.Millis
}

func (c *registerDisk) encode(e *enc) {
	e.u32(uint32(c.node))
	e.bytes(c.uuid[:])
	e.u64(c.capacity)
	e.millis(c.now)
}

func (c *registerDisk) decode(d *dec) {
	*c = registerDisk{NodeID(d.u32()), [16]byte(d.take(16)), d.u64(), d.millis()}
}

func (c *registerDisk) apply(t *table) (any, error) {
	if _, ok := t.Node(c.node); !ok {
		return nil, fmt.Errorf("%w: node %d", ErrUnknown, c.node)
	}
	row := Disk{ID: t.lastDisk + 1, UUID: c.uuid, Registered: c.now}
	for _, have := range t.Disks() {
		if have.UUID == c.uuid {
			row = have
		}
	}
	before := row
	row.Node, row.Capacity = c.node, c.capacity
	if row != before {
		t.setDisk(row)
	}
	return row, nil
}

type acquire struct {
	node           NodeID
	incarnation    uint64
	worker         uint16
	kind           Kind
	disk           DiskID
	now, holderNow id.Millis
	length         id.Millis
}

func (c *acquire) encode(e *enc) {
	e.u32(uint32(c.node))
	e.u64(c.incarnation)
	e.u16(c.worker)
	e.u8(uint8(c.kind))
	e.u32(uint32(c.disk))
	e.millis(c.now)
	e.millis(c.holderNow)
	e.millis(c.length)
}

func (c *acquire) decode(d *dec) {
	*c = acquire{NodeID(d.u32()), d.u64(), d.u16(), Kind(d.u8()), DiskID(d.u32()), d.millis(), d.millis(), d.millis()}
}

func (c *acquire) apply(t *table) (any, error) {
	if _, ok := t.Node(c.node); !ok {
		return nil, fmt.Errorf("%w: node %d", ErrUnknown, c.node)
	}
	lo, hi := c.kind.Slots()
	if lo == hi || c.incarnation == 0 || c.length == 0 {
		return nil, fmt.Errorf("%w: acquire kind %d, incarnation %d, length %d", ErrInvalid, c.kind, c.incarnation, c.length)
	}
	req := id.GrantRequest{
		Node: uint32(c.node), Holder: c.incarnation, Worker: c.worker, Lo: lo, Hi: hi,
		Now: c.now, HolderNow: c.holderNow, Length: c.length,
	}
	if c.kind.Class() != None {
		req.Rank = func(s id.Slot) int { return t.rank(s, c.disk) }
	}
	slot, w, err := id.Grant(t, req)
	if err != nil {
		return nil, err
	}
	prev := t.Window(slot)
	renewed := prev.HeldBy(c.incarnation, w.From)
	if tile, ok := t.OpenTile(slot); ok && !renewed && !t.tileWanted(tile, c.node, c.disk) {
		t.closeTile(tile, prev.To, c.now)
	}
	t.setWindow(slot, w)
	return granted{slot, w}, nil
}

// rank prefers slots that go on with a volume on disk, then slots without one.
func (t *table) rank(s id.Slot, disk DiskID) int {
	tile, ok := t.OpenTile(s)
	if !ok {
		return 1
	}
	if v, _ := t.Volume(tile.Volume); disk != 0 && v.On(disk) {
		return 0
	}
	return 2
}

// tileWanted reports whether a new holder goes on with the tile's volume: it
// lies on the disk it named, or, if it named none, on a disk of its node.
func (t *table) tileWanted(tile Tile, n NodeID, named DiskID) bool {
	v, _ := t.Volume(tile.Volume)
	for _, d := range v.Replicas {
		if disk, ok := t.Disk(d); ok && disk.Node == n && (named == 0 || named == d) {
			return true
		}
	}
	return false
}

type renew struct {
	slot           id.Slot
	incarnation    uint64
	leased         id.Millis
	now, holderNow id.Millis
	length         id.Millis
}

func (c *renew) encode(e *enc) {
	e.u16(uint16(c.slot))
	e.u64(c.incarnation)
	e.millis(c.leased)
	e.millis(c.now)
	e.millis(c.holderNow)
	e.millis(c.length)
}

func (c *renew) decode(d *dec) {
	*c = renew{d.slot(), d.u64(), d.millis(), d.millis(), d.millis(), d.millis()}
}

func (c *renew) apply(t *table) (any, error) {
	w, err := id.Renew(t.Window(c.slot), c.incarnation, c.leased, c.now, c.holderNow, c.length)
	if err != nil {
		return nil, fmt.Errorf("slot %d: %w", c.slot, err)
	}
	t.setWindow(c.slot, w)
	return granted{c.slot, w}, nil
}

type surrender struct {
	slot        id.Slot
	incarnation uint64
	leased, at  id.Millis
}

func (c *surrender) encode(e *enc) {
	e.u16(uint16(c.slot))
	e.u64(c.incarnation)
	e.millis(c.leased)
	e.millis(c.at)
}

func (c *surrender) decode(d *dec) { *c = surrender{d.slot(), d.u64(), d.millis(), d.millis()} }

func (c *surrender) apply(t *table) (any, error) {
	before := t.Window(c.slot)
	w, err := id.Release(before, c.incarnation, c.leased, c.at)
	if err != nil {
		return nil, fmt.Errorf("slot %d: %w", c.slot, err)
	}
	// A fence the holder drew earlier cannot lie after the last one.
	if last, ok := t.lastTile(c.slot); ok && !before.Released && c.at < max(last.From, last.To) {
		return nil, fmt.Errorf("%w: surrender at %d, the slot's last tile is [%d, %d)", ErrInvalid, c.at, last.From, last.To)
	}
	t.setWindow(c.slot, w)
	return nil, nil
}

type openVolume struct {
	slot        id.Slot
	incarnation uint64
	leased      id.Millis
	disk        DiskID
	from, now   id.Millis
}

func (c *openVolume) encode(e *enc) {
	e.u16(uint16(c.slot))
	e.u64(c.incarnation)
	e.millis(c.leased)
	e.u32(uint32(c.disk))
	e.millis(c.from)
	e.millis(c.now)
}

func (c *openVolume) decode(d *dec) {
	*c = openVolume{d.slot(), d.u64(), d.millis(), DiskID(d.u32()), d.millis(), d.millis()}
}

func (c *openVolume) apply(t *table) (any, error) {
	w := t.Window(c.slot)
	if !w.HeldBy(c.incarnation, c.leased) {
		return nil, fmt.Errorf("slot %d: %w", c.slot, id.ErrLeaseLost)
	}
	class := KindOf(c.slot).Class()
	disk, ok := t.Disk(c.disk)
	switch {
	case class == None:
		return nil, fmt.Errorf("%w: slot %d carries no volumes", ErrInvalid, c.slot)
	case !ok:
		return nil, fmt.Errorf("%w: disk %d", ErrUnknown, c.disk)
	case uint32(disk.Node) != w.Node:
		return nil, fmt.Errorf("%w: disk %d is not of node %d", ErrInvalid, c.disk, w.Node)
	case c.from < w.From || c.from > w.To:
		return nil, fmt.Errorf("%w: fence %d is outside the window [%d, %d)", ErrInvalid, c.from, w.From, w.To)
	}
	if last, ok := t.lastTile(c.slot); ok {
		v, _ := t.Volume(last.Volume)
		switch {
		case last.To == 0 && last.From == c.from && v.On(c.disk):
			return v, nil // a repetition
		case last.From >= c.from || last.To > c.from:
			return nil, fmt.Errorf("%w: fence %d, the slot's last tile is [%d, %d)", ErrInvalid, c.from, last.From, last.To)
		case last.To == 0:
			t.closeTile(last, c.from, c.now)
		}
	}
	v := Volume{
		ID: t.lastVolume + 1, Class: class, State: StateOpen, Generation: 1,
		Opened: c.now, Opener: c.incarnation, Replicas: []DiskID{c.disk},
		Slot: c.slot, From: c.from, LastGeneration: 1, Unconfirmed: true,
	}
	t.setVolume(v)
	t.setTile(Tile{Slot: c.slot, From: c.from, Volume: v.ID})
	return v, nil
}

type closeTile struct {
	slot            id.Slot
	incarnation     uint64
	leased, at, now id.Millis
}

func (c *closeTile) encode(e *enc) {
	e.u16(uint16(c.slot))
	e.u64(c.incarnation)
	e.millis(c.leased)
	e.millis(c.at)
	e.millis(c.now)
}

func (c *closeTile) decode(d *dec) {
	*c = closeTile{d.slot(), d.u64(), d.millis(), d.millis(), d.millis()}
}

func (c *closeTile) apply(t *table) (any, error) {
	w := t.Window(c.slot)
	at := c.at
	switch {
	case c.incarnation == 0:
		if !w.Over(c.now) {
			return nil, fmt.Errorf("%w: slot %d is leased until %d", ErrInvalid, c.slot, w.To)
		}
		at = w.To
	case !w.HeldBy(c.incarnation, c.leased):
		return nil, fmt.Errorf("slot %d: %w", c.slot, id.ErrLeaseLost)
	case at < w.From || at > w.To:
		return nil, fmt.Errorf("%w: fence %d is outside the window [%d, %d)", ErrInvalid, at, w.From, w.To)
	}
	tile, ok := t.OpenTile(c.slot)
	if ok && at < tile.From {
		return nil, fmt.Errorf("%w: fence %d, the tile begins at %d", ErrInvalid, at, tile.From)
	}
	if ok {
		t.closeTile(tile, at, c.now)
	}
	if c.incarnation == 0 && w.Node != 0 {
		// A renewal would let the holder mint inside the closed tile.
		w.Released = true
		t.setWindow(c.slot, w)
	}
	return nil, nil
}

type addKey struct {
	purpose string
	version uint32
	secret  [32]byte
	now     id.Millis
}

func (c *addKey) encode(e *enc) {
	e.text(c.purpose)
	e.u32(c.version)
	e.bytes(c.secret[:])
	e.millis(c.now)
}

func (c *addKey) decode(d *dec) {
	*c = addKey{d.text(), d.u32(), [32]byte(d.take(32)), d.millis()}
}

func (c *addKey) apply(t *table) (any, error) {
	have := t.Keys(c.purpose)
	next := uint32(len(have)) + 1
	if c.purpose == "" || c.version == 0 || c.version > next {
		return nil, fmt.Errorf("%w: key %q version %d, the next is %d", ErrInvalid, c.purpose, c.version, next)
	}
	if c.version == next {
		t.setKey(Key{Purpose: c.purpose, Version: c.version, Secret: c.secret, CreatedAt: c.now.Time()})
	}
	return t.Keys(c.purpose), nil
}

// granted is the answer to acquire and renew.
type granted struct {
	slot id.Slot
	w    id.Window
}

func (g granted) lease(version uint64) id.Lease {
	return id.Lease{Slot: g.slot, Holder: g.w.Holder, From: g.w.From, To: g.w.To, Map: version}
}

func millis(d time.Duration) id.Millis { return id.Millis(max(d.Milliseconds(), 0)) }
