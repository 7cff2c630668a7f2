package volume

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"hayloft/internal/id"
)

// TestIndexAgainstMap runs random changes against a map, with few distinct
// keys so that runs collide and wrap, and with many so that segments grow.
func TestIndexAgainstMap(t *testing.T) {
	for _, keys := range []uint64{20, 300, 20000} {
		for _, seed := range seeds(3) {
			rng := rand.New(rand.NewPCG(seed, keys))
			var ix index
			want := map[pair]place{}
			dead := map[id.ID]place{}
			for range 3 * keys {
				key := id.ID(1 + rng.Uint64N(keys))
				alt := uint8(rng.UintN(5))
				p := place{off: rng.Int64N(maxOffset/align) * align, size: align * (1 + rng.Int64N(1<<25))}
				_, found, deleted := ix.get(key, alt)
				if _, is := dead[key]; deleted != is {
					t.Fatalf("deleted %v\n%s", deleted, repeatWith(t, seed))
				}
				switch {
				case rng.IntN(10) == 0 && !deleted:
					n, _ := ix.remove(key, p)
					for a := range uint8(5) {
						if _, ok := want[pair{key, a}]; ok {
							delete(want, pair{key, a})
							n--
						}
					}
					if n != 0 {
						t.Fatalf("removed a wrong number\n%s", repeatWith(t, seed))
					}
					dead[key] = p
				case !found && !deleted:
					ix.put(key, alt, p)
					want[pair{key, alt}] = p
				}
			}
			entries := 0
			ix.each(func(key id.ID, alt uint8, p place) bool {
				entries++
				if alt == altTombstone && dead[key] != p || alt != altTombstone && want[pair{key, alt}] != p {
					t.Fatalf("entry %v/%d\n%s", key, alt, repeatWith(t, seed))
				}
				return true
			})
			if entries != len(want)+len(dead) {
				t.Fatalf("%d entries, want %d\n%s", entries, len(want)+len(dead), repeatWith(t, seed))
			}
			for key := id.ID(1); key <= id.ID(keys); key++ {
				live := false
				for alt := range uint8(5) {
					p, found, _ := ix.get(key, alt)
					w, ok := want[pair{key, alt}]
					if found != ok || found && p != w {
						t.Fatalf("get %v/%d: %v %v\n%s", key, alt, p, found, repeatWith(t, seed))
					}
					live = live || ok
				}
				if ix.has(key) != live {
					t.Fatalf("has %v\n%s", key, repeatWith(t, seed))
				}
			}
		}
	}
}

// fillIndex puts n needles of groups of alts under keys as eight slots mint
// them, some 20 photos a second in all, 64 KiB each.
func fillIndex(ix *index, n, alts int, keep func(key id.ID)) {
	rng := rand.New(rand.NewPCG(uint64(n), uint64(alts)))
	ms, off := 1e9, int64(dataStart)
	for i := 0; i < n; i += alts {
		ms += rng.ExpFloat64() * 50
		key := id.Make(id.Millis(ms), id.Slot(100+rng.IntN(8)), uint16(rng.IntN(3)))
		if keep != nil {
			keep(key)
		}
		for alt := range alts {
			size := align * (1 + rng.Int64N(2*64<<10/align))
			ix.put(key, uint8(alt), place{off, size})
			off += size
		}
	}
}

// indexBytes measures an index whole: the heap it holds after a collection,
// which must be what it says of itself.
func indexBytes(t testing.TB, n, alts int) float64 {
	t.Helper()
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	ix := new(index)
	fillIndex(ix, n, alts, nil)
	held := heap() - before
	if says := ix.bytes(); held > says+says/25+1<<16 {
		t.Errorf("the index holds %d bytes and says %d", held, says)
	}
	return float64(ix.bytes()) / float64(n)
}

// TestIndexBytes: 16 bytes per needle are the limit, counted whole.
func TestIndexBytes(t *testing.T) {
	const n = 400_000
	for alts, limit := range map[int]float64{1: 16, 4: 7} {
		if per := indexBytes(t, n, alts); per > limit {
			t.Errorf("groups of %d: %.2f bytes per needle", alts, per)
		} else {
			t.Logf("groups of %d: %.2f bytes per needle", alts, per)
		}
	}
}

// adoptList makes the tables of a list as loading a checkpoint does, with two
// feeders at once.
func adoptList(ix *index, chunks []*chunk, n, slots uint64) {
	list := new(index)
	list.chunks.Store(&chunks)
	b := newTableBuilder(n, slots, 2)
	var wg sync.WaitGroup
	for _, half := range [][2]uint64{{0, n / 2}, {n / 2, n}} {
		wg.Go(func() {
			f := b.feeder()
			list.eachKey(half[0], half[1], f.add)
			f.end()
		})
	}
	wg.Wait()
	ix.adopt(chunks, n, b)
}

// TestIndexAdopt: a table made at once from the list finds what one grown
// entry by entry finds, and grows on.
func TestIndexAdopt(t *testing.T) {
	for _, n := range []int{0, 1, 5, 3000, 50_001} {
		var grown, adopted index
		fillIndex(&grown, n, 4, nil)
		for e := range grown.all() {
			if e.off%3 == 0 && e.alt == 0 {
				grown.remove(e.key, place{e.off + 1<<39, headerSize})
			}
		}
		var chunks []*chunk
		if p := grown.chunks.Load(); p != nil {
			chunks = *p
		}
		adoptList(&adopted, chunks, grown.blocks.Load(), grown.slots()*uint64(n%2)) // an expectation that is right, or nonsense
		for round := range 2 {
			entries := 0
			for e := range grown.all() {
				entries++
				p, found, deleted := grown.get(e.key, e.alt)
				q, found2, deleted2 := adopted.get(e.key, e.alt)
				if p != q || found != found2 || deleted != deleted2 || !found && !deleted {
					t.Fatalf("n %d, round %d: %v/%d: %v %v %v, %v %v %v", n, round, e.key, e.alt, p, found, deleted, q, found2, deleted2)
				}
			}
			if adopted.has(1) || entries < n {
				t.Fatal("a key that was never there, or a short list")
			}
			if round == 0 { // the two share their list: add to it through one, to the table of the other by hand
				for key := id.ID(1 << 62); key < 1<<62+2000; key++ {
					adopted.put(key, 3, place{1<<39 + int64(key&0xffff)*8, 8})
					grown.chunks.Store(adopted.chunks.Load())
					grown.blocks.Store(adopted.blocks.Load())
					grown.insert(hash(key), grown.blocks.Load()-1)
				}
			}
		}
	}
}

// TestIndexReadersBesideWriter: what was put is found by readers that take no
// lock, from the moment put returned. The race detector watches.
func TestIndexReadersBesideWriter(t *testing.T) {
	t.Parallel()
	const n = 20_000
	var ix index
	var done atomic.Int64
	var wg sync.WaitGroup
	for r := range uint64(2) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(r, 1))
			for have := int64(0); have < n; have = done.Load() {
				if have == 0 {
					runtime.Gosched()
					continue
				}
				key := id.ID(1 + rng.Int64N(have))
				p, found, deleted := ix.get(key, 7)
				if key%5 == 0 && !deleted || key%5 != 0 && (!found || p.off != int64(key)*8) {
					t.Errorf("%v: %v %v %v", key, p, found, deleted)
					return
				}
			}
		}()
	}
	for key := id.ID(1); key <= n; key++ {
		ix.put(key, 7, place{int64(key) * 8, 8})
		if key%5 == 0 {
			ix.remove(key, place{int64(key)*8 + 1<<30, 64})
		}
		done.Store(int64(key))
	}
	wg.Wait()
}

// TestBlockOfGarbage: bytes that are no entries are noticed.
func TestBlockOfGarbage(t *testing.T) {
	for _, data := range [][]byte{{tagKey}, {tagAlt}, {tagGap, 0x80}, {0}, {0, 0x80}, {0, 0, tagKey, 0x80},
		bytes.Repeat([]byte{0xff}, blockData)} {
		b := new(block)
		b.key = 5
		copy(b.data[:], data)
		b.head.Store(packHead(8, len(data)))
		c := b.cursor()
		for c.next() {
		}
		if c.pos != -1 {
			t.Errorf("%x was read as entries", data)
		}
	}
}

// BenchmarkIndex prints bytes per needle, inserts and look-ups.
func BenchmarkIndex(b *testing.B) {
	const n = 1 << 20
	for name, alts := range map[string]int{"lone": 1, "groups of 4": 4} {
		b.Run(name+"/insert", func(b *testing.B) {
			for b.Loop() {
				fillIndex(new(index), n, alts, nil)
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "inserts/s")
			b.ReportMetric(indexBytes(b, n, alts), "B/needle")
		})
		var ix index
		var keys []id.ID
		fillIndex(&ix, n, alts, func(key id.ID) { keys = append(keys, key) })
		b.Run(name+"/lookup", func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			for b.Loop() {
				if _, found, _ := ix.get(keys[rng.IntN(len(keys))], uint8(alts-1)); !found {
					b.Fatal("not found")
				}
			}
		})
		b.Run(name+"/miss", func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			for b.Loop() {
				ix.get(keys[rng.IntN(len(keys))]+7, 0)
			}
		})
		b.Run(name+"/adopt", func(b *testing.B) {
			for b.Loop() {
				adoptList(new(index), *ix.chunks.Load(), ix.blocks.Load(), ix.slots())
			}
		})
	}
}
