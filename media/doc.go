// Package media knows what a photo becomes: which files are accepted, what
// must be taken out of them before others see them, and the four variants.
//
// The package has three layers. Inspect and Strip read and rewrite the
// containers (JPEG, PNG, WebP, GIF, and the header of AVIF and HEIC) in pure
// Go; they look at no pixel, allocate at most a copy of their input, and stand
// any input whatever. Pixels are decoded only by child processes, which a Pool
// starts, limits and kills: Serve is the child's side of the pipe, RunWorker a
// child in pure Go, cmd/hayloft-media one on top of libvips. The protocol
// between them stands in docs/media.md.
//
// Threads: all functions, and a Pool, may be used by many goroutines. Serve
// and RunWorker are single-threaded.
//
// Bytes: no function keeps or changes the bytes it is given; what it returns
// is the caller's. Nothing here touches a disk, and nothing is durable.
package media
