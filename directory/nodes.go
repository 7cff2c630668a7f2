package directory

import (
	"context"
	"fmt"

	"hayloft/internal/id"
)

// Roles are what a node's process does, as bits. Those of later versions are kept.
type Roles uint16

// The roles.
const (
	RoleDirectory Roles = 1 << iota
	RoleVolume
	RoleCache
	RoleFeed
	RoleAPI
	RoleWorker

	AllRoles = RoleDirectory | RoleVolume | RoleCache | RoleFeed | RoleAPI | RoleWorker
)

// Duty is what an operator wants with a node or disk.
type Duty uint8

// The duties.
const (
	Active   Duty = 1
	Draining Duty = 2 // nothing new is put there, and what is there is moved away
	Gone     Duty = 3 // it will not come back
)

func (s Duty) String() string {
	switch s {
	case Active:
		return "active"
	case Draining:
		return "draining"
	case Gone:
		return "gone"
	}
	return fmt.Sprintf("duty-%d", uint8(s))
}

func (s Duty) known() bool { return s >= Active && s <= Gone }

// Node is a machine that runs roles.
type Node struct {
	ID               NodeID
	Name             string // unique
	Host, Rack, Zone string // failure domains, may be empty
	Addr             string // host:port of its listener for other nodes; empty: it has none
	Roles            Roles
	State            Duty
	Registered       id.Millis
	Incarnation      uint64 // of its process that started last; 0: none has said so
}

// Disk is a data directory on a node.
type Disk struct {
	ID         DiskID
	Node       NodeID
	UUID       [16]byte // from the disk's identity file
	Capacity   uint64   // bytes
	State      Duty
	Registered id.Millis
}

func (n Node) value() []byte {
	e := &enc{b: []byte{nodeRowVersion}}
	e.text(n.Name)
	e.text(n.Host)
	e.text(n.Rack)
	e.text(n.Zone)
	e.millis(n.Registered)
	e.text(n.Addr)
	e.u16(uint16(n.Roles))
	e.u8(uint8(n.State))
	e.u64(n.Incarnation)
	return e.b
}

// readNode reads a row of any version.
func readNode(n NodeID, version uint8, v *dec) Node {
	row := Node{ID: n, Name: v.text(), Host: v.text(), Rack: v.text(), Zone: v.text(), Registered: v.millis(), Roles: AllRoles, State: Active}
	if version > 1 {
		row.Addr, row.Roles, row.State = v.text(), Roles(v.u16()), Duty(v.u8())
	}
	if version > 2 {
		row.Incarnation = v.u64()
	}
	v.bad = v.bad || !row.State.known()
	return row
}

func (d Disk) value() []byte {
	e := &enc{b: []byte{diskRowVersion}}
	e.u32(uint32(d.Node))
	e.bytes(d.UUID[:])
	e.u64(d.Capacity)
	e.millis(d.Registered)
	e.u8(uint8(d.State))
	return e.b
}

func readDisk(n DiskID, version uint8, v *dec) Disk {
	row := Disk{ID: n, Node: NodeID(v.u32()), UUID: [16]byte(v.take(16)), Capacity: v.u64(), Registered: v.millis(), State: Active}
	if version > 1 {
		row.State = Duty(v.u8())
	}
	v.bad = v.bad || !row.State.known()
	return row
}

// NodeOf returns the node of a disk.
func (m *Map) NodeOf(d DiskID) (Node, bool) {
	disk, ok := m.Disk(d)
	if !ok {
		return Node{}, false
	}
	return m.Node(disk.Node)
}

// StateOf returns the duty of a disk: the worse of its own and its node's. One
// that is not known is gone.
func (m *Map) StateOf(d DiskID) Duty {
	disk, ok := m.Disk(d)
	if !ok {
		return Gone
	}
	n, _ := m.Node(disk.Node)
	return max(disk.State, n.State)
}

// registerNode is the command from before nodes had addresses.
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
	n, err := t.nodeCalled(c.name, c.now)
	if err != nil {
		return nil, err
	}
	n.Host, n.Rack, n.Zone = c.host, c.rack, c.zone
	return t.registered(n), nil
}

// nodeCalled returns the row of a node, a new one when there is none.
func (t *table) nodeCalled(name string, now id.Millis) (Node, error) {
	if name == "" {
		return Node{}, fmt.Errorf("%w: a node needs a name", ErrInvalid)
	}
	for _, have := range t.Nodes() {
		if have.Name == name {
			return have, nil
		}
	}
	return Node{ID: t.lastNode + 1, Name: name, Roles: AllRoles, State: Active, Registered: now}, nil
}

// registered stores a row, unless nothing of it has changed.
func (t *table) registered(n Node) Node {
	if have, _ := t.Node(n.ID); n != have {
		t.setNode(n)
	}
	return n
}

type nameNode struct {
	registerNode
	addr  string
	roles Roles
}

func (c *nameNode) encode(e *enc) {
	e.text(c.name)
	e.text(c.host)
	e.text(c.rack)
	e.text(c.zone)
	e.text(c.addr)
	e.u16(uint16(c.roles))
	e.millis(c.now)
}

func (c *nameNode) decode(d *dec) {
	c.name, c.host, c.rack, c.zone = d.text(), d.text(), d.text(), d.text()
	c.addr, c.roles, c.now = d.text(), Roles(d.u16()), d.millis()
}

func (c *nameNode) apply(t *table) (any, error) {
	n, err := t.nodeCalled(c.name, c.now)
	if err != nil {
		return nil, err
	}
	n.Host, n.Rack, n.Zone, n.Addr, n.Roles = c.host, c.rack, c.zone, c.addr, c.roles
	return t.registered(n), nil
}

// startNode follows upon the process it names only: no late one brings an earlier
// process back.
type startNode struct {
	node          NodeID
	after, starts uint64 // incarnations
}

func (c *startNode) encode(e *enc) {
	e.u32(uint32(c.node))
	e.u64(c.after)
	e.u64(c.starts)
}

func (c *startNode) decode(d *dec) { *c = startNode{NodeID(d.u32()), d.u64(), d.u64()} }

func (c *startNode) apply(t *table) (any, error) {
	n, ok := t.Node(c.node)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: node %d", ErrUnknown, c.node)
	case c.starts == 0:
		return nil, fmt.Errorf("%w: node %d starts without an incarnation", ErrInvalid, c.node)
	case n.Incarnation != c.after && n.Incarnation != c.starts:
		return nil, fmt.Errorf("%w: node %d runs as %x, not as %x", ErrStale, c.node, n.Incarnation, c.after)
	}
	n.Incarnation = c.starts
	return t.registered(n), nil
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
	row := Disk{ID: t.lastDisk + 1, UUID: c.uuid, State: Active, Registered: c.now}
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

type setNodeState struct {
	node  NodeID
	state Duty
}

func (c *setNodeState) encode(e *enc) {
	e.u32(uint32(c.node))
	e.u8(uint8(c.state))
}

func (c *setNodeState) decode(d *dec) { *c = setNodeState{NodeID(d.u32()), Duty(d.u8())} }

func (c *setNodeState) apply(t *table) (any, error) {
	n, ok := t.Node(c.node)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: node %d", ErrUnknown, c.node)
	case !c.state.known():
		return nil, fmt.Errorf("%w: state %d of node %d", ErrInvalid, c.state, c.node)
	}
	n.State = c.state
	return t.registered(n), nil
}

type setDiskState struct {
	disk  DiskID
	state Duty
}

func (c *setDiskState) encode(e *enc) {
	e.u32(uint32(c.disk))
	e.u8(uint8(c.state))
}

func (c *setDiskState) decode(d *dec) { *c = setDiskState{DiskID(d.u32()), Duty(d.u8())} }

func (c *setDiskState) apply(t *table) (any, error) {
	d, ok := t.Disk(c.disk)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: disk %d", ErrUnknown, c.disk)
	case !c.state.known():
		return nil, fmt.Errorf("%w: state %d of disk %d", ErrInvalid, c.state, c.disk)
	}
	if before := d.State; c.state != before {
		d.State = c.state
		t.setDisk(d)
	}
	return d, nil
}

// NodeSpec describes a node. Name is its identity; the others may be empty. No Roles
// mean all.
type NodeSpec struct {
	Name             string
	Host, Rack, Zone string // failure domains
	Addr             string // host:port of its listener for other nodes
	Roles            Roles
}

// RegisterNode makes a node known or replaces what is known of it, but for its state
// and its process.
func (d *Directory) RegisterNode(ctx context.Context, s NodeSpec) (Node, error) {
	if err := texts(s.Name, s.Host, s.Rack, s.Zone, s.Addr); err != nil {
		return Node{}, err
	}
	if s.Roles == 0 {
		s.Roles = AllRoles
	}
	c := &nameNode{registerNode{s.Name, s.Host, s.Rack, s.Zone, d.now()}, s.Addr, s.Roles}
	v, _, err := propose[Node](ctx, d, opNameNode, c)
	return v, err
}

// StartNode says that the node's process is the one with this incarnation, a random
// number that is not zero, and that every earlier one has ended. after is the node's
// Incarnation as a fresh Map has it. When another process has started since it is ErrStale.
func (d *Directory) StartNode(ctx context.Context, n NodeID, after, incarnation uint64) (Node, error) {
	v, _, err := propose[Node](ctx, d, opStartNode, &startNode{n, after, incarnation})
	return v, err
}

// SetNodeState says what an operator wants with a node and all its disks. It stays
// when the node registers again.
func (d *Directory) SetNodeState(ctx context.Context, n NodeID, s Duty) (Node, error) {
	v, _, err := propose[Node](ctx, d, opSetNodeState, &setNodeState{n, s})
	return v, err
}

// DiskSpec describes a data directory. UUID, from its identity file, is its
// identity; a disk that appears on another node has moved there.
type DiskSpec struct {
	Node     NodeID
	UUID     [16]byte
	Capacity uint64 // bytes
}

// RegisterDisk makes a disk known or replaces its node and capacity.
func (d *Directory) RegisterDisk(ctx context.Context, s DiskSpec) (Disk, error) {
	v, _, err := propose[Disk](ctx, d, opRegisterDisk, &registerDisk{s.Node, s.UUID, s.Capacity, d.now()})
	return v, err
}

// SetDiskState says what an operator wants with a disk. It stays when the disk
// registers again.
func (d *Directory) SetDiskState(ctx context.Context, n DiskID, s Duty) (Disk, error) {
	v, _, err := propose[Disk](ctx, d, opSetDiskState, &setDiskState{n, s})
	return v, err
}
