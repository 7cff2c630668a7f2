// Package admin is the operators' door of a process: HTTP calls under /admin/
// that look into it and change it, and the client that knocks there. It knows
// nothing of what the calls do.
//
// The door:
//
//   - A guarded call wants "Authorization: Bearer TOKEN", compared in constant
//     time, unless the door is open. Without it nothing is looked at, not even
//     the parameters.
//   - Browsers have no business here: a request that names an Origin, or that
//     a page sent, is refused, so that an open door on loopback is not one for
//     every page that an operator visits.
//   - A page may be served under a name that is then made to resolve to this
//     machine: Named refuses what is asked of any name but those it is told.
//   - No call has a body; parameters are in the path and the query, and one
//     that is not known is refused.
//   - Errors are application/problem+json with a stable type. What the table
//     of the caller does not name is 500, and its text is told: who asks here
//     runs the machine.
//   - Every guarded call is reported to Options.Audit once, when it ends or is
//     refused. Tokens never are.
//
// A process that stops closes its door first: what the calls look at is taken
// apart next, and would be found empty rather than gone.
//
// Long calls answer with a stream of lines, each one JSON object (Line). The
// last is of kind result or problem: a stream without one was cut off. Lines of
// kind alive come when nothing else does, so that nothing between the two takes
// the connection for dead. A line may announce raw bytes, which follow it.
//
// Threads: a Door may be used by many goroutines; a Call and a Client's stream
// by one at a time, but Stream.Send by many.
package admin
