package api

import (
	"net/netip"
	"time"

	"hayloft/internal/id"
)

// EventKind says what an Event reports.
type EventKind uint8

// The kinds of events.
const (
	EventRequest        EventKind = iota + 1 // a call was answered
	EventFault                               // a call failed for a reason of ours: Err says which
	EventPanic                               // a handler panicked; the call got a 500
	EventServer                              // the HTTP machinery complains; Note says what, without request bytes
	EventSignUp                              // audit: an account was made
	EventSignIn                              // audit: a session was made
	EventSignInFail                          // audit: wrong handle or password
	EventSignOut                             // audit: a session, or all of them, ended
	EventPassword                            // audit: a password was changed
	EventKeyMade                             // audit: an API key was made
	EventKeyEnded                            // audit: an API key was deleted
	EventAccountDeleted                      // audit: an account was deleted by its owner
	EventExport                              // audit: an account's owner asked for its archive
	EventArchive                             // audit: somebody with the link takes it
	EventRateLimit                           // a limit refused a call; Note names the limit
)

// Event is something worth a log line or a metric. It holds no token, no
// password, no coordinate and no byte of a request that was not checked.
type Event struct {
	Kind    EventKind
	Time    time.Time
	Method  string        // "GET"
	Route   string        // the pattern, "/api/v1/photos/{id}"; empty when none matched
	Status  int           // of the answer
	Took    time.Duration // by the injected clock
	Bytes   int64         // of the request's body as read
	Account id.ID         // 0: anonymous
	Address netip.Addr    // of the client, behind trusted proxies
	Note    string
	Err     error
}
