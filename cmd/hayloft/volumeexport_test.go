package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hayloft/volume/tools"
)

// An export may come from another machine: nothing it names lies outside, or
// replaces the lists.
func TestExportStaysInside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	var notes bytes.Buffer
	e := &exporter{notes: &notes, dir: dir}
	err := e.run(func(s tools.ExportSink) error {
		for _, bad := range []string{"../x", "/etc/x", "a/../../x", "", "a\n0123  b", "a\rb", "a\x7f", manifestName, sumsName} {
			if s.Needle(tools.Exported{File: bad}, nil) == nil {
				t.Errorf("%q was written", bad)
			}
		}
		for _, data := range []string{"one", "one", "two"} { // twice the same, and then another
			if err := s.Needle(tools.Exported{File: "variants/a.jpg"}, []byte(data)); err != nil {
				return err
			}
		}
		return s.Damaged("volume 7: gone")
	})
	if err != nil || e.damaged != 2 || strings.Count(notes.String(), "\n") != 2 {
		t.Errorf("%v, %d damaged: %s", err, e.damaged, notes.String())
	}
	sums, err := os.ReadFile(filepath.Join(dir, sumsName))
	if err != nil || strings.Count(string(sums), "\n") != 1 {
		t.Errorf("%s %v", sums, err)
	}
	if e.sum(&notes) == nil {
		t.Error("damage, and no error")
	}
}
