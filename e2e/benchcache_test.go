package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"hayloft/bench"
	"hayloft/internal/testenv"
)

// TestBenchCache runs the benchmark of the cache as a person would: what misses
// in small, and in make soak also a server's hits beside others.
func TestBenchCache(t *testing.T) {
	parts := "miss"
	if n := testenv.Times("HAYLOFT_BENCH_HITS", 0); n > 0 {
		if _, err := exec.LookPath("wrk"); err != nil {
			t.Fatal(err)
		}
		parts += ",hits"
	}
	dir := t.TempDir()
	report := filepath.Join(dir, "report.json")
	out, log, code := run(t, "bench", "cache", "--dir", dir, "--part", parts, "--requests", "50000", "--rounds", "1", "--photos", "2",
		"--json", report, "--report", filepath.Join(dir, "report"))
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out, log)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var r bench.Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, res := range r.Results {
		got[res.Name] = res.Value
	}
	if !(got["miss_s3fifo_1pct"] > 0.1 && got["miss_s3fifo_1pct"] < got["miss_lru_1pct"] && got["miss_lru_1pct"] < 1) {
		t.Errorf("S3-FIFO misses %v, LRU %v", got["miss_s3fifo_1pct"], got["miss_lru_1pct"])
	}
	if _, err := os.Stat(filepath.Join(dir, "report", "miss.svg")); err != nil {
		t.Error(err)
	}
	if parts == "miss" {
		return
	}
	for _, size := range []string{"10k", "64k", "200k"} {
		rate, cpu := got["hits_per_s_"+size], got["hit_cpu_s_"+size]
		if !(rate > 10 && cpu > 1e-6 && cpu < 1e-2) || !(r.Ratios["hit_cpu_"+size+"_over_fasthttp"] > 0.1) {
			t.Errorf("%s: %v hits/s, %v s each, %v of fasthttp", size, rate, cpu, r.Ratios)
		}
	}
	t.Log(r.Settings["hits"])
}
