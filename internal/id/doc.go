// Package id holds Hayloft's 64-bit ids and the leases they are minted under.
//
// An id is a point in the plane (slot × id time); see docs/architecture.md.
// Uniqueness rests on leases, not on clocks: a lease is a window of id time on
// one slot for one incarnation of one holder, every window of a slot begins
// after every earlier one ended, and a holder never mints outside its window.
//
// Threads: ID, Millis and Slot are values. A Minter may be used by many
// goroutines. Windows is the pure, deterministic half that the directory's
// state machine runs; it is not safe for concurrent use.
//
// On disk and on the wire an id is a uint64; in text and JSON it is 13
// characters of lower-case Crockford base32, which sort as the ids do.
package id
