package volume

import (
	"fmt"
	"time"

	"hayloft/internal/id"
)

// EventKind says what an Event reports.
type EventKind uint8

// What the engine reports.
const (
	EventRecovered        EventKind = iota + 1 // Open found the traces of a crash; Length bytes were kept, see Recovery
	EventVoid                                  // Open found a torn batch's remains: never acknowledged, dropped
	EventRot                                   // a damaged part of the file was found; it is kept
	EventCorruptRead                           // a read failed verification, or the device failed it
	EventPoisoned                              // a write or sync failed: the volume is read-only from now on
	EventNoSpace                               // the disk is full; puts are refused for now
	EventSuperblock                            // one superblock copy is damaged
	EventMarkerFailed                          // the poison marker could not be written
	EventCheckpointFailed                      // a checkpoint could not be written: the next Open walks further
	EventIndexRebuilt                          // Open walked all Length bytes, in Elapsed; Err says why there was no checkpoint to use
	EventScanning                              // Open walked up to Offset of Length bytes, in Elapsed, and goes on
	EventPageCache                             // the file cannot be read or written past the page cache, though it should
)

var eventNames = [...]string{
	"", "recovered", "void", "rot", "corrupt-read", "poisoned", "no-space", "superblock-damaged", "marker-failed",
	"checkpoint-failed", "index-rebuilt", "scanning", "page-cache",
}

// String returns the name used in logs and metrics.
func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	if i := int(k) - int(EventFenced); i >= 0 && i < len(sealEventNames) {
		return sealEventNames[i]
	}
	return fmt.Sprintf("event-%d", uint8(k))
}

// Event is something an operator should know. Offsets and lengths are bytes of
// the volume file.
type Event struct {
	Kind           EventKind
	Volume         ID
	Offset, Length int64
	Key            id.ID         // 0 when none is known
	Elapsed        time.Duration // of EventIndexRebuilt, EventScanning and EventRecovered
	Recovery       Recovery      // of EventRecovered
	Err            error         // the cause, if there is one
}

// Recovery is what an opening found and did.
type Recovery struct {
	Elapsed    time.Duration
	Checkpoint bool  // the index came from a checkpoint, or a sealed index
	Walked     int64 // bytes that were gone through, record by record
	Kept       int   // records kept behind the last known sync
	Voided     int   // places there where something was dropped
}

// Stats is a snapshot of counters and gauges. Counters start at Open.
type Stats struct {
	Identity
	Needles    int64 // readable needles
	Tombstones int64 // deleted keys
	LiveBytes  int64 // records of readable needles
	FileBytes  int64 // end of the last record
	MaxBytes   int64
	IndexBytes int64 // memory of the index

	Checkpoints     int64 // written since Open
	CheckpointBytes int64 // sum over them
	CheckpointEnd   int64 // bytes of the file that the checkpoint on disk covers, 0 without one

	Appended, Deleted int64 // acknowledged needles and deletes
	Batches, Syncs    int64
	BatchBytes        int64 // sum over batches
	Reads             int64
	CorruptReads      int64 // reads that failed verification or the device failed
	Rot               int   // damaged parts found by Open
	VoidBytes         int64 // dropped or voided by Open
	DeleteLogBytes    int64 // of the delete log, 0 while there is none
	Recovery          Recovery
	Poisoned          error // why the volume is read-only, or nil
}
