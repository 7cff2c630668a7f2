package library

import (
	"errors"
	"slices"
	"testing"

	"hayloft/volume"
)

const kib = 1 << 10

// TestDataIsVerified checks that both comparisons notice what an engine that
// mixes needles up would hand out.
func TestDataIsVerified(t *testing.T) {
	buf := make([]byte, len(Noise))
	made := MakeNeedle(buf, 5, 8*kib)
	n := Needle{Key: made.Key, Size: 8 * kib}
	good := volume.Blob{Data: made.Data, ETag: ETag(made.Data)}
	scratch := make([]byte, len(Noise))
	if err := errors.Join(CheckFast(&n, good), CheckAll(&n, good, scratch)); err != nil {
		t.Fatal(err)
	}
	other := MakeNeedle(make([]byte, len(Noise)), 6, 8*kib)
	flipped := slices.Clone(made.Data)
	flipped[5000] ^= 1
	for name, b := range map[string]volume.Blob{
		"another needle": {Data: other.Data, ETag: ETag(other.Data)},
		"cut off":        {Data: made.Data[:4096], ETag: good.ETag},
		"a flipped bit":  {Data: flipped, ETag: ETag(flipped)},
		"a wrong ETag":   {Data: made.Data, ETag: good.ETag + 1},
	} {
		if !errors.Is(CheckAll(&n, b, scratch), ErrWrongData) {
			t.Errorf("%s passes the full comparison", name)
		}
	}
	n.ETag = good.ETag
	for name, b := range map[string]volume.Blob{
		"another needle": {Data: other.Data, ETag: ETag(other.Data)},
		"cut off":        {Data: made.Data[:4096], ETag: good.ETag},
		"a flipped bit":  {Data: flipped, ETag: ETag(flipped)},
	} {
		if !errors.Is(CheckFast(&n, b), ErrWrongData) {
			t.Errorf("%s passes the quick comparison", name)
		}
	}
}
