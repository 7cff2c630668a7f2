package volume

import (
	"context"
	"errors"
	"testing"

	"hayloft/internal/id"
)

// CheckSlowly asks for every record before it goes on, in an open volume as in a
// sealed one and its delete log, and ends when it is refused.
func TestCheckSlowly(t *testing.T) {
	t.Parallel()
	v, _, _ := sealSample(t, newMem(t, 1))
	open := create(t, newMem(t, 2))
	for i := range 20 {
		mustAppend(t, open, testNeedle(id.ID(i+1), 0, 5000))
	}
	for _, w := range []*Volume{v, open} {
		asked := int64(0)
		r, err := w.CheckSlowly(bg, func(_ context.Context, n int64) error { asked += n; return nil }, func(f Finding) { t.Errorf("%+v", f) })
		if err != nil || asked < r.Bytes-dataStart {
			t.Errorf("asked for %d bytes, read %d: %v", asked, r.Bytes, err)
		}
		stop, calls := errors.New("stop"), 0
		_, err = w.CheckSlowly(bg, func(context.Context, int64) error {
			if calls++; calls == 3 {
				return stop
			}
			return nil
		}, func(Finding) {})
		wantErr(t, err, stop)
		if calls != 3 {
			t.Errorf("asked %d times after it was refused", calls)
		}
		closeVolume(t, w)
	}
}
