// Package cluster measures three nodes as processes of one machine: what a second
// replica and TLS cost a writer, and what readers and writers notice when a node is
// killed under them.
//
// Both sides are servers of the binary that runs the benchmark, with default flags
// but for addresses, certificates, the number of replicas and the delay of repair.
// All nodes share the machine: figures of a rack are better.
package cluster
