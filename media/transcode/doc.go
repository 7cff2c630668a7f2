// Package transcode does the work that a finalized photo owes: it reads the
// master, has the variants made, writes them as one group, and tells the feed.
//
// A Worker is called with one photo at a time per goroutine, by whoever holds
// the lease of that effect, and may be called again for the same photo after
// any failure or crash, or even at the same time elsewhere. Every step can be
// repeated: a repeat writes another group under another blob id, of which only
// the one that MarkReady named is ever served; the others were announced by
// Intend before a byte was appended, so the sweeper tombstones them.
//
// Order, for one photo:
//
//	Master → ReadMaster → Make → ReserveVariants → Intend → WriteVariants → MarkReady → Push
//
// or MarkFailed after Make when the photo itself is to blame, or hung in the
// decoder Options.Hangs times since this Worker began. Whatever is
// returned as an error is temporary: the caller tries again later.
//
// The package imports neither feed nor volume: it declares what it needs, and
// cmd adapts. Durability is that of the implementations: WriteVariants and
// MarkReady return when what they did is durable.
package transcode
