package tools_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"hayloft/internal/admin"
	"hayloft/volume/server"
	"hayloft/volume/tools"
)

// scrubs answers as a blob server does.
type scrubs struct {
	started int
	totals  server.ScrubTotals
	err     error
	hold    chan struct{} // ScrubNow waits for it, unless nil

	now sync.WaitGroup // calls of ScrubNow: one whose caller left may still be there
}

func (s *scrubs) ScrubStart() error { s.started++; return s.err }

func (s *scrubs) ScrubNow(ctx context.Context, report func(server.ScrubProgress)) (server.ScrubTotals, error) {
	s.now.Add(1)
	defer s.now.Done()
	report(server.ScrubProgress{Done: 10, Total: 5, Totals: s.totals})
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return s.totals, ctx.Err()
		}
	}
	return s.totals, s.err
}

func (s *scrubs) ScrubStatus() server.ScrubStatus {
	return server.ScrubStatus{Running: true, Began: time.Unix(1e9, 0), ScrubProgress: server.ScrubProgress{Done: 1, Total: 2, Totals: s.totals}, Err: s.err,
		Disks: []server.ScrubDisk{{Dir: "/a", UUID: "7", Items: 3, Found: map[server.ScrubKind]uint64{server.ScrubShard: 2}, Repaired: 2}}}
}

// bothScrubbers are the Scrubber of this process and one over the admin listener.
func bothScrubbers(t *testing.T, s tools.Scrubs, fn func(name string, s tools.Scrubber)) {
	t.Helper()
	local := tools.NewScrubber(s)
	fn("local", local)
	d := admin.NewDoor(admin.Options{Token: "secret", Problem: tools.ProblemOf})
	tools.ServeScrub(d, local, nil)
	web := httptest.NewServer(d)
	defer web.Close()
	c, err := admin.NewClient(web.URL, "secret")
	ok(t, err)
	defer c.Close()
	fn("remote", tools.NewRemote(c))
	stranger, err := admin.NewClient(web.URL, "")
	ok(t, err)
	defer stranger.Close()
	if _, err := tools.NewRemote(stranger).ScrubStatus(bg); err != nil {
		t.Errorf("status wants a token: %v", err)
	}
	var p *admin.Problem
	if err := tools.NewRemote(stranger).ScrubStart(bg); !errors.As(err, &p) || !p.Named(admin.Unauthorized) {
		t.Errorf("without a token: %v", err)
	}
}

func TestScrubbers(t *testing.T) {
	s := &scrubs{totals: server.ScrubTotals{Items: 9, Bytes: 90, Corrupt: 4, Repaired: 3, Unrepairable: 1, Quarantined: 2, Notes: 5}}
	want := tools.Scrubbed{Checked: 9, Bytes: 90, Corrupt: 4, Repaired: 3, Unrepairable: 1, Quarantined: 2, Notes: 5}
	bothScrubbers(t, s, func(name string, sc tools.Scrubber) {
		var last tools.ScrubProgress
		got, err := sc.ScrubRun(bg, func(p tools.ScrubProgress) { last = p })
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if last.Done != 10 || last.Total != 10 || last.Scrubbed != want {
			t.Errorf("%s: progress %+v", name, last)
		}
		st, err := sc.ScrubStatus(bg)
		if err != nil || !st.Running || st.Began.Unix() != 1e9 || st.Checked != 9 || len(st.Disks) != 1 || st.Disks[0].Found["shard"] != 2 || st.Disks[0].Oldest != nil {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
		before := s.started
		if err := sc.ScrubStart(bg); err != nil || s.started != before+1 {
			t.Errorf("%s: %v", name, err)
		}
	})
}

// What was left out is told with what was found; a server that stops finds nothing.
func TestScrubIsIncomplete(t *testing.T) {
	s := &scrubs{totals: server.ScrubTotals{Items: 1}, err: errors.New("a disk\nis out")}
	bothScrubbers(t, s, func(name string, sc tools.Scrubber) {
		if got, err := sc.ScrubRun(bg, func(tools.ScrubProgress) {}); err != nil || got.Left != "a disk; is out" || got.Checked != 1 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	})
	s.totals, s.err = server.ScrubTotals{}, server.ErrClosed
	bothScrubbers(t, s, func(name string, sc tools.Scrubber) {
		if _, err := sc.ScrubRun(bg, func(tools.ScrubProgress) {}); err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("%s: %v", name, err)
		}
		s.err = nil
		s.hold = make(chan struct{})
		ctx, cancel := context.WithCancel(bg)
		_, err := sc.ScrubRun(ctx, func(tools.ScrubProgress) { cancel() })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: who leaves: %v", name, err)
		}
		s.now.Wait()
		s.err, s.hold = server.ErrClosed, nil
	})
}
