// Package certs makes and reads the certificates by which nodes know one
// another. It does no I/O: bytes come in and go out as PEM.
//
// An Authority is a CA of one cluster. What it issues says who somebody is in
// one URI of the subject alternative name, hayloft://node/NAME or
// hayloft://client/NAME, and nothing else counts: not the common name, not the
// host names, which are there for people's own tools. A node's certificate may
// be shown from both ends of a connection, a client's only from the end that
// dials.
//
// Keys are ECDSA on P-256. Certificates are valid from a day before they were
// made, so that a node whose clock is behind takes a new one.
//
// Threads: everything may be used by many goroutines.
package certs
