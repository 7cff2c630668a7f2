//go:build cgo

package main

// #cgo pkg-config: vips
// #cgo LDFLAGS: -lm
// #cgo CFLAGS: -O2 -Wall -Wno-deprecated-declarations
// #include <stdlib.h>
// #include "vips.h"
import "C"

import (
	"errors"
	"fmt"
	"image"
	"runtime"
	"strings"
	"unsafe"

	"hayloft/media"
)

// engine is the media.Engine on top of libvips.
type engine struct {
	types []string
}

// loaders names the loader of each content type: the decoder is chosen by what
// the pool found, never by libvips' own guess.
var loaders = map[string]string{
	media.TypeJPEG: "jpegload_buffer",
	media.TypePNG:  "pngload_buffer",
	media.TypeWebP: "webpload_buffer",
	media.TypeGIF:  "gifload_buffer",
	media.TypeAVIF: "heifload_buffer",
	media.TypeHEIC: "heifload_buffer",
}

// start initialises libvips, once per process.
func start() (*engine, error) {
	name := C.CString("hayloft-media")
	defer C.free(unsafe.Pointer(name))
	if C.hl_init(name) != 0 {
		return nil, lastError("starting libvips")
	}
	e := &engine{}
	for _, t := range []string{media.TypeJPEG, media.TypePNG, media.TypeWebP, media.TypeGIF, media.TypeAVIF, media.TypeHEIC} {
		op := C.CString(loaders[t])
		if C.hl_has(op) != 0 {
			e.types = append(e.types, t)
		}
		C.free(unsafe.Pointer(op))
	}
	if len(e.types) == 0 {
		return nil, errors.New("this libvips decodes none of the accepted types")
	}
	return e, nil
}

// Name implements media.Engine.
func (*engine) Name() string { return "libvips " + C.GoString(C.vips_version_string()) }

// Types implements media.Engine.
func (e *engine) Types() []string { return e.types }

// lastError takes what libvips has to say.
func lastError(doing string) error {
	text := strings.TrimSpace(strings.ToValidUTF8(C.GoString(C.vips_error_buffer()), "."))
	C.vips_error_clear()
	if len(text) > 500 {
		text = text[:500]
	}
	return fmt.Errorf("%s: %s", doing, strings.ReplaceAll(text, "\n", "; "))
}

// picture is a decoded picture in memory. It is freed by the job that made it.
type picture struct{ v *C.VipsImage }

func (p picture) width() int  { return int(p.v.Xsize) }
func (p picture) height() int { return int(p.v.Ysize) }

// job holds what one Render has made, so that all of it is freed at its end.
type job struct {
	data  unsafe.Pointer
	n     C.size_t
	owned []picture
}

func (j *job) free() {
	for _, p := range j.owned {
		C.g_object_unref(C.gpointer(unsafe.Pointer(p.v)))
	}
}

func (j *job) keep(v *C.VipsImage) picture {
	p := picture{v}
	j.owned = append(j.owned, p)
	return p
}

// loaded is a picture as it comes out of the file.
type loaded struct {
	picture
	fullW, fullH int
	space        string
}

// load decodes the file as w × h pixels, as stored.
func (j *job) load(contentType string, w, h int) (loaded, error) {
	name := C.CString(loaders[contentType])
	defer C.free(unsafe.Pointer(name))
	var v *C.VipsImage
	var converted, fullW, fullH C.int
	if C.hl_load(j.data, j.n, name, C.int(w), C.int(h), &v, &converted, &fullW, &fullH) != 0 {
		return loaded{}, media.Rejected{Type: media.RejectUndecodable, Title: lastError("The image cannot be decoded").Error()}
	}
	l := loaded{picture: j.keep(v), fullW: int(fullW), fullH: int(fullH)}
	switch {
	case converted != 0:
	case v.Bands == 1:
		l.space = "GRAY"
	default:
		l.space = "RGB "
	}
	return l, nil
}

func (j *job) upright(p picture, orientation int) (picture, error) {
	if orientation <= 1 {
		return p, nil
	}
	var v *C.VipsImage
	if C.hl_upright(p.v, C.int(orientation), &v) != 0 {
		return picture{}, lastError("turning")
	}
	return j.keep(v), nil
}

func (j *job) resize(p picture, w, h int) (picture, error) {
	if p.width() == w && p.height() == h {
		return p, nil
	}
	var v *C.VipsImage
	if C.hl_resize(p.v, C.int(w), C.int(h), &v) != 0 {
		return picture{}, lastError("resizing")
	}
	return j.keep(v), nil
}

func (j *job) square(p picture, side int) (picture, error) {
	var v *C.VipsImage
	if C.hl_square(p.v, C.int(side), &v) != 0 {
		return picture{}, lastError("cropping")
	}
	return j.keep(v), nil
}

func encode(p picture) ([]byte, error) {
	var buf unsafe.Pointer
	var n C.size_t
	if C.hl_jpeg(p.v, media.Quality, &buf, &n) != 0 {
		return nil, lastError("encoding")
	}
	defer C.g_free(C.gpointer(buf))
	return C.GoBytes(buf, C.int(n)), nil
}

// sample returns the picture as one of at most media.SampleSide a side.
func (j *job) sample(p picture) (*image.RGBA, error) {
	w, h := media.SampleSize(p.width(), p.height())
	small, err := j.resize(p, w, h)
	if err != nil {
		return nil, err
	}
	var buf unsafe.Pointer
	var n C.size_t
	if C.hl_rgb(small.v, &buf, &n) != 0 {
		return nil, lastError("sampling")
	}
	defer C.g_free(C.gpointer(buf))
	rgb := C.GoBytes(buf, C.int(n))
	if len(rgb) != w*h*3 {
		return nil, fmt.Errorf("sampling: %d bytes of %d × %d pixels", len(rgb), w, h)
	}
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		copy(out.Pix[i*4:], rgb[i*3:i*3+3])
		out.Pix[i*4+3] = 255
	}
	return out, nil
}

// Render implements media.Engine: the large variant out of the file, the
// others each out of the next larger one.
func (e *engine) Render(mj media.Job) (*media.Rendered, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&mj.Data[0]) // libvips reads it lazily, across calls
	j := &job{data: unsafe.Pointer(&mj.Data[0]), n: C.size_t(len(mj.Data))}
	defer j.free()

	info, err := media.Inspect(mj.Data, media.Limits{MaxBytes: 1 << 30, MaxPixels: mj.MaxPixels, HEIF: true})
	if err != nil {
		return nil, err
	}
	r := &media.Rendered{Width: info.Width, Height: info.Height}
	stored := func(w, h int) (int, int) {
		if mj.Orientation >= 5 {
			return h, w
		}
		return w, h
	}
	r.Width, r.Height = stored(info.Width, info.Height) // the file states no orientation of its own
	made := map[media.Variant]picture{}
	w, h := stored(media.Large.Size(r.Width, r.Height))
	full, err := j.load(mj.ContentType, w, h)
	if err != nil {
		return nil, err
	}
	if full.fullW != info.Width || full.fullH != info.Height {
		return nil, fmt.Errorf("%w: decoded to %d × %d, the header says %d × %d", media.ErrMalformed, full.fullW, full.fullH, info.Width, info.Height)
	}
	r.Space = full.space
	if made[media.Large], err = j.upright(full.picture, mj.Orientation); err != nil {
		return nil, err
	}
	for _, v := range []media.Variant{media.Medium, media.Small} {
		w, h := v.Size(r.Width, r.Height)
		if made[v], err = j.resize(made[v+1], w, h); err != nil {
			return nil, err
		}
	}
	if made[media.Thumbnail], err = j.thumbnail(mj, r, made); err != nil {
		return nil, err
	}
	return r, j.finish(r, made)
}

// thumbnail makes the square out of the smallest picture that need not be
// enlarged for it.
func (j *job) thumbnail(mj media.Job, r *media.Rendered, made map[media.Variant]picture) (picture, error) {
	side, _ := media.Thumbnail.Size(r.Width, r.Height)
	for _, v := range []media.Variant{media.Small, media.Medium, media.Large} {
		if p := made[v]; min(p.width(), p.height()) >= side {
			return j.square(p, side)
		}
	}
	// A panorama: so wide that its large variant is lower than the thumbnail.
	w, h := media.Cover(side, r.Width, r.Height)
	if mj.Orientation >= 5 {
		w, h = h, w
	}
	full, err := j.load(mj.ContentType, w, h)
	if err != nil {
		return picture{}, err
	}
	p, err := j.upright(full.picture, mj.Orientation)
	if err != nil {
		return picture{}, err
	}
	return j.square(p, side)
}

// finish encodes what was made.
func (j *job) finish(r *media.Rendered, made map[media.Variant]picture) (err error) {
	for _, v := range media.Made() {
		p := made[v]
		data, err := encode(p)
		if err != nil {
			return err
		}
		r.Variants = append(r.Variants, media.Rendition{
			Variant: v, Width: p.width(), Height: p.height(), ContentType: media.TypeJPEG, Data: data,
		})
	}
	r.Sample, err = j.sample(made[media.Small])
	return err
}
