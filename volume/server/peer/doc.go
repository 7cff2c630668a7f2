// Package peer is the wire between the blob servers of a cluster: a Handler that
// answers for a server.Peer here, and Clients that reach those of other nodes.
//
// Contract:
//
//   - The bytes are those of docs/peer-protocol.md. Connections, certificates and
//     names of nodes are others' (Doer, Options.Caller).
//   - What a Client returns is what the Peer on the other node said: errors are
//     the same under errors.Is. All that says nothing about the replica, what is cut
//     short, damaged on the way, late or not understood, is server.ErrUnavailable.
//     An error of a call that changes something leaves open whether it happened.
//   - Nothing corrupt passes: a checksum is over every byte, and data is compared
//     with it before it is appended and after it was read. An answer without its end
//     is an error, whatever came before.
//   - Memory. A Client reads needles into Options.Reads, and the Blob is owed Release
//     as any other. The data of an Append is the caller's again when it returns, which
//     is at once when its context ends. A Handler takes memory for a group from a
//     budget before it reads it. No length is believed beyond its bound.
//   - Slow nodes. Calls are bounded for each node and in total, by kind (slots.go).
//     A call ends with its context. Long ones have no time of their own: as long as the
//     other side is at work it says so, and a silence of Timing.Patience ends them.
//     The called side stops when the caller is gone, or takes nothing for four times
//     as long: that is what functions have that are given something.
//
// Threads: everything may be used from many goroutines. The functions that
// Holdings, Fetch and Copy are given are called on the caller's.
package peer
