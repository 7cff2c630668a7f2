package main

import (
	"errors"
	"net/http"
	"time"

	"hayloft/feed"
	"hayloft/internal/admin"
)

// reconcilePath is the call that counts everything in the feed.
const reconcilePath = "/admin/feed/reconcile"

// feedCalls are the calls of a node's admin listener about the feed as a whole.
type feedCalls struct{ n *node }

// serve adds them to a door.
func (f feedCalls) serve(d *admin.Door) { d.Guard(http.MethodPost, reconcilePath, f.reconcile) }

// reconciled is what was found, and with apply done.
type reconciled struct {
	Counters uint64  `json:"counters"` // looked at
	Edges    uint64  `json:"edges"`    // looked at
	Drifted  uint64  `json:"drifted"`  // counters that were wrong
	Missing  uint64  `json:"missing"`  // edges that stood in one table only
	Fixed    uint64  `json:"fixed"`
	First    []drift `json:"first"` // of the counters that were wrong
}

type drift struct {
	ID      string `json:"id"`
	Counter string `json:"counter"`
	Stored  uint64 `json:"stored"`
	Counted uint64 `json:"counted"`
}

func reconciledOf(r feed.Reconciliation) reconciled {
	out := reconciled{Counters: r.Counters, Edges: r.Edges, Drifted: r.Drifts, Missing: r.Missing, Fixed: r.Fixed, First: []drift{}}
	for _, d := range r.First {
		out.First = append(out.First, drift{d.Subject.String(), d.Counter.String(), d.Stored, d.Counted})
	}
	return out
}

// toldEvery is how often a long call says how far it is.
const toldEvery = time.Second

// reconcile counts, and with apply corrects.
func (f feedCalls) reconcile(c *admin.Call) error {
	q, err := c.Query("apply")
	if err != nil {
		return err
	}
	if f.n.feed == nil {
		return admin.NewProblem("unavailable", http.StatusServiceUnavailable, "Not here", "this node has no replica of the feed: ask one with the role feed")
	}
	to, last := c.Stream(), f.n.clock.Elapsed()
	r, err := f.n.feed.Reconcile(c.Context(), q.Has("apply"), func(r feed.Reconciliation) {
		if now := f.n.clock.Elapsed(); now-last >= toldEvery {
			last = now
			to.Send(admin.KindProgress, reconciledOf(r)) //nolint:errcheck // that the client has left the context says
		}
	})
	switch {
	case errors.Is(err, feed.ErrConflict):
		return admin.NewProblem("busy", http.StatusServiceUnavailable, "Somebody else corrects", "other corrections came between: run it again")
	case errors.Is(err, feed.ErrUnavailable):
		return admin.NewProblem("unavailable", http.StatusServiceUnavailable, "Not now", "the feed does not answer")
	case err != nil:
		return err
	}
	return to.Send(admin.KindResult, reconciledOf(r))
}
