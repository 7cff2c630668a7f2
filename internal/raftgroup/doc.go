// Package raftgroup is the plumbing between a deterministic state machine on
// Pebble and a Raft group (hashicorp/raft with raft-boltdb).
//
// # What it does
//
// Propose hands a command to the group, on any member. One goroutine packs whatever is queued
// into a single log entry (backpressure, never a timer), so many user actions
// cost one log entry and one pair of syncs. Committed entries are applied by
// one goroutine, many entries in one Pebble batch, which also holds the applied
// index; entries at or below that index are skipped. A snapshot is a synced
// Pebble checkpoint, made before the log is truncated and streamed only when a
// follower asks for it.
//
// # Several members
//
// A member that does not lead hands its entries to the leader over Options.Peers
// and answers its callers when it applies them itself. Fresh asks the leader for a
// read index. Raft's messages go over Options.Transport (NewTransport: streams
// between names). Members join as learners; one that lost its log takes part in
// nothing until it was removed and added again. A leader whose log disk hangs, or
// that is closed, leaves the lead to another.
//
// # Durability
//
// Propose returns after the command is synced in the logs of a majority and
// applied here, at most once. The Pebble instance is written without sync: what a crash takes
// from it comes back from snapshot and log. The log and the snapshots are the
// truth; the state directory may be deleted while the group is closed.
//
// The first failed write or sync of the log stops the group for good: every
// later Propose and Fresh is ErrStopped, nothing is retried. A log entry or
// snapshot that does not match its checksum is ErrCorrupt at Open; nothing is
// ever dropped silently.
//
// # Threads
//
// A Group may be used by many goroutines. A Machine is called by one goroutine
// at a time. Events come from several goroutines, must not block and must not
// call the group.
//
// # On disk
//
// docs/group-format.md: the directory layout, the log entry envelope, the
// snapshot metadata and the snapshot stream. Keys that begin with the byte 0x00
// belong to this package; a Machine must not touch them.
package raftgroup
