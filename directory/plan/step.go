package plan

import (
	"fmt"
	"slices"

	"hayloft/directory"
)

// Op is what a step does.
type Op string

// The ops.
const (
	Add    Op = "add"    // another disk is to hold a replica, and fills itself
	Remove Op = "remove" // a disk is not to hold one any more
)

// Cause is what a step is for.
type Cause string

// The causes.
const (
	Repair  Cause = "repair"  // replicas are lost
	Raise   Cause = "raise"   // there never were as many as there should be, or not far enough apart
	Drain   Cause = "drain"   // a disk is to be emptied
	Balance Cause = "balance" // disks are to be equally full, and replicas farther apart
	Return  Cause = "return"  // a replica came back that was being replaced
	Surplus Cause = "surplus" // there are enough others
)

// Step is one change of a row.
type Step struct {
	Volume directory.VolumeID `json:"volume"`
	Sync   uint32             `json:"sync"` // of the row it builds on
	Op     Op                 `json:"op"`
	Disk   directory.DiskID   `json:"disk"`
	Node   string             `json:"node"` // the disk's
	Cause  Cause              `json:"cause"`
	Copies int                `json:"copies"` // in sync and up, before the step
	Bytes  int64              `json:"bytes"`  // that an Add copies
	Why    string             `json:"why"`
}

// String is a line for a person.
func (s Step) String() string {
	what := fmt.Sprintf("add a replica on disk %d of %s", s.Disk, s.Node)
	if s.Op == Remove {
		what = fmt.Sprintf("give up the replica on disk %d of %s", s.Disk, s.Node)
	}
	return fmt.Sprintf("volume %d: %s (%s): %s", s.Volume, what, s.Cause, s.Why)
}

// Lack is something that cannot be done as things are.
type Lack struct {
	Volume directory.VolumeID `json:"volume"`
	Copies int                `json:"copies"` // in sync and up
	Target int                `json:"target"`
	Why    string             `json:"why"`
}

// String is a line for a person.
func (l Lack) String() string {
	return fmt.Sprintf("volume %d has %d of %d copies: %s", l.Volume, l.Copies, l.Target, l.Why)
}

// Plan is what is to be done now, the most urgent first. A volume has at most one
// step in it.
type Plan struct {
	Steps []Step `json:"steps"`
	Lacks []Lack `json:"lacks"` // at most MaxLacks of them
	// Lacking is how many volumes lack something.
	Lacking int `json:"lacking"`
}

// MaxLacks is how many lacks a plan tells of.
const MaxLacks = 1000

// Bytes is what the steps copy.
func (p Plan) Bytes() (n int64) {
	for _, s := range p.Steps {
		if s.Op == Add {
			n += s.Bytes
		}
	}
	return n
}

// Only keeps the steps of some causes.
func (p Plan) Only(causes ...Cause) Plan {
	out := Plan{Lacks: p.Lacks, Lacking: p.Lacking}
	for _, s := range p.Steps {
		if slices.Contains(causes, s.Cause) {
			out.Steps = append(out.Steps, s)
		}
	}
	return out
}
