// Package cache is the photo cache tier: it answers GET and HEAD of
// /media/{variant}/{blob}-{cookie}.{ext} from memory and fills itself from the
// blob store behind it. docs/cache.md tells it for operators.
//
// Contract:
//
//   - Bytes. What is sent is what Origin returned for exactly that key, whole,
//     under its strong ETag, or an explicit error. A fill that fails, is cut
//     short or is overtaken by a purge is never kept. Nothing is on disk.
//   - Rights. Access is asked on every fill and its verdict stays with the
//     entry. The purge log is followed; while this node has not heard from it
//     for Options.PurgeSilence (2 s), Access is asked again before anything is
//     served. So what was deleted or made private is gone after that time at
//     most, cut off or not. Wrong cookie, deleted, unsigned private and badly
//     signed are one and the same 404; what cannot be decided is 503, never 404.
//   - Memory. Entries, their administration, the ghosts of the policy and what
//     left the cache while responses were still reading it stay together within
//     Options.Budget. What finds no room is served and not kept: one copy for
//     all who read it at a time, within Options.MaxLoose in all, else 503.
//     Beside these there is what the fills under way hold, of which only
//     Options.MaxLargeFills bring objects as large as an upload.
//   - Ownership. Object.Data given to the cache is the cache's from then on and
//     must not be changed; with Object.Release it is lent until that is called,
//     which never waits for a client. A response pins the entry it reads until its last
//     byte is handed to the connection; only then is its memory reused.
//   - Threads. Everything may be called from many goroutines. A fill has a
//     goroutine, context and deadline of its own; no client's leaving or
//     slowness touches it. Close ends all goroutines.
//
// Locks: a shard's mutex guards everything of that shard, is never held while
// another is taken, nor while Origin, Access, Purger or Events is called.
package cache
