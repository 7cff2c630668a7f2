package trace

import "time"

// Request is one request of a trace.
type Request struct {
	At   time.Duration // since the trace began; does not fall
	ID   uint64        // of the object
	Size int64         // bytes of the object; 0 in some published traces
}

// Source is a trace that is being read. Next returns io.EOF after the last
// request, and any other error when the trace is broken at that place.
type Source interface {
	Next() (Request, error)
}
