package server

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"hayloft/volume/coding"
)

func TestSpread(t *testing.T) {
	six := []candidate{{disk: 1, room: 100}, {disk: 2, room: 90}, {disk: 3, room: 80}, {disk: 4, room: 70}, {disk: 5, room: 60}, {disk: 6, room: 50}}
	got, err := spread(six, 6, coding.Policy{Data: 4, Parity: 2}, 10)
	slices.Sort(got)
	if err != nil || !slices.Equal(got, []uint32{1, 2, 3, 4, 5, 6}) {
		t.Errorf("six disks: %v, %v", got, err)
	}
	got, err = spread(six[:3], 6, coding.Policy{Data: 4, Parity: 2}, 10)
	slices.Sort(got)
	if err != nil || !slices.Equal(got, []uint32{1, 1, 2, 2, 3, 3}) {
		t.Errorf("three disks: %v, %v", got, err)
	}
	if _, err = spread(six[:2], 6, coding.Policy{Data: 4, Parity: 2}, 10); !errors.Is(err, ErrPlacement) {
		t.Errorf("two disks: %v", err)
	}
	if got, err = spread(six[:5], 6, coding.Policy{Data: 4, Parity: 2}, 50); err != nil || got[5] != 1 {
		t.Errorf("the first has room for two: %v, %v", got, err)
	}
	if _, err = spread(six, 6, coding.Policy{Data: 4, Parity: 1}, 51); !errors.Is(err, ErrNoSpace) {
		t.Errorf("the sixth has no room, and each may have one: %v", err)
	}
}

// Whatever the disks: a spread that succeeds survives the loss of any one, and
// keeps the room of each.
func TestSpreadRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	placed := 0
	for range 5000 {
		p := coding.Policy{Data: 1 + rng.IntN(10), Parity: 1 + rng.IntN(4)}
		var among []candidate
		for i := range 1 + rng.IntN(15) {
			among = append(among, candidate{disk: uint32(i + 1), room: rng.Int64N(100), held: rng.IntN(2)})
		}
		n := p.Shards()
		for _, c := range among {
			n = max(0, n-c.held)
		}
		got, err := spread(among, n, p, 10)
		if err != nil {
			continue
		}
		placed++
		var homes []uint32
		for _, c := range among {
			homes = append(homes, slices.Repeat([]uint32{c.disk}, c.held)...)
		}
		homes = append(homes, got...)
		for _, c := range among {
			mine := 0
			for _, d := range got {
				if d == c.disk {
					mine++
				}
			}
			if int64(mine)*10 > c.room || mine > 0 && mine+c.held > p.Parity {
				t.Fatalf("disk %+v got %d shards of %s", c, mine, p)
			}
		}
		if survives(homes, p.Parity) < 1 {
			t.Fatalf("%s on %v does not survive the loss of a disk", p, homes)
		}
	}
	if placed < 500 {
		t.Errorf("only %d of the draws found places", placed)
	}
}

func TestSurvives(t *testing.T) {
	for _, c := range []struct {
		homes  []uint32
		parity int
		want   int
	}{
		{[]uint32{1, 2, 3, 4, 5, 6}, 2, 2},
		{[]uint32{1, 1, 2, 2, 3, 3}, 2, 1},
		{[]uint32{1, 1, 1, 2, 3, 4}, 2, 0},
		{[]uint32{0, 2, 3, 4, 5, 6}, 2, 1},
		{[]uint32{0, 0, 3, 4, 5, 6}, 2, 0},
		{[]uint32{0, 0, 0, 4, 5, 6}, 2, 0},
		{[]uint32{1, 1, 2, 3, 4, 5}, 3, 2},
	} {
		if got := survives(c.homes, c.parity); got != c.want {
			t.Errorf("%v with %d parity: %d, want %d", c.homes, c.parity, got, c.want)
		}
	}
}
