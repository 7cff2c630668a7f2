// Package peertest is what every server.Peer has to do, as tests: the replicas of a
// process, and the same seen from another node.
package peertest
