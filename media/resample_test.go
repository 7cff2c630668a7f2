package media

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"
)

// The taps of every sample sum to one and lie within the source.
func TestWeightsSumToOne(t *testing.T) {
	for _, x := range []struct{ dst, src int }{{1, 1}, {1, 5000}, {150, 151}, {1080, 2048}, {320, 65_500}, {3, 2}} {
		for _, off := range []float64{0, 0.25, -3} {
			w := weigh(x.dst, x.src, window{float64(x.src) / float64(x.dst), off})
			for i := range x.dst {
				sum := int32(0)
				for _, t := range w.taps[i*w.n : (i+1)*w.n] {
					sum += t
				}
				if sum != weightOne || w.first[i] < 0 || w.first[i]+w.n > x.src {
					t.Fatalf("%d out of %d: sample %d: sum %d, from %d, %d taps", x.dst, x.src, i, sum, w.first[i], w.n)
				}
			}
		}
	}
}

// A flat plane stays flat, in black, grey and white, whatever the sizes.
func TestResizeKeepsFlatPlanesFlat(t *testing.T) {
	for _, v := range []uint8{0, 1, 127, 254, 255} {
		for _, x := range [][4]int{{7, 9, 3, 2}, {100, 50, 33, 49}, {500, 3, 20, 3}, {2, 2, 1, 1}} {
			p := newPlane(x[0], x[1])
			for i := range p.pix {
				p.pix[i] = v
			}
			out := p.resize(x[2], x[3], window{float64(x[0]) / float64(x[2]), 0}, window{float64(x[1]) / float64(x[3]), 0})
			for _, got := range out.pix {
				if got != v {
					t.Fatalf("%v: %d became %d", x, v, got)
				}
			}
		}
	}
}

// The two passes in whole numbers agree with the sum written out in floating
// point.
func TestResizeAgreesWithTheSum(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	p := newPlane(61, 47)
	for i := range p.pix {
		p.pix[i] = uint8(r.Uint32())
	}
	wx, wy := window{61.0 / 23, 0}, window{47.0 / 31, 0}
	got := p.resize(23, 31, wx, wy)
	kernel := func(i, src int, win window) map[int]float64 {
		grow, m, sum := math.Max(1, win.ratio), map[int]float64{}, 0.0
		centre := (float64(i)+0.5)*win.ratio + win.off - 0.5
		for k := -10; k < src+10; k++ {
			v := catmullRom((float64(k) - centre) / grow)
			m[min(max(k, 0), src-1)] += v
			sum += v
		}
		for k := range m {
			m[k] /= sum
		}
		return m
	}
	for y := range 31 {
		ky := kernel(y, 47, wy)
		for x := range 23 {
			want := 0.0
			kx := kernel(x, 61, wx)
			for sy, vy := range ky {
				for sx, vx := range kx {
					want += vx * vy * float64(p.pix[sy*61+sx])
				}
			}
			want = math.Min(255, math.Max(0, want))
			if d := math.Abs(want - float64(got.pix[y*23+x])); d > 1 {
				t.Fatalf("seed %d: (%d, %d) is %d, want %.2f", seed, x, y, got.pix[y*23+x], want)
			}
		}
	}
}

// Each turn, done on a plane, is undone by the one that belongs to it.
func TestTurns(t *testing.T) {
	p := newPlane(3, 2)
	copy(p.pix, []uint8{1, 2, 3, 4, 5, 6})
	want := map[int][]uint8{
		1: {1, 2, 3, 4, 5, 6}, 2: {3, 2, 1, 6, 5, 4}, 3: {6, 5, 4, 3, 2, 1}, 4: {4, 5, 6, 1, 2, 3},
		5: {1, 4, 2, 5, 3, 6}, 6: {4, 1, 5, 2, 6, 3}, 7: {6, 3, 5, 2, 4, 1}, 8: {3, 6, 2, 5, 1, 4},
	}
	for o, pix := range want {
		got := p.turn(o)
		if string(got.pix) != string(pix) || (o >= 5) != (got.w == 2) {
			t.Errorf("turn %d: %d × %d, %v, want %v", o, got.w, got.h, got.pix, pix)
		}
	}
}

func TestDominantColour(t *testing.T) {
	m := image.NewRGBA(image.Rect(0, 0, 4, 4))
	for i := range 16 {
		c := []uint8{200, 10, 10, 255}
		if i%4 == 0 {
			c = []uint8{0, 250, 0, 255}
		}
		copy(m.Pix[i*4:], c)
	}
	if got := dominant(m); got != "#c80a0a" {
		t.Error(got)
	}
}
