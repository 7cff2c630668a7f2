package fleet

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// record is what a leader has of a node.
type record struct {
	incarnation uint64
	number      uint64 // of its youngest beat
	version     uint64
	heard       time.Duration // when, or since when it is known that nobody does
	spared      time.Duration // until then it is not away, whether heard of or not
	up          bool
	disks       map[uint32]*diskRecord
}

type diskRecord struct {
	Disk
	out time.Duration // since when it is not in service
}

// ledger is what a leader knows of all nodes. It has those that the table knows,
// and no others.
type ledger struct {
	o     *Options
	nodes map[string]*record
	// sure is the version that a quorum confirmed last, and when that began.
	sure    moment
	version uint64
	carried string

	ticked time.Duration // when miss looked last
	made   *View         // what was last told, nil when there is something newer
	answer []byte        // that tells it
}

// takeOver begins a ledger with what this node was told last.
func takeOver(o *Options, last *View, now time.Duration) *ledger {
	l := &ledger{o: o, nodes: map[string]*record{}, carried: last.carried, ticked: now}
	for _, n := range last.Nodes {
		r := &record{incarnation: n.Incarnation, version: n.Version, up: n.Up, heard: last.at - n.Away, spared: now + o.Grace, disks: map[uint32]*diskRecord{}}
		for _, d := range n.Disks {
			r.disks[d.Disk.Disk] = &diskRecord{d.Disk, last.at - d.Out}
		}
		l.nodes[n.Name] = r
	}
	l.match(now)
	return l
}

// match keeps the nodes and disks that the table knows.
func (l *ledger) match(now time.Duration) {
	known := l.o.Table.Nodes()
	maps.DeleteFunc(l.nodes, func(name string, _ *record) bool { _, ok := known[name]; return !ok })
	for name, disks := range known {
		r := l.nodes[name]
		if r == nil {
			r = &record{heard: now, spared: now, disks: map[uint32]*diskRecord{}}
			l.nodes[name] = r
		}
		maps.DeleteFunc(r.disks, func(d uint32, _ *diskRecord) bool { return !slices.Contains(disks, d) })
		for _, d := range disks {
			if r.disks[d] == nil {
				r.disks[d] = &diskRecord{Disk{Disk: d}, now}
			}
		}
	}
	l.made = nil
}

// take takes a beat in, and returns what changed by it.
func (l *ledger) take(b *beat, now time.Duration) (events []Event) {
	r := l.nodes[b.Node]
	if b.Incarnation == r.incarnation && b.Number <= r.number {
		return nil // one that was on its way for long
	}
	r.incarnation, r.number, r.version = b.Incarnation, b.Number, b.Version
	wasUp := r.up
	if !wasUp {
		events = append(events, Event{Kind: EventUp, Node: b.Node, Away: now - r.heard})
		l.made = nil
	}
	r.heard, r.up = now, true
	said := make(map[uint32]Disk, len(b.Disks))
	for _, d := range b.Disks {
		said[d.Disk] = d
	}
	for _, id := range slices.Sorted(maps.Keys(r.disks)) {
		d := r.disks[id]
		was := d.InService
		if is, ok := said[id]; ok {
			d.Disk = is
		} else {
			d.InService = false // the node does not have it
		}
		if was && !d.InService {
			d.out = now
		}
		if was == d.InService {
			continue
		}
		l.made = nil
		if wasUp {
			events = append(events, Event{Kind: EventDisk, Node: b.Node, Disk: id, Up: d.InService})
		}
	}
	return events
}

// miss finds nodes that are away by now. The time for which this process stood still
// counts against nobody: it heard none, whoever spoke.
func (l *ledger) miss(now time.Duration) (events []Event) {
	if now-l.ticked > l.o.AwayAfter {
		for _, r := range l.nodes {
			r.spared = max(r.spared, now+l.o.AwayAfter-l.o.Every)
		}
	}
	l.ticked = now
	for _, name := range slices.Sorted(maps.Keys(l.nodes)) {
		if r := l.nodes[name]; r.up && now-r.heard > l.o.AwayAfter && now > r.spared {
			r.up = false
			events = append(events, Event{Kind: EventAway, Node: name})
			l.made = nil
		}
	}
	return events
}

// view tells how everybody is.
func (l *ledger) view(now time.Duration) *View {
	v := &View{Leader: l.o.Node, at: now, carried: l.carried}
	for name, r := range l.nodes {
		n := Node{Name: name, Incarnation: r.incarnation, Up: r.up, Version: r.version}
		if !r.up {
			n.Away = max(now-r.heard, 0)
		}
		for _, d := range r.disks {
			s := DiskState{Disk: d.Disk}
			if !d.InService {
				s.Out = max(now-d.out, 0)
			}
			n.Disks = append(n.Disks, s)
		}
		slices.SortFunc(n.Disks, func(a, b DiskState) int { return int(a.Disk.Disk) - int(b.Disk.Disk) })
		v.Nodes = append(v.Nodes, n)
	}
	slices.SortFunc(v.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return v
}

// tell returns the view and the answer that has it. They are made anew when
// something changed, and every half beat, not for every beat of every node.
func (l *ledger) tell(now time.Duration) (*View, []byte) {
	if l.made == nil || now-l.made.at >= l.o.Every/2 {
		l.made = l.view(now)
		a := answer{V: wireVersion, Leader: l.o.Node, Nodes: l.made.nodes(), Carried: l.carried}
		if l.sure.ok {
			a.Version, a.VerifiedMS = l.version, ms(now-l.sure.at)+1 // rounded up
		}
		l.answer = encode(a)
	}
	return l.made, l.answer
}
