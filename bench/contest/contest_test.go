package contest

import (
	"context"
	"errors"
	"slices"
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

// TestContest checks that every arm has its turn in every round, first in some, that
// a slice has a piece at least, and that errors are no throughput.
func TestContest(t *testing.T) {
	var turns []string
	arm := func(name string, err error) *Arm {
		return &Arm{Name: name, Clients: 2, Start: func(context.Context) (Job, error) {
			turns = append(turns, name)
			return Job{Limit: 3, Do: func(context.Context, int, int) (float64, error) { return 5, err }}, nil
		}}
	}
	failure := errors.New("failed")
	good, bad := arm("good", nil), arm("bad", failure)
	c := Contest{Rounds: 2, Slice: 0, Arms: []*Arm{good, bad}}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"good", "bad", "bad", "good"}; !slices.Equal(turns, want) {
		t.Errorf("turns %v, want %v", turns, want)
	}
	if r := good.Results("1/s", 1); r[0].N != 4 || r[0].Errors != 0 || r[0].Value <= 0 {
		t.Errorf("good: %+v", r[0])
	}
	if r := bad.Results("1/s", 1); r[0].N != 0 || r[0].Errors != 4 || r[0].Value != 0 || !errors.Is(bad.All.Err(), failure) {
		t.Errorf("bad: %+v", r[0])
	}
	if Ratio([]float64{1, 8, 6}, []float64{2, 2, 3}) != 2 || Median(nil) != 0 || Ratio([]float64{1}, []float64{0}) != 0 {
		t.Error("ratio or median")
	}
}
