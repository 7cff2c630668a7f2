package volume

import (
	"math/rand/v2"
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
				p := place{off: int64(rng.Uint64N(1<<offsetBits)) * align, size: sizeUnit * (1 + rng.Int64N(1<<sizeBits-1))}
				_, found, deleted := ix.get(key, alt)
				if _, is := dead[key]; deleted != is {
					t.Fatalf("deleted %v\n%s", deleted, repeatWith(t, seed))
				}
				switch {
				case rng.IntN(10) == 0:
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

// TestIndexBytes: the table costs at most 24 bytes per needle.
func TestIndexBytes(t *testing.T) {
	var ix index
	const n = 200_000
	for i := range n {
		ix.put(id.Make(id.Millis(1000+i/40), 77, uint16(i%40)), uint8(i%4), place{off: int64(i) * 512, size: 512})
	}
	if per := float64(ix.bytes()) / n; per > 24 {
		t.Fatalf("%.1f bytes per needle", per)
	} else {
		t.Logf("%.1f bytes per needle", per)
	}
}
