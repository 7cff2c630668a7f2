// Package arch holds no code: its tests are about the tree itself.
//
// They enforce the dependency law of docs/architecture.md (who may import
// whom, and where raft, Pebble, fasthttp, cgo and the network may appear), that
// every package opens with its contract, that files and functions stay short,
// that only the clock tells the time and only the file systems touch files, that
// no test is skipped, and that no path of one machine stands in the tree.
//
// An exception is one line in rules_test.go with its reason.
package arch
