package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestMissingDisk runs a server of two disks and takes one away: everything says
// so, and nothing calls the rest whole.
func TestMissingDisk(t *testing.T) {
	dir, second := t.TempDir(), t.TempDir()
	s := start(t, dir, "--data", second)
	a := newAlbum(t, s)
	a.fill(t, s, 4)
	out, _ := s.volumes(t, 0, "ls", "--json")
	before := len(rowsOf(t, out))
	s.stop(t)

	s = start(t, dir, "--data", t.TempDir()) // not mounted
	out, _ = s.volumes(t, 1, "ls")
	if strings.Count(out, "unreadable") == 0 || strings.Count(out, "\n") != before+1 {
		t.Errorf("ls: %s", out)
	}
	if out, _ = s.volumes(t, 1, "verify"); strings.Count(out, ": sound, ") == 0 || !strings.Contains(out, "is in none of the data directories") {
		t.Errorf("verify: %s", out)
	}
	if _, log := s.volumes(t, 1, "export", "-o", filepath.Join(t.TempDir(), "export")); !strings.Contains(log, "is in none of the data directories") {
		t.Errorf("export: %s", log)
	}
	s.stop(t)
	if n := strings.Count(s.log.String(), "a disk of this node is missing"); n != 1 {
		t.Errorf("said %d times at the start: %s", n, s.log)
	}

	for _, verb := range []string{"seal", "compact"} {
		if _, log := volumesOff(t, dir, 1, verb, "--all", "--apply"); !strings.Contains(log, "name all data directories") {
			t.Errorf("%s: %s", verb, log)
		}
	}
	if out, _ := volumesOff(t, dir+","+second, 0, "seal", "--all", "--apply"); strings.Count(out, ": sealed") != before {
		t.Errorf("seal: %s", out)
	}
	s = start(t, dir, "--data", second)
	a.check(t, s)
	out, _ = s.volumes(t, 0, "ls", "--json")
	states(t, rowsOf(t, out), "sealed")
	s.stop(t)
}
