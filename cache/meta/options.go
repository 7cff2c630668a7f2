package meta

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"time"

	"hayloft/internal/clock"
)

// Options configure a Cache. With Servers, Secret must be given; the zero value of
// everything else works.
type Options struct {
	Servers []string // host:port of memcached servers; none: values are kept in this process
	// Secret is what values are sealed under, 16 bytes or more, the same at all who share
	// the servers. It may change, which empties the cache; nil: there is none now, and
	// nothing is cached.
	Secret func() []byte

	Bytes int64 // of values and keys that this process keeps, without Servers; default 32 MiB

	Timeout time.Duration // of a call of a server; default 20 ms
	// Calls bounds the calls under way at a time, and so many connections to each server
	// are kept, and a few more; what comes on top is loaded at once. Default 64.
	Calls int
	Life  time.Duration // of a value, at a server; default 24 h
	// AbsentLife is how long it is remembered that load knew nothing of a key.
	// Default 2 s.
	AbsentLife time.Duration
	// LeaseLife is how long others leave the loading of a key to who began it, if
	// he does not end; default 2 s. LeaseWait is how long each of them waits;
	// default 60 ms.
	LeaseLife, LeaseWait time.Duration

	Clock clock.Clock // nil: clock.Real
	// Events is called without locks held and must not block. May be nil.
	Events func(Event)
}

// Validate lists every fault at once.
func (o Options) Validate() error {
	var errs []error
	for _, s := range o.Servers {
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
			errs = append(errs, fmt.Errorf("meta: server %q is not host:port", s))
		}
	}
	if len(o.Servers) > 0 && o.Secret == nil {
		errs = append(errs, errors.New("meta: Secret is missing"))
	}
	if o.Bytes < 0 || o.Calls < 0 || min(o.Timeout, o.Life, o.AbsentLife, o.LeaseLife, o.LeaseWait) < 0 {
		errs = append(errs, errors.New("meta: a bound is negative"))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	o.Bytes = cmp.Or(o.Bytes, 32<<20)
	o.Timeout = cmp.Or(o.Timeout, 20*time.Millisecond)
	o.Calls = cmp.Or(o.Calls, 64)
	o.Life = cmp.Or(o.Life, 24*time.Hour)
	o.AbsentLife = cmp.Or(o.AbsentLife, 2*time.Second)
	o.LeaseLife = cmp.Or(o.LeaseLife, 2*time.Second)
	o.LeaseWait = cmp.Or(o.LeaseWait, 60*time.Millisecond)
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	return o
}

// EventKind is what an Event tells.
type EventKind uint8

// The events.
const (
	ServerLeft EventKind = iota + 1 // a server fails or lies, as Err says, and is left alone for a while
	ServerBack                      // it answers again
)

// Event is something an operator may want to know.
type Event struct {
	Kind   EventKind
	Server string
	Err    error
}

// Stats are counters since New, and gauges where noted.
type Stats struct {
	Hits     uint64 // values found
	Misses   uint64 // not found
	Waited   uint64 // of the misses: another loaded it meanwhile
	Loaded   uint64 // of the misses: load was asked
	Absent   uint64 // of these: it was remembered that there is none
	Busy     uint64 // of these: no server could be asked, or too many calls were under way
	Failures uint64 // calls of servers that failed
	Lies     uint64 // values of servers that were not what was put there
	Dropped  uint64 // values that were not put: too much was waiting, or too large

	Servers int64 // gauge: in use
	Bytes   int64 // gauge: kept in this process
}
