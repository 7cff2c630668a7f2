package coding

import (
	"context"
	"fmt"
	"io"
	"sync"

	"hayloft/volume"
)

// Options of Encode, Rebuild, Decode and Check. The zero value works.
type Options struct {
	// Throttle is asked before n bytes are read or written and waits as long as
	// the budget wants; nil never waits. Its error ends the work.
	Throttle func(ctx context.Context, n int64) error
	// Progress is told how far a step is.
	Progress func(Progress)
	// Found is told of damage in inputs that were used all the same.
	Found func(Finding)
	// Verify, given to Encode, reads the source out of the data shards, as the
	// device holds them, and says whether its records are right. It runs before
	// any shard gets its name. Nil: the source was verified just now.
	Verify func(ctx context.Context, source io.Reader) error
	// StripeBytes bounds the memory of one stripe; 0 is 8 MiB. A column has
	// 64 KiB at least and 1 MiB at most.
	StripeBytes int64
}

// Validate lists what cannot be.
func (o Options) Validate() error {
	if o.StripeBytes < 0 {
		return fmt.Errorf("%w: stripes of %d bytes", volume.ErrInvalid, o.StripeBytes)
	}
	return nil
}

// Step names a part of the work.
type Step string

// The steps.
const (
	StepEncode  Step = "encoding"
	StepRebuild Step = "rebuilding"
	StepDecode  Step = "decoding"
	StepVerify  Step = "verifying"
)

// Progress is how far a step is, in bytes read from the disks that it reads
// most of. With the time since the step began it says when it will end.
type Progress struct {
	Step        Step
	Done, Total int64
}

const (
	defaultStripe = 8 << 20
	maxColumn     = 1 << 20
)

// column is how many bytes of each of n shards make a stripe.
func (o Options) column(n int) int64 {
	stripe := o.StripeBytes
	if stripe == 0 {
		stripe = defaultStripe
	}
	return max(BlockSize, min(maxColumn, stripe/int64(n))/BlockSize*BlockSize)
}

// work is one call's use of the options: functions are called one at a time.
type work struct {
	Options
	throttling sync.Mutex // held while Throttle waits
	reporting  sync.Mutex // held while Progress or Found runs; guards done
	done       Progress
}

// wait asks the throttle.
func (w *work) wait(ctx context.Context, n int64) error {
	if err := ctx.Err(); err != nil || w.Throttle == nil {
		return err
	}
	w.throttling.Lock()
	defer w.throttling.Unlock()
	return w.Throttle(ctx, n)
}

func (w *work) begin(step Step, total int64) {
	w.reporting.Lock()
	defer w.reporting.Unlock()
	w.done = Progress{Step: step, Total: total}
}

func (w *work) advance(n int64) {
	w.reporting.Lock()
	defer w.reporting.Unlock()
	w.done.Done += n
	if w.Progress != nil {
		w.Progress(w.done)
	}
}

func (w *work) found(f Finding) {
	w.reporting.Lock()
	defer w.reporting.Unlock()
	if w.Found != nil {
		w.Found(f)
	}
}
