package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// scrubbed runs scrub run --wait --json.
func (s *server) scrubbed(t *testing.T, code int) map[string]int {
	t.Helper()
	out, log, got := run(t, "scrub", "run", "--wait", "--json", "--admin", s.admin, "--data", s.dir)
	r := map[string]int{}
	if err := json.Unmarshal([]byte(out), &r); err != nil || got != code || len(r) != 4 {
		t.Fatalf("exit code %d, want %d: %v\n%s\n%s", got, code, err, out, log)
	}
	return r
}

// A running server is scrubbed: what cannot be repaired makes the command fail, what
// can is repaired, and a foreign file is moved aside.
func TestScrubOnline(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	newAlbum(t, s).fill(t, s, 2)
	if r := s.scrubbed(t, 0); r["corrupt"] != 0 || r["unrepairable"] != 0 || r["checked"] != 3 {
		t.Errorf("%v", r)
	}
	all, err := filepath.Glob(filepath.Join(dir, "volumes", "*.vol"))
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	flip(t, all[0], 4096+60) // a superblock: the other copy has it
	if err := os.WriteFile(filepath.Join(dir, "volumes", "notes.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.scrubbed(t, 0); r["corrupt"] != 1 || r["repaired"] != 1 {
		t.Errorf("%v", r)
	}
	if held, err := filepath.Glob(filepath.Join(dir, "quarantine", "*-notes.txt")); err != nil || len(held) != 1 {
		t.Errorf("%v, %v", held, err)
	}
	flip(t, all[0], 8192+64+200) // in the first needle
	if r := s.scrubbed(t, 1); r["corrupt"] < 1 || r["unrepairable"] != r["corrupt"] {
		t.Errorf("%v", r)
	}
	out, log, code := run(t, "scrub", "status", "--admin", s.admin)
	if code != 0 || !strings.Contains(out, dir+": 3 items") || !strings.Contains(out, "1 foreign") || !strings.Contains(out, "1 superblock") {
		t.Errorf("%d: %s %s", code, out, log)
	}
	if _, log, code := run(t, "scrub", "run", "--admin", s.admin, "--data", t.TempDir()); code != 1 || !strings.Contains(log, "admin token") {
		t.Errorf("without a token: %d: %s", code, log)
	}
	res, err := http.Get(s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil || !strings.Contains(string(text), "hayloft_scrub_unrepairable_total{disk=") {
		t.Error("metrics:", err)
	}
	s.stop(t)
}

// flip inverts a bit of a file.
func flip(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err = f.ReadAt(b, at); err == nil {
		b[0] ^= 8
		_, err = f.WriteAt(b, at)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
