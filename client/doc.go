// Package client speaks the Hayloft HTTP API (docs/api.md) for Go programs:
// accounts, uploads both ways, photos, the feed, likes, comments and media.
//
// It stands on net/http and encoding/json alone; ids are strings and times are
// time.Time, as on the wire. Nothing of the server's own packages shows in it.
//
// Threads: a Client may be used by many goroutines. WithToken gives a second
// Client that shares the connections but carries another login.
//
// Errors: what the server refuses comes back as *Problem (RFC 9457); errors.As
// finds it. What never reached the server, or was cut on the way, comes back as
// the transport's error. Every call obeys its context.
//
// Retries: only calls that may be repeated without a second effect are
// repeated: reads, deletes, follows, likes, finalizing, the PUT of an upload
// URL, and posts that carry an idempotency key. They are repeated a bounded
// number of times, after a growing, jittered pause or the one the server asked
// for in Retry-After.
//
// Bytes: request bodies stay the caller's and are only read. A response body is
// read up to a bound and closed by the client, except for Media, which the
// caller closes.
//
// Consistency: the client remembers the largest Hayloft-Index it has been
// answered and sends it with each call, so a login reads its own writes from
// whichever node answers. Calls with a context of Fresh see what others did, too.
package client
