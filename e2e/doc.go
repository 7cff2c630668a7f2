// Package e2e tests the built binary from outside, as its users meet it: over
// HTTP, through a browser, and with kill -9. It holds tests only.
//
// The binary is bin/hayloft, built by the Makefile; HAYLOFT_BIN names another.
// HAYLOFT_KILLS, HAYLOFT_CUTS and HAYLOFT_FAULTS say how often writers are
// killed, the power is cut and system calls fail: 10, 5 and 1 by default.
//
// Clusters are three processes in network namespaces of their own (decision 173):
// cables are cut with iptables inside them, the rest of the machine sees nothing of
// it. Users and blobs load a cluster while faults befall it, and whatever was
// acknowledged is held against what every node says in the end. HAYLOFT_CLUSTER_MINUTES
// is how long TestClusterRandomFaults goes on; HAYLOFT_E2E_LOGS names a directory that
// keeps what nodes logged.
package e2e
