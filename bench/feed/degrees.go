package feed

import (
	"math"
	"math/rand/v2"
)

// linkBench is a short table of LinkBench's distribution of degrees (links of a
// node, the percentage that has no more), from one link up to two thousand. The
// longer tail is left out: it would raise the mean fan-out and so flatter.
var linkBench = []struct {
	degree float64
	upTo   float64
}{
	{0, 45.3316}, {1, 77.4626}, {2, 86.9581}, {3, 91.9931}, {4, 94.4508}, {5, 95.8281}, {7, 97.3201}, {10, 98.3280},
	{15, 99.0269}, {20, 99.3270}, {30, 99.5569}, {50, 99.7216}, {70, 99.7861}, {100, 99.8314}, {150, 99.8662},
	{200, 99.8851}, {300, 99.9061}, {500, 99.9275}, {700, 99.9394}, {1000, 99.9507}, {2000, 99.9694},
}

// degree draws a degree of at least one.
func degree(rng *rand.Rand) int {
	first, last := linkBench[0], linkBench[len(linkBench)-1]
	u := first.upTo + rng.Float64()*(last.upTo-first.upTo)
	for i := 1; i < len(linkBench); i++ {
		hi, lo := linkBench[i], linkBench[i-1]
		if u > hi.upTo {
			continue
		}
		if hi.degree-lo.degree <= 1 {
			return int(hi.degree)
		}
		part := (u - lo.upTo) / (hi.upTo - lo.upTo)
		return int(math.Ceil(math.Exp(math.Log(lo.degree) + part*(math.Log(hi.degree)-math.Log(lo.degree)))))
	}
	return int(last.degree)
}
