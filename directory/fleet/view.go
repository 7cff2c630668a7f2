package fleet

import (
	"slices"
	"strings"
	"time"
)

// Node is how a node was, as the leader had it.
type Node struct {
	Name        string
	Incarnation uint64 // 0: nobody has heard of it
	Up          bool
	Away        time.Duration // how long it is not up, as far as is known
	Version     uint64        // of the table it had
	Disks       []DiskState   // that the directory has there, by number
}

// DiskState is how a disk was. It is usable when it is in service and its node up.
type DiskState struct {
	Disk
	Out time.Duration // how long it is not in service, as far as is known
}

// View is how everybody was at one moment. It never changes.
type View struct {
	Leader string // who said so
	Nodes  []Node // by name

	at      time.Duration // of the clock: no later than it was so
	carried string
}

// Node finds one by name.
func (v *View) Node(name string) (Node, bool) {
	i, ok := slices.BinarySearchFunc(v.Nodes, name, func(n Node, name string) int { return strings.Compare(n.Name, name) })
	if !ok {
		return Node{}, false
	}
	return v.Nodes[i], true
}

// viewOf reads an answer to what was sent at a time.
func viewOf(a *answer, at time.Duration) *View {
	v := &View{Leader: a.Leader, at: at, carried: a.Carried}
	for _, n := range a.Nodes {
		own := Node{Name: n.Name, Incarnation: n.Incarnation, Up: n.Up, Away: span(n.AwayMS), Version: n.Version}
		for _, d := range n.Disks {
			own.Disks = append(own.Disks, DiskState{d.Disk, span(d.OutMS)})
		}
		v.Nodes = append(v.Nodes, own)
	}
	slices.SortFunc(v.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return v
}

// nodes are those of a View as an answer has them.
func (v *View) nodes() []answerNode {
	out := make([]answerNode, 0, len(v.Nodes))
	for _, n := range v.Nodes {
		own := answerNode{Name: n.Name, Incarnation: n.Incarnation, Up: n.Up, AwayMS: ms(n.Away), Version: n.Version, Disks: make([]answerDisk, 0, len(n.Disks))}
		for _, d := range n.Disks {
			own.Disks = append(own.Disks, answerDisk{d.Disk, ms(d.Out)})
		}
		out = append(out, own)
	}
	return out
}
