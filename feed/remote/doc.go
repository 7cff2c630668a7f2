// Package remote is the feed for processes that have no replica of it: api, cache
// and worker nodes. A Client has the methods of feed.Feed that those use; each is
// one call to a node with the role feed, which Serve answers.
//
// Arguments and results are JSON of the feed's own types. A node may be one version
// behind or ahead: fields that it does not know are ignored, methods that it does
// not know are feed.ErrUnavailable.
//
// Errors are those of the feed: errors.Is and errors.As find them. What was cut short
// on the way is feed.ErrUnavailable, and may have been done.
//
// Threads: a Client may be used by many goroutines.
package remote
