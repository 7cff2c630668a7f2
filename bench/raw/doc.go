// Package raw is the disk without an engine: memory and files for reads and writes
// past the page cache, and a record of what an engine was seen to ask for, which a
// raw side then asks for likewise.
//
// Ownership: memory of AlignedBuf and ClientBufs is given back by who got it, that
// of HugeBufs is the collector's.
//
// Threads: functions may be called by many goroutines.
package raw
