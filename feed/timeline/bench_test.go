package timeline

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

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

// format is a way to keep entries.
type format struct {
	name   string
	merger *pebble.Merger
	post   bool // photo and author are in a row of the post's
	put    func(db *pebble.DB, batch *pebble.Batch, r id.ID, p Post) error
	page   func(it *pebble.Iterator, r id.ID) []id.ID // the newest 20
}

const (
	benchPage  = 20
	benchBlock = 64 // positions in a packed block
)

// BenchmarkFormats writes the same deliveries in four formats, straight to Pebble, and
// reads pages of them. Only the last one trims.
func BenchmarkFormats(b *testing.B) {
	formats := []format{
		{"keys", nil, false, putKey, pageOfKeys},
		{"blocks", nil, true, putBlock, pageOfBlocks},
		{"merged-24B", &pebble.Merger{Name: "append", Merge: pebble.DefaultMerger.Merge}, false, putWhole, pageOfWhole},
		{"merged-packed", newMerger(benchCap), true, putPacked, pageOfPacked},
	}
	for _, wal := range []bool{false, true} {
		for _, f := range formats {
			b.Run(fmt.Sprintf("%s/wal=%v", f.name, wal), func(b *testing.B) { benchFormat(b, f, wal) })
		}
	}
}

// putKey: (reader, ^pos) → photo, author.
func putKey(_ *pebble.DB, batch *pebble.Batch, r id.ID, p Post) error {
	op := batch.SetDeferred(17, 16)
	setKey8(op.Key, keyTimeline, uint64(r))
	binary.BigEndian.PutUint64(op.Key[9:], ^uint64(p.Pos))
	copy(op.Value, encodePost(p))
	return op.Finish()
}

func pageOfKeys(it *pebble.Iterator, r id.ID) (page []id.ID) {
	prefix := key8(keyTimeline, uint64(r))
	for ok := it.SeekGE(prefix); ok && bytes.HasPrefix(it.Key(), prefix) && len(page) < benchPage; ok = it.Next() {
		page = append(page, id.ID(^binary.BigEndian.Uint64(it.Key()[9:])))
	}
	return page
}

// putBlock: (reader, ^first pos) → a packed block, which is read and written again. The
// batch is applied at once: the next delivery to the reader must see it.
func putBlock(db *pebble.DB, _ *pebble.Batch, r id.ID, p Post) error {
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	prefix := key8(keyTimeline, uint64(r))
	key := binary.BigEndian.AppendUint64(prefix, ^uint64(p.Pos))
	var block run
	if it.SeekGE(prefix) && bytes.HasPrefix(it.Key(), prefix) {
		if err := decodeOperand(&block, it.Value()); err != nil {
			return err
		}
		if len(block.pos) < benchBlock {
			key = bytes.Clone(it.Key())
		} else {
			block = run{}
		}
	}
	block.pos = slices.Insert(block.pos, 0, p.Pos)
	if err := it.Close(); err != nil {
		return err
	}
	return db.Set(key, appendRun(nil, block), pebble.NoSync)
}

func pageOfBlocks(it *pebble.Iterator, r id.ID) (page []id.ID) {
	prefix := key8(keyTimeline, uint64(r))
	var block run
	for ok := it.SeekGE(prefix); ok && bytes.HasPrefix(it.Key(), prefix) && len(block.pos) < benchPage; ok = it.Next() {
		_ = decodeOperand(&block, it.Value()) // written a moment ago
	}
	return block.pos[:min(benchPage, len(block.pos))]
}

// putWhole: reader → pos, photo, author, appended.
func putWhole(_ *pebble.DB, batch *pebble.Batch, r id.ID, p Post) error {
	op := batch.MergeDeferred(9, 24)
	setKey8(op.Key, keyTimeline, uint64(r))
	binary.BigEndian.PutUint64(op.Value, uint64(p.Pos))
	copy(op.Value[8:], encodePost(p))
	return op.Finish()
}

func pageOfWhole(it *pebble.Iterator, r id.ID) (page []id.ID) {
	if it.SeekGE(key8(keyTimeline, uint64(r))) {
		v := it.Value()
		for ; len(v) >= 24 && len(page) < benchPage; v = v[:len(v)-24] {
			page = append(page, id.ID(binary.BigEndian.Uint64(v[len(v)-24:])))
		}
	}
	return page
}

// putPacked: reader → pos, joined by the merge operator of the real thing.
func putPacked(_ *pebble.DB, batch *pebble.Batch, r id.ID, p Post) error {
	op := batch.MergeDeferred(9, 9)
	setKey8(op.Key, keyTimeline, uint64(r))
	putPush(op.Value, p.Pos)
	return op.Finish()
}

func pageOfPacked(it *pebble.Iterator, r id.ID) (page []id.ID) {
	var t run
	if it.SeekGE(key8(keyTimeline, uint64(r))) {
		_ = decodeOperand(&t, it.Value()) // written a moment ago
	}
	return t.pos[:min(benchPage, len(t.pos))]
}

func benchFormat(b *testing.B, f format, wal bool) {
	s := &Store{o: Options{MemoryBytes: 64 << 20}.withDefaults(), merger: f.merger}
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
	start, cpu := time.Now(), cpuTime(b)
	n := 0
	for post := uint64(1); n < b.N; post++ {
		e := src.event(post)
		followers, _ = snap.Followers(followers[:0], e.Post.Author, 0, benchFollowers)
		batch := db.NewBatch()
		if f.post {
			err = batch.Set(key8(keyPost, uint64(e.Post.Pos)), encodePost(e.Post), nil)
		}
		for _, r := range followers {
			if err = errors.Join(err, f.put(db, batch, r, e.Post)); err != nil {
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
	debt := db.Metrics().Compact.EstimatedDebt
	settle(b, db)
	all := time.Since(start)
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(n), "cpu-ns/delivery") // with compactions
	b.ReportMetric(float64(n)/wrote.Seconds(), "deliveries/s")
	b.ReportMetric(float64(n)/all.Seconds(), "settled/s")
	b.ReportMetric(float64(debt)/1e6, "debt-MB")
	b.ReportMetric(written(db)/float64(n), "written-B/delivery")
	b.ReportMetric(0, "ns/op")
	pages(b, db, f)
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

// cpuTime is what this process has used of the processors: busy machines leave it be.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pages reads the newest entries of random readers as the writing has left them.
func pages(b *testing.B, db *pebble.DB, f format) {
	rng := rand.New(rand.NewPCG(5, 6))
	took := make([]time.Duration, 20_000)
	for i := range took {
		r := benchReader(rng.Uint64N(benchReaders))
		start := time.Now()
		it, err := db.NewIter(nil)
		if err != nil {
			b.Fatal(err)
		}
		page := f.page(it, r)
		for _, pos := range page {
			if f.post && !it.SeekGE(key8(keyPost, uint64(pos))) {
				b.Fatal("no post")
			}
		}
		if err := it.Close(); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "page-p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "page-p99-µs")
}
