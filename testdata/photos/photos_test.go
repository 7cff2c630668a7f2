package photos

import (
	"bytes"
	"image/jpeg"
	"os"
	"testing"
)

func TestEveryPhotographIsWhole(t *testing.T) {
	attribution, err := os.ReadFile("ATTRIBUTION.md")
	if err != nil {
		t.Fatal(err)
	}
	names, err := files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	all := All()
	if len(all) != len(names) || len(all) != 12 {
		t.Fatalf("%d photographs listed, %d files", len(all), len(names))
	}
	for _, p := range all {
		if _, err := jpeg.Decode(bytes.NewReader(p.Data)); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if n := len(p.Data); n < 200<<10 || n > 1<<20 {
			t.Errorf("%s: %d bytes, want 0.2 to 1 MB", p.Name, n)
		}
		for _, want := range []string{p.Name, p.Licence} {
			if !bytes.Contains(attribution, []byte(want)) {
				t.Errorf("ATTRIBUTION.md does not name %q", want)
			}
		}
	}
}
