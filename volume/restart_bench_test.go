package volume

import (
	"os"
	"strconv"
	"testing"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// BenchmarkRestart opens a volume of HAYLOFT_RESTART needles (100,000) in
// groups of four, with nothing in the page cache: after a clean stop, after a
// kill when some 60 MB follow the last checkpoint, and without checkpoint.
func BenchmarkRestart(b *testing.B) {
	const tail = 60 << 20
	n := 100_000
	if s := os.Getenv("HAYLOFT_RESTART"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	v, err := Create(dir, testIdent, Options{MaxBytes: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 1000)
	group := make([]Needle, 320)
	var behind snapshot // the checkpoint that a kill leaves
	for i := 0; i < n; i += len(group) {
		if left := int64(n-i) * 700; left < tail && behind.covers == 0 {
			behind = v.snapshot()
		}
		for j := range group {
			k := i + j
			group[j] = Needle{Key: id.Make(id.Millis(1e6+k/4*13), id.Slot(k/4%8), 0), Alt: uint8(k % 4), Cookie: 1, Data: data[:200+k%800]}
		}
		mustAppend(b, v, group...)
	}
	stop := func(v *Volume, clean bool) {
		if !clean {
			if _, err := v.writeCheckpoint(behind); err != nil {
				b.Fatal(err)
			}
			v.checkpoints.covered.Store(v.writer.end)
		}
		closeVolume(b, v)
		for _, name := range []string{v.name, v.checkpointPath()} {
			f, err := vfs.OS{}.Open(name)
			if err != nil {
				continue
			}
			if err := f.Evict(0, 0); err != nil {
				b.Fatal(err)
			}
			_ = f.Close()
		}
	}
	open := func(b *testing.B, clean bool) {
		for b.Loop() {
			b.StopTimer()
			stop(v, clean)
			b.StartTimer()
			began := time.Now()
			if v, err = Open(dir, testIdent.Volume, Options{MaxBytes: 1 << 40}); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(time.Since(began).Seconds(), "s")
		}
		s := v.Stats()
		b.ReportMetric(float64(s.IndexBytes)/float64(s.Needles), "B/needle")
		b.ReportMetric(float64(s.FileBytes-s.CheckpointEnd), "tail-B")
	}
	b.Run("killed", func(b *testing.B) { open(b, false) })
	b.Run("clean", func(b *testing.B) { open(b, true) })
	b.Run("no checkpoint", func(b *testing.B) {
		stop(v, true)
		if err := os.Remove(v.checkpointPath()); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if v, err = Open(dir, testIdent.Volume, Options{MaxBytes: 1 << 40}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s")
		b.ReportMetric(float64(v.Stats().FileBytes)/time.Since(began).Seconds()/1e6, "MB/s")
	})
	closeVolume(b, v)
}
