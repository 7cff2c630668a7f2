// Package overlay is a file system that reads the machine's files and keeps
// every change in memory, so that an engine which recovers and repairs what it
// opens can look at files that must stay as they are.
//
// Threads: FS and its files may be used by many goroutines.
//
// Durability: none; Sync and SyncDir do nothing. Nothing is ever written to
// the machine.
//
// Ownership: files that were opened keep their descriptor until FS.Close, also
// when they were closed before. What is written takes memory by pages of
// 4 KiB: this is for repairs, not for data.
package overlay
