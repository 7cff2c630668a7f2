package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sixDirs are data directories of six disks.
func sixDirs(t *testing.T) []string {
	t.Helper()
	root := t.TempDir()
	var dirs []string
	for i := range 6 {
		dirs = append(dirs, filepath.Join(root, fmt.Sprintf("disk%d", i+1)))
	}
	return dirs
}

// startCoding runs a server over them that codes 4+2.
func startCoding(t *testing.T, dirs []string) *server {
	t.Helper()
	return start(t, dirs[0], "--data", strings.Join(dirs[1:], ","), "--ec", "4+2", "--volume-size", "64MiB", "--disk-reserve", "64MiB",
		"--maintenance-rate", "10GiB", "--cache-memory", "1MiB")
}

// ask runs any command against the server and wants its exit code.
func (s *server) ask(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	args = append(args, "--admin", s.admin)
	if args[0] != "cluster" {
		args = append(args, "--data", s.dir)
	}
	out, log, got := run(t, args...)
	if got != code {
		t.Errorf("%v: exit code %d\n%s\n%s\n%s", args, got, out, log, s.log)
	}
	return out, log
}

// codedList is what ec status promises to scripts.
type codedList struct {
	Policy                   string
	Coded, Coding, Redundant int
	Endangered, Lost         []int
	Survives                 *int
	Volumes                  []codedVolume
}

type codedVolume struct {
	ID, Epoch, Survives int
	Health, State       string
	Shards              []struct {
		Shard            int
		State, Data, Why string
	}
}

func (s *server) coded(t *testing.T, code int) (l codedList) {
	t.Helper()
	out, _ := s.ask(t, code, "ec", "status", "--json")
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return l
}

// TestCodedVolumes takes a server of six disks through encode, a lost disk, rebuild
// and decode, and wants every photo at every step.
func TestCodedVolumes(t *testing.T) {
	dirs := sixDirs(t)
	s := startCoding(t, dirs)
	a := newAlbum(t, s)
	a.fill(t, s, 6)
	out, _ := s.volumes(t, 0, "ls", "--json")
	before := rowsOf(t, out)
	survives(t, s, 0)

	if out, log := s.ask(t, 0, "ec", "encode", "--all"); strings.Count(out, "would be coded") != len(before) || !strings.Contains(log, "--apply") {
		t.Errorf("the plan: %s %s", out, log)
	}
	out, _ = s.volumes(t, 0, "ls", "--json")
	states(t, rowsOf(t, out), "open")
	if out, _ := s.ask(t, 0, "ec", "encode", "--all", "--apply"); strings.Count(out, "coded as 4+2, epoch 1") != len(before) {
		t.Errorf("encode: %s", out)
	}
	if _, log := s.ask(t, 0, "ec", "encode", "--all", "--apply"); !strings.Contains(log, "nothing to encode") {
		t.Errorf("encode again: %s", log)
	}
	l := s.coded(t, 0)
	if l.Policy != "4+2" || l.Coded != len(before) || l.Redundant != l.Coded || *l.Survives != 2 || len(l.Volumes) != l.Coded || len(l.Volumes[0].Shards) != 6 {
		t.Errorf("%+v", l)
	}
	out, _ = s.volumes(t, 0, "ls", "--json")
	rows := rowsOf(t, out)
	states(t, rows, "coded")
	for _, r := range rows {
		if *r.Epoch != 1 || *r.Shards != 6 || *r.Replicas != 1 || *r.Needles == 0 {
			t.Errorf("in the grace: %+v", r)
		}
	}
	if len(rows) != len(before) {
		t.Errorf("%d rows for %d volumes", len(rows), len(before))
	}
	survives(t, s, 2)
	a.check(t, s)
	explained(t, s, a)
	lookedAtShards(t, s, len(rows))
	a.drop(t, s, 1)
	decodedVolumes(t, s, a, l)
	lostDisk(t, s, dirs, a)
}

// survives wants a number of disks that may be lost.
func survives(t *testing.T, s *server, want int) {
	t.Helper()
	out, _ := s.ask(t, 0, "cluster", "status", "--json")
	var c struct {
		Nodes, Disks    []any
		Volumes         map[string]int
		UnderReplicated int `json:"under_replicated"`
		Leader          string
		Survives        struct{ Disk, Host int }
	}
	if err := json.Unmarshal([]byte(out), &c); err != nil || len(c.Nodes) != 1 || len(c.Disks) != 6 || c.Leader == "" || c.UnderReplicated != 0 || c.Survives.Disk != want {
		t.Errorf("survives should be %d: %v in %s", want, err, out)
	}
	for _, key := range []string{"nodes", "disks", "volumes", "under_replicated", "leader", "survives"} {
		if !strings.Contains(out, fmt.Sprintf("%q:", key)) {
			t.Errorf("cluster status --json lacks %q:\n%s", key, out)
		}
	}
	if out, _ := s.ask(t, 0, "cluster", "status"); !strings.Contains(out, fmt.Sprintf("the loss of any %d disks", want)) {
		t.Error(out)
	}
	if out, _ := s.ask(t, 0, "cluster", "nodes"); !strings.Contains(out, c.Leader) {
		t.Error(out)
	}
}

// explained asks why of everything there is, by its id.
func explained(t *testing.T, s *server, a *album) {
	t.Helper()
	var w struct {
		Photo *struct{ Status, Master string }
		Blobs []struct {
			Blob, State, Role, From, Access string
			Volume                          int
		}
		Volumes []struct {
			ID        int
			Directory *struct{ Coding string }
			Copies    []any
		}
	}
	for photo := range a.masters {
		out, _ := s.volumes(t, 0, "why", photo, "--json")
		if err := json.Unmarshal([]byte(out), &w); err != nil || w.Photo == nil || w.Photo.Status != "ready" || len(w.Blobs) != 2 || w.Blobs[0].State != "readable" ||
			w.Blobs[0].From != "shards" || w.Blobs[1].Access != "public" || w.Volumes[0].Directory.Coding != "coded" || len(w.Volumes[0].Copies) != 2 {
			t.Fatalf("%v in %s", err, out)
		}
		break
	}
	if out, _ := s.volumes(t, 0, "why", w.Photo.Master); !strings.Contains(out, ": READABLE") || strings.Count(out, "shard ") != 6 {
		t.Error(out)
	}
	if out, _ := s.volumes(t, 0, "why", fmt.Sprint(w.Blobs[0].Volume)); !strings.Contains(out, "in service") {
		t.Error(out)
	}
	if out, _ := s.volumes(t, 0, "why", "000000000000g"); !strings.Contains(out, "UNKNOWN") {
		t.Error(out)
	}
}

// lookedAtShards runs what only looks, on coded volumes.
func lookedAtShards(t *testing.T, s *server, volumes int) {
	t.Helper()
	if out, _ := s.volumes(t, 0, "show", "1"); strings.Count(out, "\nshard ") != 6 {
		t.Errorf("show: %s", out)
	}
	if out, _ := s.volumes(t, 0, "dump", "1", "--json", "--kind", "needle"); strings.Count(out, "\n") == 0 {
		t.Errorf("dump: %q", out)
	}
	if out, _ := s.volumes(t, 0, "verify"); strings.Count(out, "in 6 shards: sound, ") != volumes {
		t.Errorf("verify: %s", out)
	}
	if _, log := s.volumes(t, 1, "compact", "1", "--apply"); !strings.Contains(log, "source is kept yet") {
		t.Errorf("compact in the grace: %s", log)
	}
	if out, _, code := run(t, "__complete", "ec", "status", "--admin", s.admin, "--data", s.dir, ""); code != 0 || !strings.HasPrefix(out, "1\toriginals, coded\n") && !strings.HasPrefix(out, "1\tvariants, coded\n") {
		t.Errorf("completion: %d\n%s", code, out)
	}
	for _, m := range []string{"hayloft_coded_survives_disks", "hayloft_shards", "hayloft_coded_encodings_total"} {
		if s.metric(t, m) == 0 {
			t.Errorf("%s is 0", m)
		}
	}
}

// decodedVolumes takes every volume out of its shards, and wants what is served to be
// in them, and what was deleted not.
func decodedVolumes(t *testing.T, s *server, a *album, l codedList) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "decoded")
	for _, v := range l.Volumes {
		if out, _ := s.ask(t, 0, "ec", "decode", fmt.Sprint(v.ID), "-o", to); !strings.Contains(out, "verified: "+to) {
			t.Error(out)
		}
	}
	if _, log := s.ask(t, 1, "ec", "decode", fmt.Sprint(l.Volumes[0].ID), "-o", to); !strings.Contains(log, "already exists") {
		t.Errorf("decoded over another: %s", log)
	}
	if _, log := s.ask(t, 1, "ec", "decode", fmt.Sprint(l.Volumes[0].ID), "-o", s.dir); !strings.Contains(log, "data directory of a server") {
		t.Errorf("decoded into a server: %s", log)
	}
	if out, log := volumesOff(t, to, 0, "verify"); strings.Count(out, ": sound, ") != l.Coded || log != "" {
		t.Errorf("verify: %s %s", out, log)
	}
	export := filepath.Join(t.TempDir(), "export")
	volumesOff(t, to, 0, "export", "-o", export)
	sums, err := os.ReadFile(filepath.Join(export, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	for photo, sum := range a.masters {
		if !strings.Contains(string(sums), fmt.Sprintf("%x", sum)) {
			t.Errorf("the master of %s is in no volume that was decoded", photo)
		}
	}
	if n := strings.Count(string(sums), " originals/"); n != len(a.masters) {
		t.Errorf("%d masters were exported, %d are not deleted", n, len(a.masters))
	}
}

// lostDisk puts an empty directory in the place of one, and has its shards made again.
func lostDisk(t *testing.T, s *server, dirs []string, a *album) {
	t.Helper()
	s.stop(t)
	if err := os.Rename(dirs[4], dirs[4]+".away"); err != nil {
		t.Fatal(err)
	}
	s = startCoding(t, dirs)
	l := s.coded(t, 1)
	if len(l.Endangered) != l.Coded || len(l.Lost) != 0 || *l.Survives != 1 {
		t.Errorf("a disk is lost: %+v", l)
	}
	out, log := s.ask(t, 1, "ec", "status")
	if !strings.Contains(out, "is endangered: away: shards ") || !strings.Contains(out, "ENDANGERED: ") || !strings.Contains(log, "are not redundant") {
		t.Errorf("%s %s", out, log)
	}
	a.check(t, s)
	if out, _ := s.ask(t, 0, "ec", "rebuild", "--all"); strings.Count(out, "would be rebuilt") != l.Coded {
		t.Errorf("the plan: %s", out)
	}
	if out, _ := s.ask(t, 0, "ec", "rebuild", "--all", "--apply"); strings.Count(out, "rebuilt: 6 of 6 shards whole; any 2 disks may be lost") != l.Coded {
		t.Errorf("rebuild: %s", out)
	}
	if l := s.coded(t, 0); l.Redundant != l.Coded {
		t.Errorf("rebuilt: %+v", l)
	}
	a.check(t, s)
	s.stop(t)

	all := strings.Join(dirs, ",")
	if out, _, code := run(t, "ec", "status", "--data", all); code != 0 || !strings.Contains(out, "all redundant") {
		t.Errorf("status of a stopped server: %d %s", code, out)
	}
	if out, _ := volumesOff(t, all, 0, "verify"); strings.Count(out, "in 6 shards: sound, ") != l.Coded {
		t.Errorf("verify of bare shards: %s", out)
	}
	if out, _ := volumesOff(t, all, 0, "ls"); strings.Count(out, "6 of 6 shards") != l.Coded {
		t.Errorf("ls of bare shards: %s", out)
	}
}

// TestECUsage wants wrong calls to be answered with one line and the right exit code.
func TestECUsage(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, "--ec", "4+2")
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	here := " --admin " + s.admin + " --data " + dir
	newAlbum(t, s).fill(t, s, 1)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"ec nonsense", 2, `has no command "nonsense"`},
		{"ec status x" + here, 2, "not the number"},
		{"ec status 99" + here, 1, "not coded: 99"},
		{"ec status 1" + here, 1, "not coded: 1"},
		{"ec encode" + here, 2, "--all"},
		{"ec encode --all 1" + here, 2, "--all"},
		{"ec encode 99" + here, 1, "no such volume"},
		{"ec encode --all --apply" + here, 1, "could not be coded"},
		{"ec rebuild 1" + here, 1, "not coded"},
		{"ec decode 1" + here, 2, "-o DIR"},
		{"ec decode -o " + t.TempDir() + here, 2, "one volume"},
		{"ec decode 1 -o " + t.TempDir() + here, 1, "not coded"},
		{"ec status --admin " + other.URL, 1, "is that the admin listener"},
		{"ec encode --all --apply --admin " + s.admin, 1, "admin token"},
		{"volume why" + here, 2, "one volume, blob or photo"},
		{"volume why 99" + here, 1, "no such volume"},
		{"volume why nonsense" + here, 2, "neither the number of a volume"},
		{"volume why 1 --data " + dir, 2, "asks a running server"},
		{"cluster status --data " + dir, 2, "asks a running server"},
		{"cluster status extra --admin " + s.admin, 2, "no arguments"},
		{"cluster nodes --admin http://127.0.0.1:1", 1, "no answer"},
	} {
		_, log, code := run(t, strings.Fields(c.args)...)
		lines := strings.Split(strings.TrimSuffix(log, "\n"), "\n")
		if last := lines[len(lines)-1]; code != c.code || !strings.Contains(last, c.says) || !strings.HasPrefix(last, "hayloft: ") {
			t.Errorf("%s: exit code %d, %q", c.args, code, log)
		}
	}
	// Too few disks: said for each volume, and none was sealed for it.
	if _, log := s.ask(t, 1, "ec", "encode", "--all", "--apply"); strings.Count(log, "4+2 needs 3 disks in service") != 2 {
		t.Errorf("one disk: %s", log)
	}
	out, _ := s.volumes(t, 0, "ls", "--json")
	states(t, rowsOf(t, out), "open")
}
