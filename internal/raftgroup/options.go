package raftgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"hayloft/internal/clock"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Defaults and limits.
const (
	// MaxCommandBytes is the largest command Propose takes.
	MaxCommandBytes = 1 << 20

	maxEntryBytes    = 256 << 10 // an entry is closed when the next command would pass this
	maxEntryCommands = 1024
	queueLength      = 2048 // proposals waiting for the packer; more wait in Propose
	maxInFlight      = 2    // entries between the packer and their answers: one syncs while one is applied
	maxBatchBytes    = 4 << 20

	defaultSnapshotEntries = 8192
	defaultSnapshotBytes   = 64 << 20
	defaultTrailingLogs    = 8192
	defaultPatience        = 5 * time.Second
)

// Voter is a member of the group that votes.
type Voter struct {
	ID   string // its NodeID
	Addr string // its address on the Transport
}

// Options configure a Group. Dirs, Name, NodeID and Machine must be given; the
// zero value of everything else works and means a group of one voter.
type Options struct {
	Dirs    []string // candidates, in order of preference, each on a disk of its own; made when missing; they belong to this group alone
	Name    string   // what the group replicates, e.g. "directory"; kept in Dirs and checked
	NodeID  string   // this member; kept in Dirs and checked
	Machine Machine  // the state machine

	// Mirrors is in how many of Dirs log, stable store and snapshots are kept, as
	// long as that many can be used. An acknowledged command is synced on all of
	// them. Zero means 1.
	Mirrors int
	// Patience is how long a mirror may take after another has answered before it
	// counts as lost, and how long the last one may take before a leader of several
	// voters leaves the lead to another. Zero means 5 seconds.
	Patience time.Duration
	// Scratch returns another Machine that knows nothing. It is given what was
	// applied before, to make the working state anew in another directory while
	// the group runs; Machine is then called once, with the result. Needed with
	// more than one of Mirrors.
	Scratch func() Machine
	Clock   clock.Clock // nil: the machine's

	// Events, when set, is told what happens. See Event.
	Events func(Event)

	// Transport connects the members; the group closes it. Nil means an
	// in-memory one, for a group of one voter. A member's address is its NodeID. A
	// group that was alone without one goes on with one, as the first of several.
	Transport Transport
	// Peers carries requests between members, see Group.Serve. Nil means that
	// members cannot ask one another: only the leader can propose.
	Peers Peers
	// Bootstrap lists the first voters of a new group, the same list on each
	// of them. Empty means this node alone. It is used only when Dirs hold no
	// state at all.
	Bootstrap []Voter
	// Join leaves a new group without a configuration: the node waits until a
	// member adds it as a learner. Without Join, an empty log is ErrCorrupt. A
	// member that lost its log comes back with Join too, and takes part in nothing
	// until it was removed and added again. It may stay set.
	Join bool

	// SnapshotEntries and SnapshotBytes of log since the last snapshot cause the
	// next one. TrailingLogs entries stay in the log behind a snapshot, for
	// followers that are a little late, but no more than have SnapshotBytes. Zero
	// means 8192, 64 MiB and 8192.
	SnapshotEntries uint64
	SnapshotBytes   int64
	TrailingLogs    uint64

	// Tune, when set, adjusts the Pebble options before the state is opened. It
	// must not change the comparer, the file system or the WAL.
	Tune func(*pebble.Options)
	// FS holds state and snapshots (not the log). Nil means the machine's.
	FS vfs.FS

	wrapStore func(dir string, s store) store // tests put faults between raft and the log
	disk      vfs.FS                          // and here under the names of log and identity
}

// Validate lists every fault of o.
func (o *Options) Validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("raftgroup: "+format, args...))
		}
	}
	need(len(o.Dirs) > 0, "Dirs is empty")
	dirs := map[string]bool{}
	for _, d := range o.Dirs {
		need(d != "", "Dirs names no directory")
		need(d == "" || !dirs[filepath.Clean(d)], "Dirs names %s twice", d)
		dirs[filepath.Clean(d)] = true
	}
	need(o.Mirrors >= 0, "Mirrors is negative")
	need(o.Mirrors < 2 || o.Scratch != nil, "Mirrors need a Scratch")
	need(o.Patience >= 0, "Patience is negative")
	need(o.Name != "", "Name is empty")
	need(o.NodeID != "", "NodeID is empty")
	need(o.Machine != nil, "Machine is nil")
	need(o.SnapshotBytes >= 0, "SnapshotBytes is negative")
	need(!o.Join || len(o.Bootstrap) == 0, "Join and Bootstrap exclude each other")
	need(!o.Join || o.Peers != nil, "Join needs Peers")
	need(o.Transport != nil || (!o.Join && len(o.Bootstrap) == 0), "Join and Bootstrap need a Transport")
	self := len(o.Bootstrap) == 0
	seen := map[string]bool{}
	for _, v := range o.Bootstrap {
		need(v.ID != "" && v.Addr != "", "voter %q at %q: empty field", v.ID, v.Addr)
		need(!seen[v.ID], "voter %q is listed twice", v.ID)
		seen[v.ID] = true
		self = self || v.ID == o.NodeID
	}
	need(self, "Bootstrap does not list this node, %q", o.NodeID)
	return errors.Join(errs...)
}

// withDefaults returns a copy of o with every zero value filled in.
func (o Options) withDefaults() Options {
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.SnapshotEntries == 0 {
		o.SnapshotEntries = defaultSnapshotEntries
	}
	if o.SnapshotBytes == 0 {
		o.SnapshotBytes = defaultSnapshotBytes
	}
	if o.TrailingLogs == 0 {
		o.TrailingLogs = defaultTrailingLogs
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	o.Mirrors = max(o.Mirrors, 1)
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	if o.disk == nil {
		o.disk = vfs.Default
	}
	if o.wrapStore == nil {
		o.wrapStore = func(_ string, s store) store { return s }
	}
	return o
}
