package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hayloft/cache"
	"hayloft/cache/meta"
	"hayloft/cache/ssd"
	"hayloft/internal/mesh/meshtest"
	"hayloft/internal/vfs"
	"hayloft/media"
	"hayloft/volume"
	"hayloft/volume/server"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// described lists the metrics that a node exports, or an edge.
func described(n *node) []string {
	ch := make(chan *prometheus.Desc)
	go func() {
		defer close(ch)
		for _, c := range append(n.collectors(), upstreamCollector{}) {
			c.Describe(ch)
		}
	}()
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	var names []string
	for d := range ch {
		names = append(names, name.FindStringSubmatch(d.String())[1])
	}
	slices.Sort(names)
	return names
}

// TestMetricsAreDocumented compares what a node exports with the table of
// docs/operations.md, both ways.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := vfs.ReadFile(vfs.OS{}, "../../docs/operations.md", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var table []string
	name := regexp.MustCompile("`(hayloft_[a-z_0-9]+)`")
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 && strings.Contains(cells[1], "`hayloft_") {
			for _, m := range name.FindAllStringSubmatch(cells[1], -1) {
				table = append(table, m[1])
			}
			if strings.TrimSpace(cells[2]) == "" || strings.TrimSpace(cells[3]) == "" {
				t.Errorf("the table says too little: %s", line)
			}
		}
	}
	slices.Sort(table)
	n := openMember(t, meshtest.CA(t), "node-1", t.TempDir())
	n.cache, n.device, n.pages, n.pool = new(cache.Cache), new(ssd.Tier), new(meta.Cache), new(media.Pool) // their figures are not read
	exported := described(n)
	n.cache, n.device, n.pages, n.pool = nil, nil, nil, nil
	for _, m := range exported {
		if !slices.Contains(table, m) {
			t.Errorf("%s is exported and not in the table", m)
		}
	}
	for i, m := range table {
		if !slices.Contains(exported, m) {
			t.Errorf("%s is in the table and not exported", m)
		}
		if i > 0 && table[i-1] == m {
			t.Errorf("%s is in the table twice", m)
		}
	}
}

// TestScrapeShowsWhatWasDone writes, reads and deletes, and looks for it.
func TestScrapeShowsWhatWasDone(t *testing.T) {
	n := openNode(t)
	r := prometheus.NewRegistry()
	if err := r.Register(newVolumeMetrics(n.blobs.Stats, n.clock.Now)); err != nil {
		t.Fatal(err)
	}
	blob, cookie, err := n.blobs.Reserve(t.Context(), volume.ClassVariants)
	if err != nil {
		t.Fatal(err)
	}
	group := []volume.Needle{{Key: blob, Cookie: cookie, Data: make([]byte, 10_000)}, {Key: blob, Alt: 1, Cookie: cookie, Data: make([]byte, 500)}}
	if err := n.blobs.Write(t.Context(), blob, group); err != nil {
		t.Fatal(err)
	}
	b, err := n.blobs.Read(t.Context(), blob, 0, cookie)
	if err != nil {
		t.Fatal(err)
	}
	b.Release()
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	shown := make(map[string]float64)
	for line := range strings.Lines(answer.Body.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			if shown[name], err = strconv.ParseFloat(value, 64); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
	}
	disk := fmt.Sprintf("{disk=%q", n.s.data[0])
	for _, c := range []struct {
		name     string
		from, to float64
	}{
		{"hayloft_volume_appended_bytes_total", 10_500, 20_000}, {"hayloft_volume_batches_total", 1, 1},
		{"hayloft_volume_syncs_total", 1, 1}, {"hayloft_volume_needles", 2, 2}, {"hayloft_blob_reads_total", 1, 1},
		{`hayloft_volumes{class="variants",state="open"}`, 1, 1},
		{"hayloft_volume_step_seconds_count" + disk + `,step="append"}`, 1, 1},
		{"hayloft_volume_step_seconds_count" + disk + `,step="sync"}`, 1, 1},
		{"hayloft_volume_step_seconds_bucket" + disk + `,step="sync",le="+Inf"}`, 1, 1},
		{"hayloft_volume_step_seconds_bucket" + disk + `,step="sync",le="1.073741824"}`, 1, 1},
		{"hayloft_volume_step_seconds_sum" + disk + `,step="sync"}`, 1e-7, 2},
		{"hayloft_volume_step_seconds_count" + disk + `,step="read"}`, 1, 2},
		{"hayloft_volume_batch_bytes_sum" + disk + "}", 10_500, 20_000}, {"hayloft_volume_batch_records_count" + disk + "}", 1, 1},
		{"hayloft_disk_free_bytes" + disk + "}", 1, 1e18}, {"hayloft_volume_poisoned" + disk + "}", 0, 0},
		{"hayloft_disk_suspect" + disk + "}", 0, 1}, {"hayloft_disk_out" + disk + "}", 0, 0}, {"hayloft_disk_outs_total" + disk + "}", 0, 0},
	} {
		if got, ok := shown[c.name]; !ok || got < c.from || got > c.to {
			t.Errorf("%s is %v (%v), want %v to %v", c.name, got, ok, c.from, c.to)
		}
	}
}

// logged is a node that logs into a buffer.
func logged() (*node, *bytes.Buffer) {
	out := &bytes.Buffer{}
	return &node{log: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})), metrics: newMetrics()}, out
}

// TestEveryVolumeEventHasALine goes through the kinds of both enumerations of
// the engine.
func TestEveryVolumeEventHasALine(t *testing.T) {
	kinds := 0
	for _, first := range []volume.EventKind{volume.EventRecovered, volume.EventFenced} {
		for k := first; !strings.HasPrefix(k.String(), "event-"); k++ {
			kinds++
			n, out := logged()
			n.blobEvent(server.Event{Kind: server.EventVolume, Dir: "/d", Volume: 7, Engine: volume.Event{
				Kind: k, Offset: 8192, Length: 11, Key: 5, Elapsed: time.Second, Err: errors.New("why"), Recovery: volume.Recovery{Walked: 77}}})
			line := out.String()
			if _, ok := engineLines[k]; !ok {
				t.Errorf("%v has no line", k)
			}
			for _, want := range []string{"dir=/d", "volume=7", "event=" + k.String(), "offset=8192", "length=11", "took=1s", "err=why"} {
				if !strings.Contains(line, want) {
					t.Errorf("%v: %q lacks %s", k, line, want)
				}
			}
			if damage := slices.Contains([]volume.EventKind{volume.EventRot, volume.EventCorruptRead, volume.EventPoisoned, volume.EventNoSpace,
				volume.EventSuperblock, volume.EventMarkerFailed}, k); damage != strings.Contains(line, "level=ERROR") {
				t.Errorf("%v is told with the wrong weight: %s", k, line)
			}
			if (k == volume.EventRecovered) != strings.Contains(line, "walked=77") {
				t.Errorf("%v: %s", k, line)
			}
		}
	}
	if kinds != len(engineLines) {
		t.Errorf("%d kinds of events, %d lines", kinds, len(engineLines))
	}
}

// TestEveryServerEventHasALine: whatever the server reports is logged.
func TestEveryServerEventHasALine(t *testing.T) {
	seen := make(map[string]bool)
	for k := server.EventVolumeSick; k <= server.EventKept; k++ {
		n, out := logged()
		n.blobEvent(server.Event{Kind: k, Dir: "/d", Volume: 7, File: "odd", Work: "sealing", Err: fmt.Errorf("why")})
		line := regexp.MustCompile(`msg=("[^"]*"|\S+)`).FindString(out.String())
		if line == "" || seen[line] {
			t.Errorf("event %d: %q", k, out)
		}
		seen[line] = true
	}
	n, out := logged()
	if n.blobEvent(server.Event{Kind: server.EventKept + 1}); out.Len() > 0 {
		t.Errorf("the last event is not EventKept: %s", out)
	}
}

// TestMetricsOfSomeRoles: a node that has no feed, no cache and no workers shows the
// figures of what it has. It answered 500.
func TestMetricsOfSomeRoles(t *testing.T) {
	n := openNode(t)
	f, g := n.feed, n.group
	n.feed, n.group = nil, nil
	defer func() { n.feed, n.group = f, g }()
	r := prometheus.NewRegistry()
	if err := n.register(r); err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if text := answer.Body.String(); answer.Code != http.StatusOK || !strings.Contains(text, "hayloft_metadata_mirrors 1") || strings.Contains(text, "hayloft_cache") {
		t.Errorf("%d %s", answer.Code, text)
	}
}
