package mediatest

import (
	"bytes"
	"embed"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
)

//go:embed testdata
var files embed.FS

// File returns a file of testdata. All but the hostile ones show the four
// Quadrants on 240 × 160 pixels; "alpha" ones leave the last out.
func File(name string) []byte {
	b, err := files.ReadFile("testdata/" + name)
	if err != nil {
		panic("mediatest: " + err.Error())
	}
	return b
}

// Files lists the names of testdata.
func Files() []string {
	entries, err := files.ReadDir("testdata")
	if err != nil {
		panic("mediatest: " + err.Error())
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Quadrants are the colours of the test picture: top left, top right, bottom
// left, bottom right.
var Quadrants = [4]color.RGBA{{208, 32, 32, 255}, {32, 176, 32, 255}, {32, 48, 208, 255}, {224, 208, 32, 255}}

// Picture returns the test picture in any size.
func Picture(w, h int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetRGBA(x, y, Quadrants[2*(2*y/h)+2*x/w])
		}
	}
	return m
}

// Stored returns the pixels that, shown by the EXIF orientation, are upright:
// the inverse of what a viewer does.
func Stored(upright image.Image, orientation int) *image.RGBA {
	b := upright.Bounds()
	w, h := b.Dx(), b.Dy()
	sw, sh := w, h
	if orientation >= 5 {
		sw, sh = h, w
	}
	m := image.NewRGBA(image.Rect(0, 0, sw, sh))
	for y := range h {
		for x := range w {
			sx, sy := x, y
			switch orientation { // where the stored pixel of (x, y) lies: TIFF 6.0, tag 274
			case 2:
				sx, sy = w-1-x, y
			case 3:
				sx, sy = w-1-x, h-1-y
			case 4:
				sx, sy = x, h-1-y
			case 5:
				sx, sy = y, x
			case 6:
				sx, sy = y, w-1-x
			case 7:
				sx, sy = h-1-y, w-1-x
			case 8:
				sx, sy = h-1-y, x
			}
			m.Set(sx, sy, upright.At(x, y))
		}
	}
	return m
}

// JPEG encodes with the standard library.
func JPEG(m image.Image, quality int) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: quality}); err != nil {
		panic("mediatest: " + err.Error())
	}
	return b.Bytes()
}

// PNG encodes with the standard library.
func PNG(m image.Image) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic("mediatest: " + err.Error())
	}
	return b.Bytes()
}

// PNGChunk encodes one chunk.
func PNGChunk(kind string, data []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	b = append(append(b, kind...), data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

// PlantPNG returns the PNG with EXIF, XMP, texts and unknown chunks planted.
func PlantPNG(file []byte, orientation int) []byte {
	const ihdrEnd = 33
	out := bytes.Clone(file[:ihdrEnd])
	out = append(out, PNGChunk("eXIf", Exif(orientation))...)
	out = append(out, PNGChunk("iTXt", append([]byte("XML:com.adobe.xmp\x00\x00\x00\x00\x00"), XMP...))...)
	out = append(out, PNGChunk("tEXt", []byte("Comment\x00comment-secret"))...)
	out = append(out, PNGChunk("prVt", []byte("MAKERNOTE-SECRET"))...)
	return append(out, file[ihdrEnd:]...)
}

// PlantWebP returns the WebP, which must have a VP8X chunk, with EXIF and XMP.
func PlantWebP(file []byte, orientation int) []byte {
	chunk := func(kind string, data []byte) []byte {
		b := binary.LittleEndian.AppendUint32([]byte(kind), uint32(len(data)))
		b = append(b, data...)
		if len(data)%2 == 1 {
			b = append(b, 0)
		}
		return b
	}
	out := bytes.Clone(file)
	out[20] |= 0x08 | 0x04
	out = append(out, chunk("EXIF", Exif(orientation))...)
	out = append(out, chunk("XMP ", XMP)...)
	out = append(out, chunk("MAKE", []byte("MAKERNOTE-SECRET"))...)
	binary.LittleEndian.PutUint32(out[4:], uint32(len(out)-8))
	return out
}

// PlantGIF returns the GIF with a comment, an application's block and XMP.
func PlantGIF(file []byte) []byte {
	at := 13
	if file[10]&0x80 != 0 {
		at += 3 << (file[10]&7 + 1)
	}
	block := func(label byte, parts ...[]byte) []byte {
		b := []byte{0x21, label}
		for _, p := range parts {
			b = append(append(b, byte(len(p))), p...)
		}
		return append(b, 0)
	}
	out := bytes.Clone(file[:at])
	out = append(out, block(0xfe, []byte("comment-secret"))...)
	out = append(out, block(0xff, []byte("XMP DataXMP"), XMP)...)
	out = append(out, block(0xff, []byte("MAKERNOTE01"), []byte("MAKERNOTE-SECRET"))...)
	return append(out, file[at:]...)
}

// Trailing are bytes after an image's end, as a polyglot has them.
var Trailing = []byte("PK\x03\x04<script>trailing-secret</script>")

// HugePNG returns a well-formed PNG of at most 2 KB whose header claims
// 50,000 × 50,000 pixels.
func HugePNG() []byte {
	ihdr := binary.BigEndian.AppendUint32(nil, 50_000)
	ihdr = binary.BigEndian.AppendUint32(ihdr, 50_000)
	ihdr = append(ihdr, 8, 2, 0, 0, 0)
	out := append([]byte("\x89PNG\r\n\x1a\n"), PNGChunk("IHDR", ihdr)...)
	out = append(out, PNGChunk("IDAT", make([]byte, 1500))...)
	return append(out, PNGChunk("IEND", nil)...)
}

// HugeJPEG returns a JPEG of at most 2 KB whose header claims 50,000 × 50,000
// pixels.
func HugeJPEG() []byte { return Resized(JPEG(Picture(16, 16), 50), 50_000, 50_000) }

// Resized returns the JPEG with another size in its frame header.
func Resized(file []byte, w, h int) []byte {
	out := bytes.Clone(file)
	at := bytes.Index(out, []byte{0xff, 0xc0})
	binary.BigEndian.PutUint16(out[at+5:], uint16(h))
	binary.BigEndian.PutUint16(out[at+7:], uint16(w))
	return out
}

// ICCProfile returns a well-formed, empty profile of n bytes for a colour space
// ("RGB ", "GRAY"), recognisable by its description.
func ICCProfile(space string, n int) []byte {
	b := make([]byte, n)
	binary.BigEndian.PutUint32(b, uint32(n))
	copy(b[8:], []byte{4, 0x40, 0, 0})
	copy(b[12:], "mntr")
	copy(b[16:], space)
	copy(b[20:], "XYZ acsp")
	copy(b[128:], "\x00\x00\x00\x00 profile of Hayloft's tests")
	b[36], b[37], b[38], b[39] = 'a', 'c', 's', 'p'
	return b
}
