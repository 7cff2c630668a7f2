package disk

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hayloft/bench"
	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/bench/raw"
	"hayloft/internal/id"
	"hayloft/volume"
)

// writerEnv makes the test binary the writer that Run kills.
const writerEnv = "HAYLOFT_BENCH_WRITER"

func TestMain(m *testing.M) {
	if os.Getenv(writerEnv) == "" {
		os.Exit(m.Run())
	}
	o := WriterOptions{Out: os.Stdout}
	flags := flag.NewFlagSet("writer", flag.ExitOnError)
	flags.StringVar(&o.Dir, "dir", "", "")
	flags.IntVar(&o.From, "from", 0, "")
	flags.IntVar(&o.Size, "size", 0, "")
	if err := errors.Join(flags.Parse(os.Args[1:]), Writer(context.Background(), o)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// testWriter is the command of the writer. The test that calls it does not run
// beside others.
func testWriter(t *testing.T) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(writerEnv, "1")
	return []string{self}
}

// tiny are options that go down every road within a few seconds.
func tiny(dirs ...string) Options {
	return Options{
		Dirs: dirs, Rounds: 1, Slice: 20 * time.Millisecond, Bytes: minBytes, Needles: 5000, ReadCount: 20,
		Sealed: 2000, Writer: []string{"nobody"},
	}
}

// TestRun checks that the report has the names that docs and scripts go by,
// that something was measured under each, and that nothing is left on disk.
func TestRun(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	o := tiny(slices.Clone(dirs)...)
	o.Writer = testWriter(t)
	o.Fio = func(context.Context, ...string) ([]byte, error) {
		return []byte(`{"jobs":[{"error":0,"read":{"iops":1000,"clat_ns":{"percentile":{"50.000000":250000}}}}]}`), nil
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Errors(); n != 0 {
		t.Errorf("%d errors", n)
	}
	for _, name := range []string{
		"read_64k_throughput_r16", "read_64k_latency_r1", "read_200k_throughput_r16", "write_64k_throughput_w16",
		"write_200k_throughput_w16", "multiwrite_x16_over_x1_w1", "multiwrite_x4_over_x1_w1", "read_8k_64k_throughput_r16",
		"mix_98_2_throughput_c16", "mix_96_4_throughput_c16", "read_64k_payload_r16", "raw_over_fio_r16",
		"read_64k_r16_sum", "write_64k_w16_sum", "read_p99_beside_writes", "read_p99_beside_compaction", "read_p99_beside_compaction_full_rate",
		"rebuild_throughput",
	} {
		if r.Ratios[name] <= 0 {
			t.Errorf("ratio %s is %v", name, r.Ratios[name])
		}
	}
	for _, name := range []string{
		"preads_per_read", "index_bytes_per_needle_open", "restart_seconds_5k", "restart_seconds_5k_killed",
		"index_bytes_per_needle_open_peak", "index_bytes_per_needle_sealed_group", "index_bytes_per_needle_sealed_lone",
		"rebuild_bytes_per_s", "rebuild_bytes_per_s_small_5k", "read_p99_beside_compaction_raw_load",
		"needles_identical", "read_64k_r16_engine_disk2", "read_64k_r16_raw_sum",
	} {
		if find(t, r, name).Value <= 0 {
			t.Errorf("result %s is not above 0", name)
		}
	}
	for _, name := range []string{"preads_per_read", "preads_per_read_sealed_group_in_place", "preads_per_read_sealed_group_compacted",
		"preads_per_read_sealed_lone_in_place", "preads_per_read_sealed_lone_compacted"} {
		if got := find(t, r, name).Value; got < 1 || got > 1.02 {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, dir := range dirs {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 0 {
			t.Errorf("%s holds %v afterwards (%v)", dir, left, err)
		}
	}
	if _, err := json.Marshal(r); err != nil { // no infinite ratio
		t.Error(err)
	}
	checkReport(t, r)
}

// checkReport checks that the report's files have everything in it and that the
// pictures are XML whose bars lie inside them.
func checkReport(t *testing.T, r *bench.Report) {
	t.Helper()
	dir := t.TempDir()
	if err := r.WriteDir(dir); err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile(filepath.Join(dir, "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"durability:", "cache state:", "warm-up:", "data set:", "| read_64k_payload_r16 |"} {
		if !strings.Contains(string(md), want) {
			t.Errorf("report.md has no %q", want)
		}
	}
	for name, label := range map[string]string{"latency.svg": "read_p99_beside_writes_engine", "ratios.svg": "read_64k_throughput_r16"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), ">"+label+"<") {
			t.Errorf("%s has no label %s", name, label)
		}
		var picture struct {
			Width float64 `xml:"width,attr"`
			Rect  []struct {
				X     float64 `xml:"x,attr"`
				Width string  `xml:"width,attr"`
			} `xml:"rect"`
		}
		if err := xml.Unmarshal(text, &picture); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, bar := range picture.Rect[1:] { // behind the background
			w, err := strconv.ParseFloat(bar.Width, 64)
			if err != nil || !(w >= 0) || bar.X+w > picture.Width {
				t.Errorf("%s has a bar from %v of width %s in a picture of %v", name, bar.X, bar.Width, picture.Width)
			}
		}
	}
}

func find(t *testing.T, r *bench.Report, name string) bench.Result {
	t.Helper()
	i := slices.IndexFunc(r.Results, func(x bench.Result) bool { return x.Name == name })
	if i < 0 {
		t.Fatalf("no result %s", name)
	}
	return r.Results[i]
}

// TestEndsEarly checks that a benchmark that is called off says so and cleans
// up.
func TestEndsEarly(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	o := tiny(dir)
	o.Progress = func(string) { cancel() }
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func testLibrary(t *testing.T) *library.Library {
	t.Helper()
	lib, err := library.Build(t.Context(), t.TempDir(), minBytes, mix7030)
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

// TestErrorsAreCounted damages needles on disk and checks that each read of
// one is an error and no throughput.
func TestErrorsAreCounted(t *testing.T) {
	lib := testLibrary(t)
	f, err := os.OpenFile(lib.File, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for i := 0; i < len(lib.Needles); i += 3 {
		if _, err := f.WriteAt([]byte{0xff, 0, 0xff}, lib.Needles[i].Off+2000); err != nil {
			t.Fatal(err)
		}
		damaged++
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := openReaders(lib, raw.PageSize, 1, volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close() //nolint:errcheck // read only
	r.Perm = r.Perm[:0]
	for i := range lib.Needles {
		r.Perm = append(r.Perm, i)
	}
	a := r.engine("damaged", 4)
	c := contest.Contest{Rounds: 1, Slice: time.Hour, Arms: []*contest.Arm{a}}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	res := a.Results("1/s", 1)
	if res[0].Errors != damaged || res[0].N != len(lib.Needles)-damaged {
		t.Errorf("%d needles read and %d errors, of %d with %d damaged", res[0].N, res[0].Errors, len(lib.Needles), damaged)
	}
	if a.All.Err() == nil || !errors.Is(a.All.Err(), volume.ErrCorrupt) {
		t.Errorf("the error is %v", a.All.Err())
	}
	_, wrong, err := r.Verify(t.Context(), r.v, len(lib.Needles))
	if wrong != damaged || err == nil {
		t.Errorf("verify found %d of %d damaged needles (%v)", wrong, damaged, err)
	}
}

// TestMethods writes with every method and reads back what a log holds.
func TestMethods(t *testing.T) {
	for _, m := range methods {
		t.Run(m.name, func(t *testing.T) {
			l, err := newLog(t.TempDir()+"/log", m, 0, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			buf, err := raw.AlignedBuf(512 * kib)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.FreeBuf(buf)
			want := []byte{}
			for i, n := range []int{4096, 65600, 200000, 1 << 18} {
				for j := range buf {
					buf[j] = byte(i + j)
				}
				if err := l.append(buf, n); err != nil {
					t.Fatal(err)
				}
				want = append(want, buf[:raw.Cover(0, int64(n), l.align).Len]...)
			}
			got, err := os.ReadFile(l.f.Name())
			if err != nil {
				t.Fatal(err)
			}
			if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
				t.Errorf("the file's %d bytes are not the %d that were written", len(got), len(want))
			}
			if err := l.close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFioReport(t *testing.T) {
	for _, text := range []string{"", "{}", `{"jobs":[]}`, `{"jobs":[{"error":5,"read":{"iops":3}}]}`, `{"jobs":[{"read":{"iops":0}}]}`} {
		if _, _, err := parseFio([]byte(text)); err == nil {
			t.Errorf("took %q for a report", text)
		}
	}
}

func TestOptions(t *testing.T) {
	w := []string{"x"}
	for _, o := range []Options{{}, {Dirs: w}, {Dirs: w, Writer: w, Rounds: -1}, {Dirs: w, Writer: w, Bytes: 5}, {Dirs: w, Writer: w, Sealed: -1}} {
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("ran with %+v", o)
		}
	}
}

func TestMethodsReport(t *testing.T) {
	o := tiny(t.TempDir())
	o.Slice = 2 * time.Millisecond
	r, err := Methods(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if want := 3 * (5*len(methods) + 6*len(readMethodsAll)); len(r.Results) != want || r.Errors() != 0 {
		t.Errorf("%d results, want %d; %d errors", len(r.Results), want, r.Errors())
	}
}

// TestMapped checks that memory outside the heap is seen, and that the heap and
// the program are not.
func TestMapped(t *testing.T) {
	const size = 64 << 20
	before := mapped()
	outside, err := raw.AlignedBuf(size)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.FreeBuf(outside)
	for i := 0; i < size; i += raw.PageSize {
		outside[i] = 1
	}
	if got := mapped() - before; got < size*7/8 || got > size*9/8 {
		t.Errorf("%d bytes mapped are seen as %d", size, got)
	}
	const smaps = `00400000-00669000 r-xp 00000000 fe:00 10002458   /bin/prog
Rss:                1000 kB
1fe048000000-1fe04a400000 rw-p 00000000 00:00 0
Size:              36864 kB
Rss:                2000 kB
7fd8e0000000-7fd8e0021000 rw-p 00000000 00:00 0
Rss:                   4 kB
7fd8e8000000-7fd8e8021000 r--s 00000000 fe:00 77   /data/index
Rss:                   8 kB
7fd949255000-7fd949257000 r-xp 00000000 00:00 0    [vdso]
Rss:                  16 kB
`
	if got := sumMapped(smaps, "/bin/prog", 0x1fe048123456); got != 12*kib {
		t.Errorf("counted %d bytes, want %d", got, 12*kib)
	}
}

// TestCached checks that pages are seen when they are there, and gone when they
// were dropped.
func TestCached(t *testing.T) {
	name := t.TempDir() + "/file"
	const size = 1<<20 + 1
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // read only from here
	if _, err := f.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if n, err := cached(name); err != nil || n != 1<<20+raw.PageSize {
		t.Errorf("%d bytes of a file just written are cached (%v)", n, err)
	}
	if err := raw.Evict(filepath.Dir(name)); err != nil {
		t.Fatal(err)
	}
	if n, err := cached(name); err != nil || n > 1<<19 {
		t.Errorf("%d bytes are cached after they were dropped (%v)", n, err)
	}
	if n, err := cached(name + "x"); n != 0 || err != nil {
		t.Errorf("a file that is not there: %d, %v", n, err)
	}
}

// TestPhotoKeys checks that keys ascend, never repeat, and come from eight
// slots.
func TestPhotoKeys(t *testing.T) {
	slots := map[id.Slot]bool{}
	last := id.ID(0)
	for i := range 10_000 {
		key := photoKey(i)
		if key <= last {
			t.Fatalf("key %d is %v, behind %v", i, key, last)
		}
		last = key
		slots[key.Slot()] = true
	}
	if len(slots) != 8 {
		t.Errorf("%d slots", len(slots))
	}
}

// TestWriterEndsByItself: a writer that fails is an error, with what it said.
func TestWriterEndsByItself(t *testing.T) {
	for _, command := range [][]string{{"/nobody/is/here"}, {"false"}, {"echo"}} {
		if _, err := live(t.Context(), command, WriterOptions{Dir: t.TempDir(), Size: 100}, 0, 1000); err == nil {
			t.Errorf("%v was taken for a writer", command)
		}
	}
}

// TestReplay checks that a replay reads and writes what the recorder saw of the
// two files, and leaves nothing.
func TestReplay(t *testing.T) {
	lib := testLibrary(t)
	seen := raw.NewRecorder()
	if err := library.Seal(t.Context(), lib.Dir); err != nil {
		t.Fatal(err)
	}
	asked, err := compactOnce(t.Context(), lib.Dir, volume.Options{FS: seen}, nil)
	if err != nil {
		t.Fatal(err)
	}
	scratch := filepath.Join(lib.Dir, "replay")
	r, err := newReplay(seen.Ops, lib.File, scratch, &contest.Pacer{Rate: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	n, err := r.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n < asked*3/4 || n > asked*3/2 || n < 2*lib.Bytes {
		t.Errorf("replayed %d bytes, the throttle was asked for %d", n, asked)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(scratch); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the scratch file is left: %v", err)
	}
}
