// Package meshtest holds what tests need of several nodes: certificates, a Mesh for
// each, and a Proxy that treats what passes as a bad network does.
//
// It is for tests only; nothing in the product imports it. Everything may be used
// by many goroutines.
package meshtest
