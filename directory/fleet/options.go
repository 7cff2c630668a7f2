package fleet

import (
	"context"
	"errors"
	"time"

	"hayloft/internal/clock"
)

// The errors of Serve; test with errors.Is.
var (
	ErrNotLeader = errors.New("fleet: this node does not lead the directory")
	ErrUnknown   = errors.New("fleet: the directory does not know the node")
	ErrInvalid   = errors.New("fleet: a beat that cannot be read")
)

// Peers reaches other nodes by name.
type Peers interface {
	Call(ctx context.Context, node string, request []byte) ([]byte, error)
}

// Table is the directory as far as the fleet goes.
type Table interface {
	// Leader is the node that leads, as far as this one knows.
	Leader() (node string, ok bool)
	// Leading tells whether this node leads and can answer for all.
	Leading() bool
	// Version is that of the table here.
	Version() uint64
	// Fresh is called where the table is led: it returns a version that is no older
	// than the call, made sure of by a quorum.
	Fresh(ctx context.Context) (version uint64, err error)
	// Nodes are the nodes that the table knows, with the numbers of their disks. They
	// are not changed.
	Nodes() map[string][]uint32
}

// Disk is how a disk is.
type Disk struct {
	Disk      uint32 `json:"disk"` // its number in the directory
	Free      int64  `json:"free"` // bytes above the reserve
	Capacity  int64  `json:"capacity"`
	InService bool   `json:"in_service"`
}

// Options configure a Fleet. Node, Incarnation, Self and Table must be given, and
// Peers where there is another node.
type Options struct {
	Node        string
	Incarnation uint64
	// Self tells how this node's disks are, from memory.
	Self  func() []Disk
	Table Table
	Peers Peers
	Clock clock.Clock // nil: the machine's
	// Every is the time from beat to beat; 0: 1 s. A node that was not heard of for
	// AwayAfter is away; 0: 3 s. Grace is how long a new leader takes those for up
	// that were; 0: 5 s.
	Every, AwayAfter, Grace time.Duration
	Events                  func(Event)
}

func (o *Options) validate() error {
	var errs []error
	missing := func(is bool, what string) {
		if is {
			errs = append(errs, errors.New("fleet: "+what+" is missing"))
		}
	}
	missing(o.Node == "", "Node")
	missing(o.Incarnation == 0, "Incarnation")
	missing(o.Self == nil, "Self")
	missing(o.Table == nil, "Table")
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	for _, d := range []struct {
		at      *time.Duration
		usually time.Duration
	}{{&o.Every, time.Second}, {&o.AwayAfter, 3 * time.Second}, {&o.Grace, 5 * time.Second}} {
		if *d.at <= 0 {
			*d.at = d.usually
		}
	}
	return errors.Join(errs...)
}

// EventKind is what happened.
type EventKind string

// The kinds. They come from the node that leads.
const (
	EventLeads EventKind = "leads" // this node has taken over
	EventUp    EventKind = "up"    // a node is heard of again, or first
	EventAway  EventKind = "away"  // it is not heard of any more
	EventDisk  EventKind = "disk"  // a disk came into service or left it
)

// Event tells of a change.
type Event struct {
	Kind EventKind
	Node string
	Disk uint32        // of EventDisk
	Up   bool          // of EventDisk: it is in service
	Away time.Duration // of EventUp: how long the node was away
}
