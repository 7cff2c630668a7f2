// Package e2e tests the built binary from outside, as its users meet it: over
// HTTP, through a browser, and with kill -9. It holds tests only.
//
// The binary is bin/hayloft, built by the Makefile; HAYLOFT_BIN names another.
// HAYLOFT_KILLS, HAYLOFT_CUTS and HAYLOFT_FAULTS say how often writers are
// killed, the power is cut and system calls fail: 10, 5 and 1 by default.
package e2e
