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
	opRestoreOld        = 23
	opNameNode          = 24
	opOpenReplicated    = 25
	opLeaveSync         = 26
	opJoinSync          = 27
	opAddReplica        = 28
	opRemoveReplica     = 29
	opSealReplicas      = 30
	opCommitReplicas    = 31
	opSetNodeState      = 32
	opSetDiskState      = 33
	opRestoreVolume     = 34
	opKeepCoded         = 35
	opAsKeeper          = 36
	opSetTarget         = 37
	opStartNode         = 38
	opJoinSyncAs        = 39
	lastOp              = opJoinSyncAs
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
	if op == 0 || op > lastOp {
		return nil
	}
	return makers[op]()
}

// makers make an empty command of each operation.
var makers = [lastOp + 1]func() command{
	opRegisterNode:      func() command { return new(registerNode) },
	opRegisterDisk:      func() command { return new(registerDisk) },
	opAcquire:           func() command { return new(acquire) },
	opRenew:             func() command { return new(renew) },
	opSurrender:         func() command { return new(surrender) },
	opOpenVolume:        func() command { return new(openVolume) },
	opCloseTile:         func() command { return new(closeTile) },
	opAddKey:            func() command { return new(addKey) },
	opCloseVolume:       func() command { return new(closeVolume) },
	opSealVolume:        func() command { return new(sealVolume) },
	opBeginCompaction:   func() command { return new(beginCompaction) },
	opCommitCompaction:  func() command { return new(commitCompaction) },
	opAbandonCompaction: func() command { return new(abandonCompaction) },
	opConfirmVolume:     func() command { return new(confirmVolume) },
	opAbandonVolume:     func() command { return new(abandonVolume) },
	opBeginSalvage:      func() command { return new(beginSalvage) },
	opBeginCoding:       func() command { return new(beginCoding) },
	opCommitCoding:      func() command { return new(commitCoding) },
	opAbortCoding:       func() command { return new(abortCoding) },
	opRevokeCoding:      func() command { return new(revokeCoding) },
	opReleaseSource:     func() command { return new(releaseSource) },
	opMoveShard:         func() command { return new(moveShard) },
	opRestoreOld:        func() command { return new(restoreOld) },
	opNameNode:          func() command { return new(nameNode) },
	opOpenReplicated:    func() command { return new(openReplicated) },
	opLeaveSync:         func() command { return new(leaveSync) },
	opJoinSync:          func() command { return new(joinSync) },
	opAddReplica:        func() command { return new(addReplica) },
	opRemoveReplica:     func() command { return new(removeReplica) },
	opSealReplicas:      func() command { return new(sealReplicas) },
	opCommitReplicas:    func() command { return new(commitReplicas) },
	opSetNodeState:      func() command { return new(setNodeState) },
	opSetDiskState:      func() command { return new(setDiskState) },
	opRestoreVolume:     func() command { return new(restoreVolume) },
	opKeepCoded:         func() command { return new(keepCoded) },
	opAsKeeper:          func() command { return new(asKeeper) },
	opSetTarget:         func() command { return new(setTarget) },
	opStartNode:         func() command { return new(startNode) },
	opJoinSyncAs:        func() command { return new(joinSyncAs) },
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
	if v, _ := t.Volume(tile.Volume); disk != 0 && v.Synced(disk) {
		return 0
	}
	return 2
}

// tileWanted reports whether a new holder goes on with the tile's volume: a replica
// in sync is on the disk it named, or, if it named none, on a disk of its node.
func (t *table) tileWanted(tile Tile, n NodeID, named DiskID) bool {
	v, _ := t.Volume(tile.Volume)
	for _, d := range v.InSync {
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
