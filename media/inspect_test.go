package media_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"hayloft/media"
	"hayloft/media/mediatest"
	"hayloft/testdata/photos"
)

var withHEIF = media.Limits{HEIF: true}

func TestInspectPhotographs(t *testing.T) {
	for name, want := range map[string]media.Info{
		"bridge.jpg":  {ContentType: media.TypeJPEG, Ext: "jpg", Width: 4352, Height: 2448, Orientation: 1},
		"friends.jpg": {ContentType: media.TypeJPEG, Ext: "jpg", Width: 2056, Height: 3088, Orientation: 6},
		"wine.jpg":    {ContentType: media.TypeJPEG, Ext: "jpg", Width: 2560, Height: 3837, Orientation: 1},
	} {
		data := photos.ByName(name).Data
		want.End = len(data)
		if got, err := media.Inspect(data, media.Limits{}); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
}

func TestInspectFindsTheEndOfTheImage(t *testing.T) {
	for _, name := range mediatest.Files() {
		data := mediatest.File(name)
		plain, err := media.Inspect(data, withHEIF)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if plain.Width != 240 || plain.Height != 160 {
			t.Errorf("%s: %d × %d", name, plain.Width, plain.Height)
		}
		got, err := media.Inspect(append(data, mediatest.Trailing...), withHEIF)
		if plain.ContentType == media.TypeAVIF || plain.ContentType == media.TypeHEIC {
			// What follows is taken for a box that is cut short.
			if err == nil && got.End != len(data) {
				t.Errorf("%s with bytes after it: %+v", name, got)
			}
			continue
		}
		if err != nil || got != plain || got.End != len(data) {
			t.Errorf("%s with bytes after it: %+v, %v, want %+v", name, got, err, plain)
		}
	}
}

// No proper prefix of an image is an image.
func TestInspectRefusesEveryPrefix(t *testing.T) {
	for _, name := range mediatest.Files() {
		data := mediatest.File(name)
		for n := range data {
			_, err := media.Inspect(data[:n], withHEIF)
			if !errors.Is(err, media.ErrTruncated) && !errors.Is(err, media.ErrUnsupported) {
				t.Fatalf("the first %d of %d bytes of %s: %v", n, len(data), name, err)
			}
			if n > 40 && !errors.Is(err, media.ErrTruncated) {
				t.Fatalf("the first %d of %d bytes of %s: %v, want ErrTruncated", n, len(data), name, err)
			}
		}
	}
}

func TestInspectVerdicts(t *testing.T) {
	whole := mediatest.JPEG(mediatest.Picture(400, 300), 90)
	png := mediatest.PNG(mediatest.Picture(40, 30))
	gif := mediatest.File("animated.gif")
	webp := mediatest.File("lossy.webp")
	extended := mediatest.File("alpha.webp")
	change := func(b []byte, at int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], v)
		return b
	}
	sof := bytes.Index(whole, []byte{0xff, 0xc0})
	sos := bytes.Index(whole, []byte{0xff, 0xda})
	scan := whole[sos : len(whole)-2]
	for _, x := range []struct {
		name string
		data []byte
		want error
	}{
		{"empty", nil, media.ErrUnsupported},
		{"two bytes of a JPEG", whole[:2], media.ErrUnsupported},
		{"half a JPEG", whole[:len(whole)/2], media.ErrTruncated},
		{"JPEG, 50,000 × 50,000", mediatest.HugeJPEG(), media.ErrTooManyPixels},
		{"PNG, 50,000 × 50,000", mediatest.HugePNG(), media.ErrTooManyPixels},
		{"JPEG of height 0", mediatest.Resized(whole, 400, 0), media.ErrMalformed},
		{"JPEG, lossless", change(whole, sof+1, 0xc3), media.ErrUnsupported},
		{"JPEG, arithmetic", change(whole, sof+1, 0xc9), media.ErrUnsupported},
		{"JPEG, 12 bits", change(whole, sof+4, 12), media.ErrUnsupported},
		{"JPEG, frame too short", change(whole, sof+9, 200), media.ErrMalformed},
		{"JPEG, two frames", append(bytes.Clone(whole[:sof+19]), whole[sof:]...), media.ErrMalformed},
		{"JPEG without a scan", append(bytes.Clone(whole[:sos]), 0xff, 0xd9), media.ErrMalformed},
		{"JPEG, scan before frame", append(append(bytes.Clone(whole[:2]), scan...), whole[2:]...), media.ErrMalformed},
		{"JPEG of 200 scans", append(append(bytes.Clone(whole[:sos]), bytes.Repeat(scan, 200)...), 0xff, 0xd9), media.ErrMalformed},
		{"JPEG, segment of length 1", append(bytes.Clone(whole[:2]), 0xff, 0xe5, 0, 1), media.ErrMalformed},
		{"JPEG, no marker", append(bytes.Clone(whole[:2]), 0xff, 0xe5, 0, 2, 1, 2), media.ErrTruncated},
		{"JPEG within a JPEG", append([]byte{0xff, 0xd8}, whole...), media.ErrMalformed},
		{"PNG, checksum", change(png, 30, png[30]^1), media.ErrMalformed},
		{"PNG without pixels", append(bytes.Clone(png[:33]), mediatest.PNGChunk("IEND", nil)...), media.ErrMalformed},
		{"PNG, header twice", append(bytes.Clone(png[:33]), png[8:]...), media.ErrMalformed},
		{"PNG, pixels first", append(bytes.Clone(png[:8]), png[33:]...), media.ErrMalformed},
		{"PNG, unknown critical chunk", append(append(bytes.Clone(png[:33]), mediatest.PNGChunk("NEWS", nil)...), png[33:]...), media.ErrUnsupported},
		{"PNG, chunk of 4 GB", change(png, 33, 0xff, 0xff, 0xff, 0xff), media.ErrMalformed},
		{"GIF of width 0", change(gif, 6, 0, 0), media.ErrMalformed},
		{"GIF, frame beyond the screen", change(gif, 6, 10, 0), media.ErrMalformed},
		{"GIF without images", append(bytes.Clone(gif[:6]), 1, 0, 1, 0, 0, 0, 0, 0x3b), media.ErrMalformed},
		{"GIF, unknown block", append(bytes.Clone(gif[:6]), 1, 0, 1, 0, 0, 0, 0, 0x99), media.ErrMalformed},
		{"WebP, not a key frame", change(webp, 20, 1), media.ErrMalformed},
		{"WebP, canvas of another size", change(extended, 24, 9), media.ErrMalformed},
		{"WebP, canvas of 16 M × 16 M", change(extended, 24, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), media.ErrTooManyPixels},
		{"WebP without a picture", []byte("RIFF\x04\x00\x00\x00WEBP"), media.ErrMalformed},
		{"AVIF where it is off", mediatest.File("still.avif"), media.ErrUnsupported},
		{"SVG", []byte("  <svg xmlns='http://www.w3.org/2000/svg'/>"), media.ErrUnsupported},
		{"XML", []byte("\xef\xbb\xbf<?xml version='1.0'?><svg/>"), media.ErrUnsupported},
		{"PDF", []byte("%PDF-1.7\n"), media.ErrUnsupported},
		{"TIFF", []byte("II*\x00\x08\x00\x00\x00"), media.ErrUnsupported},
		{"MVG", []byte("push graphic-context\n"), media.ErrUnsupported},
		{"BMP", []byte("BM\x00\x00"), media.ErrUnsupported},
		{"MP4", []byte("\x00\x00\x00\x14ftypisom\x00\x00\x00\x00mp41"), media.ErrUnsupported},
	} {
		if _, err := media.Inspect(x.data, media.Limits{}); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", x.name, err, x.want)
		}
		if _, ok := media.RejectionOf(x.want); !ok {
			t.Errorf("%v is no rejection", x.want)
		}
	}
	if n := len(mediatest.HugeJPEG()); n > 2048 {
		t.Errorf("HugeJPEG has %d bytes", n)
	}
}

func TestInspectKeepsToItsLimits(t *testing.T) {
	file := mediatest.JPEG(mediatest.Picture(200, 100), 90)
	for _, x := range []struct {
		l    media.Limits
		want error
	}{
		{media.Limits{MaxBytes: int64(len(file))}, nil},
		{media.Limits{MaxBytes: int64(len(file)) - 1}, media.ErrTooLarge},
		{media.Limits{MaxPixels: 20_000}, nil},
		{media.Limits{MaxPixels: 19_999}, media.ErrTooManyPixels},
		{media.Limits{MaxSide: 200}, nil},
		{media.Limits{MaxSide: 199}, media.ErrTooManyPixels},
	} {
		if _, err := media.Inspect(file, x.l); !errors.Is(err, x.want) {
			t.Errorf("%+v: %v, want %v", x.l, err, x.want)
		}
	}
	if err := (media.Limits{MaxBytes: -1, MaxPixels: -1, MaxSide: -1}).Validate(); err == nil || bytes.Count([]byte(err.Error()), []byte("\n")) != 2 {
		t.Errorf("three faults: %v", err)
	}
}

// Stray bytes between segments are passed over, and left out of the original.
func TestStrayBytesBetweenSegments(t *testing.T) {
	whole := mediatest.JPEG(mediatest.Picture(40, 30), 90)
	at := 4 + int(binary.BigEndian.Uint16(whole[4:])) // behind the first segment
	stray := append(append(bytes.Clone(whole[:at]), "\x00stray\xff\x00\xff\xd3\xff\xff\xff"...), whole[at:]...)
	info, err := media.Inspect(stray, media.Limits{})
	if err != nil || info.Width != 40 || info.End != len(stray) {
		t.Fatalf("%+v, %v", info, err)
	}
	a, err1 := media.Strip(media.TypeJPEG, stray)
	b, err2 := media.Strip(media.TypeJPEG, whole)
	if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Errorf("the stray bytes stay: %v, %v", err1, err2)
	}
}

// Odd metadata is no reason to refuse a photo, nor to turn it.
func TestInspectOrientation(t *testing.T) {
	base := mediatest.JPEG(mediatest.Picture(30, 20), 90)
	with := func(tiff []byte) []byte {
		seg := mediatest.JPEGSegment(0xe1, []byte("Exif\x00\x00"), tiff)
		return append(append(bytes.Clone(base[:2]), seg...), base[2:]...)
	}
	good := mediatest.Exif(8)
	big := []byte("MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x05\x00\x00\x00\x00\x00\x00")
	for i := range len(good) { // cut short anywhere: right or upright, never anything else
		info, err := media.Inspect(with(good[:i]), media.Limits{})
		if err != nil || info.Orientation != 1 && info.Orientation != 8 {
			t.Fatalf("EXIF of %d bytes: %+v, %v", i, info, err)
		}
	}
	far := bytes.Clone(good)
	binary.LittleEndian.PutUint32(far[4:], 0xffffffff)
	for _, x := range []struct {
		tiff []byte
		want int
	}{{good, 8}, {big, 5}, {far, 1}, {mediatest.Exif(0), 1}, {mediatest.Exif(9), 1}} {
		if info, err := media.Inspect(with(x.tiff), media.Limits{}); err != nil || info.Orientation != x.want {
			t.Errorf("orientation %d, %v, want %d", info.Orientation, err, x.want)
		}
	}
}

func TestVariantSizes(t *testing.T) {
	for _, x := range []struct {
		v            media.Variant
		w, h, ww, wh int
	}{
		{media.Large, 2160, 1080, 1080, 540},
		{media.Large, 1080, 5000, 933, 4320},
		{media.Large, 1079, 4320, 1079, 4320},
		{media.Large, 1, 65_500, 1, 4320},
		{media.Small, 65_500, 1, 320, 1},
		{media.Small, 320, 200, 320, 200},
		{media.Medium, 641, 333, 640, 332},
		{media.Thumbnail, 151, 149, 149, 149},
		{media.Thumbnail, 4000, 3000, 150, 150},
		{media.Original, 4000, 3000, 4000, 3000},
	} {
		if w, h := x.v.Size(x.w, x.h); w != x.ww || h != x.wh {
			t.Errorf("%v of %d × %d: %d × %d, want %d × %d", x.v, x.w, x.h, w, h, x.ww, x.wh)
		}
	}
	for _, v := range append(media.Made(), media.Original) {
		if got, ok := media.VariantByName(v.String()); !ok || got != v {
			t.Errorf("%v by name: %v, %v", v, got, ok)
		}
	}
	if _, ok := media.VariantByName("huge"); ok {
		t.Error("there is a huge variant")
	}
	for _, ext := range []string{"jpg", "png", "webp", "gif", "avif", "heic"} {
		if typ, ok := media.TypeByExt(ext); !ok || media.Ext(typ) != ext {
			t.Errorf("%s: %s, %v", ext, typ, ok)
		}
	}
	if s := fmt.Sprint(media.Variant(9)); s != "variant(9)" {
		t.Error(s)
	}
}

func FuzzInspect(f *testing.F) {
	for _, name := range mediatest.Files() {
		f.Add(mediatest.File(name))
	}
	f.Add(mediatest.PlantJPEG(mediatest.JPEG(mediatest.Picture(20, 10), 50), 6))
	f.Add(mediatest.PlantPNG(mediatest.PNG(mediatest.Picture(20, 10)), 6))
	f.Add(mediatest.PlantWebP(mediatest.File("alpha.webp"), 6))
	f.Add(mediatest.PlantGIF(mediatest.File("animated.gif")))
	f.Fuzz(func(t *testing.T, data []byte) {
		// The work is bounded by the length: whoever takes long has gone astray.
		defer time.AfterFunc(10*time.Second, func() { panic(fmt.Sprintf("still busy with %q", data)) }).Stop()
		before := bytes.Clone(data)
		info, err := media.Inspect(data, withHEIF)
		if err != nil {
			if _, ok := media.RejectionOf(err); !ok {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if info.End <= 0 || info.End > len(data) || info.Width <= 0 || info.Height <= 0 || info.Orientation < 1 || info.Orientation > 8 {
			t.Fatalf("%+v of %d bytes", info, len(data))
		}
		clean, err := media.Strip(info.ContentType, data)
		if err != nil {
			if info.ContentType == media.TypeAVIF || info.ContentType == media.TypeHEIC {
				return // an item's place may be nonsense
			}
			t.Fatalf("let in and not stripped: %v", err)
		}
		again, err := media.Inspect(clean, media.Limits{HEIF: true, MaxBytes: 1 << 30})
		if err != nil || again.Width != info.Width || again.Height != info.Height || again.Orientation != info.Orientation || again.End != len(clean) {
			t.Fatalf("%+v became %+v, %v", info, again, err)
		}
		if twice, err := media.Strip(info.ContentType, clean); err != nil || !bytes.Equal(twice, clean) {
			t.Fatalf("stripping twice differs: %v", err)
		}
		if !bytes.Equal(before, data) {
			t.Fatal("the input was changed")
		}
	})
}
