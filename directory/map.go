package directory

import (
	"cmp"
	"maps"
	"slices"
	"sort"

	"hayloft/internal/id"
)

// Map is the directory's table at one version. It never changes. Its zero value
// is the empty table of version 0.
type Map struct {
	version    uint64
	lastNode   NodeID
	lastDisk   DiskID
	lastVolume VolumeID
	volumeRows uint32 // of which there are fewer after a rebuild from the disks

	nodes   paged[Node]
	disks   paged[Disk]
	volumes paged[Volume]
	tiles   paged[[]Tile] // by slot, sorted by From; never appended to in place
	windows paged[id.Window]
	keys    map[string][]Key // by purpose, sorted by version; never changed in place
}

// Version is raised by every change of the table.
func (m *Map) Version() uint64 { return m.version }

// Locate finds the volume that holds blob, if it exists at all.
func (m *Map) Locate(blob id.ID) (Volume, bool) {
	t, ok := m.TileAt(blob.Slot(), blob.Millis())
	if !ok {
		return Volume{}, false
	}
	return m.Volume(t.Volume)
}

// TileAt returns the tile of slot that holds ids of time at.
func (m *Map) TileAt(slot id.Slot, at id.Millis) (Tile, bool) {
	ts := m.tiles.get(int(slot))
	n := sort.Search(len(ts), func(i int) bool { return ts[i].From > at })
	if n == 0 || !ts[n-1].Holds(at) {
		return Tile{}, false
	}
	return ts[n-1], true
}

// OpenTile returns the tile of slot that is open, if one is.
func (m *Map) OpenTile(slot id.Slot) (Tile, bool) {
	ts := m.tiles.get(int(slot))
	if len(ts) == 0 || ts[len(ts)-1].To != 0 {
		return Tile{}, false
	}
	return ts[len(ts)-1], true
}

// Tiles returns the tiles of a slot, sorted by From. It is not to be changed.
func (m *Map) Tiles(slot id.Slot) []Tile { return m.tiles.get(int(slot)) }

// Node returns a row by number.
func (m *Map) Node(n NodeID) (Node, bool) {
	row := m.nodes.get(int(n))
	return row, row.ID != 0
}

// Disk returns a row by number.
func (m *Map) Disk(d DiskID) (Disk, bool) {
	row := m.disks.get(int(d))
	return row, row.ID != 0
}

// Volume returns a row by number.
func (m *Map) Volume(v VolumeID) (Volume, bool) {
	row := m.volumes.get(int(v))
	return row, row.ID != 0
}

// Nodes returns every node, by number.
func (m *Map) Nodes() []Node { return rows(m.nodes, int(m.lastNode)) }

// Disks returns every disk, by number.
func (m *Map) Disks() []Disk { return rows(m.disks, int(m.lastDisk)) }

// SamePlaces reports whether nodes and disks are those of another table, not only equal
// to them: it costs next to nothing, and most changes are of volumes and leases.
func (m *Map) SamePlaces(o *Map) bool {
	return slices.Equal(m.nodes.pages, o.nodes.pages) && slices.Equal(m.disks.pages, o.disks.pages)
}

// Volumes returns every volume, by number. A directory that was rebuilt from the
// disks does not know all numbers.
func (m *Map) Volumes() []Volume {
	out := make([]Volume, 0, m.volumeRows)
	for i := range int(m.lastVolume) + 1 {
		if v := m.volumes.get(i); v.ID != 0 {
			out = append(out, v)
		}
	}
	return out
}

func rows[T any](p paged[T], last int) []T {
	out := make([]T, 0, last)
	for i := 1; i <= last; i++ {
		out = append(out, p.get(i)) // numbers have no gaps
	}
	return out
}

// Window implements id.Windows: the last window of a slot.
func (m *Map) Window(s id.Slot) id.Window { return m.windows.get(int(s)) }

// Leases returns the last window of every slot that ever had one.
func (m *Map) Leases() []Lease {
	var out []Lease
	for s := range id.Slot(id.Slots) {
		if w := m.Window(s); w.Node != 0 {
			out = append(out, Lease{s, w})
		}
	}
	return out
}

// Keys returns the versions of a secret, oldest first. It is not to be changed.
func (m *Map) Keys(purpose string) []Key { return m.keys[purpose] }

// The methods below return the table with one row changed.

func (m *Map) withTiles(slot id.Slot, ts []Tile) { m.tiles = m.tiles.with(int(slot), ts) }

// putTile replaces the tile of the same beginning, or puts t in its place.
func (m *Map) putTile(t Tile) {
	ts := slices.Clone(m.tiles.get(int(t.Slot)))
	n, found := slices.BinarySearchFunc(ts, t, func(a, b Tile) int { return cmp.Compare(a.From, b.From) })
	if found {
		ts[n] = t
	} else {
		ts = slices.Insert(ts, n, t)
	}
	m.withTiles(t.Slot, ts)
}

// dropTile removes the last tile of a slot.
func (m *Map) dropTile(slot id.Slot) {
	ts := m.tiles.get(int(slot))
	m.withTiles(slot, slices.Clone(ts[:len(ts)-1]))
}

func (m *Map) putKey(k Key) {
	keys := maps.Clone(m.keys)
	if keys == nil {
		keys = map[string][]Key{}
	}
	keys[k.Purpose] = append(slices.Clip(keys[k.Purpose]), k)
	m.keys = keys
}

func (m *Map) putNode(n Node) {
	m.lastNode = max(m.lastNode, n.ID)
	m.nodes = m.nodes.with(int(n.ID), n)
}

func (m *Map) putDisk(d Disk) {
	m.lastDisk = max(m.lastDisk, d.ID)
	m.disks = m.disks.with(int(d.ID), d)
}

func (m *Map) putVolume(v Volume) {
	if m.volumes.get(int(v.ID)).ID == 0 {
		m.volumeRows++
	}
	m.lastVolume = max(m.lastVolume, v.ID)
	m.volumes = m.volumes.with(int(v.ID), v)
}

func (m *Map) putWindow(s id.Slot, w id.Window) { m.windows = m.windows.with(int(s), w) }
