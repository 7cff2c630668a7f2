package mediatest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"hayloft/media"
	"hayloft/testdata/photos"
)

// Conformance is what every decoding child must pass. command starts one.
func Conformance(t *testing.T, command []string) {
	p, err := media.NewPool(media.PoolOptions{Command: command, Workers: 2, Limits: media.Limits{HEIF: true},
		Events: func(e media.Event) {
			if e.Kind != media.EventStarted && e.Kind != media.EventRetired {
				t.Errorf("event %+v", e)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	engine, types, err := p.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("engine %s decodes %s", engine, strings.Join(types, ", "))
	c := conformer{p, types}
	t.Run("Photographs", c.photographs)
	t.Run("Formats", c.formats)
	t.Run("Orientations", c.orientations)
	t.Run("Sizes", c.sizes)
	t.Run("Profiles", c.profiles)
	t.Run("Privacy", c.privacy)
	t.Run("Hostile", c.hostile)
	t.Run("Mutations", c.mutations)
	if s := p.Stats(); s.Struck != 0 || s.Failures != 0 {
		t.Errorf("children died: %+v", s)
	}
}

type conformer struct {
	p     *media.Pool
	types []string
}

func (c conformer) make(t *testing.T, name string, data []byte) (media.Result, map[media.Variant]image.Image) {
	t.Helper()
	r, err := c.p.Make(context.Background(), data)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	decoded := map[media.Variant]image.Image{}
	for _, v := range r.Variants {
		m, err := jpeg.Decode(bytes.NewReader(v.Data))
		if err != nil {
			t.Fatalf("%s: variant %v: %v", name, v.Variant, err)
		}
		w, h := v.Variant.Size(r.Width, r.Height)
		if b := m.Bounds(); b.Dx() != w || b.Dy() != h || v.Width != w || v.Height != h {
			t.Fatalf("%s: variant %v has %v, the answer says %d × %d, it should be %d × %d", name, v.Variant, b, v.Width, v.Height, w, h)
		}
		decoded[v.Variant] = m
	}
	return r, decoded
}

// photographs compares the variants of real photographs with a plain average
// of the original's pixels.
func (c conformer) photographs(t *testing.T) {
	for _, name := range []string{"fig.jpg", "friends.jpg", "nuthatch.jpg", "sea.jpg"} {
		ph := photos.ByName(name)
		info, err := media.Inspect(ph.Data, media.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		r, got := c.make(t, name, ph.Data)
		if r.Width != info.Width || r.Height != info.Height {
			t.Errorf("%s: %d × %d", name, r.Width, r.Height)
		}
		original, err := jpeg.Decode(bytes.NewReader(ph.Data))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []media.Variant{media.Large, media.Small} {
			p := psnr(got[v], original, info)
			t.Logf("%s: variant %v is %.1f dB from the average of the original's pixels", name, v, p)
			if p < 30 {
				t.Error("which is too far")
			}
		}
	}
}

// psnr compares the luma of a variant with the box average of the original.
func psnr(small, original image.Image, info media.Info) float64 {
	b := small.Bounds()
	o := original.(*image.YCbCr)
	ow, oh := o.Rect.Dx(), o.Rect.Dy()
	sum, n := 0.0, 0
	at := func(x, y int) float64 { return float64(o.Y[y*o.YStride+x]) }
	if info.Orientation == 6 { // no other occurs
		ow, oh = oh, ow
		at = func(x, y int) float64 { return float64(o.Y[(o.Rect.Dy()-1-x)*o.YStride+y]) }
	}
	for y := 0; y < b.Dy(); y += 3 {
		for x := 0; x < b.Dx(); x += 3 {
			x0, x1 := x*ow/b.Dx(), (x+1)*ow/b.Dx()
			y0, y1 := y*oh/b.Dy(), (y+1)*oh/b.Dy()
			mean := 0.0
			for sy := y0; sy < y1; sy++ {
				for sx := x0; sx < x1; sx++ {
					mean += at(sx, sy)
				}
			}
			mean /= float64((x1 - x0) * (y1 - y0))
			d := luma(small.At(b.Min.X+x, b.Min.Y+y)) - mean
			sum += d * d
			n++
		}
	}
	return 10 * math.Log10(255*255/(sum/float64(n)))
}

func luma(c color.Color) float64 {
	return float64(color.GrayModel.Convert(c).(color.Gray).Y)
}

// quadrants checks the four colours of a picture of Picture.
func quadrants(t *testing.T, name string, m image.Image, want [4]color.RGBA, tolerance int) {
	t.Helper()
	b := m.Bounds()
	for i, q := range want {
		x, y := b.Min.X+b.Dx()*(1+2*(i%2))/4, b.Min.Y+b.Dy()*(1+2*(i/2))/4
		r, g, bl, _ := m.At(x, y).RGBA()
		got := color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(bl >> 8), 255}
		if off(got.R, q.R) > tolerance || off(got.G, q.G) > tolerance || off(got.B, q.B) > tolerance {
			t.Errorf("%s: quadrant %d is %v, want %v", name, i, got, q)
		}
	}
}

func off(a, b uint8) int { return max(int(a)-int(b), int(b)-int(a)) }

// formats runs through the files of testdata.
func (c conformer) formats(t *testing.T) {
	for _, name := range Files() {
		data := File(name)
		info, err := media.Inspect(data, media.Limits{HEIF: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		known := false
		for _, typ := range c.types {
			known = known || typ == info.ContentType
		}
		if !known {
			var verdict media.Rejected
			if _, err := c.p.Make(context.Background(), data); !errors.As(err, &verdict) || verdict.Type != media.RejectUnsupported {
				t.Errorf("%s: %v, want it refused as unsupported", name, err)
			}
			continue
		}
		r, got := c.make(t, name, data)
		if r.Width != 240 || r.Height != 160 {
			t.Errorf("%s: %d × %d", name, r.Width, r.Height)
		}
		want, tolerance := Quadrants, 6
		switch {
		case strings.HasPrefix(name, "gray"):
			want = [4]color.RGBA{{69, 69, 69, 255}, {135, 135, 135, 255}, {56, 56, 56, 255}, {199, 199, 199, 255}}
		case strings.HasPrefix(name, "alpha"):
			want[3] = color.RGBA{255, 255, 255, 255}
		case name == "cmyk.jpg": // presses differ: the tints are enough
			tolerance = 90
		}
		for v, m := range got {
			quadrants(t, name+" "+v.String(), m, want, tolerance)
		}
	}
}

func (c conformer) orientations(t *testing.T) {
	for o := 1; o <= 8; o++ {
		up := Picture(500, 300)
		file := PlantJPEG(JPEG(Stored(up, o), 95), o)
		r, got := c.make(t, "orientation", file)
		if r.Width != 500 || r.Height != 300 {
			t.Errorf("orientation %d: %d × %d", o, r.Width, r.Height)
		}
		for v, m := range got {
			quadrants(t, "orientation "+string(rune('0'+o))+" "+v.String(), m, Quadrants, 6)
		}
		if r.Colour == "#000000" || r.Placeholder == "" {
			t.Errorf("orientation %d: colour %s, placeholder %q", o, r.Colour, r.Placeholder)
		}
	}
}

// sizes makes pictures of every odd shape. make checks what comes out.
func (c conformer) sizes(t *testing.T) {
	for _, s := range [][2]int{{1, 1}, {2, 3}, {100, 80}, {149, 151}, {320, 1}, {1, 900}, {3000, 100}, {100, 5000},
		{1081, 719}, {1080, 1080}, {641, 320}, {2161, 1441}, {3001, 200}, {65_000, 8}} {
		name := "picture " + image.Pt(s[0], s[1]).String()
		_, got := c.make(t, name, JPEG(Picture(s[0], s[1]), 90))
		if s[0] >= 100 && s[1] >= 80 {
			quadrants(t, name, got[media.Large], Quadrants, 12) // rings near an edge
		}
		if o := 6; s[0] == 3001 {
			_, got := c.make(t, name, PlantJPEG(JPEG(Stored(Picture(s[0], s[1]), o), 90), o))
			quadrants(t, name+" lying", got[media.Thumbnail], Quadrants, 12)
		}
	}
}

// profiles checks that a colour profile reaches the variants, and no other.
func (c conformer) profiles(t *testing.T) {
	rgb, grey := ICCProfile("RGB ", 70_000), ICCProfile("GRAY", 400)
	for _, x := range []struct {
		name string
		file []byte
		want []byte
	}{
		{"JPEG", PlantICC(JPEG(Picture(400, 300), 90), rgb), rgb},
		{"grey JPEG", PlantICC(File("gray.jpg"), grey), grey},
		{"grey JPEG with a colour profile", PlantICC(File("gray.jpg"), rgb), nil},
		{"CMYK", PlantICC(File("cmyk.jpg"), rgb), nil},
		{"none", JPEG(Picture(40, 30), 90), nil},
	} {
		r, _ := c.make(t, x.name, x.file)
		for _, v := range r.Variants {
			if got := media.ICC(media.TypeJPEG, v.Data); !bytes.Equal(got, x.want) {
				t.Errorf("%s: variant %v has a profile of %d bytes, want %d", x.name, v.Variant, len(got), len(x.want))
			}
		}
	}
}

// PlantICC returns the JPEG with a profile in APP2 segments.
func PlantICC(file, icc []byte) []byte {
	const chunk = 60_000
	n := (len(icc) + chunk - 1) / chunk
	out := bytes.Clone(file[:2])
	for i := range n {
		out = append(out, JPEGSegment(0xe2, []byte("ICC_PROFILE\x00"), []byte{byte(i + 1), byte(n)}, icc[i*chunk:min(len(icc), (i+1)*chunk)])...)
	}
	return append(out, file[2:]...)
}

// privacy checks that nothing planted reaches a variant.
func (c conformer) privacy(t *testing.T) {
	for name, file := range map[string][]byte{
		"JPEG": append(PlantJPEG(JPEG(Picture(300, 200), 90), 6), Trailing...),
		"PNG":  append(PlantPNG(PNG(Picture(300, 200)), 3), Trailing...),
		"WebP": append(PlantWebP(File("alpha.webp"), 1), Trailing...),
		"GIF":  append(PlantGIF(File("animated.gif")), Trailing...),
	} {
		r, _ := c.make(t, name, file)
		for _, v := range r.Variants {
			Clean(t, name+" "+v.Variant.String(), v.Data)
		}
	}
}

// Clean fails the test when data holds one of the Secrets.
func Clean(t *testing.T, name string, data []byte) {
	t.Helper()
	for _, s := range Secrets {
		if i := bytes.Index(data, s); i >= 0 {
			t.Errorf("%s: %q at %d", name, s, i)
		}
	}
}

// hostile checks the verdicts on files that are no photographs.
func (c conformer) hostile(t *testing.T) {
	whole := JPEG(Picture(400, 300), 90)
	noisy := PNG(Picture(64, 64))
	badPixels := bytes.Clone(noisy)
	at := bytes.Index(badPixels, []byte("IDAT"))
	n := int(binary.BigEndian.Uint32(badPixels[at-4:]))
	badPixels = append(append(badPixels[:at-4:at-4], PNGChunk("IDAT", bytes.Repeat([]byte{0xa5}, n))...), noisy[at+4+n+4:]...)
	for _, x := range []struct {
		name string
		file []byte
		want string
	}{
		{"50,000 × 50,000 PNG", HugePNG(), media.RejectTooManyPixels},
		{"50,000 × 50,000 JPEG", HugeJPEG(), media.RejectTooManyPixels},
		{"truncated JPEG", whole[:len(whole)/2], media.RejectTruncated},
		{"PNG with pixels that do not unpack", badPixels, media.RejectUndecodable},
		{"text", []byte("hello, world"), media.RejectUnsupported},
		{"SVG", []byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`), media.RejectUnsupported},
		{"empty", nil, media.RejectUnsupported},
	} {
		_, err := c.p.Make(context.Background(), x.file)
		var verdict media.Rejected
		if !errors.As(err, &verdict) || verdict.Type != x.want || verdict.Title == "" {
			t.Errorf("%s: %v, want %s", x.name, err, x.want)
		}
	}
}

// mutations damages files at random: whatever comes of it, the child stays.
func (c conformer) mutations(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	var seeds [][]byte
	for _, name := range Files() {
		if !strings.HasSuffix(name, "f") || strings.HasSuffix(name, "gif") { // still.avif is slow to decode
			seeds = append(seeds, File(name))
		}
	}
	made, refused := 0, 0
	for range 300 {
		data := bytes.Clone(seeds[r.IntN(len(seeds))])
		for range 1 + r.IntN(4) {
			data[12+r.IntN(len(data)-12)] = byte(r.Uint32())
		}
		_, err := c.p.Make(context.Background(), data)
		var verdict media.Rejected
		switch {
		case err == nil:
			made++
		case errors.As(err, &verdict):
			refused++
		default:
			t.Fatalf("%v of % x", err, data)
		}
	}
	t.Logf("%d made, %d refused", made, refused)
}
