package search

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/internal/id"
	"hayloft/internal/testenv"
)

// generated is a catalogue of photos with the words of a language: their frequencies
// fall as Zipf's law says. It is a source of an index.
type generated struct {
	photos  int
	changed chan struct{}
	list    []*Photo // the n-th is photo n
}

const vocabulary = 50_000

func generate(photos int) generated {
	g := generated{photos, make(chan struct{}), make([]*Photo, photos+1)}
	for n := range g.list {
		g.list[n] = generatedPhoto(n)
	}
	return g
}

// generatedPhoto is always the same for a number.
func generatedPhoto(n int) *Photo {
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	zipf := rand.NewZipf(rng, 1.1, 4, vocabulary-1)
	words := func(count int) string {
		list := make([]string, count)
		for i := range list {
			list[i] = word(zipf.Uint64())
		}
		return strings.Join(list, " ")
	}
	p := &Photo{ID: id.ID(n)<<20 | 5, Pos: id.ID(n) << 20, Title: words(rng.IntN(5)), Caption: words(rng.IntN(30))}
	for range rng.IntN(5) {
		p.Tags = append(p.Tags, word(zipf.Uint64()))
	}
	if rng.IntN(3) == 0 {
		p.Place = PlaceOf(words(2), float64(rng.IntN(60)), float64(rng.IntN(60)))
	}
	return p
}

// word is the n-th word of the vocabulary, three to nine letters long.
func word(n uint64) string {
	x := n*2654435761 + 12345
	var b []byte
	for i := uint64(0); i < 3+x%7; i++ {
		x = x*6364136223846793005 + 1442695040888963407
		b = append(b, 'a'+byte(x>>33%26))
	}
	return string(b)
}

func (g generated) Changed() <-chan struct{}          { return g.changed }
func (g generated) Snapshot() (Snapshot, error)       { return g, nil }
func (g generated) LastChange() (uint64, bool, error) { return uint64(g.photos), true, nil }
func (g generated) Photo(photo id.ID) (*Photo, error) { return g.list[photo>>20], nil }
func (g generated) Name(id.ID) (string, error)        { return "", nil }
func (g generated) Close() error                      { return nil }
func (g generated) Changes(after uint64, limit int) (out []Change, err error) {
	for n := int(after) + 1; n <= g.photos && len(out) < limit; n++ {
		out = append(out, Change{Seq: uint64(n), Kind: PhotoChanged, ID: id.ID(n)<<20 | 5, Pos: id.ID(n) << 20})
	}
	return out, nil
}

// BenchmarkIndex derives an index of generated photos (HAYLOFT_SEARCH_PHOTOS, default
// 20,000), then asks for single words, pairs and tags as frequent as they are written, 20
// photos a page, each of which is looked at as the feed does.
func BenchmarkIndex(b *testing.B) {
	src := generate(testenv.Times("HAYLOFT_SEARCH_PHOTOS", 20_000))
	s, err := Open(Options{Dirs: []string{b.TempDir()}, Source: src, FS: vfs.Default})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	began := time.Now()
	for worked := true; worked; {
		if worked, err = s.step(); err != nil {
			b.Fatal(err)
		}
	}
	done, err := s.home.Flush()
	if err != nil {
		b.Fatal(err)
	}
	<-done
	took := time.Since(began)
	rng := rand.New(rand.NewPCG(1, 9))
	zipf := rand.NewZipf(rng, 1.1, 4, vocabulary-1)
	var times []time.Duration
	for b.Loop() {
		q := word(zipf.Uint64())
		switch len(times) % 3 {
		case 1:
			q += " " + word(zipf.Uint64())
		case 2:
			q = "#" + q
		}
		at := time.Now()
		if _, err := ask(s, src, q); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(at))
	}
	slices.Sort(times)
	b.ReportMetric(float64(src.photos)/took.Seconds(), "photos/s")
	b.ReportMetric(float64(s.Stats().DiskBytes)/float64(src.photos), "B/photo")
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
}

// ask makes one page.
func ask(s *Store, src Source, text string) (found int, err error) {
	q := ParseQuery(text)
	err = s.View(func(x *Index) error {
		snap, err := src.Snapshot()
		if err != nil {
			return err
		}
		if err := x.Join(snap); err != nil {
			return err
		}
		_, err = x.Photos(q, 0, func(pos, photo id.ID) (bool, error) {
			p, err := snap.Photo(photo)
			if err != nil || !q.Matches(p) {
				return false, fmt.Errorf("photo %v at %v: %w", photo, pos, err)
			}
			found++
			return found == 20, nil
		})
		return err
	})
	return found, err
}
