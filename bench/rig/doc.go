// Package rig runs several Hayloft nodes as processes of this machine: what tests,
// benchmarks and make cluster start, kill, pause, erase and start again.
//
// A rig owns one directory: certificates, and for each node its data directories
// and its log. Nodes listen on addresses that they keep over restarts. The first
// start of the first node begins the cluster; every other start names the other
// nodes to join.
//
// Threads: a Rig and its Nodes may be used by many goroutines, one call at a time
// for each Node.
package rig
