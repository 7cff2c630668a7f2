// Package meta is the metadata cache: short values that never change under their
// key, kept in memcached servers that several nodes share, or in this process.
// docs/metadata-cache.md tells it for operators.
//
// Contract:
//
//   - Values. What Hydrate returns for a key is what some load returned for exactly
//     that key, under the same secret. Keys must name versions: nothing is ever
//     invalidated, and what a key means must not change.
//   - Servers are trusted with nothing. Values are sealed: a server can neither read
//     them nor make one up, nor pass off one key's value as another's. One that is dead,
//     slow or lying is as good as none; how much time and memory an answer of it costs is
//     bounded.
//   - Failure. Only load's errors are returned.
//   - Threads. Everything may be called from many goroutines. Close ends the cache's
//     own and its connections.
package meta
