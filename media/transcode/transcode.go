package transcode

import (
	"context"
	"errors"
	"fmt"

	"hayloft/internal/id"
	"hayloft/media"
)

// Job is one effect of the outbox.
type Job struct{ Photo id.ID }

// Master is where a photo's bytes lie.
type Master struct {
	Blob   id.ID
	Cookie id.Cookie
}

// Variant describes one rendition of a group.
type Variant struct {
	Alt           uint8 // the needle's alternate key: a media.Variant
	Width, Height int   // pixels
	Size          int64 // bytes
}

// Rendition is a group that has been written.
type Rendition struct {
	Blob        id.ID
	Cookie      id.Cookie
	Variants    []Variant
	Placeholder string // BlurHash
	Colour      string // "#rrggbb"
}

// VariantBytes is one needle of a group.
type VariantBytes struct {
	Alt  uint8
	Data []byte
}

// Failure is why a photo has no variants, for good.
type Failure struct{ Type, Title string }

// ErrGone is returned by Photos when the photo needs no variants (any more): it
// is deleted, or is not pending.
var ErrGone = errors.New("transcode: the photo needs no variants")

// ErrMoved is returned by Blobs.WriteVariants when the id's tile has closed and
// nothing was written: reserve again.
var ErrMoved = errors.New("transcode: the blob id's tile has closed")

// Photos is what a Worker needs of the feed. It is called from the goroutine
// that called Handle. All methods may return ErrGone.
type Photos interface {
	// Master returns where the bytes of a pending photo lie.
	Master(ctx context.Context, photo id.ID) (Master, error)
	// Intend commits the intent to write blob for photo.
	Intend(ctx context.Context, photo, blob id.ID) error
	// MarkReady attaches the group and makes the photo ready.
	MarkReady(ctx context.Context, photo id.ID, r Rendition) error
	// MarkFailed gives the photo up for good.
	MarkFailed(ctx context.Context, photo id.ID, f Failure) error
}

// Blobs is what a Worker needs of the blob store. It is called from the
// goroutine that called Handle.
type Blobs interface {
	// ReadMaster returns verified bytes, which are the caller's.
	ReadMaster(ctx context.Context, blob id.ID, cookie id.Cookie) ([]byte, error)
	// ReserveVariants mints an id and a cookie for one group.
	ReserveVariants(ctx context.Context) (id.ID, id.Cookie, error)
	// WriteVariants appends the group and returns when it is durable. The bytes
	// are the caller's again afterwards.
	WriteVariants(ctx context.Context, blob id.ID, cookie id.Cookie, group []VariantBytes) error
}

// Maker makes variants: a *media.Pool. Its error is media.Rejected when the
// photo is to blame.
type Maker interface {
	Make(ctx context.Context, master []byte) (media.Result, error)
}

// Pushed is a fresh variant for the cache.
type Pushed struct {
	Variant     media.Variant
	Blob        id.ID
	Cookie      id.Cookie
	ContentType string
	Data        []byte // not changed any more by anyone
}

// Options are the settings of a Worker. Photos, Blobs and Maker are needed.
type Options struct {
	Photos Photos
	Blobs  Blobs
	Maker  Maker
	// Push, when given, is handed the variants named by PushVariants as soon as
	// the photo is ready. It must not block for long.
	Push func(Pushed)
	// PushVariants are the variants that are pushed; nil: the thumbnail.
	PushVariants []media.Variant
	// Moves is how often a group is offered under another id before the job is
	// put off; 0: 3.
	Moves int
	// Hangs is how often a photo may end in media.ErrHung before it is given up;
	// 0: 5.
	Hangs int
}

// Validate reports every field that makes no sense.
func (o Options) Validate() error {
	var errs []error
	for _, x := range []struct {
		name    string
		missing bool
	}{{"Photos", o.Photos == nil}, {"Blobs", o.Blobs == nil}, {"Maker", o.Maker == nil}} {
		if x.missing {
			errs = append(errs, fmt.Errorf("transcode: no %s", x.name))
		}
	}
	if o.Moves < 0 {
		errs = append(errs, fmt.Errorf("transcode: Moves %d is negative", o.Moves))
	}
	if o.Hangs < 0 {
		errs = append(errs, fmt.Errorf("transcode: Hangs %d is negative", o.Hangs))
	}
	return errors.Join(errs...)
}

// Worker handles jobs. It may be used by many goroutines. All that it remembers
// between them is which photos hung.
type Worker struct {
	o    Options
	hung suspects
}

// New returns a worker.
func New(o Options) (*Worker, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Moves == 0 {
		o.Moves = 3
	}
	if o.Hangs == 0 {
		o.Hangs = 5
	}
	if o.PushVariants == nil {
		o.PushVariants = []media.Variant{media.Thumbnail}
	}
	return &Worker{o: o}, nil
}

// Handle makes one photo ready, or marks it as failed for good. nil means that
// nothing is owed any more: also when the photo has gone meanwhile. An error is
// temporary.
func (w *Worker) Handle(ctx context.Context, j Job) error {
	err := w.handle(ctx, j.Photo)
	if errors.Is(err, ErrGone) {
		err = nil
	}
	if err == nil {
		w.hung.clear(j.Photo)
	}
	if err != nil {
		return fmt.Errorf("photo %v: %w", j.Photo, err)
	}
	return nil
}

func (w *Worker) handle(ctx context.Context, photo id.ID) error {
	m, err := w.o.Photos.Master(ctx, photo)
	if err != nil {
		return fmt.Errorf("looking up the master: %w", err)
	}
	data, err := w.o.Blobs.ReadMaster(ctx, m.Blob, m.Cookie)
	if err != nil {
		return fmt.Errorf("reading the master: %w", err)
	}
	res, err := w.o.Maker.Make(ctx, data)
	var verdict media.Rejected
	if errors.Is(err, media.ErrHung) && w.hung.count(photo) >= w.o.Hangs {
		err = media.Rejected{Type: media.RejectUndecodable, Title: "The image cannot be decoded."}
	}
	if errors.As(err, &verdict) {
		if err := w.o.Photos.MarkFailed(ctx, photo, Failure(verdict)); err != nil {
			return fmt.Errorf("marking as failed: %w", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("making variants: %w", err)
	}
	blob, cookie, err := w.store(ctx, photo, res)
	if err != nil {
		return err
	}
	r := Rendition{Blob: blob, Cookie: cookie, Placeholder: res.Placeholder, Colour: res.Colour}
	for _, v := range res.Variants {
		r.Variants = append(r.Variants, Variant{uint8(v.Variant), v.Width, v.Height, int64(len(v.Data))})
	}
	if err := w.o.Photos.MarkReady(ctx, photo, r); err != nil {
		return fmt.Errorf("marking as ready: %w", err)
	}
	w.push(blob, cookie, res)
	return nil
}

// store writes the group, under another id when the first one's tile closes
// between reserving and writing.
func (w *Worker) store(ctx context.Context, photo id.ID, res media.Result) (id.ID, id.Cookie, error) {
	group := make([]VariantBytes, len(res.Variants))
	for i, v := range res.Variants {
		group[i] = VariantBytes{uint8(v.Variant), v.Data}
	}
	for n := 1; ; n++ {
		blob, cookie, err := w.o.Blobs.ReserveVariants(ctx)
		if err != nil {
			return 0, 0, fmt.Errorf("reserving a blob: %w", err)
		}
		if err := w.o.Photos.Intend(ctx, photo, blob); err != nil {
			return 0, 0, fmt.Errorf("intending blob %v: %w", blob, err)
		}
		err = w.o.Blobs.WriteVariants(ctx, blob, cookie, group)
		if err == nil {
			return blob, cookie, nil
		}
		if !errors.Is(err, ErrMoved) || n > w.o.Moves {
			return 0, 0, fmt.Errorf("writing blob %v: %w", blob, err)
		}
	}
}

// push hands fresh variants to the cache: whoever asks first finds them there.
func (w *Worker) push(blob id.ID, cookie id.Cookie, res media.Result) {
	if w.o.Push == nil {
		return
	}
	for _, want := range w.o.PushVariants {
		for _, v := range res.Variants {
			if v.Variant == want {
				w.o.Push(Pushed{v.Variant, blob, cookie, v.ContentType, v.Data})
			}
		}
	}
}
