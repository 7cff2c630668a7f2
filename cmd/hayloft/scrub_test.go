package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"hayloft/volume/server"
	"hayloft/volume/tools"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

type fakeScrubber struct {
	tools.Scrubber
	r tools.Scrubbed
}

func (f fakeScrubber) ScrubRun(_ context.Context, report func(tools.ScrubProgress)) (tools.Scrubbed, error) {
	report(tools.ScrubProgress{Done: 1, Total: 2})
	return f.r, nil
}

// scrub run --wait --json prints four fields, and fails for what cannot be repaired and
// what was not read.
func TestScrubRun(t *testing.T) {
	for _, c := range []struct {
		r   tools.Scrubbed
		bad string
	}{
		{tools.Scrubbed{Checked: 7, Bytes: 1, Corrupt: 3, Repaired: 3, Quarantined: 1}, ""},
		{tools.Scrubbed{Checked: 7, Corrupt: 3, Repaired: 2, Unrepairable: 1}, "cannot be repaired"},
		{tools.Scrubbed{Checked: 7, Left: "disk 3 is out"}, "disk 3 is out"},
	} {
		cmd, out := &cobra.Command{}, &bytes.Buffer{}
		cmd.SetContext(t.Context())
		cmd.SetOut(out)
		cmd.SetErr(&bytes.Buffer{})
		err := scrubAndWait(cmd, fakeScrubber{r: c.r}, true)
		if c.bad == "" && err != nil || c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad)) {
			t.Errorf("%+v: %v", c.r, err)
		}
		var want bytes.Buffer
		if err := printJSON(&want, map[string]int64{"checked": c.r.Checked, "corrupt": c.r.Corrupt, "repaired": c.r.Repaired, "unrepairable": c.r.Unrepairable}); err != nil {
			t.Fatal(err)
		}
		if out.String() != want.String() {
			t.Errorf("%s, want %s", out, want.String())
		}
	}
}

func TestScrubMetrics(t *testing.T) {
	now := time.Unix(1000, 0)
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(newScrubMetrics(func() server.ScrubStatus {
		return server.ScrubStatus{Disks: []server.ScrubDisk{{Dir: "/a", Oldest: time.Unix(400, 0), Found: map[server.ScrubKind]uint64{server.ScrubShard: 2}}}}
	}, func() time.Time { return now }))
	got := map[string]float64{}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		m := f.Metric[0]
		got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	if got["hayloft_scrub_oldest_seconds"] != 600 || got["hayloft_scrub_findings_total"] != 2 || len(got) != 7 {
		t.Errorf("%v", got)
	}
}
