package e2e

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRescue kills a server of two disks, wipes everything but its volumes, and
// gets every original back.
func TestRescue(t *testing.T) {
	dir, second := t.TempDir(), t.TempDir()
	s := start(t, dir, "--data", second)
	a := newAlbum(t, s)
	a.fill(t, s, 6)
	s.volumes(t, 0, "seal", "--all", "--apply")
	a.drop(t, s, 2)
	s.volumes(t, 0, "compact", "--all", "--apply")
	a.fill(t, s, 4)
	a.drop(t, s, 1)
	if _, log, code := run(t, "rescue", "--data", dir, "-o", filepath.Join(t.TempDir(), "out")); code != 1 || !strings.Contains(log, "in use by a running server") {
		t.Errorf("beside a server: exit code %d, %s", code, log)
	}
	s.kill()
	for _, d := range []string{dir, second} {
		for _, e := range entries(t, d) {
			if e != "volumes" && e != "shards" {
				if err := os.RemoveAll(filepath.Join(d, e)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	text, log, code := run(t, "rescue", "--data", dir+","+second, "-o", out)
	if code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, text, log)
	}
	a.rescued(t, out)
}

// rescued wants the masters in an export, and nothing else.
func (a *album) rescued(t *testing.T, out string) {
	t.Helper()
	manifest, err := os.Open(filepath.Join(out, "manifest.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer manifest.Close()
	found := 0
	for lines := bufio.NewScanner(manifest); lines.Scan(); found++ {
		var n struct {
			File   string
			Master struct{ Photo string }
		}
		if err := json.Unmarshal(lines.Bytes(), &n); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(out, n.File))
		if want, ok := a.masters[n.Master.Photo]; err != nil || !ok || sha256.Sum256(b) != want {
			t.Errorf("%s: %v, wanted %v", n.File, err, ok)
		}
	}
	if found != len(a.masters) {
		t.Errorf("%d of %d originals", found, len(a.masters))
	}
}

// entries are the names in a directory.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}
