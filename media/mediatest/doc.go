// Package mediatest holds what the tests of several packages need of images:
// builders of hostile and of telling files, and the conformance suite that
// every decoding child must pass (Conformance).
//
// It is for tests only; nothing in the product imports it. Every function is
// safe for concurrent use and returns bytes that the caller owns.
package mediatest
