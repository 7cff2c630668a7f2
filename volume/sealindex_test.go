package volume

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"hayloft/internal/id"
)

// variantSizes are sizes of four variants of a photo, drawn around what the
// anchors give: 150, 320, 640 and 1080 pixels wide.
func variantSizes(rng *rand.Rand) [4]int {
	f := 0.5 + rng.ExpFloat64()*0.5
	return [4]int{int(7000 * f), int(22000 * f), int(65000 * f), int(140000 * f)}
}

// testEntries makes n keys from the given number of slots, with id times that
// lie gapMillis apart on average. Compacted entries lie one behind another; the
// others as eight writers would have appended them.
func testEntries(rng *rand.Rand, keys, slots, alts int, gapMillis float64, compacted bool) []entry {
	var out []entry
	ms := float64(20e9)
	for range keys {
		ms += rng.ExpFloat64() * gapMillis
		k := id.Make(id.Millis(ms), id.Slot(rng.IntN(slots)*7+3), uint16(rng.IntN(3)))
		sizes := variantSizes(rng)
		for a := range alts {
			size := sizes[a]
			if alts == 1 {
				size = 20000 + int(64000*rng.ExpFloat64())
			}
			out = append(out, entry{key: k, alt: uint8(a + 1), units: uint32(alignUp(int64(headerSize+size)) / align)})
		}
	}
	slices.SortStableFunc(out, compareEntries)
	out = slices.CompactFunc(out, func(a, b entry) bool { return compareEntries(a, b) == 0 })
	order := make([]int, 0, len(out))
	for i := 0; i < len(out); i += groupLen(out[i:]) {
		order = append(order, i)
	}
	if !compacted {
		for i := range order { // neighbours in time change places
			j := min(len(order)-1, i+rng.IntN(8))
			order[i], order[j] = order[j], order[i]
		}
	}
	off := int64(dataStart)
	for _, i := range order {
		for j := range groupLen(out[i:]) {
			out[i+j].off = off
			off += out[i+j].size()
		}
	}
	return out
}

func endOf(entries []entry) int64 {
	end := int64(dataStart)
	for i := range entries {
		end = max(end, entries[i].off+entries[i].size())
	}
	return end
}

func buildTestIndex(t testing.TB, entries []entry) *sealIndex {
	t.Helper()
	x, err := buildSealIndex(sealIndexHead{Volume: 7, Generation: 2, End: endOf(entries)}, entries)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func checkIndex(t *testing.T, x *sealIndex, entries []entry) {
	t.Helper()
	for i := range entries {
		e := &entries[i]
		if p, ok := x.get(e.key, e.alt); !ok || p.off != e.off || p.size != e.size() {
			t.Fatalf("%v/%d: %+v, %v; want %d, %d", e.key, e.alt, p, ok, e.off, e.size())
		}
		for _, k := range []id.ID{e.key - 1, e.key + 1, e.key ^ 1<<13, e.key ^ 1<<40} {
			n := slices.IndexFunc(entries, func(o entry) bool { return o.key == k && o.alt == e.alt })
			if _, ok := x.get(k, e.alt); ok != (n >= 0) {
				t.Fatalf("%v/%d: found %v", k, e.alt, ok)
			}
		}
	}
	n := 0
	x.each(func(key id.ID, alt uint8, p place) bool {
		e := &entries[n]
		if key != e.key || alt != e.alt || p.off != e.off || p.size != e.size() {
			t.Fatalf("needle %d: %v/%d at %+v", n, key, alt, p)
		}
		n++
		return true
	})
	if n != len(entries) {
		t.Fatalf("%d of %d needles", n, len(entries))
	}
}

func TestSealIndex(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds(20) {
		t.Log(repeatWith(t, seed))
		rng := rand.New(rand.NewPCG(seed, 3))
		entries := testEntries(rng, 1+rng.IntN(400), 1+rng.IntN(20), 1+rng.IntN(4), 1+rng.ExpFloat64()*1000, rng.IntN(2) == 0)
		// Holes in groups, odd alts, keys that are no real ids.
		entries = slices.DeleteFunc(entries, func(entry) bool { return rng.IntN(9) == 0 })
		for i := range entries {
			if rng.IntN(50) == 0 {
				entries[i].alt = uint8(5 + rng.IntN(MaxAlt-5))
			}
		}
		for _, k := range []id.ID{1, 2, 1<<64 - 1, id.ID(rng.Uint64())} {
			entries = append(entries, entry{key: k, alt: MaxAlt, off: endOf(entries), units: maxRecord / align})
		}
		slices.SortFunc(entries, compareEntries)
		entries = slices.CompactFunc(entries, func(a, b entry) bool { return compareEntries(a, b) == 0 })
		checkIndex(t, buildTestIndex(t, entries), entries)
	}
	checkIndex(t, buildTestIndex(t, nil), nil)
}

// TestSealIndexBitFlips: no flipped bit passes.
func TestSealIndexBitFlips(t *testing.T) {
	t.Parallel()
	x := buildTestIndex(t, testEntries(rand.New(rand.NewPCG(1, 1)), 100, 8, 4, 50, false))
	for i := range x.b {
		for bit := range 8 {
			b := bytes.Clone(x.b)
			b[i] ^= 1 << bit
			if _, err := decodeSealIndex(b); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
	for n := range x.b {
		if _, err := decodeSealIndex(bytes.Clone(x.b[:n])); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	b := bytes.Clone(x.b)
	b[8] = 2
	reseal(b[:sealIndexHeader], 124)
	if _, err := decodeSealIndex(b); !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrCorrupt) {
		t.Fatalf("newer version: %v", err)
	}
}

// FuzzSealIndex feeds content with right checksums: it is refused or gives
// places inside the file.
func FuzzSealIndex(f *testing.F) {
	for _, compacted := range []bool{true, false} {
		x := buildTestIndex(f, testEntries(rand.New(rand.NewPCG(1, 1)), 70, 8, 3, 50, compacted))
		f.Add(x.b)
	}
	f.Add(buildTestIndex(f, nil).b)
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < sealIndexHeader {
			return
		}
		b := bytes.Clone(in)
		h, _ := decodeSealIndexHead(b)
		copy(b, sealIndexMagic)
		b[8], b[9] = 1, 0
		h.body = int64(len(b) - sealIndexHeader)
		for i, v := range []uint64{uint64(h.body)} {
			for n := range 8 {
				b[96+8*i+n] = byte(v >> (8 * n))
			}
		}
		reseal2(b)
		x, err := decodeSealIndex(b)
		if err != nil {
			return
		}
		n := int64(0)
		x.each(func(key id.ID, alt uint8, p place) bool {
			n++
			if got, ok := x.get(key, alt); !ok || got != p || p.off < dataStart || p.off+p.size > x.head.End {
				t.Fatalf("%v/%d: %+v, %+v, %v", key, alt, p, got, ok)
			}
			return true
		})
		if n != x.head.Needles {
			t.Fatalf("%d of %d needles", n, x.head.Needles)
		}
	})
}

func crcOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// reseal2 makes both checksums of a sealed index right.
func reseal2(b []byte) {
	body := crcOf(b[sealIndexHeader:])
	b[104], b[105], b[106], b[107] = byte(body), byte(body>>8), byte(body>>16), byte(body>>24)
	reseal(b[:sealIndexHeader], 124)
}

// BenchmarkSealedIndex prints bytes per needle, all counted: what lies on disk
// (and is read whole), and what the heap holds, measured after a collection.
func BenchmarkSealedIndex(b *testing.B) {
	for _, shape := range []struct {
		name  string
		keys  int
		alts  int
		gapMs float64
	}{
		{"groups-of-4/busy", 100_000, 4, 20}, {"groups-of-4/quiet", 100_000, 4, 5000},
		{"lone/busy", 400_000, 1, 20}, {"lone/quiet", 400_000, 1, 5000},
	} {
		for _, compacted := range []bool{true, false} {
			order := map[bool]string{true: "compacted", false: "as-appended"}[compacted]
			b.Run(fmt.Sprintf("%s/%s", shape.name, order), func(b *testing.B) {
				rng := rand.New(rand.NewPCG(1, 9))
				entries := testEntries(rng, shape.keys, 12, shape.alts, shape.gapMs, compacted)
				disk := buildTestIndex(b, entries).b
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				x, err := decodeSealIndex(bytes.Clone(disk))
				if err != nil {
					b.Fatal(err)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(disk)
				n := float64(len(entries))
				i := 0
				for b.Loop() {
					i = (i + 7919) % len(entries)
					if _, ok := x.get(entries[i].key, entries[i].alt); !ok {
						b.Fatal("lost")
					}
				}
				b.ReportMetric(float64(len(disk))/n, "disk-B/needle")
				b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/n, "heap-B/needle")
			})
		}
	}
}
