// Package mesh is everything between the nodes of a cluster: who they are to one
// another, where they are, connections by name, and HTTP calls over them.
//
// A node has a certificate (Identity, package certs) and a Mesh on it: one
// listener, on which protocols are told apart by ALPN, and ways to dial by the
// name of a node. A name is resolved by the address book, which rows of the
// directory fill in, and which learns from whoever connects.
//
// What holds of a connection that a Layer, a handler or a Client has to do with:
//
//   - It is TLS 1.3. Both ends have shown a certificate of one of our CAs, valid
//     now, and the one that was dialed has the name that was asked for. Nothing is
//     resumed: each connection is verified whole.
//   - The role was checked. A protocol is for nodes unless it was opened for
//     clients too; whoever is dialed is a node.
//   - Both ends have greeted one another (conn.go), so that a dial which succeeds
//     was accepted, not only begun.
//   - When a certificate ends, or its CA is taken out of ca.pem, connections made
//     with it are closed when that is seen, at the latest a check later.
//
// Whom a Mesh can't reach keeps nobody else waiting: each call and each
// handshake has a connection and a bound of its own. Nothing here waits longer
// than the context it is given, but a call without a deadline may wait for ever
// for a node that is stopped: give each one a deadline.
//
// Durability is none of its business: a call that failed after it was sent may
// have been carried out.
//
// Threads: everything may be used by many goroutines. Events are called from many,
// and must not call back.
package mesh
