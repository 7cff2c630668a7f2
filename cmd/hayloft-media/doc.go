//go:build cgo

// Command hayloft-media is a decoding child of a media.Pool on top of libvips.
//
// It speaks the protocol of docs/media.md over its standard input and output,
// opens no file and no connection, and expects the pool to have put limits on
// it. It is the only part of Hayloft that needs cgo; without it, the same role
// is played by `hayloft media-worker`, in pure Go.
//
// Threads: one job at a time; libvips is told to use a single thread.
//
// Bytes: libvips reads a job's file in place; everything it allocates for a job
// is freed before the answer is sent.
package main
