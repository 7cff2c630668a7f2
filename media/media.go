package media

import (
	"errors"
	"fmt"
)

// Variant is one of the images made of a photo. The value is the alternate key
// of its needle on disk: it is part of the format and never changes meaning.
type Variant uint8

// The variants. Original is alternate 0, the master's key; the others form the
// group that is written together.
const (
	Original  Variant = 0 // as uploaded (master), or stripped (served to others)
	Thumbnail Variant = 1 // square, at most 150 × 150, cropped
	Small     Variant = 2 // at most 320 wide
	Medium    Variant = 3 // at most 640 wide
	Large     Variant = 4 // at most 1080 wide
)

// Made lists the variants that are made of every photo, in the order of their
// alternate keys.
func Made() []Variant { return []Variant{Thumbnail, Small, Medium, Large} }

var variantNames = [...]string{"original", "thumbnail", "small", "medium", "large"}

// String returns the name used in URLs.
func (v Variant) String() string {
	if int(v) < len(variantNames) {
		return variantNames[v]
	}
	return fmt.Sprintf("variant(%d)", uint8(v))
}

// VariantByName is the inverse of String.
func VariantByName(name string) (Variant, bool) {
	for i, n := range variantNames {
		if n == name {
			return Variant(i), true
		}
	}
	return 0, false
}

// The sizes, in pixels.
const (
	thumbnailSide = 150
	// maxTall bounds the height of a variant as a multiple of its width's
	// limit: a picture one pixel wide and a hundred million high is no reason to
	// write a file of that height.
	maxTall = 4
)

// width returns the largest width of v.
func (v Variant) width() int {
	switch v {
	case Thumbnail:
		return thumbnailSide
	case Small:
		return 320
	case Medium:
		return 640
	default:
		return 1080
	}
}

// Size returns the pixels of variant v of an upright picture of w × h: within
// the variant's box, in proportion, never enlarged, at least one pixel.
func (v Variant) Size(w, h int) (int, int) {
	if v == Original {
		return w, h
	}
	if v == Thumbnail {
		side := min(thumbnailSide, w, h)
		return side, side
	}
	boxW, boxH := v.width(), v.width()*maxTall
	if w <= boxW && h <= boxH {
		return w, h
	}
	if int64(w)*int64(boxH) >= int64(h)*int64(boxW) { // the width binds
		return boxW, scale(h, boxW, w)
	}
	return scale(w, boxH, h), boxH
}

// Cover returns the smallest size, in proportion to w × h, that a square of side
// fits into.
func Cover(side, w, h int) (int, int) {
	m := min(w, h)
	return max(side, scale(w, side, m)), max(side, scale(h, side, m))
}

// scale returns n × num ÷ den, rounded, at least 1.
func scale(n, num, den int) int {
	return int(max(1, (int64(n)*int64(num)+int64(den)/2)/int64(den)))
}

// The content types.
const (
	TypeJPEG = "image/jpeg"
	TypePNG  = "image/png"
	TypeWebP = "image/webp"
	TypeGIF  = "image/gif"
	TypeAVIF = "image/avif"
	TypeHEIC = "image/heic"
)

// Ext returns the file name extension of a content type, without a dot, or "".
func Ext(contentType string) string {
	switch contentType {
	case TypeJPEG:
		return "jpg"
	case TypePNG:
		return "png"
	case TypeWebP:
		return "webp"
	case TypeGIF:
		return "gif"
	case TypeAVIF:
		return "avif"
	case TypeHEIC:
		return "heic"
	}
	return ""
}

// TypeByExt is the inverse of Ext.
func TypeByExt(ext string) (string, bool) {
	for _, t := range []string{TypeJPEG, TypePNG, TypeWebP, TypeGIF, TypeAVIF, TypeHEIC} {
		if Ext(t) == ext {
			return t, true
		}
	}
	return "", false
}

// Limits say what is accepted. The zero value is the default.
type Limits struct {
	MaxBytes  int64 // of the file; 0: 32 MiB
	MaxPixels int64 // width × height as the header says; 0: 100 million
	MaxSide   int   // pixels of the longer side; 0: 65,500 (JPEG's own limit)
	// HEIF lets AVIF and HEIC in. Only for a child that says that it reads them.
	HEIF bool
}

// Validate reports every field that makes no sense.
func (l Limits) Validate() error {
	var errs []error
	if l.MaxBytes < 0 || l.MaxBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("media: MaxBytes %d is not in [0, 1 GiB]", l.MaxBytes))
	}
	if l.MaxPixels < 0 {
		errs = append(errs, fmt.Errorf("media: MaxPixels %d is negative", l.MaxPixels))
	}
	if l.MaxSide < 0 {
		errs = append(errs, fmt.Errorf("media: MaxSide %d is negative", l.MaxSide))
	}
	return errors.Join(errs...)
}

// withDefaults fills in what is zero.
func (l Limits) withDefaults() Limits {
	if l.MaxBytes == 0 {
		l.MaxBytes = 32 << 20
	}
	if l.MaxPixels == 0 {
		l.MaxPixels = 100_000_000
	}
	if l.MaxSide == 0 {
		l.MaxSide = 65_500
	}
	return l
}

// What is wrong with a file. Errors of this package wrap one of them.
var (
	ErrUnsupported   = errors.New("unsupported media type")    // HTTP 415
	ErrTooLarge      = errors.New("file too large")            // HTTP 413
	ErrTooManyPixels = errors.New("image has too many pixels") // HTTP 422
	ErrTruncated     = errors.New("image is truncated")        // HTTP 422
	ErrMalformed     = errors.New("image is malformed")        // HTTP 422
)

// Rejected is the permanent verdict on a photo: trying again changes nothing.
type Rejected struct {
	Type  string // stable problem type, one of the Reject constants
	Title string // one sentence for people
}

// The types of Rejected.
const (
	RejectUnsupported   = "unsupported-media-type"
	RejectTooLarge      = "file-too-large"
	RejectTooManyPixels = "too-many-pixels"
	RejectTruncated     = "image-truncated"
	RejectMalformed     = "image-malformed"
	RejectUndecodable   = "image-undecodable" // the decoder failed, crashed twice, or always hangs
)

// Error implements error.
func (r Rejected) Error() string { return "media: " + r.Type + ": " + r.Title }

// RejectionOf turns an error of Inspect or Strip into the verdict that belongs
// to it; false for any other error.
func RejectionOf(err error) (Rejected, bool) {
	var r Rejected
	switch {
	case errors.As(err, &r):
		return r, true
	case errors.Is(err, ErrUnsupported):
		return Rejected{RejectUnsupported, "This type of file is not accepted."}, true
	case errors.Is(err, ErrTooLarge):
		return Rejected{RejectTooLarge, "The file is too large."}, true
	case errors.Is(err, ErrTooManyPixels):
		return Rejected{RejectTooManyPixels, "The image has too many pixels."}, true
	case errors.Is(err, ErrTruncated):
		return Rejected{RejectTruncated, "The image is cut short."}, true
	case errors.Is(err, ErrMalformed):
		return Rejected{RejectMalformed, "The image is damaged."}, true
	}
	return Rejected{}, false
}
