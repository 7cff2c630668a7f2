package media

import (
	"bytes"
	"fmt"
	"image/jpeg"
	"io"
)

// Quality is the JPEG quality of all variants.
const Quality = 82

// RunWorker is the whole of a decoding child in pure Go: `hayloft media-worker`
// calls it with its standard input and output. It returns when in ends.
func RunWorker(in io.Reader, out io.Writer, l Limits) error {
	return Serve(in, out, l.MaxBytes, goEngine{})
}

// goEngine is the Engine of RunWorker.
type goEngine struct{}

func (goEngine) Name() string    { return "go" }
func (goEngine) Types() []string { return []string{TypeJPEG, TypePNG, TypeWebP, TypeGIF} }

// Render implements Engine.
func (goEngine) Render(j Job) (*Rendered, error) { return RenderGo(j) }

// RenderGo does the pixel work of RunWorker: the large variant out of the decoded pixels, all
// others out of one that is already small.
func RenderGo(j Job) (*Rendered, error) {
	full, space, err := decodePlanar(j)
	if err != nil {
		return nil, err
	}
	r := &Rendered{Width: full.w, Height: full.h, Space: space}
	if j.Orientation >= 5 {
		r.Width, r.Height = full.h, full.w
	}
	made := map[Variant]*planar{}
	from := full
	for _, v := range []Variant{Large, Medium, Small} {
		w, h := v.Size(r.Width, r.Height)
		if v == Large { // turned once it is small
			if j.Orientation >= 5 {
				w, h = h, w
			}
			from = full.resize(w, h, 0, 0, float64(full.w), float64(full.h)).turn(j.Orientation)
		} else {
			from = from.resize(w, h, 0, 0, float64(from.w), float64(from.h))
		}
		made[v] = from
	}
	made[Thumbnail] = squareOf(full, j.Orientation, made[Small], made[Medium], made[Large])
	for _, v := range Made() {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, made[v].image(), &jpeg.Options{Quality: Quality}); err != nil {
			return nil, fmt.Errorf("encoding %v: %w", v, err)
		}
		r.Variants = append(r.Variants, Rendition{v, made[v].w, made[v].h, TypeJPEG, b.Bytes()})
	}
	r.Sample = made[Small].sample()
	return r, nil
}

// squareOf makes the thumbnail out of the smallest picture that need not be
// enlarged for it.
func squareOf(full *planar, orientation int, upright ...*planar) *planar {
	side := min(thumbnailSide, full.w, full.h)
	crop := func(p *planar) *planar {
		c := float64(min(p.w, p.h))
		return p.resize(side, side, (float64(p.w)-c)/2, (float64(p.h)-c)/2, c, c)
	}
	for _, p := range upright {
		if min(p.w, p.h) >= side {
			return crop(p)
		}
	}
	return crop(full).turn(orientation)
}
