package timeline

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/internal/id"
)

// The numbers in docs/decisions/040 come from
//
//	go test ./feed/timeline -run '^$' -bench . -benchtime 20000000x   (fan-out, formats)
//	go test ./feed/timeline -run '^$' -bench Page

const (
	benchReaders   = 100_000
	benchFollowers = 500 // per post
	benchCap       = 500
)

// benchSource is a graph without people: author a has benchFollowers followers
// spread over all readers, and a reader's followees are computed backwards.
type benchSource struct {
	Source
	posts  uint64 // committed events: post n has Seq n
	author func(n uint64) id.ID
}

const benchAuthors = 20_000

func benchReader(i uint64) id.ID { return id.ID(i+1) << 24 }

// step spreads an author's followers evenly: readers (a + k·step) mod all.
const benchStep = benchReaders / benchFollowers

func (b *benchSource) event(n uint64) Event {
	// Four posts a second; slot and sequence as one writer makes them.
	pos := id.Make(id.Millis(1_000_000_000+n*250), 7, 0)
	return Event{Seq: n, Kind: Published, Post: Post{Pos: pos, Photo: pos - id.ID(3<<23), Author: b.author(n)}}
}

func (b *benchSource) Snapshot() Snapshot { return &benchSnapshot{b: b, last: b.posts} }

type benchSnapshot struct {
	Snapshot
	b    *benchSource
	last uint64
}

func (s *benchSnapshot) LastSeq() (uint64, error) { return s.last, nil }
func (s *benchSnapshot) Close() error             { return nil }

func (s *benchSnapshot) Events(after uint64, limit int) ([]Event, uint64, error) {
	var out []Event
	for n := after + 1; n <= s.last && len(out) < limit; n++ {
		out = append(out, s.b.event(n))
	}
	return out, 1, nil
}

func (s *benchSnapshot) Followers(dst []id.ID, author, after id.ID, limit int) ([]id.ID, error) {
	first := uint64(author) % benchStep
	for k := range uint64(benchFollowers) {
		if r := benchReader(first + k*benchStep); r > after && len(dst) < limit {
			dst = append(dst, r)
		}
	}
	return dst, nil
}

func (s *benchSnapshot) Followees(reader id.ID) ([]id.ID, error) {
	i := uint64(reader)>>24 - 1
	var out []id.ID
	for a := i % benchStep; a < benchAuthors; a += benchStep {
		out = append(out, id.ID(a+benchStep)) // never zero
	}
	return out, nil
}

func (s *benchSnapshot) Posts(dst []Post, _, _ id.ID, _ int) ([]Post, error) { return dst, nil }
func (s *benchSnapshot) HasPull(id.ID) (bool, error)                         { return false, nil }

// benchStore opens a Store in which every reader has a full timeline.
func benchStore(b *testing.B) (*Store, *benchSource) {
	rng := rand.New(rand.NewPCG(1, 2))
	authors := make([]id.ID, 1<<20)
	for i := range authors {
		authors[i] = id.ID(rng.Uint64N(benchAuthors) + benchStep)
	}
	src := &benchSource{author: func(n uint64) id.ID { return authors[n%uint64(len(authors))] }}
	src.posts = benchReaders / benchFollowers * benchCap // the prefill, on average
	s, err := Open(Options{Dirs: []string{b.TempDir()}, Source: src, Cap: benchCap})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	prefill(b, s, src)
	return s, src
}

// prefill gives reader i the last benchCap posts of those it follows.
func prefill(b *testing.B, s *Store, src *benchSource) {
	step := func() {
		if worked, err := s.step(); err != nil || !worked {
			b.Fatal(worked, err)
		}
	}
	step() // the cursor
	byStep := make([][]id.ID, benchStep)
	for n := src.posts; n > 0; n-- {
		e := src.event(n)
		k := uint64(e.Post.Author) % benchStep
		if len(byStep[k]) < benchCap {
			byStep[k] = append(byStep[k], e.Post.Pos)
		}
		if err := s.in.db.Set(key8(keyPost, uint64(e.Post.Pos)), encodePost(e.Post), pebble.NoSync); err != nil {
			b.Fatal(err)
		}
	}
	for i := range uint64(benchReaders) {
		r := benchReader(i)
		pos := byStep[i%benchStep]
		v := appendRun(nil, run{base: true, floor: pos[len(pos)-1], pos: pos})
		if err := s.in.db.Set(key8(keyTimeline, uint64(r)), v, pebble.NoSync); err != nil {
			b.Fatal(err)
		}
		s.readers[r] = s.now()
	}
	if err := s.in.db.Flush(); err != nil {
		b.Fatal(err)
	}
	settle(b, s.in.db)
}

// settle waits until compactions have rested for a while. What Pebble calls
// debt need not become zero: a few small files at the top do not start one.
func settle(_ *testing.B, db *pebble.DB) {
	for quiet := 0; quiet < 10; quiet++ {
		if db.Metrics().Compact.NumInProgress != 0 {
			quiet = 0
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// written is how many bytes flushes and compactions have written.
func written(db *pebble.DB) float64 {
	t := db.Metrics().Total()
	return float64(t.TableBytesCompacted + t.TableBytesFlushed + t.BlobBytesCompacted + t.BlobBytesFlushed)
}

// BenchmarkFanout delivers b.N entries, 500 per post, into full timelines, and
// waits for what compaction owes.
func BenchmarkFanout(b *testing.B) {
	s, src := benchStore(b)
	posts := uint64(max(1, b.N/benchFollowers))
	b.ResetTimer()
	start := time.Now()
	src.posts += posts
	for {
		worked, err := s.step()
		if err != nil {
			b.Fatal(err)
		}
		if err := s.w.flush(); err != nil {
			b.Fatal(err)
		}
		if !worked {
			break
		}
	}
	if err := s.in.db.Flush(); err != nil {
		b.Fatal(err)
	}
	wrote := time.Since(start)
	debt := s.in.db.Metrics().Compact.EstimatedDebt
	settle(b, s.in.db)
	all := time.Since(start)
	b.StopTimer()
	n := float64(s.counters.deliveries.Load())
	b.ReportMetric(n/wrote.Seconds(), "deliveries/s")
	b.ReportMetric(n/all.Seconds(), "settled/s")
	b.ReportMetric(float64(debt)/1e6, "debt-MB")
	b.ReportMetric(written(s.in.db)/n, "written-B/delivery")
	b.ReportMetric(0, "ns/op")
	b.Logf("%.0f deliveries, disk %d MB", n, s.in.db.Metrics().DiskSpaceUsage()>>20)
	if err := s.in.db.Compact(context.Background(), []byte{0}, []byte{255}, true); err != nil {
		b.Fatal(err)
	}
	settle(b, s.in.db)
	disk, err := s.in.db.EstimateDiskUsage([]byte{0}, []byte{255})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(disk)/(benchReaders*benchCap), "disk-B/entry")
}

// BenchmarkPage reads the newest 20 of a random reader.
func BenchmarkPage(b *testing.B) {
	s, _ := benchStore(b)
	all := func(_ []Post, show []bool) error {
		for i := range show {
			show[i] = true
		}
		return nil
	}
	rng := rand.New(rand.NewPCG(3, 4))
	b.ResetTimer()
	for range b.N {
		posts, _, err := s.Page(context.Background(), benchReader(rng.Uint64N(benchReaders)), 0, 20, all)
		if err != nil || len(posts) != 20 {
			b.Fatal(len(posts), err)
		}
	}
	if p := s.counters.pulledPages.Load(); p != 0 {
		b.Fatalf("%d pages were pulled", p)
	}
}

// BenchmarkFormats writes the same deliveries in three entry formats, straight
// to Pebble, without trimming for the two that need deletes for it.
func BenchmarkFormats(b *testing.B) {
	formats := []struct {
		name   string
		merger *pebble.Merger
		put    func(batch *pebble.Batch, r id.ID, p Post) error
	}{
		{"keys", nil, func(batch *pebble.Batch, r id.ID, p Post) error {
			op := batch.SetDeferred(17, 16)
			setKey8(op.Key, keyTimeline, uint64(r))
			binary.BigEndian.PutUint64(op.Key[9:], ^uint64(p.Pos))
			copy(op.Value, encodePost(p))
			return op.Finish()
		}},
		{"merged-24B", &pebble.Merger{Name: "append", Merge: pebble.DefaultMerger.Merge}, func(batch *pebble.Batch, r id.ID, p Post) error {
			op := batch.MergeDeferred(9, 24)
			setKey8(op.Key, keyTimeline, uint64(r))
			binary.BigEndian.PutUint64(op.Value, uint64(p.Pos))
			copy(op.Value[8:], encodePost(p))
			return op.Finish()
		}},
		{"merged-packed", newMerger(benchCap), func(batch *pebble.Batch, r id.ID, p Post) error {
			op := batch.MergeDeferred(9, 9)
			setKey8(op.Key, keyTimeline, uint64(r))
			putPush(op.Value, p.Pos)
			return op.Finish()
		}},
	}
	for _, wal := range []bool{false, true} {
		for _, f := range formats {
			b.Run(fmt.Sprintf("%s/wal=%v", f.name, wal), func(b *testing.B) {
				benchFormat(b, f.merger, wal, f.put)
			})
		}
	}
}

func benchFormat(b *testing.B, merger *pebble.Merger, wal bool, put func(*pebble.Batch, id.ID, Post) error) {
	s := &Store{o: Options{MemoryBytes: 64 << 20}.withDefaults(), merger: merger}
	s.places.init(vfs.Default, []string{"bench"})
	o := s.pebbleOptions(&instance{place: s.places.list()[0]})
	o.CacheSize, o.DisableWAL = 64<<20, !wal
	db, err := pebble.Open(b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	src := &benchSource{author: func(uint64) id.ID { return id.ID(rng.Uint64N(benchAuthors) + benchStep) }}
	snap := src.Snapshot()
	var followers []id.ID
	b.ResetTimer()
	start := time.Now()
	n := 0
	for post := uint64(1); n < b.N; post++ {
		e := src.event(post)
		followers, _ = snap.Followers(followers[:0], e.Post.Author, 0, benchFollowers)
		batch := db.NewBatch()
		for _, r := range followers {
			if err := put(batch, r, e.Post); err != nil {
				b.Fatal(err)
			}
		}
		if err := batch.Commit(pebble.NoSync); err != nil {
			b.Fatal(err)
		}
		n += len(followers)
	}
	if err := db.Flush(); err != nil {
		b.Fatal(err)
	}
	wrote := time.Since(start)
	settle(b, db)
	all := time.Since(start)
	b.StopTimer()
	b.ReportMetric(float64(n)/wrote.Seconds(), "deliveries/s")
	b.ReportMetric(float64(n)/all.Seconds(), "settled/s")
	b.ReportMetric(written(db)/float64(n), "written-B/delivery")
	b.ReportMetric(0, "ns/op")
	if err := db.Compact(context.Background(), []byte{0}, []byte{255}, true); err != nil {
		b.Fatal(err)
	}
	settle(b, db)
	disk, err := db.EstimateDiskUsage([]byte{0}, []byte{255})
	if err != nil {
		b.Fatal(err)
	}
	live := min(n, benchReaders*benchCap)
	b.ReportMetric(float64(disk)/float64(live), "disk-B/entry")
}
