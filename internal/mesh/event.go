package mesh

import "time"

// EventKind says what an Event is about.
type EventKind uint8

// What happens.
const (
	EventRefused    EventKind = iota + 1 // somebody who connected was refused: Addr, Peer as far as it is known, Err says why
	EventMistaken                        // a node that was dialed is not who it should be, or has refused us: Addr, Peer as it was asked for, Err
	EventIdentity                        // new certificates are in use: Until
	EventBadFiles                        // certificates on disk can't be used: those from before stay in use. Err
	EventExpiring                        // the certificate ends soon, or has ended: Until. Once a day
	EventCutOff                          // a connection was closed, for its certificate does not count any more: Peer, Err
	EventPanic                           // a handler panicked: Peer, Proto, Err
	EventServer                          // a note of the HTTP server: Err
	EventAcceptFail                      // the listener fails and is tried again: Err
)

func (k EventKind) String() string {
	return [...]string{"", "refused", "mistaken", "identity", "bad-files", "expiring", "cut-off", "panic", "server", "accept-failed"}[k]
}

// Event is what a Mesh or an Identity reports.
type Event struct {
	Kind  EventKind
	Addr  string // of the other end
	Peer  Peer
	Proto string
	Until time.Time
	Err   error
}
