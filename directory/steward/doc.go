// Package steward sees to it that every volume has the replicas it should have. One
// runs on each node that has the directory; the one on the node that leads it works,
// the others pass on what they are asked. docs/placement.md describes it.
//
// Every few seconds, and when something happens, it makes a plan (package plan) out
// of the table and the fleet, and takes its steps: replicas are added and given up in
// the directory's rows. The bytes move by themselves: a disk that a row names fills
// its replica. So the rows are the whole state of the work, and whoever leads next
// goes on with it; only what operators asked for that is in no row is carried by the
// fleet, as an Intent.
//
// Few replicas fill themselves at once, on a disk and in all: that is the throttle.
//
// Threads: a Steward may be used by many goroutines. Events come from one, must not
// block and must not call the Steward.
package steward
