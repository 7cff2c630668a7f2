// Package raftgroup is the plumbing between a deterministic state machine on
// Pebble and a Raft group (hashicorp/raft with raft-boltdb).
//
// Durability: Propose returns after the command is synced in the Raft log and
// applied. The Pebble instance is written without sync: it holds its applied
// index in the same batch, and what a crash takes from it comes back from
// snapshot and log.
//
// Threads: a Group may be used by many goroutines; a Machine is called by one.
package raftgroup
