// Command hayloft is the whole of Hayloft in one static binary: the server with
// its roles, and the tools around it.
//
// This package is wiring only: flags, configuration, signals, start and stop of
// the parts. node.go opens them lowest first and closes them highest first;
// adapters.go and placement.go hand one room's implementation to another room's
// interface; events.go and metrics.go turn what the parts tell into log lines
// and figures. Nothing else logs.
package main
