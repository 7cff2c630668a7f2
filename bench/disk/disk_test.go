package disk

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"hayloft/bench"
	"hayloft/volume"
)

// tiny are options that go down every road within a few seconds.
func tiny(dirs ...string) Options {
	return Options{
		Dirs: dirs, Rounds: 1, Slice: 20 * time.Millisecond, Bytes: minBytes, Needles: 2000, ReadCount: 20,
	}
}

// TestRun checks that the report has the names that docs and scripts go by,
// that something was measured under each, and that nothing is left on disk.
func TestRun(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	o := tiny(slices.Clone(dirs)...)
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
		"read_64k_r16_sum", "write_64k_w16_sum",
	} {
		if r.Ratios[name] <= 0 {
			t.Errorf("ratio %s is %v", name, r.Ratios[name])
		}
	}
	for _, name := range []string{
		"preads_per_read", "index_bytes_per_needle_open", "restart_seconds_2k", "restart_seconds_2k_killed",
		"needles_identical", "read_64k_r16_engine_disk2", "read_64k_r16_raw_sum",
	} {
		if find(t, r, name).Value <= 0 {
			t.Errorf("result %s is not above 0", name)
		}
	}
	if got := find(t, r, "preads_per_read").Value; got < 1 || got > 2 {
		t.Errorf("%v reads per needle", got)
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

func testLibrary(t *testing.T) *library {
	t.Helper()
	lib, err := buildLibrary(t.Context(), t.TempDir(), minBytes, mix7030)
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

// TestErrorsAreCounted damages needles on disk and checks that each read of
// one is an error and no throughput.
func TestErrorsAreCounted(t *testing.T) {
	lib := testLibrary(t)
	f, err := os.OpenFile(lib.file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for i := 0; i < len(lib.needles); i += 3 {
		if _, err := f.WriteAt([]byte{0xff, 0, 0xff}, lib.needles[i].off+2000); err != nil {
			t.Fatal(err)
		}
		damaged++
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := openReaders(lib, pageSize, 1, volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close() //nolint:errcheck // read only
	r.perm = r.perm[:0]
	for i := range lib.needles {
		r.perm = append(r.perm, i)
	}
	a := r.engine("damaged", 4)
	c := contest{rounds: 1, slice: time.Hour, arms: []*arm{a}}
	if err := c.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	res := a.results("1/s", 1)
	if res[0].Errors != damaged || res[0].N != len(lib.needles)-damaged {
		t.Errorf("%d needles read and %d errors, of %d with %d damaged", res[0].N, res[0].Errors, len(lib.needles), damaged)
	}
	if a.all.Err() == nil || !errors.Is(a.all.Err(), volume.ErrCorrupt) {
		t.Errorf("the error is %v", a.all.Err())
	}
	_, wrong, err := r.verify(t.Context(), len(lib.needles))
	if wrong != damaged || err == nil {
		t.Errorf("verify found %d of %d damaged needles (%v)", wrong, damaged, err)
	}
}

// TestDataIsVerified checks that both comparisons notice what an engine that
// mixes needles up would hand out.
func TestDataIsVerified(t *testing.T) {
	buf := make([]byte, len(noise))
	made := makeNeedle(buf, 5, 8*kib)
	n := needle{key: made.Key, size: 8 * kib}
	good := volume.Blob{Data: made.Data, ETag: etag(made.Data)}
	scratch := make([]byte, len(noise))
	if err := errors.Join(checkFast(&n, good), checkAll(&n, good, scratch)); err != nil {
		t.Fatal(err)
	}
	other := makeNeedle(make([]byte, len(noise)), 6, 8*kib)
	flipped := slices.Clone(made.Data)
	flipped[5000] ^= 1
	for name, b := range map[string]volume.Blob{
		"another needle": {Data: other.Data, ETag: etag(other.Data)},
		"cut off":        {Data: made.Data[:4096], ETag: good.ETag},
		"a flipped bit":  {Data: flipped, ETag: etag(flipped)},
		"a wrong ETag":   {Data: made.Data, ETag: good.ETag + 1},
	} {
		if !errors.Is(checkAll(&n, b, scratch), errWrongData) {
			t.Errorf("%s passes the full comparison", name)
		}
	}
	n.etag = good.ETag
	for name, b := range map[string]volume.Blob{
		"another needle": {Data: other.Data, ETag: etag(other.Data)},
		"cut off":        {Data: made.Data[:4096], ETag: good.ETag},
		"a flipped bit":  {Data: flipped, ETag: etag(flipped)},
	} {
		if !errors.Is(checkFast(&n, b), errWrongData) {
			t.Errorf("%s passes the quick comparison", name)
		}
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
			buf, err := alignedBuf(512 * kib)
			if err != nil {
				t.Fatal(err)
			}
			defer freeBuf(buf)
			want := []byte{}
			for i, n := range []int{4096, 65600, 200000, 1 << 18} {
				for j := range buf {
					buf[j] = byte(i + j)
				}
				if err := l.append(buf, n); err != nil {
					t.Fatal(err)
				}
				want = append(want, buf[:cover(0, int64(n), l.align).len]...)
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

func TestCover(t *testing.T) {
	for _, c := range []struct{ off, n, align, from, len int64 }{
		{8192, 65600, 512, 8192, 66048}, {8200, 65600, 512, 8192, 66048}, {73792, 65600, 4096, 73728, 69632}, {5, 10, 1, 5, 10},
	} {
		if e := cover(c.off, c.n, c.align); e.off != c.from || int64(e.len) != c.len {
			t.Errorf("cover(%d, %d, %d) = %v", c.off, c.n, c.align, e)
		}
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
	for _, o := range []Options{{}, {Dirs: []string{"x"}, Rounds: -1}, {Dirs: []string{"x"}, Bytes: 5}} {
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
	outside, err := alignedBuf(size)
	if err != nil {
		t.Fatal(err)
	}
	defer freeBuf(outside)
	for i := 0; i < size; i += pageSize {
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
