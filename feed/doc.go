// Package feed holds what people do: accounts, follows, photos, likes,
// comments, and the feed pages that come of them.
//
// Every mutation is a versioned command, applied by a deterministic function
// (Machine) through internal/raftgroup into one Pebble instance; timelines are
// derived from it by feed/timeline into another. The keys and encodings are in
// docs/feed-format.md, which was written before the code.
//
// What a photo may be seen by is decided in one place (visibility.go), which
// every read and every command that acts on a photo asks.
//
// Durability: a method that changes something returns after its command is
// synced in the Raft log and applied. An error that is one of the package's
// own, other than ErrUnavailable, means that nothing was changed;
// ErrUnavailable leaves open whether the change was or will yet be made.
//
// Threads: a Feed may be used by many goroutines. Returned values are the
// caller's to read; lists in them may be shared. Run derives, sweeps and trims in the background; RunEffects handles
// work that is owed to the world outside, lent by the member that leads.
//
// Replicas: every member of the group answers. What it says is of a state that is
// at most Policy.MaxStale old; that something is not there, or may be served, it
// says only when it is certain (decision 171).
//
// Errors: refusals are the Err values of types.go and errors.go; an Invalid says
// which field is wrong. The package writes no log: what an operator should know
// goes to Options.Notify, Backlog and Check.
package feed
