package server_test

import (
	"math/rand/v2"
	"testing"

	"hayloft/internal/testenv"
	"hayloft/volume/server"
)

// Replicas that differ in what was never acknowledged are made equal, and sealed.
func TestSealTogether(t *testing.T) {
	x := newTrio(t, server.Options{})
	x.plantUnequal()
	x.start()
	x.settle()
	x.check()
	if row := x.row(); row.Sync != 1 || row.Seal.Needles != 2*7 {
		t.Errorf("the row is %+v, seal %+v", row, row.Seal)
	}
}

// enumerate runs a life without a fault, and then with each fault at each call of it.
func enumerate(t *testing.T, life func(t *testing.T, at int, mode faultMode, seed uint64) (calls int, hit string)) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with -seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 9))
	calls, _ := life(t, 0, 0, 1)
	faults := 0
	for at := 1; at <= calls; at++ {
		for mode := range faultModes {
			if testenv.Rounds(1) == 1 && testenv.Rounds(10) < 10 && r.IntN(10) > 0 {
				continue
			}
			faults++
			if _, hit := life(t, at, mode, r.Uint64()); t.Failed() {
				t.Fatalf("call %d of %d, %s: %v", at, calls, hit, mode)
			}
		}
	}
	testenv.Tell(t, "%d faults at %d calls", faults, calls)
}

func TestSealFaults(t *testing.T) {
	enumerate(t, func(t *testing.T, at int, mode faultMode, seed uint64) (int, string) {
		x := newTrio(t, server.Options{})
		defer x.stopAll()
		x.plantUnequal()
		x.arm(at, mode, seed)
		x.start()
		x.settle()
		x.check()
		return x.calls, x.hit
	})
}
