// Package cutfs gives Pebble a file system that can be cut off.
//
// A disk that hangs keeps whoever calls it, and a Pebble instance on it keeps
// its readers and its writer. After Cut every operation of the FS and of its
// files returns the error that Cut was given, and those under way return it at
// once, whatever the disk does. What an operation that was left behind still
// does on the disk, nobody waits for.
//
// # Threads
//
// An FS and its files may be used by many goroutines, as far as the file system
// below allows it. An operation runs on a goroutine of its own, with a buffer of
// its own, so that the caller can leave it: about a microsecond each, beside the
// disk's tens.
//
// # Durability
//
// That of the file system below: nothing is held back.
package cutfs
