// Package ssd is the cache tier's second tier, between its memory and the blob
// store: objects that had to be fetched a second time lie in one file on a device,
// docs/cache-device-format.md, and come back from there the next time. Before puts it in
// front of a cache.Origin, Following lets it hear what a cache.Purger says.
//
// Contract:
//
//   - Bytes. Get returns exactly what was offered under that key, checked byte
//     for byte against its checksum at each read, or nothing. No state of the
//     device makes it return anything else: corrupt, torn, of another place, of
//     another time or of another key is a miss.
//   - Rights. None are kept here, and none are decided: a cache asks Access on
//     every fill, before it asks its Origin. A purge that is missed here leaves
//     bytes that nobody is given.
//   - Failure. Nothing here fails a client. A device that is full, slow, dead or
//     away lowers the hit ratio: it is left alone for a while and then looked at
//     again. Events and Stats tell.
//   - Durability. None: nothing is synced. What a restart finds and can verify
//     serves again.
//   - Ownership. Offer copies what it keeps. Object.Data of Get is lent until
//     Object.Release.
//   - Threads. Everything may be called from many goroutines. One goroutine
//     writes; each read has one of its own, which a device that hangs may hold
//     after Get has given up. Close waits for them, for a bounded time.
//
// Locks: Tier.mu, then those of the index. Neither is held over a call of the
// file system or of Events.
package ssd
