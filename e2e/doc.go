// Package e2e tests the built binary from outside, as its users meet it: over
// HTTP, through a browser, and with kill -9. It holds tests only.
//
// The binary is bin/hayloft, built by the Makefile; HAYLOFT_BIN names another.
// HAYLOFT_SOAK=1 makes the crash tests of the volumes long: 100 kills, 50 power
// cuts.
package e2e
