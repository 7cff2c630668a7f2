// Package directory says who stores what: nodes, disks, volumes, tiles, slot
// leases and secret keys. docs/directory-format.md describes its commands, rows
// and rules.
//
// An id is a point in the plane (slot × id time). The directory tiles the plane
// by rectangles, one per volume, so finding a blob is a binary search in a table
// with no row per photo. Slots are leased as windows of id time; each window of
// a slot begins after every earlier one, so ids are unique whatever clocks do.
//
// Every change is a versioned, deterministic command through one Raft group
// (internal/raftgroup) and raises the version of the table. Readers use a Map,
// an immutable table of one version, and follow it with Wait.
//
// Every member of the group, on whichever node, takes every call. Whoever is answered,
// by a refusal too, has a Map that shows what the answer is about.
//
// Durability: a method that changes something returns after the change is
// durable. Each may be repeated after an unknown outcome (ErrUnavailable).
//
// Threads: a Directory and a Map may be used by many goroutines; what a Map
// returns must not be changed.
package directory
