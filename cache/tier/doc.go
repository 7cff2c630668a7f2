// Package tier is what passes between cache tiers: a Server that lends the objects of
// a cache to the tiers in front of it, and a Chain that is origin, verdicts and purge log
// for the cache of such a tier. docs/tiers.md has the protocol.
//
// Contract:
//
//   - Trust. Connections and certificates are others' (Dialer, and whoever mounts the
//     Server). Whoever can ask a Server is told verdicts and lent every object whose name it
//     knows; who may see it the asking tier decides, by the verdicts.
//   - Bytes. An object is compared with a checksum after each 64 KiB of it, and whole with
//     its entity tag, which is the CRC32C of its bytes. What does not agree, ends early or has
//     another length is an error of that upstream, and another one is asked.
//   - Time. Verdicts and the purge log say how old they are (cache.Verdict, cache.Purger),
//     counted from the question. A verdict includes every purge that the Chain has returned:
//     an upstream that is behind waits, or is passed over.
//   - Failure. An upstream that fails is left alone for a while; its keys go to the next
//     in their order, which keeps them as gutter. When none can be asked, calls fail at once.
//     "Not found" is only what an upstream has said.
//   - Bounds. Objects, fills per upstream, attempts of one call and their time are bounded.
//     A question that comes back to where it was is refused.
//
// Threads: everything may be used from many goroutines, but Chain.Purges by one.
package tier
