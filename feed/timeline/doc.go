// Package timeline derives each reader's timeline from what the feed committed,
// and makes feed pages of it.
//
// It keeps one merged value of positions per reader in a Pebble instance of its
// own, together with the fan-out cursor (docs/timeline-format.md, which was
// written before the code; docs/decisions/040 and 041 say why so). Pages are
// right at every moment and not only in the end: at or above a reader's floor
// the timeline is complete but for what the cursor has not passed, which is
// merged at read; below it the page reads the authors' own posts.
//
// Durability: none of its own. The instance is written without a log and
// without sync; what a crash takes is derived again from the feed's outbox,
// which must keep every event above DurableCursor. A lost, damaged or outdated
// instance is wiped and filled again as readers come.
//
// Threads: Page, Stats and DurableCursor may be called by many goroutines. One
// goroutine, Run, writes. Close comes after Run has returned and waits for
// pages.
//
// Ownership: returned slices are the caller's. The directories are this package's
// alone.
//
// Disks: the instance lies in one of several directories. When its disk is lost,
// or Pebble cannot go on there, it starts empty in another; when none is left,
// pages are pulled whole until one can be used again.
package timeline
