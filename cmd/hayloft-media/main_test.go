package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"hayloft/media/mediatest"
)

// build makes the program with cgo, however the tests themselves are built.
func build(t testing.TB) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "hayloft-media")
	cmd := exec.Command("go", "build", "-o", out, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building hayloft-media (it needs libvips-dev, see the Makefile): %v\n%s", err, b)
	}
	return out
}

func TestConformance(t *testing.T) {
	mediatest.Conformance(t, []string{build(t)})
}
