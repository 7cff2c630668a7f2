package raftgroup

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// A Machine's error that wraps one of these is no refusal: it stops the group,
// because a replica must never skip what others applied.
var (
	// ErrUnsupported is returned for a command whose version it does not know.
	ErrUnsupported = errors.New("raftgroup: unsupported command version")
	// ErrBroken is returned when the Machine cannot go on: it could not read the
	// state, or what it read is damaged or contradicts the command.
	ErrBroken = errors.New("raftgroup: the state machine cannot go on")
)

// Machine is a replicated state machine over one Pebble instance. The group
// owns the instance, the batch and the applied index.
type Machine interface {
	// Apply runs one command; the group calls a Machine from one goroutine at a
	// time. It reads and writes through b, an indexed batch that shows the effects
	// of earlier commands, and may read what it keeps in memory; it reads nothing
	// else: no clock, no random numbers, no other store. cmd is only valid during the call. Keys that begin with the byte
	// 0x00 belong to the group.
	//
	// A returned error is the command's deterministic refusal, handed to the
	// proposer; b must not have been written to (it stops the group). An error of
	// this replica alone, such as a failed read, must wrap ErrBroken. result is
	// handed to the proposer on this node and dropped elsewhere.
	//
	// When the group stops, what Apply did since the last Applied is not
	// committed; neither method is called again.
	Apply(b *pebble.Batch, cmd []byte) (result any, err error)

	// Applied runs after the batch that ends with index
	// is committed to Pebble and visible to readers, and before proposers are
	// answered.
	Applied(db *pebble.DB, index uint64)

	// Restored runs when the Pebble instance was opened or replaced, before any
	// Apply. It loads whatever the machine keeps in memory from db, and forgets
	// what Apply did since the last Applied. An instance that replaces one whose
	// disk was lost shows the same entries.
	Restored(db *pebble.DB) error
}
