package volume

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Every file that a volume leaves beside its own in its life is one of its
// companions: a server reports all others as strangers.
func TestCompanionsNameEveryFile(t *testing.T) {
	dir := t.TempDir()
	check := func(when string) {
		t.Helper()
		entries, err := List(nil, dir)
		if err != nil {
			t.Fatal(err)
		}
		var known []string
		for _, e := range entries {
			known = append(append(known, e.Name), e.Companions()...)
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !slices.Contains(known, f.Name()) {
				t.Errorf("%s: %s is nobody's", when, f.Name())
			}
		}
	}
	v, err := Create(dir, Identity{Volume: 7, Generation: 1, Class: ClassOriginals}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for key := 1; key <= 2; key++ {
		if err := v.Append(t.Context(), []Needle{{Key: 8192 * 4711, Alt: uint8(key), Cookie: 1, Data: []byte("photo")}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	check("closed")
	if v, err = Open(dir, 7, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := v.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Seal(t.Context(), SealInfo{}); err != nil {
		t.Fatal(err)
	}
	if err := v.Delete(t.Context(), 8192*4712); err != nil {
		t.Fatal(err)
	}
	v.leaveMarker()
	check("sealed")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	check("closed again")
	if all, _ := filepath.Glob(filepath.Join(dir, "*")); len(all) < 4 {
		t.Errorf("only %v were made: the test sees too little", all)
	}
}
