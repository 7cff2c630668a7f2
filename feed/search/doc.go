// Package search derives an index of photos, tags, places and names from what the feed
// committed, and answers what may match. docs/search.md says what is found and how;
// docs/search-format.md, which was written before the code, what is kept.
//
// The index proposes and the feed decides: it says which photos and accounts may
// match, newest first, and its user looks at each one's row, whether it still
// matches and whether the viewer may see it. So an index that is behind, or holds too
// much, never shows anything wrong; and what it has not seen yet is joined at read
// (Index.Join), so it misses nothing either.
//
// Durability: none of its own, see feed/derived. A lost index is derived again from the
// feed's list of changes, which is never trimmed.
//
// Threads: View, Stats, Lost, Usable and Rebuild may be called by many goroutines. One
// goroutine, Run, writes. Close comes after Run has returned. An Index is used by one
// goroutine.
package search
