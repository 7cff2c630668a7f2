package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRebuildDirectory loses every copy of the directory, has it made again from the
// disks, and goes on as if nothing had been.
func TestRebuildDirectory(t *testing.T) {
	dir, second := t.TempDir(), t.TempDir()
	both := dir + "," + second
	s := start(t, dir, "--data", second)
	a := newAlbum(t, s)
	a.fill(t, s, 6)
	s.volumes(t, 0, "seal", "--all", "--apply")
	a.drop(t, s, 2)
	s.volumes(t, 0, "compact", "--all", "--apply")
	a.drop(t, s, 1) // in delete logs
	a.fill(t, s, 4)
	a.drop(t, s, 1) // by tombstones in open volumes
	out, _ := s.volumes(t, 0, "ls", "--json")
	before := rowsOf(t, out)
	rebuild := func(code int, want string, flags ...string) string {
		t.Helper()
		out, log, got := run(t, append([]string{"cluster", "rebuild-directory"}, flags...)...)
		if got != code || !strings.Contains(out+log, want) {
			t.Errorf("%v: exit code %d, want %d and %q\n%s\n%s", flags, got, code, want, out, log)
		}
		return out
	}
	rebuild(1, "there is still a directory in", "--data", both, "--apply")
	s.kill() // it surrenders nothing
	rebuild(1, "there is still a directory in", "--data", both, "--apply")
	if err := os.RemoveAll(filepath.Join(dir, "raft", "directory")); err != nil {
		t.Fatal(err)
	}
	rebuild(1, "there is still a directory in", "--data", both, "--apply")
	if err := os.Remove(filepath.Join(second, "raft", "directory", "raft.db")); err != nil { // and the record that says where it was stays
		t.Fatal(err)
	}

	files := sums(t, dir)
	plan := rebuild(0, "nothing was changed", "--data", both)
	if strings.Count(plan, "\nvolume ") != len(before) || strings.Count(plan, "closing") == 0 || strings.Count(plan, "sealed") == 0 {
		t.Errorf("the plan, of %d volumes: %s", len(before), plan)
	}
	rebuild(2, "--data", "--apply")
	if after := sums(t, dir); len(after) != len(files) || slices.Contains(entries(t, filepath.Join(dir, "raft")), "directory") {
		t.Error("a plan or a refusal changed files")
	}
	rebuild(0, "start the server", "--data", both, "--apply")
	rebuild(1, "there is still a directory in", "--data", both, "--apply")

	s = start(t, dir, "--data", second)
	a.check(t, s)
	known := make(map[string]bool)
	for photo := range a.masters {
		known[photo] = true
	}
	newest := slices.Max(slices.Collect(func(yield func(string) bool) {
		for photo := range known {
			if !yield(photo) {
				return
			}
		}
	}))
	a.fill(t, s, 4)
	for photo := range a.masters {
		if !known[photo] && photo <= newest {
			t.Errorf("photo %s was minted after %s", photo, newest)
		}
	}
	a.check(t, s)
	s.volumes(t, 0, "seal", "--all", "--apply")
	s.volumes(t, 0, "verify")
	out, _ = s.volumes(t, 0, "ls", "--json")
	a.sameVolumes(t, before, rowsOf(t, out))
	a.drop(t, s, 2)
	s.volumes(t, 0, "compact", "--all", "--apply")
	s.stop(t)
	s = start(t, dir, "--data", second)
	a.check(t, s)
	s.stop(t)
}

// sameVolumes wants the volumes of before among those of after, with what is in them,
// and new ones under other numbers.
func (a *album) sameVolumes(t *testing.T, before, after []listed) {
	t.Helper()
	last := 0
	for _, b := range before {
		last = max(last, b.ID)
		i := slices.IndexFunc(after, func(r listed) bool { return r.ID == b.ID })
		if i < 0 {
			t.Errorf("volume %d is gone", b.ID)
			continue
		}
		r := after[i]
		if r.Class != b.Class || r.Generation != b.Generation || *r.Needles != *b.Needles || *r.Live != *b.Live || r.State != "sealed" || r.Replicas == nil || *r.Replicas != 1 {
			t.Errorf("volume %d was %+v, is %+v", b.ID, b, r)
		}
	}
	if len(after) <= len(before) {
		t.Errorf("%d volumes, %d before: nothing new was made", len(after), len(before))
	}
	for _, r := range after {
		if !slices.ContainsFunc(before, func(b listed) bool { return b.ID == r.ID }) && r.ID <= last {
			t.Errorf("a new volume has number %d, and %d was there", r.ID, last)
		}
	}
}
