package media_test

import (
	"bytes"
	"image"
	"image/gif"
	_ "image/gif"
	_ "image/jpeg"
	_ "image/png"
	"reflect"
	"testing"

	_ "golang.org/x/image/webp"

	"hayloft/media"
	"hayloft/media/mediatest"
	"hayloft/testdata/photos"
)

// planted returns files of every format that are full of secrets.
func planted() map[string][]byte {
	m := map[string][]byte{
		"friends.jpg":     photos.ByName("friends.jpg").Data,
		"lying.jpg":       mediatest.PlantJPEG(mediatest.JPEG(mediatest.Picture(300, 200), 90), 6),
		"profile.jpg":     mediatest.PlantJPEG(mediatest.PlantICC(mediatest.File("progressive444.jpg"), mediatest.ICCProfile("RGB ", 70_000)), 3),
		"upright.png":     mediatest.PlantPNG(mediatest.File("palette.png"), 1),
		"lying.png":       mediatest.PlantPNG(mediatest.File("depth16.png"), 8),
		"lying.webp":      mediatest.PlantWebP(mediatest.File("alpha.webp"), 6),
		"animated.webp":   mediatest.PlantWebP(mediatest.File("animated.webp"), 1),
		"animated.gif":    mediatest.PlantGIF(mediatest.File("animated.gif")),
		"planted.heic":    mediatest.File("planted.heic"),
		"planted.avif":    mediatest.File("planted.avif"),
		"progressive.jpg": mediatest.PlantJPEG(photos.ByName("nuthatch.jpg").Data, 1),
	}
	for name := range m {
		if name != "planted.heic" && name != "planted.avif" {
			m[name] = append(bytes.Clone(m[name]), mediatest.Trailing...)
		}
	}
	return m
}

func TestStripTakesOutEverySecret(t *testing.T) {
	for name, file := range planted() {
		found := 0
		for _, s := range mediatest.Secrets {
			if bytes.Contains(file, s) {
				found++
			}
		}
		if found < 3 {
			t.Fatalf("%s: only %d secrets are planted: the test is blind", name, found)
		}
		before, err := media.Inspect(file, withHEIF)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		clean, err := media.Strip(before.ContentType, file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		mediatest.Clean(t, name, clean)
		after, err := media.Inspect(clean, withHEIF)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if after.Width != before.Width || after.Height != before.Height || after.Orientation != before.Orientation || after.End != len(clean) {
			t.Errorf("%s: %+v became %+v", name, before, after)
		}
		if again, err := media.Strip(before.ContentType, clean); err != nil || !bytes.Equal(again, clean) {
			t.Errorf("%s: stripping twice differs: %v", name, err)
		}
		if icc := media.ICC(before.ContentType, file); !bytes.Equal(icc, media.ICC(before.ContentType, clean)) {
			t.Errorf("%s: the colour profile changed", name)
		}
	}
}

// Stripping changes no pixel.
func TestStripKeepsEveryPixel(t *testing.T) {
	files := planted()
	for _, name := range mediatest.Files() {
		files[name] = mediatest.File(name)
	}
	for _, ph := range photos.All()[:6] {
		files[ph.Name] = ph.Data
	}
	for name, file := range files {
		info, err := media.Inspect(file, withHEIF)
		if err != nil {
			t.Fatal(err)
		}
		clean, err := media.Strip(info.ContentType, file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		switch {
		case info.ContentType == media.TypeAVIF || info.ContentType == media.TypeHEIC:
			continue // decoded in cmd/hayloft-media's tests
		case name == "animated.webp":
			continue // as above
		case info.ContentType == media.TypeGIF:
			a, err1 := gif.DecodeAll(bytes.NewReader(file))
			b, err2 := gif.DecodeAll(bytes.NewReader(clean))
			if err1 != nil || err2 != nil || !reflect.DeepEqual(a, b) {
				t.Errorf("%s: frames, timing or repeats changed: %v, %v", name, err1, err2)
			}
			continue
		}
		a, _, err1 := image.Decode(bytes.NewReader(file))
		b, _, err2 := image.Decode(bytes.NewReader(clean))
		if err1 != nil || err2 != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: pixels changed: %v, %v", name, err1, err2)
		}
	}
}

func TestStripKeepsWhatTheColoursNeed(t *testing.T) {
	profile := mediatest.ICCProfile("RGB ", 4000)
	file := mediatest.PlantICC(mediatest.File("s422.jpg"), profile)
	clean, err := media.Strip(media.TypeJPEG, file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(media.ICC(media.TypeJPEG, clean), profile) {
		t.Error("the JPEG lost its profile")
	}
	png := mediatest.PNG(mediatest.Picture(8, 8))
	gamma := mediatest.PNGChunk("gAMA", []byte{0, 1, 0x86, 0xa0})
	png = append(append(bytes.Clone(png[:33]), gamma...), png[33:]...)
	clean, err = media.Strip(media.TypePNG, png)
	if err != nil || !bytes.Contains(clean, gamma) {
		t.Errorf("the PNG lost its gamma: %v", err)
	}
	// CMYK numbers mean nothing without Adobe's flag.
	clean, err = media.Strip(media.TypeJPEG, mediatest.File("cmyk.jpg"))
	if err != nil || !bytes.Contains(clean, []byte("Adobe")) {
		t.Errorf("the CMYK JPEG lost its flag: %v", err)
	}
	if _, err := media.Strip(media.TypePNG, file); err == nil {
		t.Error("a JPEG was stripped as a PNG")
	}
}
