// Package timeline derives each reader's timeline from what the feed committed.
//
// It keeps (reader, ^pos) → photo, author in a Pebble instance of its own,
// together with the fan-out cursor, written without sync and rebuilt when lost
// (docs/feed-format.md). Pages are right at every moment: whatever the cursor
// has not passed is merged at read.
//
// Threads: a Store may be used by many goroutines; one goroutine, Run, writes.
package timeline
