package contest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestPacer checks that a budget is kept over many calls and that waiting ends
// with its context.
func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pacer{Rate: 1 << 20}
		begin := time.Now()
		for range 5 {
			if err := p.Wait(t.Context(), 256<<10); err != nil {
				t.Fatal(err)
			}
		}
		// The first call does not wait, the others for those before them.
		if took := time.Since(begin); took != time.Second {
			t.Errorf("a mebibyte at 1 MiB/s took %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Wait(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("waited with %v", err)
		}
	})
}
