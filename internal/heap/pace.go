package heap

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"hayloft/internal/clock"
)

// Garbage is how many bytes of it come up between two collections, at least: what a
// process takes beyond what it needs.
const Garbage = 128 << 20

const (
	look   = time.Second
	usual  = 100  // Go's own: as much as is alive
	most   = 3200 // of a heap that is almost empty
	nearly = 8    // an eighth more or less is not worth stopping everything for
)

// Pace keeps at least Garbage between two collections until ctx ends. Whoever has set
// GOGC is left alone; GOMEMLIMIT goes before it all, as ever.
func Pace(ctx context.Context, c clock.Clock) {
	if os.Getenv("GOGC") != "" {
		return
	}
	now := usual
	defer debug.SetGCPercent(usual)
	for {
		if p := percent(alive(), Garbage); p > now+now/nearly || p < now-now/nearly {
			debug.SetGCPercent(p)
			now = p
		}
		select {
		case <-c.After(look):
		case <-ctx.Done():
			return
		}
	}
}

// percent of what is alive is garbage, when the heap is collected.
func percent(alive, garbage uint64) int {
	return int(min(max(garbage*100/max(alive, 1), usual), most))
}

// alive is what the last collection has left, in bytes.
func alive() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
