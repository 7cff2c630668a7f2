package media

import (
	"image"
	"image/color"
	"math"
)

// plane is one component of a picture, 8 bits per sample.
type plane struct {
	pix    []uint8
	w, h   int
	stride int
}

func newPlane(w, h int) plane { return plane{make([]uint8, w*h), w, h, w} }

// planar is a picture in the components of a JPEG (ITU-T T.871), which are
// resampled and encoded as they are: a photograph never becomes RGB on its way.
type planar struct {
	w, h   int // of the luma plane
	y      plane
	cb, cr plane
	// sx and sy are how many luma samples a chroma sample covers. gray has no
	// chroma.
	sx, sy int
	gray   bool
}

// window maps samples of a result onto samples of its source: result sample i
// is centred on source sample (i+0.5)·ratio + off − 0.5.
type window struct{ ratio, off float64 }

// weights are the taps of one axis: result sample i is the sum over k of
// taps[i·n+k] · source[first[i]+k], in 1/16384.
type weights struct {
	n     int
	first []int
	taps  []int32
}

const weightOne = 1 << 14

// weigh computes the taps for dst samples out of src ones with the Catmull-Rom
// cubic, widened by the ratio when it makes smaller. Samples beyond the edge
// count as the edge.
func weigh(dst, src int, win window) weights {
	grow := math.Max(1, win.ratio)
	reach := 2 * grow
	n := min(src, int(math.Ceil(2*reach))+1)
	w := weights{n: n, first: make([]int, dst), taps: make([]int32, dst*n)}
	raw := make([]float64, n)
	for i := range dst {
		centre := (float64(i)+0.5)*win.ratio + win.off - 0.5
		lo := int(math.Ceil(centre - reach))
		hi := int(math.Floor(centre + reach))
		first := min(max(lo, 0), src-n)
		clear(raw)
		sum := 0.0
		for k := lo; k <= hi; k++ {
			v := catmullRom((float64(k) - centre) / grow)
			raw[min(max(k, first), first+n-1)-first] += v
			sum += v
		}
		w.first[i] = first
		taps, left, most := w.taps[i*n:(i+1)*n], int32(weightOne), 0
		for k, v := range raw {
			taps[k] = int32(math.Round(v / sum * weightOne))
			left -= taps[k]
			if taps[k] > taps[most] {
				most = k
			}
		}
		taps[most] += left // what rounding lost: the taps sum to one exactly
	}
	return w
}

func catmullRom(x float64) float64 {
	x = math.Abs(x)
	switch {
	case x < 1:
		return (1.5*x-2.5)*x*x + 1
	case x < 2:
		return ((-0.5*x+2.5)*x-4)*x + 2
	}
	return 0
}

// resize returns a w × h plane resampled from p through one window per axis.
// Rows go first: the source is read once, in order.
func (p plane) resize(w, h int, wx, wy window) plane {
	if w == p.w && h == p.h && wx == (window{1, 0}) && wy == (window{1, 0}) {
		return p
	}
	hx, hy := weigh(w, p.w, wx), weigh(h, p.h, wy)
	out := newPlane(w, h)
	// Only the rows that are needed lie in memory: a ring of hy.n.
	ring := make([]int32, hy.n*w)
	have := 0 // rows [0, have) have passed through the ring
	acc := make([]int32, w)
	for i := range h {
		first := hy.first[i]
		for have = max(have, first); have < first+hy.n; have++ {
			row := p.pix[have*p.stride : have*p.stride+p.w]
			hx.apply(ring[have%hy.n*w:][:w], row)
		}
		for j := range acc {
			acc[j] = 1 << 19 // half of what is shifted out below
		}
		for k, t := range hy.taps[i*hy.n : (i+1)*hy.n] {
			if t == 0 {
				continue
			}
			row := ring[(first+k)%hy.n*w:][:w]
			for j, v := range row {
				acc[j] += v * t
			}
		}
		dst := out.pix[i*w:][:w]
		for j, v := range acc {
			dst[j] = clamp(v >> 20)
		}
	}
	return out
}

// apply resamples one row; the results carry six bits of fraction.
func (w weights) apply(dst []int32, row []uint8) {
	for i := range dst {
		src := row[w.first[i]:][:w.n]
		taps := w.taps[i*w.n:][:len(src)]
		sum := int32(1 << 7)
		for k, s := range src {
			sum += int32(s) * taps[k]
		}
		dst[i] = sum >> 8
	}
}

func clamp(v int32) uint8 {
	if uint32(v) < 256 {
		return uint8(v)
	}
	if v < 0 {
		return 0
	}
	return 255
}

// resize returns a picture of w × h out of the rectangle of p that begins at
// (x, y) and has cw × ch pixels.
func (p *planar) resize(w, h int, x, y, cw, ch float64) *planar {
	rx, ry := cw/float64(w), ch/float64(h)
	out := &planar{w: w, h: h, sx: 1, sy: 1, gray: p.gray}
	out.y = p.y.resize(w, h, window{rx, x}, window{ry, y})
	if p.gray {
		return out
	}
	// The result always has a quarter of the chroma, as encoders write it.
	out.sx, out.sy = 2, 2
	sx, sy := float64(p.sx), float64(p.sy)
	wx, wy := window{rx * 2 / sx, x / sx}, window{ry * 2 / sy, y / sy}
	out.cb = p.cb.resize((w+1)/2, (h+1)/2, wx, wy)
	out.cr = p.cr.resize((w+1)/2, (h+1)/2, wx, wy)
	return out
}

// turn returns the picture upright, given its EXIF orientation.
func (p *planar) turn(orientation int) *planar {
	if orientation <= 1 {
		return p
	}
	out := *p
	out.y = p.y.turn(orientation)
	if !p.gray {
		out.cb, out.cr = p.cb.turn(orientation), p.cr.turn(orientation)
	}
	if orientation >= 5 {
		out.w, out.h, out.sx, out.sy = p.h, p.w, p.sy, p.sx
	}
	return &out
}

// turn reads the plane in the order that shows it upright: from (x0, y0), a
// step to the right is dx samples, a step down dy.
func (p plane) turn(orientation int) plane {
	w, h := p.w, p.h
	if orientation >= 5 {
		w, h = h, w
	}
	s := p.stride
	right, bottom := p.w-1, (p.h-1)*s
	at, dx, dy := 0, 1, s
	switch orientation {
	case 2: // mirrored left to right
		at, dx, dy = right, -1, s
	case 3: // upside down
		at, dx, dy = right+bottom, -1, -s
	case 4: // mirrored top to bottom
		at, dx, dy = bottom, 1, -s
	case 5: // mirrored on the falling diagonal
		at, dx, dy = 0, s, 1
	case 6: // to be turned right
		at, dx, dy = bottom, -s, 1
	case 7: // mirrored on the rising diagonal
		at, dx, dy = right+bottom, -s, -1
	case 8: // to be turned left
		at, dx, dy = right, s, -1
	}
	out := newPlane(w, h)
	for y := range h {
		row, i := out.pix[y*w:][:w], at+y*dy
		for x := range row {
			row[x] = p.pix[i]
			i += dx
		}
	}
	return out
}

// image returns the picture as the type that the encoder reads without
// conversion.
func (p *planar) image() image.Image {
	r := image.Rect(0, 0, p.w, p.h)
	if p.gray {
		return &image.Gray{Pix: p.y.pix, Stride: p.y.stride, Rect: r}
	}
	return &image.YCbCr{Y: p.y.pix, Cb: p.cb.pix, Cr: p.cr.pix, YStride: p.y.stride, CStride: p.cb.stride,
		SubsampleRatio: image.YCbCrSubsampleRatio420, Rect: r}
}

// sample returns a picture of at most SampleSide a side.
func (p *planar) sample() *image.RGBA {
	w, h := SampleSize(p.w, p.h)
	q := p.resize(w, h, 0, 0, float64(p.w), float64(p.h))
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			l := q.y.pix[y*w+x]
			r, g, b := l, l, l
			if !q.gray {
				c := y/2*q.cb.stride + x/2
				r, g, b = color.YCbCrToRGB(l, q.cb.pix[c], q.cr.pix[c])
			}
			out.SetRGBA(x, y, color.RGBA{r, g, b, 255})
		}
	}
	return out
}
