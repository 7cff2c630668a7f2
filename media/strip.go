package media

import (
	"fmt"
	"math"
)

// unlimited is for walks over data that Inspect has let in, or whose limits
// are somebody else's to check.
var unlimited = Limits{MaxBytes: math.MaxInt64, MaxPixels: math.MaxInt64, MaxSide: math.MaxInt32, HEIF: true}

// Strip returns a file with the same pixels in the same colours, and nothing
// that tells more than the picture does: no EXIF but the orientation, no GPS,
// serial number, maker note, embedded thumbnail, XMP, IPTC or comment, and no
// byte after the image's end. Nothing is decoded or encoded again; the cost is
// one copy. contentType is what Inspect said of data. Errors are those of
// Inspect.
func Strip(contentType string, data []byte) ([]byte, error) {
	return strip(contentType, data, true)
}

// strip does Strip's work; without orientation even that is taken out.
func strip(contentType string, data []byte, orientation bool) ([]byte, error) {
	if got, err := sniff(data, true); err != nil || got != contentType {
		return nil, fmt.Errorf("%w: not %s", ErrUnsupported, contentType)
	}
	switch contentType {
	case TypeJPEG:
		return stripJPEG(data, orientation)
	case TypePNG:
		return stripPNG(data, orientation)
	case TypeWebP:
		return stripWebP(data, orientation)
	case TypeGIF:
		return stripGIF(data)
	default:
		return stripHEIF(data)
	}
}
