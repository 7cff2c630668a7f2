// Package plan decides where replicas go. Its functions are pure: they look at
// plain values, ask neither a clock nor the network, and give the same answer for
// the same values and the same source of randomness. docs/placement.md has the
// rules and the reasons.
//
// A Cluster is what is known of nodes and disks. Choose names disks for a new
// volume; Plan says what is to be done so that every volume has the replicas it
// should have, on disks that stay; Foresee plays plans to their end; Survives
// says how much may be lost.
//
// A step adds a replica or gives one up. Nothing moves in one step: a copy is
// added elsewhere, fills itself, and only when it is in sync another one goes.
// The state of the work is the rows of the directory, so whoever makes the next
// plan goes on with it.
//
// Threads: a Cluster may be used by many goroutines; a source of randomness by one.
package plan
