package main

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"hayloft/feed"
	"hayloft/internal/admin"
)

// outboxPath begins the calls about what the feed owes to the world outside.
const outboxPath = "/admin/outbox"

// outboxAtOnce is how many effects of a sort one answer lists.
const outboxAtOnce = 500

// outboxList is what is owed.
type outboxList struct {
	Transcode int         `json:"transcode"` // effects that wait, those under way included
	Reclaim   int         `json:"reclaim"`
	Parked    int         `json:"parked"`
	Oldest    float64     `json:"oldest_seconds"` // of those that wait
	Events    uint64      `json:"timeline_lag"`   // events that the timelines of the node have not processed
	Tell      int         `json:"notification_tellings"`
	Chores    int         `json:"chores"`
	Effects   []outboxRow `json:"effects"`
	Next      uint64      `json:"next,omitempty"` // goes on after this seq
}

// retried is an effect that was taken up again.
type retried struct {
	Seq uint64 `json:"seq"`
}

// outboxRow is one effect.
type outboxRow struct {
	Seq      uint64     `json:"seq"`
	Kind     string     `json:"kind"`
	State    string     `json:"state"` // parked, failed (and tried again), or waiting
	Photo    string     `json:"photo,omitempty"`
	Blob     string     `json:"blob,omitempty"`
	Attempts int        `json:"attempts"`
	Owed     time.Time  `json:"owed_since"`
	Next     *time.Time `json:"next_attempt,omitempty"`
	Reason   string     `json:"reason,omitempty"`
}

var effectNames = map[feed.EffectKind]string{feed.EffectTranscode: "transcode", feed.EffectReclaim: "reclaim"}

func outboxRowOf(e feed.OwedEffect, parked bool) outboxRow {
	r := outboxRow{Seq: e.Seq, Kind: effectNames[e.Kind], State: "waiting", Attempts: e.Attempts, Owed: e.Owed, Reason: e.Reason}
	if e.Photo != 0 {
		r.Photo = e.Photo.String()
	}
	if e.Blob != 0 {
		r.Blob = e.Blob.String()
	}
	switch {
	case parked:
		r.State = "parked"
	case e.Attempts > 0:
		r.State = "failed"
		r.Next = &e.NotBefore
	}
	return r
}

// outboxCalls are the calls of a node's admin listener about the outbox.
type outboxCalls struct{ n *node }

// serve adds them to a door.
func (o outboxCalls) serve(d *admin.Door) {
	d.Guard(http.MethodGet, outboxPath, o.list)
	d.Guard(http.MethodPost, outboxPath+"/{seq}/retry", o.retry)
}

func (o outboxCalls) feed() (*feed.Feed, error) {
	if o.n.feed == nil {
		return nil, admin.NewProblem("unavailable", http.StatusServiceUnavailable, "Not here", "this node has no replica of the feed: ask one with the role feed")
	}
	return o.n.feed, nil
}

// list answers what is owed: what is parked, or with all what waits as well.
func (o outboxCalls) list(c *admin.Call) error {
	q, err := c.Query("after", "all")
	if err != nil {
		return err
	}
	after := uint64(0)
	if q.Has("after") {
		if after, err = strconv.ParseUint(q.Get("after"), 10, 64); err != nil {
			return admin.Invalid("after=%q is not the seq of an effect", q.Get("after"))
		}
	}
	f, err := o.feed()
	if err != nil {
		return err
	}
	b, err := f.Backlog(c.Context())
	if err != nil {
		return outboxProblem(err)
	}
	out := outboxList{Transcode: b.Queued[feed.EffectTranscode], Reclaim: b.Queued[feed.EffectReclaim], Parked: b.Parked,
		Oldest: b.Oldest.Seconds(), Events: b.Events, Tell: b.Tell, Chores: b.Chores, Effects: []outboxRow{}}
	list := f.ParkedEffects
	if q.Has("all") {
		list = f.QueuedEffects
	}
	rows, err := list(c.Context(), after, outboxAtOnce)
	if err != nil {
		return outboxProblem(err)
	}
	for _, e := range rows {
		out.Effects = append(out.Effects, outboxRowOf(e, !q.Has("all")))
	}
	if len(rows) == outboxAtOnce {
		out.Next = rows[len(rows)-1].Seq
	}
	return c.Stream().Send(admin.KindResult, out)
}

// retry takes a parked effect up again.
func (o outboxCalls) retry(c *admin.Call) error {
	seq, err := strconv.ParseUint(c.Path("seq"), 10, 64)
	if err != nil {
		return admin.Invalid("%q is not the seq of an effect", c.Path("seq"))
	}
	f, err := o.feed()
	if err != nil {
		return err
	}
	if err := f.RetryEffect(c.Context(), seq); err != nil {
		return outboxProblem(err)
	}
	return c.Stream().Send(admin.KindResult, retried{seq})
}

func outboxProblem(err error) error {
	switch {
	case errors.Is(err, feed.ErrNotFound):
		return admin.NewProblem("not-found", http.StatusNotFound, "Not parked", "no effect with this seq is parked")
	case errors.Is(err, feed.ErrUnavailable):
		return admin.NewProblem("unavailable", http.StatusServiceUnavailable, "Not now", "the feed does not answer")
	}
	return err
}
