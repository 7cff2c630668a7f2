package cache

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image/jpeg"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"hayloft/bench"
	"hayloft/internal/units"
)

// TestMain is also what the benchmark starts as a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || !strings.HasPrefix(os.Args[1], "bench-") {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	switch os.Args[1] {
	case "bench-bytes":
		err = ServeBytes(ctx, os.Args[3], os.Stdout)
	case "bench-cache-node":
		o := NodeOptions{Out: os.Stdout}
		switch os.Args[2] {
		case "--delay":
			o.Delay, err = time.ParseDuration(os.Args[3])
		case "--memory":
			var budget units.Size
			err = budget.Set(os.Args[3])
			o.Budget = int64(budget)
		}
		if err == nil {
			err = ServeCache(ctx, o)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// figures are a report's results and ratios by name.
func figures(t *testing.T, r *bench.Report, err error) map[string]float64 {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Errors(); n > 0 {
		t.Errorf("%d errors", n)
	}
	out := map[string]float64{}
	for _, res := range r.Results {
		if _, twice := out[res.Name]; twice {
			t.Errorf("%s is there twice", res.Name)
		}
		out[res.Name] = res.Value
	}
	for k, v := range r.Ratios {
		out[k] = v
	}
	return out
}

// TestTraceFiles replays one trace from a CSV and an oracleGeneral file, in which
// it is known what a cache of nine objects misses.
func TestTraceFiles(t *testing.T) {
	dir := t.TempDir()
	var csv, oracle bytes.Buffer
	n := 0
	add := func(id uint64) {
		fmt.Fprintf(&csv, "%d,%d,1000\n", n/10, id)
		oracle.Write(binary.LittleEndian.AppendUint32(nil, uint32(n/10)))
		oracle.Write(binary.LittleEndian.AppendUint64(nil, id))
		oracle.Write(binary.LittleEndian.AppendUint32(nil, 1000))
		oracle.Write(make([]byte, 8))
		n++
	}
	for i := range uint64(990) { // a scan, and five that are asked for all the time
		add(100 + i)
		add(i % 5)
	}
	packed, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"csv": csv.Bytes(), "oracle": oracle.Bytes(), "oracle.zst": packed.EncodeAll(oracle.Bytes(), nil)} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := Run(context.Background(), Options{Dir: dir, Trace: file, Format: strings.TrimSuffix(name, ".zst"), Parts: []string{PartMiss}})
		got := figures(t, r, err)
		// A cache of nine finds none of the five again but with S3-FIFO: between two
		// requests for one of them lie four others and five of the scan.
		for figure, want := range map[string]float64{
			"miss_compulsory": 995.0 / 1980, "miss_fifo_1pct": 1, "miss_lru_1pct": 1, "miss_lru_10pct": 995.0 / 1980,
		} {
			if math.Abs(got[figure]-want) > 1e-9 {
				t.Errorf("%s: %s is %v, want %v", name, figure, got[figure], want)
			}
		}
		if got["miss_s3fifo_1pct"] >= 1 || got["miss_s3fifo_1pct_over_lru"] >= 1 || got["byte_miss_lru_10pct"] != got["miss_lru_10pct_of_bytes"] {
			t.Errorf("%s: %v", name, got)
		}
		report := filepath.Join(dir, name+"-report")
		if err := r.WriteDir(report); err != nil {
			t.Fatal(err)
		}
		for _, plot := range []string{"miss.svg", "byte-miss.svg"} {
			svg, err := os.ReadFile(filepath.Join(report, plot))
			if err != nil || strings.Count(string(svg), "<polyline") != 5 || strings.Contains(string(svg), "NaN") {
				t.Errorf("%s: %v\n%s", plot, err, svg)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bad"), []byte("1,2,3\n1,2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), Options{Dir: dir, Trace: filepath.Join(dir, "bad"), Format: "csv", Parts: []string{PartMiss}}); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a broken trace: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "hayloft-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestS3FIFOBeatsLRU is the bar of the generated trace at a hundredth of the objects.
func TestS3FIFOBeatsLRU(t *testing.T) {
	r, err := Run(context.Background(), Options{Dir: t.TempDir(), Requests: 200_000, Parts: []string{PartMiss}})
	got := figures(t, r, err)
	for _, name := range []string{"miss_s3fifo_1pct_over_lru", "miss_s3fifo_1pct_of_bytes_over_lru", "byte_miss_s3fifo_1pct_over_lru"} {
		if v := got[name]; !(v > 0.5 && v <= 0.9) {
			t.Errorf("%s is %v", name, v)
		}
	}
}

// TestWaitersAndMemory runs both in small.
func TestWaitersAndMemory(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(context.Background(), Options{Binary: self, Dir: t.TempDir(), Waiters: 40, Day: 3000, Budget: 32 << 20, Parts: []string{PartWaiters, PartMemory}})
	got := figures(t, r, err)
	if got["cold_waiters_upstream_reads"] != 1 || got["cold_waiters_p99"] < originDelay.Seconds() || got["cold_waiters_p99"] > 10 {
		t.Errorf("%v", got)
	}
	if v := got["rss_peak_over_budget"]; !(v > 0.5 && v < 20) || got["rss_peak"] < 10<<20 {
		t.Errorf("%v", got)
	}
}

func TestBareServer(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "media"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "media", "a.jpg"), []byte("body"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := &run{Options: Options{Binary: self}}
	s, err := b.startOwn("fasthttp", "bench-bytes", "--dir", dir)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/media/a.jpg": 200, "/media/b.jpg": 404} {
		res, err := http.Get(s.base + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if rss, err := statusBytes(s.pid, "VmRSS"); err != nil || rss < 1<<20 {
		t.Errorf("%d bytes, %v", rss, err)
	}
	if _, err := cpuOf(s.pid); err != nil {
		t.Error(err)
	}
	s.stop()
	if _, err := cpuOf(s.pid); err == nil {
		t.Error("it did not stop")
	}
}

// TestOtherServers starts everything that hits are compared with and asks each for
// the same bytes. Make test installs memcached; the others are tried where they are.
func TestOtherServers(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	www := filepath.Join(dir, "www")
	paths := make([][]string, len(weights))
	for w := range weights {
		paths[w] = []string{"/media/original/" + weights[w].name + ".jpg"}
		name := filepath.Join(www, filepath.FromSlash(paths[w][0]))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, bytes.Repeat([]byte{byte(w)}, weights[w].bytes), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := &run{Options: Options{Binary: self, Photos: 1, Rounds: 1, Slice: time.Second}, dir: dir, report: &bench.Report{Settings: map[string]string{}}}
	servers, err := b.startServers(t.Context(), www, paths, &server{name: "own", stop: func() {}})
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	if s := b.report.Settings["hits"]; strings.Contains(s, "?") || strings.Contains(s, "%") {
		t.Errorf("a version is not known: %s", s)
	}
	for _, s := range servers[1:] {
		for w := range weights {
			var l load
			if s.drive != nil {
				l, err = s.drive(t.Context(), w, 20*time.Millisecond)
			} else {
				l, err = getOnce(s.base + paths[w][0])
			}
			if err != nil || l.requests < 1 || l.errors != 0 || l.bytes != l.requests*float64(weights[w].bytes) {
				t.Errorf("%s, %s: %+v, %v", s.name, weights[w].name, l, err)
			}
		}
	}
}

func getOnce(url string) (load, error) {
	res, err := http.Get(url)
	if err != nil {
		return load{}, err
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	return load{requests: 1, bytes: float64(n)}, err
}

// TestKeyValueAnswers reads what no value is.
func TestKeyValueAnswers(t *testing.T) {
	for answer, p := range map[string]protocol{
		"END\r\n": memcachedText, "SERVER_ERROR out of memory\r\n": memcachedText, "VALUE a 0 x\r\n": memcachedText,
		"$-1\r\n": redisText, "-ERR no 3\r\n": redisText, "$5\r\nab": redisText,
	} {
		k := &kvConn{p: p, r: bufio.NewReader(strings.NewReader(answer)), w: bufio.NewWriter(io.Discard)}
		if n, err := k.get("a"); err == nil {
			t.Errorf("%q is a value of %d bytes", answer, n)
		}
		k.r.Reset(strings.NewReader(answer))
		if err := k.set("a", nil); err == nil {
			t.Errorf("%q says that a value is stored", answer)
		}
	}
}

func TestPictures(t *testing.T) {
	for _, w := range weights {
		one, err := picture(w.bytes, 1)
		if err != nil {
			t.Fatal(err)
		}
		if off := math.Abs(float64(len(one))/float64(w.bytes) - 1); off > 0.03 {
			t.Errorf("%s: %d bytes, %.3f off", w.name, len(one), off)
		}
		if _, err := jpeg.Decode(bytes.NewReader(one)); err != nil {
			t.Error(err)
		}
		if two, err := picture(w.bytes, 2); err != nil || bytes.Equal(one, two) {
			t.Errorf("%s: two seeds, one picture (%v)", w.name, err)
		}
	}
}

func TestReadWrk(t *testing.T) {
	l, err := readWrk("Running 2s test\n  Requests/sec: 5\nRESULT 1000 2000000 64000 3 1500 9000\n")
	if want := (load{1000, 64000, 3, 2 * time.Second, 0.0015, 0.009}); err != nil || l != want {
		t.Errorf("%+v, %v", l, err)
	}
	for _, bad := range []string{"", "RESULT 1 2 3\n", "RESULT a 1 1 1 1 1\n"} {
		if _, err := readWrk(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestOptionsFaults(t *testing.T) {
	err := Options{Parts: []string{"x"}, Format: "y", Rounds: -1}.Validate()
	if err == nil || len(err.(interface{ Unwrap() []error }).Unwrap()) != 3 {
		t.Errorf("%v", err)
	}
	if err := (Options{Trace: "file"}).Validate(); err == nil {
		t.Error("a trace without a format")
	}
}
