package media

import (
	"bytes"
	"fmt"
)

// Info is what the headers of an accepted file say.
type Info struct {
	ContentType   string
	Ext           string // file name extension, without a dot
	Width, Height int    // pixels, orientation applied
	Orientation   int    // EXIF: 1 (upright) to 8
	// End is the offset just past the image. Bytes after it belong to no image:
	// they stay in the master and never reach anything else.
	End int
}

// shape is what a container's walk finds out.
type shape struct {
	width, height int // as stored
	orientation   int // 0: not said
	end           int
}

// Inspect tells what data is by its content alone, and refuses what is not an
// accepted image, is cut short, or has more pixels than the limits allow. It
// reads headers and walks the container to its end marker, but decodes no
// pixel, so its cost is bounded by len(data). Errors wrap ErrUnsupported,
// ErrTooLarge, ErrTooManyPixels, ErrTruncated or ErrMalformed.
func Inspect(data []byte, l Limits) (Info, error) {
	l = l.withDefaults()
	if int64(len(data)) > l.MaxBytes {
		return Info{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(data), l.MaxBytes)
	}
	contentType, err := sniff(data, l.HEIF)
	if err != nil {
		return Info{}, err
	}
	s, err := walk(contentType, data, l)
	if err != nil {
		return Info{}, err
	}
	info := Info{
		ContentType: contentType, Ext: Ext(contentType),
		Width: s.width, Height: s.height, Orientation: max(1, s.orientation), End: s.end,
	}
	if info.Orientation >= 5 { // the four that lie on their side
		info.Width, info.Height = info.Height, info.Width
	}
	return info, nil
}

func walk(contentType string, data []byte, l Limits) (shape, error) {
	switch contentType {
	case TypeJPEG:
		return walkJPEG(data, l, nil)
	case TypePNG:
		return walkPNG(data, l, nil)
	case TypeWebP:
		return walkWebP(data, l, nil)
	case TypeGIF:
		return walkGIF(data, l, nil)
	default:
		return walkHEIF(data, l, nil)
	}
}

// pixels checks dimensions that a header claims.
func (l Limits) pixels(w, h int64) error {
	if w <= 0 || h <= 0 {
		return fmt.Errorf("%w: a side of no pixels", ErrMalformed)
	}
	if w > int64(l.MaxSide) || h > int64(l.MaxSide) || w*h > l.MaxPixels {
		return fmt.Errorf("%w: %d × %d, the limit is %d pixels and %d on a side", ErrTooManyPixels, w, h, l.MaxPixels, l.MaxSide)
	}
	return nil
}

// sniff names the content type by the signature. Refused types are named where
// that helps the person who reads the error.
func sniff(data []byte, heif bool) (string, error) {
	has := func(at int, sig string) bool {
		return len(data) >= at+len(sig) && string(data[at:at+len(sig)]) == sig
	}
	switch {
	case has(0, "\xff\xd8\xff"):
		return TypeJPEG, nil
	case has(0, "\x89PNG\r\n\x1a\n"):
		return TypePNG, nil
	case has(0, "RIFF") && has(8, "WEBP"):
		return TypeWebP, nil
	case has(0, "GIF87a"), has(0, "GIF89a"):
		return TypeGIF, nil
	case has(4, "ftyp"):
		return sniffHEIF(data, heif)
	}
	return "", fmt.Errorf("%w: %s", ErrUnsupported, guess(data))
}

// guess puts a name to what is refused.
func guess(data []byte) string {
	if len(data) == 0 {
		return "an empty file"
	}
	head := bytes.TrimLeft(bytes.TrimPrefix(data[:min(len(data), 512)], []byte("\xef\xbb\xbf")), " \t\r\n")
	for _, s := range []struct{ sig, name string }{
		{"II*\x00", "TIFF"}, {"MM\x00*", "TIFF"}, {"II+\x00", "TIFF"}, {"MM\x00+", "TIFF"},
		{"%PDF", "PDF"}, {"%!PS", "PostScript"}, {"BM", "BMP"}, {"8BPS", "PSD"},
		{"\xff\x0a", "JPEG XL"}, {"\x00\x00\x00\x0cJXL ", "JPEG XL"}, {"push graphic", "MVG"},
		{"<svg", "SVG"}, {"<?xml", "XML or SVG"}, {"<!DOCTYPE", "XML or HTML"},
	} {
		if bytes.HasPrefix(head, []byte(s.sig)) {
			return s.name
		}
	}
	return "not an image we know"
}
