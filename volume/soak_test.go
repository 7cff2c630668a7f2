package volume

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
)

var (
	seedFlag = flag.Uint64("volume.seed", 0, "repeat the random test with this seed alone")
	fromFlag = flag.Uint64("volume.from", 0, "begin the seeds of a random test here, to repeat all of it; 0: anywhere")
)

// Crash points of the three random tests together. HAYLOFT_POINTS asks for
// another number, as make soak does.
const testPoints = 14_200

// points is a share, in percent, of the crash points to try.
func points(t *testing.T, percent int) int64 {
	n := testenv.Rounds(testPoints)
	if s := os.Getenv("HAYLOFT_POINTS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			t.Fatalf("HAYLOFT_POINTS is %q, not a number of crash points", s)
		}
	}
	return int64(n)*int64(percent)/100 + 1
}

func seeds(n int) []uint64 {
	if *seedFlag != 0 {
		return []uint64{*seedFlag}
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = rand.Uint64()
	}
	return out
}

func repeatWith(t *testing.T, seed uint64) string {
	return fmt.Sprintf("repeat with: go test ./volume -run '^%s$' -volume.seed=%d", t.Name(), seed)
}

// tally is what a random test did.
type tally struct{ points, seeds, lost, back, wrong, other atomic.Int64 }

func (n *tally) failed() bool {
	return n.lost.Load()+n.back.Load()+n.wrong.Load()+n.other.Load() > 0
}

func (n *tally) fail(err error) {
	switch {
	case errors.Is(err, errLost):
		n.lost.Add(1)
	case errors.Is(err, errBack):
		n.back.Add(1)
	case errors.Is(err, errWrong):
		n.wrong.Add(1)
	default:
		n.other.Add(1)
	}
}

// exploreAll has explore try crash points on all processors, one seed after
// another, until there were enough of them. explore counts them.
func exploreAll(t *testing.T, percent int, explore func(seed uint64, points *atomic.Int64) error) {
	var n tally
	want := points(t, percent)
	first := *fromFlag
	if first == 0 {
		first = rand.Uint64() >> 1
	}
	if *seedFlag != 0 {
		first, want = *seedFlag, 0
	}
	var next atomic.Uint64
	next.Store(first)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for s := next.Add(1) - 1; s == first || n.points.Load() < want && !n.failed(); s = next.Add(1) - 1 {
				n.seeds.Add(1)
				if err := explore(s, &n.points); err != nil {
					n.fail(err)
					t.Errorf("%v\n%s", err, repeatWith(t, s))
				}
			}
		})
	}
	wg.Wait()
	testenv.Tell(t, "%d crash points: lost %d, back %d, wrong %d, other failures %d; %d seeds from %d",
		n.points.Load(), n.lost.Load(), n.back.Load(), n.wrong.Load(), n.other.Load(), n.seeds.Load(), first)
}

// explore runs histories from crash pictures, at most budget of them, and counts
// the moments at which two batches were on their way.
func explore(seed uint64, budget int, points, overlaps *atomic.Int64, inject func(*rand.Rand) func(vfs.Op) vfs.Outcome) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	mem := vfs.NewMem(seed)
	if err := mem.MkdirAll("/d"); err != nil {
		return err
	}
	h := newHistory(mem, newModel(), rng, 0)
	h.choose(12, 50)
	if inject != nil {
		h.inject = inject(rng)
	}
	// A fault may keep Create from making a volume; nothing else may go wrong.
	if err := h.run(true); err != nil && (inject == nil || h.v != nil) {
		return fmt.Errorf("depth 0: %w", err)
	}
	moments, queue := h.moments, h.captures
	overlaps.Add(int64(h.overlaps))
	for ; len(queue) > 0 && budget > 0; budget-- {
		c := queue[0]
		queue = queue[1:]
		points.Add(1)
		next := newHistory(c.mem, c.model, rng, c.depth+1)
		next.choose(2, moments) // deep rather than wide: a crash of a recovered volume
		if inject != nil && rng.IntN(3) == 0 {
			next.inject = inject(rng)
		}
		if err := next.run(false); err != nil {
			return fmt.Errorf("%s: %w\n%v", c.what, err, c.mem)
		}
		moments = next.moments
		overlaps.Add(int64(next.overlaps))
		if len(queue) < 40 {
			queue = append(queue, next.captures...)
		}
	}
	return nil
}

// exploreOverlapping is exploreAll of explore, in which batches have to overlap
// once in fifty crash points at least.
func exploreOverlapping(t *testing.T, percent, budget int, inject func(*rand.Rand) func(vfs.Op) vfs.Outcome) {
	var overlaps atomic.Int64
	exploreAll(t, percent, func(seed uint64, points *atomic.Int64) error {
		return explore(seed, budget, points, &overlaps, inject)
	})
	testenv.Tell(t, "batches overlapped at %d moments", overlaps.Load())
	if *seedFlag == 0 && overlaps.Load() < points(t, percent)/50 {
		t.Errorf("batches overlapped at only %d moments of %d crash points", overlaps.Load(), points(t, percent))
	}
}

// TestCrashes cuts the power and kills the process at random calls, in the
// middle of recoveries too, and compares what is found with the model.
func TestCrashes(t *testing.T) {
	t.Parallel()
	exploreOverlapping(t, 60, 100, nil)
}

// TestFaultsAndCrashes also makes one random call fail: with EIO, ENOSPC, or
// after a part of a write.
func TestFaultsAndCrashes(t *testing.T) {
	t.Parallel()
	exploreOverlapping(t, 20, 10, oneFault)
}

func oneFault(rng *rand.Rand) func(vfs.Op) vfs.Outcome {
	at := 1 + rng.Int64N(40)
	errno := []error{unix.EIO, unix.ENOSPC}[rng.IntN(2)]
	short := rng.Int64()
	return func(op vfs.Op) vfs.Outcome {
		if op.N < at || at == 0 || !mutates(op.Kind) {
			return vfs.Outcome{}
		}
		at = 0
		return vfs.Outcome{Err: errno, Short: short % max(1, op.Len)}
	}
}
