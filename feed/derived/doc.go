// Package derived keeps one Pebble instance of what a replica has derived from the
// feed's state, in one of several directories, and keeps it usable through the loss of
// disks. Nothing in such an instance is a first copy.
//
// Durability: none of its own. The instance is written without a log and without sync;
// a crash takes a suffix of its batches (docs/decisions/041). Flush makes what was
// written durable.
//
// Disks: when a disk is lost, or Pebble cannot go on there, the owner calls Reset, and an
// empty instance begins in another directory. When none is left there is no instance until
// one can be used again.
//
// Threads: one goroutine, the writer, calls Commit, Flush, Lost and Reset. View may be
// called by many goroutines, as may Give and Take. Close comes last and waits for views.
//
// Ownership: the directories are this package's alone.
package derived
