package media

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// attempts is how many children may die of a job before the photo is to blame.
const attempts = 2

// Make makes the variants of a photo in a child process. The error is Rejected
// when the photo is to blame, for good: it was refused, or two children crashed
// on it, used up a limit, or answered nonsense. Any other error (ErrBusy,
// ErrClosed, ErrNoHelp, ErrKilled, ErrHung, that of ctx) is temporary and proves
// nothing against the photo; a photo that ends in ErrHung time and again is under
// suspicion. master stays the caller's; it must not change before Make returns.
func (p *Pool) Make(ctx context.Context, master []byte) (Result, error) {
	res, err := p.makeAll(ctx, master)
	var verdict Rejected
	switch {
	case err == nil:
		p.made.Add(1)
	case errors.As(err, &verdict):
		p.refused.Add(1)
	default:
		p.failures.Add(1)
	}
	return res, err
}

func (p *Pool) makeAll(ctx context.Context, master []byte) (Result, error) {
	info, err := Inspect(master, p.o.Limits)
	if err != nil {
		return Result{}, blame(err)
	}
	clean, err := strip(info.ContentType, master[:info.End], false)
	if err != nil {
		return Result{}, blame(err)
	}
	frame := Job{info.ContentType, info.Orientation, p.o.Limits.MaxPixels, clean}.encode()
	var res Result
	err = p.session(ctx, func(ctx context.Context) error {
		res, err = p.work(ctx, info, frame)
		return err
	})
	if err != nil {
		return Result{}, err
	}
	return res, nil
}

// blame turns an error of Inspect or Strip into the verdict on the photo.
func blame(err error) error {
	if verdict, ok := RejectionOf(err); ok {
		return verdict
	}
	return err
}

// work gives the job to one child, and to a fresh one when the first fails,
// unless it took all of the time that there is.
func (p *Pool) work(ctx context.Context, info Info, frame []byte) (Result, error) {
	var excuse error // why the photo is not to blame
	for n := 1; ; n++ {
		c, err := p.take(ctx, n > 1)
		if err != nil {
			return Result{}, err
		}
		if !slices.Contains(c.hello.types, info.ContentType) {
			p.giveBack(c)
			return Result{}, blame(ErrUnsupported)
		}
		res, err := p.attempt(ctx, c, info, frame)
		var verdict Rejected
		if err == nil || errors.As(err, &verdict) {
			p.giveBack(c)
			return res, err
		}
		if ctx.Err() != nil { // the child was killed for our sake
			p.drop(c, EventRetired, nil)
			return Result{}, ctx.Err()
		}
		if outside := p.strike(c, err); outside != nil {
			excuse = outside
		}
		if errors.Is(excuse, ErrHung) || n == attempts && excuse != nil {
			return Result{}, excuse
		}
		if n == attempts {
			return Result{}, Rejected{RejectUndecodable, "The image cannot be decoded."}
		}
	}
}

// strike drops a child that failed a job because of why, and returns a temporary
// error unless the child's end is the job's own doing: a crash, a limit that was
// used up, nonsense.
func (p *Pool) strike(c *child, why error) error {
	alone := c.endsAlone(p.o.Clock)
	p.struck.Add(1)
	p.drop(c, EventStruck, why)
	switch {
	case errors.Is(why, ErrNoHelp):
		return why
	case errors.Is(why, errWire), c.spent():
		return nil
	case errors.Is(why, errTimeout):
		return fmt.Errorf("%w: %v", ErrHung, p.o.JobTimeout)
	case alone && c.killedFromOutside():
		return fmt.Errorf("%w: %v", ErrKilled, c.cmd.ProcessState)
	}
	return nil
}

// attempt has one child do the job. An error other than Rejected means that the
// child is of no more use.
func (p *Pool) attempt(ctx context.Context, c *child, info Info, frame []byte) (res Result, err error) {
	err = c.within(ctx, p.o.Clock, p.o.JobTimeout, func() error {
		if err := c.allowCPU(p.o.JobCPU); err != nil {
			return fmt.Errorf("%w: limiting CPU time: %w", ErrNoHelp, err)
		}
		kind, body, err := c.exchange(frame)
		if err != nil {
			return err
		}
		switch kind {
		case kindMade:
			if res, err = decodeResult(body); err != nil {
				return err
			}
			return res.check(info)
		case kindRefused:
			verdict, err := decodeRejected(body)
			if err != nil {
				return err
			}
			return verdict
		}
		return fmt.Errorf("%w: frame of kind %d where an answer belongs", errWire, kind)
	})
	return res, err
}

// check holds an answer against what it must be for that picture: a child that
// a hostile file has taken over can say anything.
func (r Result) check(info Info) error {
	if r.Width != info.Width || r.Height != info.Height {
		return fmt.Errorf("%w: a picture of %d × %d, it has %d × %d", errWire, r.Width, r.Height, info.Width, info.Height)
	}
	if len(r.Variants) != len(Made()) {
		return fmt.Errorf("%w: %d variants", errWire, len(r.Variants))
	}
	for i, v := range Made() {
		w, h := v.Size(info.Width, info.Height)
		got := r.Variants[i]
		if got.Variant != v || got.Width != w || got.Height != h || got.ContentType != TypeJPEG {
			return fmt.Errorf("%w: variant %v of %d × %d, %s", errWire, got.Variant, got.Width, got.Height, got.ContentType)
		}
		in, err := Inspect(got.Data, Limits{})
		if err != nil {
			return fmt.Errorf("%w: variant %v: %w", errWire, v, err)
		}
		if in.ContentType != TypeJPEG || in.Width != w || in.Height != h || in.End != len(got.Data) {
			return fmt.Errorf("%w: variant %v is not what it says", errWire, v)
		}
	}
	const base83 = 28 // characters of a BlurHash of 4 × 3 components
	if len(r.Placeholder) != base83 || !isColour(r.Colour) {
		return fmt.Errorf("%w: placeholder %q, colour %q", errWire, r.Placeholder, r.Colour)
	}
	return nil
}

// isColour says whether s is "#rrggbb".
func isColour(s string) bool {
	if len(s) != 7 || s[0] != '#' {
		return false
	}
	for _, c := range []byte(s[1:]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
