package likes

import (
	"testing"
	"time"
)

// The whole bench, very small: nobody's like is lost or counted twice.
func TestRun(t *testing.T) {
	report, err := Run(t.Context(), Options{Dir: t.TempDir(), Rate: 500, Duration: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, r := range report.Results {
		got[r.Name] = r.Value
	}
	if got["likes_counted"] != 500 || got["likes_per_s"] <= 0 || got["like_p99"] <= 0 {
		t.Errorf("%+v", report.Results)
	}
}
