package steward

import (
	"time"

	"hayloft/directory"
	"hayloft/directory/plan"
)

// EventKind is what happened.
type EventKind string

// The kinds.
const (
	EventStep     EventKind = "step"     // a row was changed
	EventFilled   EventKind = "filled"   // a replica that was added is in sync
	EventSlow     EventKind = "slow"     // one does not come to an end, and is not waited for
	EventGone     EventKind = "gone"     // an empty node or disk was declared gone
	EventBalanced EventKind = "balanced" // nothing is left to be balanced
	EventFailed   EventKind = "failed"   // a round ended early; the next one is soon
)

// Event tells of what the steward did.
type Event struct {
	Kind   EventKind
	Step   plan.Step          // of EventStep
	Volume directory.VolumeID // of EventFilled, EventSlow
	Disk   directory.DiskID   // of these and, when not 0, EventGone
	Node   directory.NodeID   // of EventGone
	Cause  plan.Cause         // of EventFilled
	Bytes  int64              // of EventFilled
	Took   time.Duration      // of EventFilled, EventSlow
	Err    error              // of EventFailed
}
