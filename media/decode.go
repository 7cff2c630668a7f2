package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"

	"golang.org/x/image/webp"
)

// decodePlanar decodes the pixels of a job's file. space is that of Rendered.
func decodePlanar(j Job) (p *planar, space string, err error) {
	var m image.Image
	switch j.ContentType {
	case TypeJPEG:
		m, err = jpeg.Decode(bytes.NewReader(j.Data))
	case TypePNG:
		m, err = png.Decode(bytes.NewReader(j.Data))
	case TypeGIF:
		m, err = decodeGIF(j.Data)
	case TypeWebP:
		m, err = decodeWebP(j.Data)
	default:
		return nil, "", fmt.Errorf("%w: %s is not decoded here", ErrUnsupported, j.ContentType)
	}
	if err != nil {
		return nil, "", Rejected{RejectUndecodable, "The image cannot be decoded: " + err.Error()}
	}
	switch m := m.(type) {
	case *image.YCbCr:
		p = fromYCbCr(m)
		if j.ContentType == TypeWebP {
			p.widen()
		}
		return p, "RGB ", nil
	case *image.Gray:
		b := m.Bounds()
		return &planar{w: b.Dx(), h: b.Dy(), sx: 1, sy: 1, gray: true,
			y: plane{m.Pix, b.Dx(), b.Dy(), m.Stride}}, "GRAY", nil
	case *image.CMYK:
		return fromImage(m), "", nil
	}
	return fromImage(m), "RGB ", nil
}

// decodeGIF returns the first frame on its screen.
func decodeGIF(data []byte) (image.Image, error) {
	c, err := gif.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	frame, err := gif.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	screen := image.NewNRGBA(image.Rect(0, 0, c.Width, c.Height))
	draw.Draw(screen, frame.Bounds(), frame, frame.Bounds().Min, draw.Src)
	return screen, nil
}

// decodeWebP decodes a still WebP, or the first frame of an animation on its
// canvas.
func decodeWebP(data []byte) (image.Image, error) {
	var frame []byte
	s, err := walkWebP(data, unlimited, func(c webpChunk) {
		if c.kind == "ANMF" && frame == nil {
			frame = c.data
		}
	})
	if err != nil {
		return nil, err
	}
	if frame == nil {
		return webp.Decode(bytes.NewReader(data))
	}
	m, err := webp.Decode(bytes.NewReader(stillWebP(frame)))
	if err != nil {
		return nil, err
	}
	if y, ok := m.(*image.YCbCr); ok && m.Bounds() == image.Rect(0, 0, s.width, s.height) {
		return y, nil
	}
	canvas := image.NewNRGBA(image.Rect(0, 0, s.width, s.height))
	at := image.Pt(2*int(le24(frame)), 2*int(le24(frame[3:])))
	draw.Draw(canvas, m.Bounds().Add(at), upright{m}, m.Bounds().Min, draw.Src)
	return canvas, nil
}

// upright is an image whose VP8 colours are told right, pixel by pixel.
type upright struct{ image.Image }

func (u upright) At(x, y int) color.Color {
	switch m := u.Image.(type) {
	case *image.YCbCr:
		return widenColour(m.YCbCrAt(x, y))
	case *image.NYCbCrA:
		a := m.NYCbCrAAt(x, y)
		r, g, b, _ := widenColour(a.YCbCr).RGBA()
		return color.NRGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), a.A}
	}
	return u.Image.At(x, y)
}

// stillWebP makes a file out of a frame of an animation that walkWebP let pass.
func stillWebP(frame []byte) []byte {
	out := append([]byte("RIFF\x00\x00\x00\x00WEBP"), "VP8X\x0a\x00\x00\x00"...)
	flags := len(out)
	out = append(out, 0, 0, 0, 0)
	out = append(out, frame[6:12]...) // width − 1 and height − 1
	bare := len(out)
	err := riffChunks(frame[16:], func(_ int, c webpChunk) error {
		switch c.kind {
		case "ALPH":
			out[flags] |= vp8xAlpha
			out = appendRIFF(out, c.kind, c.data)
		case "VP8 ":
			out = appendRIFF(out, c.kind, c.data)
		case "VP8L": // carries its alpha itself, without a header around it
			out = appendRIFF(out[:12:12], c.kind, c.data)
		}
		return nil
	}, nil)
	if err != nil {
		panic("media: a frame that has been walked: " + err.Error())
	}
	if out[flags] == 0 && len(out) > bare && string(out[bare:bare+4]) == "VP8 " {
		out = append(out[:12:12], out[bare:]...)
	}
	binary.LittleEndian.PutUint32(out[4:], uint32(len(out)-8))
	return out
}

// A VP8 frame codes luma from 16 to 235 and chroma from 16 to 240 (RFC 6386,
// 9.2), where a JPEG uses all 256 values; the decoder hands out the former.
var wideY, wideC = func() (y, c [256]uint8) {
	for i := range 256 {
		y[i] = clamp(int32(((i-16)*255 + 109) / 219))
		c[i] = clamp(int32(((i-128)*255 + 224*128 + 112) / 224))
	}
	return y, c
}()

func widenColour(c color.YCbCr) color.YCbCr {
	return color.YCbCr{Y: wideY[c.Y], Cb: wideC[c.Cb], Cr: wideC[c.Cr]}
}

// widen turns the planes of a VP8 frame into those of a JPEG, in place.
func (p *planar) widen() {
	for i, v := range p.y.pix {
		p.y.pix[i] = wideY[v]
	}
	for i, v := range p.cb.pix {
		p.cb.pix[i] = wideC[v]
	}
	for i, v := range p.cr.pix {
		p.cr.pix[i] = wideC[v]
	}
}

func fromYCbCr(m *image.YCbCr) *planar {
	b := m.Bounds()
	p := &planar{w: b.Dx(), h: b.Dy(), sx: 1, sy: 1}
	switch m.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		p.sx = 2
	case image.YCbCrSubsampleRatio420:
		p.sx, p.sy = 2, 2
	case image.YCbCrSubsampleRatio440:
		p.sy = 2
	case image.YCbCrSubsampleRatio411:
		p.sx = 4
	case image.YCbCrSubsampleRatio410:
		p.sx, p.sy = 4, 2
	}
	cw, ch := (p.w+p.sx-1)/p.sx, (p.h+p.sy-1)/p.sy
	p.y = plane{m.Y, p.w, p.h, m.YStride}
	p.cb, p.cr = plane{m.Cb, cw, ch, m.CStride}, plane{m.Cr, cw, ch, m.CStride}
	return p
}

// fromImage converts any image, laid on white where it is transparent.
func fromImage(m image.Image) *planar {
	b := m.Bounds()
	p := &planar{w: b.Dx(), h: b.Dy(), sx: 1, sy: 1}
	p.y, p.cb, p.cr = newPlane(p.w, p.h), newPlane(p.w, p.h), newPlane(p.w, p.h)
	if a, ok := m.(*image.NYCbCrA); ok { // only WebP makes these
		m = upright{a}
	}
	line := image.NewRGBA(image.Rect(0, 0, p.w, 1))
	for y := range p.h {
		draw.Draw(line, line.Rect, image.White, image.Point{}, draw.Src)
		draw.Draw(line, line.Rect, m, image.Pt(b.Min.X, b.Min.Y+y), draw.Over)
		for x := range p.w {
			i := y*p.w + x
			c := line.Pix[x*4:]
			p.y.pix[i], p.cb.pix[i], p.cr.pix[i] = color.RGBToYCbCr(c[0], c[1], c[2])
		}
	}
	return p
}
