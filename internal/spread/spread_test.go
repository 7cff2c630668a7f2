package spread

import "testing"

// The published generator with seed 0 returns Mix of multiples of its constant.
func TestMixIsTheFinalizerOfSplitMix64(t *testing.T) {
	const gamma = 0x9e3779b97f4a7c15
	state := uint64(0)
	for i, want := range []uint64{0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f} {
		state += gamma
		if got := Mix(state); got != want {
			t.Errorf("value %d is %x, want %x", i, got, want)
		}
	}
}
