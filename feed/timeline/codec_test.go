package timeline

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"hayloft/internal/id"
)

// randomRun makes a valid run of up to n positions that collide often.
func randomRun(rng *rand.Rand, n int) run {
	r := run{base: rng.IntN(4) == 0}
	for range rng.IntN(n + 1) {
		r.pos = append(r.pos, id.Make(id.Millis(1000+rng.IntN(50)), id.Slot(rng.IntN(2)), uint16(rng.IntN(2))))
	}
	if rng.IntN(2) == 0 {
		r.floor = id.Make(id.Millis(1000+rng.IntN(50)), 0, 0)
	}
	normalise(&r, 1<<20)
	return r
}

func TestRunRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 2000 {
		want := randomRun(rng, 20)
		var got run
		if err := decodeOperand(&got, appendRun(nil, want)); err != nil {
			t.Fatalf("%+v: %v", want, err)
		}
		if got.base != want.base || got.floor != want.floor || !slices.Equal(got.pos, want.pos) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
	wide := run{floor: 1, pos: []id.ID{id.Make(id.MaxMillis, id.Slots-1, id.MaxSeq), 1}}
	var got run
	if err := decodeOperand(&got, appendRun(nil, wide)); err != nil || !reflect.DeepEqual(got, wide) {
		t.Fatalf("got %+v, %v, want %+v", got, err, wide)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := appendRun(nil, run{base: true, floor: 5, pos: []id.ID{9 << 23, 8 << 23, 7 << 23}})
	bad := map[string][]byte{
		"nothing":        {},
		"unknown tag":    {9, 0, 0},
		"short push":     {tagPush, 1, 2, 3},
		"push of zero":   {tagPush, 0, 0, 0, 0, 0, 0, 0, 0},
		"count too high": {tagDelta, 0, 200, 1},
		"bytes left":     append(slices.Clone(good), 0),
		"not descending": {tagDelta, 0, 2, 5, 1, 0, 0},
		"wraps":          {tagDelta, 0, 2, 5, 1, 6, 0},
		"endless varint": {tagDelta, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	}
	for n := 1; n < len(good); n++ {
		bad["cut "+string(rune('a'+n))] = good[:n]
	}
	for name, b := range bad {
		if err := decodeOperand(&run{}, b); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"state": second(decodeState(make([]byte, 9))),
		"post":  second(decodePost(1, make([]byte, 15))),
		"key":   second(key8Of(make([]byte, 8))),
		"u64":   second(decodeU64(nil)),
	} {
		if !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func FuzzDecodeOperand(f *testing.F) {
	f.Add(appendRun(nil, run{base: true, floor: 5, pos: []id.ID{9 << 23, 8 << 23, 7}}))
	f.Add([]byte{tagPush, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r run
		if decodeOperand(&r, b) != nil {
			return
		}
		for i := 1; i < len(r.pos); i++ {
			if r.pos[i-1] <= r.pos[i] {
				t.Fatalf("accepted %v", r.pos)
			}
		}
		var again run
		if err := decodeOperand(&again, appendRun(nil, r)); err != nil || !slices.Equal(again.pos, r.pos) {
			t.Fatalf("%v became %v (%v)", r.pos, again.pos, err)
		}
	})
}

func TestStateRoundTrip(t *testing.T) {
	want := state{cursor: 7, open: []fanout{
		{Post: Post{Pos: 1, Photo: 2, Author: 3}, After: 4}, {Post: Post{Pos: 5, Photo: 6, Author: 7}, After: 8},
	}}
	got, err := decodeState(encodeState(want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
}

// join merges operands as Pebble would, in one call.
func join(t *testing.T, limit int, operands ...[]byte) []byte {
	t.Helper()
	m, err := newMerger(limit).Merge(nil, operands[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, op := range operands[1:] {
		if i%2 == 0 {
			err = m.MergeOlder(op)
		} else {
			err = m.MergeNewer(op)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b, _, err := m.Finish(true)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestJoinIsASemilattice: Pebble may group, order and repeat operands as it
// likes.
func TestJoinIsASemilattice(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	for range 3000 {
		limit := 1 + rng.IntN(6)
		var ops [][]byte
		for range 2 + rng.IntN(6) {
			if rng.IntN(2) == 0 {
				var push [9]byte
				putPush(push[:], id.Make(id.Millis(1000+rng.IntN(50)), 0, uint16(rng.IntN(2))))
				ops = append(ops, push[:])
			} else {
				ops = append(ops, appendRun(nil, randomRun(rng, 8)))
			}
		}
		want := join(t, limit, ops...)
		var r run
		if err := decodeOperand(&r, want); err != nil || len(r.pos) > limit {
			t.Fatalf("%d of %d left (%v)", len(r.pos), limit, err)
		}
		for range 3 { // another order, a repetition, then any grouping
			rng.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
			rest := append(slices.Clone(ops), ops[rng.IntN(len(ops))])
			for len(rest) > 1 {
				i := rng.IntN(len(rest) - 1)
				n := 2 + rng.IntN(len(rest)-i-1)
				rest = slices.Replace(rest, i, i+n, join(t, limit, rest[i:i+n]...))
			}
			if got := join(t, limit, rest...); !slices.Equal(got, want) {
				t.Fatalf("got %x, want %x (limit %d)", got, want, limit)
			}
		}
	}
}
