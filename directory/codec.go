package directory

import (
	"encoding/binary"
	"fmt"

	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

// enc appends the format's integers and texts.
type enc struct{ b []byte }

func (e *enc) u8(v uint8)         { e.b = append(e.b, v) }
func (e *enc) u16(v uint16)       { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *enc) u32(v uint32)       { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *enc) u64(v uint64)       { e.b = binary.LittleEndian.AppendUint64(e.b, v) }
func (e *enc) bytes(v []byte)     { e.b = append(e.b, v...) }
func (e *enc) millis(v id.Millis) { e.u64(uint64(v)) }

// text appends a text; callers have made sure that it is short enough.
func (e *enc) text(s string) {
	e.u16(uint16(len(s)))
	e.b = append(e.b, s...)
}

// dec reads them back. The first fault sticks and every later read is zero.
type dec struct {
	b   []byte
	bad bool
}

func (d *dec) take(n int) []byte {
	if d.bad || len(d.b) < n {
		d.bad = true
		return make([]byte, n)
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *dec) u8() uint8   { return d.take(1)[0] }
func (d *dec) u16() uint16 { return binary.LittleEndian.Uint16(d.take(2)) }
func (d *dec) u32() uint32 { return binary.LittleEndian.Uint32(d.take(4)) }
func (d *dec) u64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

func (d *dec) millis() id.Millis {
	v := id.Millis(d.u64())
	d.bad = d.bad || v > id.MaxMillis
	return v
}

func (d *dec) slot() id.Slot {
	v := id.Slot(d.u16())
	d.bad = d.bad || v >= id.Slots
	return v
}

func (d *dec) text() string {
	n := int(d.u16())
	if n > maxText || d.bad {
		d.bad = true
		return ""
	}
	return string(d.take(n))
}

// whole reports whether all was read and nothing is left.
func (d *dec) whole() bool { return !d.bad && len(d.b) == 0 }

const (
	maxText    = 255
	rowVersion = 1
	// Rows of the directory itself and of volumes have later versions, of which all
	// from rowVersion on are still read.
	metaRowVersion   = 2
	nodeRowVersion   = 3
	diskRowVersion   = 2
	volumeRowVersion = 6
)

// newestRow is the version in which rows of a kind are written.
func newestRow(kind byte) uint8 {
	switch kind {
	case 0x01:
		return metaRowVersion
	case 0x10:
		return nodeRowVersion
	case 0x11:
		return diskRowVersion
	case 0x12:
		return volumeRowVersion
	}
	return rowVersion
}

// Keys of rows.

func keyMeta() []byte            { return []byte{0x01} }
func keyNode(n NodeID) []byte    { return binary.BigEndian.AppendUint32([]byte{0x10}, uint32(n)) }
func keyDisk(n DiskID) []byte    { return binary.BigEndian.AppendUint32([]byte{0x11}, uint32(n)) }
func keyVol(n VolumeID) []byte   { return binary.BigEndian.AppendUint32([]byte{0x12}, uint32(n)) }
func keyWindow(s id.Slot) []byte { return binary.BigEndian.AppendUint16([]byte{0x14}, uint16(s)) }

func keyTile(s id.Slot, from id.Millis) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0x13}, uint16(s))
	return binary.BigEndian.AppendUint64(b, uint64(from))
}

func keyKey(purpose string, version uint32) []byte {
	b := append([]byte{0x15, byte(len(purpose))}, purpose...)
	return binary.BigEndian.AppendUint32(b, version)
}

// Values of rows.

func row() *enc { return &enc{b: []byte{rowVersion}} }

func (m *Map) metaValue() []byte {
	e := &enc{b: []byte{metaRowVersion}}
	e.u64(m.version)
	e.u32(uint32(m.lastNode))
	e.u32(uint32(m.lastDisk))
	e.u32(uint32(m.lastVolume))
	e.u32(m.volumeRows)
	return e.b
}

func (t Tile) value() []byte {
	e := row()
	e.millis(t.To)
	e.u32(uint32(t.Volume))
	return e.b
}

func windowValue(w id.Window) []byte {
	e := row()
	e.u32(w.Node)
	e.u16(w.Worker)
	e.u64(w.Holder)
	e.millis(w.From)
	e.millis(w.To)
	if w.Released {
		e.u8(1)
	} else {
		e.u8(0)
	}
	return e.b
}

func (k Key) value() []byte {
	e := row()
	e.bytes(k.Secret[:])
	e.millis(id.MillisOf(k.CreatedAt))
	return e.b
}

// loader collects the rows of a table.
type loader struct {
	m       Map
	nodes   []Node
	disks   []Disk
	volumes paged[Volume]
	seen    uint32 // rows of volumes
	tiles   [id.Slots][]Tile
	windows [id.Slots]id.Window
}

// add takes one row, in the order of keys.
func (l *loader) add(key, value []byte) error {
	v := &dec{b: value}
	version := v.u8()
	if v.bad || version < rowVersion || version > newestRow(key[0]) {
		return fmt.Errorf("%w: directory row %x has version %d", raftgroup.ErrUnsupported, key, version)
	}
	k := keyDec{key[1:], false}
	switch key[0] {
	case 0x01:
		l.m.version, l.m.lastNode, l.m.lastDisk, l.m.lastVolume = v.u64(), NodeID(v.u32()), DiskID(v.u32()), VolumeID(v.u32())
		l.m.volumeRows = uint32(l.m.lastVolume)
		if version > 1 {
			l.m.volumeRows = v.u32()
		}
	case 0x10:
		l.nodes = grow(l.nodes, readNode(NodeID(k.u32()), version, v))
	case 0x11:
		l.disks = grow(l.disks, readDisk(DiskID(k.u32()), version, v))
	case 0x12:
		row := readVolume(VolumeID(k.u32()), version, v)
		if row.ID > l.m.lastVolume {
			return fmt.Errorf("%w: volume %d, the last one is %d", raftgroup.ErrCorrupt, row.ID, l.m.lastVolume)
		}
		*l.volumes.at(int(row.ID)) = row
		l.seen++
	case 0x13:
		t := Tile{Slot: k.slot(), From: k.millis(), To: v.millis(), Volume: VolumeID(v.u32())}
		l.tiles[t.Slot] = append(l.tiles[t.Slot], t)
	case 0x14:
		l.windows[k.slot()] = id.Window{Node: v.u32(), Worker: v.u16(), Holder: v.u64(), From: v.millis(), To: v.millis(), Released: v.u8() != 0}
	case 0x15:
		purpose, version := string(k.take(int(k.take(1)[0]))), k.u32()
		l.m.putKey(Key{Purpose: purpose, Version: version, Secret: [32]byte(v.take(32)), CreatedAt: v.millis().Time()})
	default:
		return fmt.Errorf("%w: directory row %x", raftgroup.ErrUnsupported, key)
	}
	if !v.whole() || k.bad || len(k.b) != 0 {
		return fmt.Errorf("%w: directory row %x", raftgroup.ErrCorrupt, key)
	}
	return nil
}

// grow appends a row; index 0 stays empty because numbers begin at 1.
func grow[T any](s []T, v T) []T {
	if len(s) == 0 {
		s = append(s, *new(T))
	}
	return append(s, v)
}

// table checks the rows against one another and returns the table.
func (l *loader) table() (*Map, error) {
	m := l.m
	if max(len(l.nodes)-1, 0) != int(m.lastNode) || max(len(l.disks)-1, 0) != int(m.lastDisk) || l.seen != m.volumeRows {
		return nil, fmt.Errorf("%w: directory rows are missing", raftgroup.ErrCorrupt)
	}
	for s, ts := range l.tiles {
		for i, t := range ts {
			last := i == len(ts)-1
			if (t.To == 0 && !last) || (t.To != 0 && t.To <= t.From) || (!last && t.To > ts[i+1].From) || t.Volume == 0 || l.volumes.get(int(t.Volume)).ID == 0 {
				return nil, fmt.Errorf("%w: tile %d of slot %d", raftgroup.ErrCorrupt, i, s)
			}
		}
	}
	l.placeOldRows()
	m.nodes, m.disks, m.volumes = pagedOf(l.nodes), pagedOf(l.disks), l.volumes
	m.tiles, m.windows = pagedOf(l.tiles[:]), pagedOf(l.windows[:])
	return &m, nil
}

// keyDec reads the big-endian fields of a key.
type keyDec struct {
	b   []byte
	bad bool
}

func (d *keyDec) take(n int) []byte {
	if d.bad || len(d.b) < n {
		d.bad = true
		return make([]byte, n)
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *keyDec) u32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }

func (d *keyDec) slot() id.Slot {
	v := id.Slot(binary.BigEndian.Uint16(d.take(2)))
	if v >= id.Slots {
		d.bad = true
		return 0
	}
	return v
}

func (d *keyDec) millis() id.Millis { return id.Millis(binary.BigEndian.Uint64(d.take(8))) }
