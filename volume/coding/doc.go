// Package coding cuts a sealed, compacted volume into k data shards and m
// parity shards, any k of which give it back. The bytes are described in
// docs/shard-format.md, which is the contract.
//
// Encode makes the shards of one epoch, Reader reads ranges of the source from
// them, Rebuild makes lost ones again, Repair writes damaged blocks of one again,
// Decode gives the source back, Check says what is wrong with one. None of them
// decides anything: which epoch counts, who may encode, and what may be removed is
// the directory's business, whose rules are those of package lifecycle. A Plan is
// what the directory said.
//
// Durability: Encode, Rebuild and Decode return nil only after every file was
// synced, read back from the device, whole, and compared, and its name is on
// stable storage. A file that fails any of this never gets its name. Each may be
// called again after a crash at any moment: whole files are verified and kept,
// the rest is made again. Files of other runs are never touched.
//
// Memory: at most three stripes of k+m columns, 8 MiB each unless the options say
// otherwise, a buffer of 1 MiB for each of eight files that are read back at once,
// and 4 bytes for each 64 KiB of each shard that is written or verified.
//
// Threads: a Reader may be used by many goroutines. The others run on the
// calling goroutine and some of their own, all of which have ended when they
// return. Functions given in options are called by one goroutine at a time
// unless they say otherwise.
//
// Ownership: bytes handed out by a Reader are the caller's until Release.
package coding
