package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hayloft/api"
)

// TestRequestsAreCountedCheaply: every request is in the metrics under its route and
// status, and has a line in the log when that is for debugging; else telling of one
// allocates nothing.
func TestRequestsAreCountedCheaply(t *testing.T) {
	n, out := logged()
	hit := api.Event{Kind: api.EventRequest, Method: "GET", Route: "/media", Status: 200, Took: time.Millisecond}
	n.apiEvent(hit)
	if line := out.String(); !strings.Contains(line, `route="GET /media"`) || !strings.Contains(line, "status=200 took=1ms") {
		t.Errorf("the line is %q", line)
	}
	n.log = slog.New(slog.NewTextHandler(out, nil))
	out.Reset()
	if allocs := testing.AllocsPerRun(99, func() { n.apiEvent(hit) }); allocs != 0 { // and once to warm up
		t.Errorf("%v allocations", allocs)
	}
	n.apiEvent(api.Event{Kind: api.EventRequest, Method: "GET", Route: "/media", Status: 503})
	n.apiEvent(api.Event{Kind: api.EventRequest, Status: 400, Note: "unreadable request"})
	if out.Len() > 0 {
		t.Errorf("the log has %q", out)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(n.metrics.requests, n.metrics.took)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"hayloft_http_requests_total GET /media 200": 101, "hayloft_http_requests_total GET /media 503": 1, "hayloft_http_requests_total other 400": 1,
		"hayloft_http_request_seconds GET /media": 102, "hayloft_http_request_seconds other": 1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v: %v", name, got[name], want, got)
		}
	}
}
