package media

import (
	"errors"
	"fmt"
	"image"
	"io"

	"github.com/bbrks/go-blurhash"
)

// Job is what a child is asked to do. Data is a file that Inspect has let in,
// stripped, its orientation told apart.
type Job struct {
	ContentType string
	Orientation int   // EXIF, 1 to 8: how to turn the pixels upright
	MaxPixels   int64 // refuse more than this before decoding
	Data        []byte
}

// Rendition is one variant.
type Rendition struct {
	Variant       Variant
	Width, Height int
	ContentType   string
	Data          []byte
}

// Result is what a photo became.
type Result struct {
	Width, Height int // pixels of the master, upright
	Variants      []Rendition
	Placeholder   string // BlurHash
	Colour        string // the dominant one, "#rrggbb"
}

// Rendered is what an Engine hands back for a Job: the four variants as JPEG
// without any metadata, and a small opaque picture of the whole.
type Rendered struct {
	Width, Height int // of the master, upright
	Variants      []Rendition
	Sample        *image.RGBA // at most SampleSide a side
	// Space is the ICC signature of the colour space in which the variants'
	// numbers still are those of the job's file: "RGB ", "GRAY", or "" when they
	// were converted. A profile in the file that is for that space is put into
	// each variant.
	Space string
}

// SampleSide is the longest side of Rendered.Sample, in pixels.
const SampleSide = 32

// SampleSize returns the pixels of Rendered.Sample for a picture of w × h.
func SampleSize(w, h int) (int, int) {
	if m := max(w, h); m > SampleSide {
		return scale(w, SampleSide, m), scale(h, SampleSide, m)
	}
	return w, h
}

// Engine decodes pixels within a child process. It is called from one
// goroutine. An error that wraps ErrMalformed, ErrUnsupported, ErrTruncated or
// ErrTooManyPixels, or is Rejected, is the photo's fault; any other ends the
// child.
type Engine interface {
	Name() string    // for people, e.g. "libvips 8.14.1"
	Types() []string // the content types it decodes
	Render(Job) (*Rendered, error)
}

// Serve is the child's side of the pipe: it greets, and answers jobs from in on
// out until in ends. maxBytes bounds the file of one job, 0 for the default. It
// is the main loop of a process of its own: SIGXCPU ends that process.
func Serve(in io.Reader, out io.Writer, maxBytes int64, e Engine) error {
	limit := Limits{MaxBytes: maxBytes}.withDefaults().MaxBytes + jobOverhead
	dieOnCPULimit()
	if err := writeFrame(out, kindGreeting, greeting{e.Name(), e.Types()}.encode()); err != nil {
		return fmt.Errorf("media: greeting: %w", err)
	}
	for {
		kind, body, err := readFrame(in, limit)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("media: reading a job: %w", err)
		}
		if kind != kindJob {
			return fmt.Errorf("%w: frame of kind %d where a job belongs", errWire, kind)
		}
		job, err := decodeJob(body)
		if err != nil {
			return err
		}
		result, err := perform(job, e)
		if verdict, ok := RejectionOf(err); ok {
			err = writeFrame(out, kindRefused, verdict.encode())
		} else if err == nil {
			err = writeFrame(out, kindMade, result.encode())
		}
		if err != nil {
			return fmt.Errorf("media: %w", err)
		}
	}
}

// perform renders one job and adds what all engines have in common.
func perform(job Job, e Engine) (Result, error) {
	// The pool has looked already; a child started by hand has nobody before it.
	if _, err := Inspect(job.Data, Limits{MaxBytes: unlimited.MaxBytes, MaxPixels: job.MaxPixels, HEIF: true}); err != nil {
		return Result{}, err
	}
	r, err := e.Render(job)
	if err != nil {
		return Result{}, err
	}
	res := Result{Width: r.Width, Height: r.Height, Variants: r.Variants, Colour: dominant(r.Sample)}
	x, y := 4, 3
	if r.Height > r.Width {
		x, y = 3, 4
	}
	if res.Placeholder, err = blurhash.Encode(x, y, r.Sample); err != nil {
		return Result{}, fmt.Errorf("placeholder: %w", err)
	}
	if icc := ICC(job.ContentType, job.Data); icc != nil && iccSpace(icc) == r.Space {
		for i := range res.Variants {
			res.Variants[i].Data = withICC(res.Variants[i].Data, icc)
		}
	}
	return res, nil
}

// dominant returns the mean colour of the fullest of 8 × 8 × 8 cells.
func dominant(m *image.RGBA) string {
	var cells [512]struct{ n, r, g, b int }
	best := 0
	bounds := m.Bounds()
	for y := range bounds.Dy() {
		row := m.Pix[y*m.Stride : y*m.Stride+bounds.Dx()*4]
		for x := 0; x < len(row); x += 4 {
			r, g, b := int(row[x]), int(row[x+1]), int(row[x+2])
			i := r>>5<<6 | g>>5<<3 | b>>5
			c := &cells[i]
			c.n, c.r, c.g, c.b = c.n+1, c.r+r, c.g+g, c.b+b
			if c.n > cells[best].n {
				best = i
			}
		}
	}
	c := cells[best]
	n := max(1, c.n)
	return fmt.Sprintf("#%02x%02x%02x", c.r/n, c.g/n, c.b/n)
}
