package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hayloft/client"
	"hayloft/internal/testenv"
	"hayloft/testdata/photos"
	"hayloft/volume/torture"
)

// times returns how often, as the named variable says.
func times(env string, often int) string {
	if s := os.Getenv(env); s != "" {
		return s
	}
	return strconv.Itoa(often)
}

// run runs the binary and returns its output and exit code.
func run(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(hayloft(t), args...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

// tortured runs the torture and wants everything to be as it must be, and
// nothing to be left behind.
func tortured(t *testing.T, flags ...string) torture.Result {
	t.Helper()
	dir := t.TempDir()
	n := seed(t)
	args := append([]string{"torture", "--json", "--seed", strconv.FormatUint(n, 10)}, flags...)
	out, log, code := run(t, append(args, dir)...)
	var r torture.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || !r.OK() {
		t.Fatalf("exit code %d, %v\n%s\n%s", code, err, out, log)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	testenv.Tell(t, "%s: %s", r.How, r.Line())
	return r
}

func TestTortureKill(t *testing.T) {
	r := tortured(t, "--rounds", times("HAYLOFT_KILLS", 10))
	if r.Puts == 0 || r.Deletes == 0 || r.Verified == 0 || r.Volumes == 0 || r.Failed+r.Poisoned+r.Late > 0 {
		t.Errorf("too thin to prove anything, or calls failed without a reason: %+v", r)
	}
}

func TestTorturePower(t *testing.T) {
	why := cannotMount(t)
	if why != "" {
		testenv.Tell(t, "no power is cut on this machine: %s", why)
		_, log, code := run(t, "torture", "--power", "--rounds", "1", t.TempDir())
		if code != 1 || strings.Count(log, "\n") != 1 {
			t.Errorf("exit code %d, not one clear line: %q", code, log)
		}
		return
	}
	r := tortured(t, "--power", "--rounds", times("HAYLOFT_CUTS", 5))
	if r.Puts == 0 || r.How != "power" || r.Verified == 0 {
		t.Errorf("too thin to prove anything: %+v", r)
	}
}

// cannotMount tries loop devices without our code; it returns why they do not
// work here, or "".
func cannotMount(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("unshare", "-m", "sh", "-e", "-c", `
		truncate -s 8M image; mkdir mnt; mkfs.ext4 -q -F image
		mount -o loop image mnt; umount mnt`)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Sprintf("%v: %s", err, bytes.TrimSpace(out))
	}
	return ""
}

// TestTorturePowerInterrupted wants Ctrl-C, and kill -9, to leave no loop
// device and no mount.
func TestTorturePowerInterrupted(t *testing.T) {
	if why := cannotMount(t); why != "" {
		testenv.Tell(t, "no power is cut on this machine: %s", why)
		return
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		dir := t.TempDir()
		cmd := exec.Command(hayloft(t), "torture", "--power", "--minutes", "10", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		log := &lockedBuffer{}
		cmd.Stderr = log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(testenv.Patience); !strings.Contains(log.String(), "round 1,"); <-time.After(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("nothing happens: %s", log)
			}
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if sig == syscall.SIGINT {
			if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(log.String(), "interrupted") {
				t.Errorf("%v\n%s", err, log)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		}
		// The kernel gives the device up when the last process is gone.
		for deadline := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
			used := loopsOver(t, dir)
			if len(used) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("after %v loop devices are left: %v", sig, used)
			}
		}
	}
}

// loopsOver lists the loop devices whose image lies in dir.
func loopsOver(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil && strings.HasPrefix(string(b), dir) {
			out = append(out, n)
		}
	}
	return out
}

// TestTortureFailingCalls makes system calls of the writer fail, syncs above
// all, and kills it upon entering them: nothing that was acknowledged may be
// lost, and what was poisoned must stay so.
func TestTortureFailingCalls(t *testing.T) {
	if why := cannotInject(t); why != "" {
		testenv.Tell(t, "no calls fail on this machine: %s", why)
		return
	}
	poisoned := int64(0)
	for _, f := range []struct{ call, fault string }{
		{"fdatasync", "error=EIO:when=1"}, {"fdatasync", "error=EIO:when=2"}, {"fdatasync", "error=EIO:when=5+20"},
		{"fsync", "error=EIO:when=1"}, {"fsync", "error=EIO:when=3"},
		{"pwritev", "error=EIO:when=4+25"}, {"pwritev", "error=ENOSPC:when=3+30"}, {"pwritev", "error=EINVAL:when=6+40"},
		{"fallocate", "error=ENOSPC:when=2"}, {"fallocate", "error=EIO:when=1+3"},
		{"ftruncate", "error=EIO:when=1"}, {"renameat", "error=EIO:when=1"},
		{"pread64", "error=EIO:when=5+30"}, {"fadvise64", "error=EIO:when=1"},
		{"pwritev", "signal=KILL:when=5"}, {"fdatasync", "signal=KILL:when=6"}, {"fallocate", "signal=KILL:when=2"},
		{"renameat", "signal=KILL:when=1"}, {"fsync", "signal=KILL:when=2"}, {"ftruncate", "signal=KILL:when=1"},
	} {
		r := tortured(t, "--rounds", times("HAYLOFT_FAULTS", 1), "--faults",
			fmt.Sprintf("strace -f -qq -o %s -e trace=%s -e inject=%s:%s", os.DevNull, f.call, f.call, f.fault))
		t.Logf("%s %s: %d calls failed, %d volumes poisoned", f.call, f.fault, r.Failed, r.Poisoned)
		poisoned += r.Poisoned
	}
	if poisoned == 0 {
		t.Error("no call failed")
	}
}

// cannotInject tries whether strace can make a call fail.
func cannotInject(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("strace", "-qq", "-o", os.DevNull, "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=1", "true").CombinedOutput()
	if err != nil {
		return fmt.Sprintf("strace: %v: %s", err, bytes.TrimSpace(out))
	}
	return ""
}

// wreck makes a data directory as a crash leaves it.
func wreck(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "volumes"), 0o750); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(hayloft(t), "torture-writer", "--dir", filepath.Join(dir, "volumes"), "--seed", "1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	b, n := make([]byte, 512), 0
	for ; n < 30_000; n += len(b) {
		if _, err := out.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the writer ended by itself")
	}
	return dir
}

// sums returns the SHA-256 of every file of the volumes.
func sums(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	out := map[string][32]byte{}
	names, err := filepath.Glob(filepath.Join(dir, "volumes", "*"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		out[n] = sha256.Sum256(b)
	}
	return out
}

// listed is what volume ls promises to scripts.
type listed struct {
	ID, Generation          int
	Class, State            string
	Replicas, Epoch, Shards *int
	Needles                 *int64
	Live                    *int64 `json:"live_bytes"`
	File                    *int64 `json:"file_bytes"`
	Error                   string
}

// TestVolumeTools goes through the offline commands on what a crash left, and
// wants every file to stay as it was.
func TestVolumeTools(t *testing.T) {
	dir := wreck(t)
	before := sums(t, dir)
	out, log, code := run(t, "volume", "ls", "--data", dir, "--json")
	var rows []listed
	if err := json.Unmarshal([]byte(out), &rows); err != nil || code != 0 || len(rows) < 2 {
		t.Fatalf("%d %v\n%s\n%s", code, err, out, log)
	}
	needles := int64(0)
	for _, r := range rows {
		if r.State != "open" || r.Needles == nil || *r.Needles == 0 || *r.Live > *r.File || *r.Live == 0 || r.Replicas != nil || r.Epoch != nil || r.Shards != nil {
			t.Errorf("%+v", r)
		}
		needles += *r.Needles
	}
	for _, key := range []string{"id", "class", "state", "replicas", "needles", "live_bytes", "file_bytes", "epoch", "shards"} {
		if !strings.Contains(out, strconv.Quote(key)+":") {
			t.Errorf("ls --json lacks %q:\n%s", key, out)
		}
	}
	if out, log, code := run(t, "volume", "verify", "--data", dir); code != 0 || strings.Count(out, ": sound, ") != len(rows) {
		t.Errorf("verify: %d\n%s\n%s", code, out, log)
	}
	if out, _, code := run(t, "__complete", "volume", "show", "--data", dir, ""); code != 0 || !strings.HasPrefix(out, "1\tvariants, open\n") {
		t.Errorf("completion: %d\n%s", code, out)
	}
	if out, _, code := run(t, "volume", "show", "--data", dir, "1"); code != 0 || !strings.Contains(out, "variants") {
		t.Errorf("show: %d\n%s", code, out)
	}
	exported(t, dir, needles)
	after := sums(t, dir)
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Error("files were changed")
	}
}

// exported exports and compares with the count and with the files' own sums.
func exported(t *testing.T, dir string, needles int64) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "out")
	if out, log, code := run(t, "volume", "export", "--data", dir, "-o", to); code != 0 {
		t.Fatalf("export: %d\n%s\n%s", code, out, log)
	}
	text, err := os.ReadFile(filepath.Join(to, "manifest.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	n, masters := int64(0), 0
	for l := range strings.Lines(string(text)) {
		var m struct {
			File, SHA256, Class string
			Size                int
			Master              *struct{ Photo, Owner, Time string }
		}
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(to, m.File))
		if err != nil || len(b) != m.Size || fmt.Sprintf("%x", sha256.Sum256(b)) != m.SHA256 {
			t.Errorf("%s: %v", l, err)
		}
		n++
		if m.Class == "originals" && m.Master != nil && strings.Contains(m.File, m.Master.Owner) && strings.Contains(m.File, m.Master.Photo) {
			masters++
		}
	}
	if n != needles || masters == 0 {
		t.Errorf("%d needles exported, %d of them masters; ls counts %d needles", n, masters, needles)
	}
	if _, log, code := run(t, "volume", "export", "--data", dir, "-o", to); code != 1 || !strings.Contains(log, "not empty") {
		t.Errorf("exported over an export: %d %s", code, log)
	}
}

// TestVolumeDamage flips one bit in a needle and wants every tool to say so.
func TestVolumeDamage(t *testing.T) {
	dir := wreck(t)
	out, log, code := run(t, "volume", "dump", "--data", dir, "--json", "--kind", "needle", "2")
	if code != 0 {
		t.Fatalf("%d %s", code, log)
	}
	var r struct {
		Offset, Size int64
		Key          string
		Length       int
	}
	deleted, _, _ := run(t, "volume", "dump", "--data", dir, "--json", "--kind", "tombstone", "2")
	for l := range strings.Lines(out) {
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatal(err)
		}
		if r.Length > 1000 && !strings.Contains(deleted, r.Key) {
			break
		}
	}
	name := filepath.Join(dir, "volumes", "00000002-00000001.vol")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[r.Offset+r.Size/2] ^= 4
	if err := os.WriteFile(name, b, 0o640); err != nil {
		t.Fatal(err)
	}
	out, log, code = run(t, "volume", "verify", "--data", dir, "2")
	if code != 1 || !strings.Contains(out, "key "+r.Key) || strings.Count(out, "\n") != 1 {
		t.Errorf("verify: %d\n%s\n%s", code, out, log)
	}
	if out, _, code := run(t, "volume", "dump", "--data", dir, "--damaged", "2"); code != 0 || !strings.Contains(out, "DAMAGED") || !strings.Contains(out, r.Key) {
		t.Errorf("dump: %d\n%s", code, out)
	}
	if _, log, code := run(t, "volume", "export", "--data", dir, "-o", filepath.Join(t.TempDir(), "out")); code != 1 || !strings.Contains(log, r.Key) {
		t.Errorf("export: %d\n%s", code, log)
	}
	// An unsupported file is not a corrupt one, and neither stops the others.
	clear(b[:8192])
	if err := os.WriteFile(name, b, 0o640); err != nil {
		t.Fatal(err)
	}
	out, log, code = run(t, "volume", "ls", "--data", dir)
	if code != 1 || !strings.Contains(out, "corrupt") || !strings.Contains(out, "variants") || !strings.Contains(log, "1 of ") {
		t.Errorf("ls: %d\n%s\n%s", code, out, log)
	}
}

// TestVolumeToolsBesideServer wants listings beside a running server, and
// refusals of what needs the directory for itself.
func TestVolumeToolsBesideServer(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	c := s.account(t, "keeper")
	photo, err := put(t.Context(), c, distinct(photos.ByName("nuthatch.jpg").Data, 1), true)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := c.WaitReady(t.Context(), photo); err != nil || p.Status != client.StatusReady {
		t.Fatal(p.Status, err)
	}
	before := sums(t, dir)
	for _, args := range [][]string{{"ls", "--json"}, {"show", "1"}, {"dump", "1"}} {
		out, log, code := run(t, append([]string{"volume", "--data", dir}, args...)...)
		if code != 0 || out == "" || !strings.Contains(log, "in use by a running server") {
			t.Errorf("%v: %d\n%s\n%s", args, code, out, log)
		}
	}
	for _, args := range [][]string{{"verify"}, {"export", "-o", filepath.Join(t.TempDir(), "x")}} {
		_, log, code := run(t, append([]string{"volume", "--data", dir}, args...)...)
		if code != 1 || !strings.Contains(log, "in use by a running server") {
			t.Errorf("%v: %d\n%s", args, code, log)
		}
	}
	if fmt.Sprint(before) != fmt.Sprint(sums(t, dir)) {
		t.Error("files were changed")
	}
	s.stop(t)
	if out, log, code := run(t, "volume", "export", "--data", dir, "-o", filepath.Join(t.TempDir(), "x")); code != 0 || !strings.Contains(out, "exported 5 needles") {
		t.Errorf("a master and four variants: %d\n%s\n%s", code, out, log)
	}
	if out, log, code := run(t, "volume", "verify", "--data", dir); code != 0 {
		t.Errorf("verify of a stopped server: %d\n%s\n%s", code, out, log)
	}
	refusedWhileHeld(t, dir)
}

// refusedWhileHeld holds the lock that verify and export hold, and wants a
// server to say so and others of them to go on.
func refusedWhileHeld(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "disk.id"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	_, log, code := run(t, "server", "--data", dir, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	if code != 1 || !strings.Contains(log, "another process uses it") {
		t.Errorf("a server beside verify: %d\n%s", code, log)
	}
	if out, log, code := run(t, "volume", "verify", "--data", dir); code != 0 {
		t.Errorf("two of verify: %d\n%s\n%s", code, out, log)
	}
}

// twoGenerations makes a data directory with two files of one volume, of which
// none supersedes the other.
func twoGenerations(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	b, err := os.ReadFile(filepath.Join(dir, "volumes", "00000001-00000001.vol"))
	if err == nil {
		err = os.Mkdir(filepath.Join(to, "volumes"), 0o750)
	}
	for _, g := range []string{"1", "2"} {
		if err == nil {
			err = os.WriteFile(filepath.Join(to, "volumes", "00000001-0000000"+g+".vol"), b, 0o640)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestVolumeUsage wants wrong calls to be answered with one line and the right
// exit code.
func TestVolumeUsage(t *testing.T) {
	dir := wreck(t)
	volumes := filepath.Join(dir, "volumes")
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	twice := twoGenerations(t, dir)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"volume ls --admin http://127.0.0.1:1", 1, "no answer from http://127.0.0.1:1"},
		{"volume ls --admin nonsense", 2, "--admin"},
		{"volume ls --admin http://127.0.0.1:1/x", 2, "--admin"},
		{"volume ls --admin " + other.URL, 1, "is that the admin listener"},
		{"volume seal --all --apply --admin " + other.URL, 1, "is that the admin listener"},
		{"volume ls --data=", 2, "--data"},
		{"volume ls --config " + dir + "/nope.toml", 2, "nope.toml"},
		{"volume ls --data " + twice, 1, "1 of 1 volumes cannot be opened"},
		{"volume show --data " + twice + " 1", 1, "generations"},
		{"volume seal --data " + twice + " 1", 1, "cannot be opened"},
		{"volume verify --data " + twice, 1, "generations"},
		{"volume seal --data " + dir, 2, "--all"},
		{"volume compact --all 1 --data " + dir, 2, "--all"},
		{"volume seal 99 --data " + dir, 1, "no such volume 99"},
		{"volume compact x --data " + dir, 2, "not the number"},
		{"volume compact 1 --data " + dir, 1, "seal it first"},
		{"volume seal --all --apply --data " + dir, 1, "name all data directories"},
		{"volume compact --all --apply --data " + dir, 1, "name all data directories"},
		{"volume ls --data " + dir + "/nope", 1, "no directory"},
		{"volume ls --data " + volumes, 1, "name the directory above it"},
		{"volume ls --data " + dir + "," + dir, 2, "twice"},
		{"volume ls extra --data " + dir, 2, "no arguments"},
		{"volume show --data " + dir + " 99", 1, "no such volume 99"},
		{"volume show --data " + dir + " x", 2, "not the number"},
		{"volume dump --data " + dir + " --kind foo 1", 2, "--kind"},
		{"volume dump --data " + dir + " --key foo 1", 2, "--key"},
		{"volume dump " + dir + "/disk.id", 1, "no such file"},
		{"volume verify --data " + dir + " 99", 1, "no such volume 99"},
		{"volume export --data " + dir, 2, "-o"},
		{"bench disk", 2, "--dir"},
		{"bench disk --rounds 0 --dir " + dir, 2, "--rounds"},
		{"bench disk --slice -1s --dir " + dir, 2, "--slice"},
		{"bench ec", 2, "--dir"},
		{"bench ec --rounds 0 --dir " + dir, 2, "--rounds"},
		{"bench ec --ec 4x2 --dir " + dir, 2, "--ec"},
		{"bench cache --part x", 2, "no part"},
		{"bench cache --trace " + dir, 2, "format"},
		{"bench cache --part miss --format csv --trace " + dir + "/nope", 1, "no such file"},
		{"torture", 2, "one directory"},
		{"torture --minutes 0 " + dir, 2, "--minutes"},
		{"torture --rounds 3 --minutes 3 " + dir, 2, "exclude"},
		{"torture --power --faults strace " + dir, 2, "exclude"},
		{"torture --rounds 1 --faults /nonexistent " + t.TempDir(), 1, "start the writer"},
	} {
		_, log, code := run(t, strings.Fields(c.args)...)
		lines := strings.Split(strings.TrimSuffix(log, "\n"), "\n")
		if last := lines[len(lines)-1]; code != c.code || !strings.Contains(last, c.says) || !strings.HasPrefix(last, "hayloft: ") {
			t.Errorf("%s: exit code %d, %q", c.args, code, log)
		}
	}
}
