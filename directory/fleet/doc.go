// Package fleet is the soft state of a cluster: which nodes are alive, which of
// their disks are in service, and how much room these have. It is never written to
// a log or a disk. docs/placement.md describes it.
//
// Every node tells the directory's leader each second how it is, a beat, and is
// answered with how everybody is. The leader keeps that in memory alone. When
// another one takes over it begins with what it was told last, and gives the others
// a grace to find it, so that a change of leaders makes nobody dead. A node is up
// when the leader hears it: one that only others reach is not.
//
// The answer also names the version of the table that the leader was last sure of,
// by a quorum. A node that has that version knows how old its own table may be at
// most: HeardFresh.
//
// Threads: a Fleet may be used by many goroutines. What a View holds is not to be
// changed. Options.Self, Options.Table and Options.Events must not block, except
// Table.Fresh, nor call the Fleet.
package fleet
