package tools

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"hayloft/internal/admin"
	"hayloft/internal/clock"
	"hayloft/volume/server"
)

// Scrubber is who has the disks read from end to end.
type Scrubber interface {
	// ScrubStart begins a scrub of everything, unless one is under way.
	ScrubStart(ctx context.Context) error
	// ScrubRun does that, or joins the one under way, and returns when it has ended.
	// When ctx ends the work goes on.
	ScrubRun(ctx context.Context, report func(ScrubProgress)) (Scrubbed, error)
	// ScrubStatus tells how far it is, and how each disk stands.
	ScrubStatus(ctx context.Context) (ScrubStatus, error)
}

// Scrubbed is what a scrub found.
type Scrubbed struct {
	Checked      int64  `json:"checked"` // volumes, folders of shards, and one for each disk: read whole
	Bytes        int64  `json:"checked_bytes"`
	Corrupt      int64  `json:"corrupt"`
	Repaired     int64  `json:"repaired"`
	Unrepairable int64  `json:"unrepairable"`
	Quarantined  int64  `json:"quarantined"` // foreign files
	Notes        int64  `json:"notes"`       // files that were left alone
	Left         string `json:"left_out,omitempty"`
}

// ScrubProgress tells how far a scrub is, in bytes. Total is an estimate.
type ScrubProgress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
	Scrubbed
}

// ScrubStatus is how scrubs stand.
type ScrubStatus struct {
	Running bool       `json:"running"` // one that was asked for
	Began   *time.Time `json:"began"`   // the one that was asked for last; null: none since the start
	ScrubProgress
	Disks []ScrubDisk `json:"disks"`
}

// ScrubDisk is how the scrub of one disk stands. What is counted is so since the disk
// was taken into use.
type ScrubDisk struct {
	Data         string            `json:"data"`
	UUID         string            `json:"uuid"`
	Items        int64             `json:"items"`
	Bytes        int64             `json:"bytes"`
	DueItems     int64             `json:"due_items"` // to be read at once
	DueBytes     int64             `json:"due_bytes"`
	Oldest       *time.Time        `json:"oldest"` // when the item was read that was not read for longest
	Reading      string            `json:"reading,omitempty"`
	ReadItems    uint64            `json:"read_items"`
	ReadBytes    uint64            `json:"read_bytes"`
	Found        map[string]uint64 `json:"found"` // by kind
	Repaired     uint64            `json:"repaired"`
	Unrepairable uint64            `json:"unrepairable"`
}

// Scrubs is what a Scrubber needs of a blob server; *server.Server has it.
type Scrubs interface {
	ScrubStart() error
	ScrubNow(ctx context.Context, report func(server.ScrubProgress)) (server.ScrubTotals, error)
	ScrubStatus() server.ScrubStatus
}

var _ Scrubs = (*server.Server)(nil)

// NewScrubber returns the Scrubber of a blob server in this process.
func NewScrubber(s Scrubs) Scrubber { return localScrubber{s} }

type localScrubber struct{ s Scrubs }

// ScrubStart implements Scrubber.
func (l localScrubber) ScrubStart(context.Context) error { return l.s.ScrubStart() }

// ScrubRun implements Scrubber.
func (l localScrubber) ScrubRun(ctx context.Context, report func(ScrubProgress)) (Scrubbed, error) {
	t, err := l.s.ScrubNow(ctx, func(p server.ScrubProgress) { report(scrubProgress(p)) })
	if err != nil && (ctx.Err() != nil || t == (server.ScrubTotals{})) {
		return Scrubbed{}, err
	}
	return scrubbed(t, err), nil
}

func scrubbed(t server.ScrubTotals, left error) Scrubbed {
	s := Scrubbed{Checked: t.Items, Bytes: t.Bytes, Corrupt: t.Corrupt, Repaired: t.Repaired, Unrepairable: t.Unrepairable, Quarantined: t.Quarantined, Notes: t.Notes}
	if left != nil {
		s.Left = OneLine(left)
	}
	return s
}

func scrubProgress(p server.ScrubProgress) ScrubProgress {
	return ScrubProgress{p.Done, max(p.Done, p.Total), scrubbed(p.Totals, nil)}
}

// ScrubStatus implements Scrubber.
func (l localScrubber) ScrubStatus(context.Context) (ScrubStatus, error) {
	st := l.s.ScrubStatus()
	out := ScrubStatus{Running: st.Running, Began: known(st.Began), ScrubProgress: scrubProgress(st.ScrubProgress), Disks: []ScrubDisk{}}
	if st.Err != nil {
		out.Left = OneLine(st.Err)
	}
	for _, d := range st.Disks {
		found := make(map[string]uint64)
		for kind, n := range d.Found {
			found[string(kind)] = n
		}
		out.Disks = append(out.Disks, ScrubDisk{
			Data: d.Dir, UUID: d.UUID, Items: d.Items, Bytes: d.Bytes, DueItems: d.DueItems, DueBytes: d.DueBytes, Oldest: known(d.Oldest), Reading: d.Reading,
			ReadItems: d.ReadItems, ReadBytes: d.ReadBytes, Found: found, Repaired: d.Repaired, Unrepairable: d.Unrepairable,
		})
	}
	return out, nil
}

// known is a time, or nil for none.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

const scrubPath = "/admin/scrub"

// ServeScrub adds the calls of a scrub to a door. A nil clock is the machine's.
func ServeScrub(d *admin.Door, s Scrubber, c clock.Clock) {
	if c == nil {
		c = clock.Real{}
	}
	d.Look(http.MethodGet, scrubPath, func(call *admin.Call) error {
		if _, err := call.Query(); err != nil {
			return err
		}
		st, err := s.ScrubStatus(call.Context())
		if err != nil {
			return err
		}
		return call.Answer(st)
	})
	d.Guard(http.MethodPost, scrubPath, func(call *admin.Call) error {
		q, err := call.Query("wait")
		if err != nil {
			return err
		}
		switch q.Get("wait") {
		case "false":
			if err := s.ScrubStart(call.Context()); err != nil {
				return err
			}
			return call.Stream().Send(admin.KindResult, struct{}{})
		case "", "true":
			return scrubAndTell(call, s, c)
		}
		return admin.Invalid("wait %q is neither true nor false", q.Get("wait"))
	})
}

func scrubAndTell(call *admin.Call, s Scrubber, c clock.Clock) error {
	to, last := call.Stream(), time.Duration(-tellEvery)
	r, err := s.ScrubRun(call.Context(), func(p ScrubProgress) {
		if now := c.Elapsed(); now-last >= tellEvery {
			last = now
			to.Send(admin.KindProgress, p) //nolint:errcheck // that the client has left the context says
		}
	})
	if err != nil {
		return err
	}
	return to.Send(admin.KindResult, r)
}

var _ Scrubber = (*Remote)(nil)

// ScrubStart implements Scrubber.
func (r *Remote) ScrubStart(ctx context.Context) error {
	return named(r.c.Stream(ctx, http.MethodPost, scrubPath+"?wait=false", &struct{}{}, func(string, json.RawMessage, []byte) error { return unknown() }))
}

// ScrubRun implements Scrubber.
func (r *Remote) ScrubRun(ctx context.Context, report func(ScrubProgress)) (s Scrubbed, err error) {
	err = r.c.Stream(ctx, http.MethodPost, scrubPath, &s, func(kind string, value json.RawMessage, _ []byte) error {
		if kind == admin.KindProgress {
			return into(value, func(p ScrubProgress) error { report(p); return nil })
		}
		return unknown()
	})
	return s, named(err)
}

// ScrubStatus implements Scrubber.
func (r *Remote) ScrubStatus(ctx context.Context) (st ScrubStatus, err error) {
	err = r.c.Get(ctx, scrubPath, &st)
	return st, named(err)
}
