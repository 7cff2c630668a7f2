// Package volume is Hayloft's storage engine: append-only files of images.
// The bytes on disk are described in docs/format.md, which is the contract;
// this package knows neither network nor consensus.
//
// A Volume is one file, opened by one process. A Needle is one image in it,
// found by (key, alt) and handed out only against its cookie.
//
// Durability: Append and Delete return nil only after the bytes, the file and
// its name are on stable storage. What was not acknowledged may be kept or
// lost after a crash, always whole or not at all. The first write or sync that
// fails poisons the volume: nothing is ever appended to it again, by this
// process or a later one, and nothing is retried; it serves what was known to
// be synced before.
//
// A directory belongs to one process at a time: the owner of the disk sees to
// that, and every open volume file is locked besides.
//
// Threads: every method of Volume may be called by many goroutines. One writer
// goroutine per open Volume puts whatever is queued together as one batch, which
// a second one, the flusher, writes and syncs once, past the page cache where it
// can (decision 114); the writer then makes it readable and acknowledges all of
// it. While one batch is being flushed the next one is put together. Readers
// never wait for them and take no lock to look a needle up. A third goroutine
// writes checkpoints of the index behind them. Check and Scan run beside everything
// else.
//
// The index of an open volume is in RAM (index.go, decision 013). Its
// checkpoint (decision 014) may be lost at any time: Open then walks the file.
//
// Life: a volume is open until Seal, which fences it, reads it back from the
// device and fixes the digest of its needles. A sealed file never changes
// again: Delete goes to the delete log beside it, and Compact writes the next
// generation as a file of its own, which opens as a Volume of its own. Of a
// poisoned volume, which is never sealed, it does so too: salvage.go. Nothing
// in this package removes a volume file except RemoveSuperseded and RemoveVoid, on
// the directory's decision.
//
// Ownership: Data given to Append is the engine's until Append returns, also
// when the context ends meanwhile. Data handed out by Read and
// ReadRange is the caller's until it calls Release or Take, which it owes: its
// memory is booked in Options.Reads until then (decision 113). Whoever forgets it
// keeps that part of the budget from everybody for ever, and corrupts nothing.
//
// The codec (superblock.go, record.go, marker.go, checkpoint.go) does no I/O. recover.go
// implements the recovery of docs/format.md, step by step.
package volume
