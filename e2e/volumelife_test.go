package e2e

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hayloft/client"
	"hayloft/testdata/photos"
)

// album is an author's photos, and what each of them is.
type album struct {
	c       *client.Client
	masters map[string][32]byte            // by photo
	shown   map[string]map[string][32]byte // by photo and variant
	deleted map[string]client.Photo
}

// fill uploads n photos and notes what is served of them.
func (a *album) fill(t *testing.T, s *server, n int) {
	t.Helper()
	ctx := context.Background()
	c := s.as(t, a.c)
	t.Cleanup(c.CloseIdle)
	var made []string
	for range n {
		data := distinct(photos.ByName("nuthatch.jpg").Data, uint64(len(a.masters)+len(a.deleted))+1<<40)
		photo, err := put(ctx, c, data, true)
		if err != nil {
			t.Fatal(err)
		}
		a.masters[photo] = sha256.Sum256(data)
		made = append(made, photo)
	}
	for _, photo := range made {
		p, err := c.WaitReady(ctx, photo)
		if err != nil || p.Status != client.StatusReady {
			t.Fatal(p.Status, err)
		}
		a.shown[photo] = map[string][32]byte{}
		for name, url := range variantURLs(p) {
			a.shown[photo][name] = followed(t, c, photo, name, url)
		}
	}
}

// followed fetches a variant by its stable URL.
func followed(t *testing.T, c *client.Client, photo, variant, url string) [32]byte {
	t.Helper()
	o, err := c.Variant(context.Background(), photo, variant)
	if err != nil {
		t.Fatalf("%s of %s (%s): %v", variant, photo, url, err)
	}
	defer o.Body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, o.Body); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// drop purges n photos and waits until their blobs are tombstoned.
func (a *album) drop(t *testing.T, s *server, n int) {
	t.Helper()
	ctx := context.Background()
	c := s.as(t, a.c)
	t.Cleanup(c.CloseIdle)
	before := s.metric(t, "hayloft_blob_deletes_total")
	for photo := range a.masters {
		if n--; n < 0 {
			break
		}
		p, err := c.Photo(ctx, photo)
		if err == nil {
			err = c.Purge(ctx, photo)
		}
		if err != nil {
			t.Fatal(err)
		}
		a.deleted[photo] = p
		delete(a.masters, photo)
		delete(a.shown, photo)
		before += 2 // the master, and the group of variants
	}
	for deadline := time.Now().Add(20 * time.Second); s.metric(t, "hayloft_blob_deletes_total") < before; <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the blobs of deleted photos are not tombstoned")
		}
	}
}

// check fetches everything.
func (a *album) check(t *testing.T, s *server) {
	t.Helper()
	ctx := context.Background()
	c := s.as(t, a.c)
	t.Cleanup(c.CloseIdle)
	for photo, want := range a.masters {
		if got, err := masterDigest(ctx, c, photo); err != nil || got != want {
			t.Errorf("photo %s: its master is another one, or %v", photo, err)
		}
		for variant, want := range a.shown[photo] {
			if got := followed(t, c, photo, variant, s.url); got != want {
				t.Errorf("photo %s: its %s is another one", photo, variant)
			}
		}
	}
	for photo, before := range a.deleted {
		if _, err := c.Master(ctx, photo); !client.IsStatus(err, http.StatusNotFound) {
			t.Errorf("deleted photo %s: its master answers %v", photo, err)
		}
		for _, m := range before.Media {
			for name, u := range m.URLs {
				if status, _ := get(t, rebase(u.URL, s.url)); status != http.StatusNotFound {
					t.Errorf("deleted photo %s: %s answers %d", photo, name, status)
				}
			}
		}
	}
}

// volumes runs a command of volume against the server and wants its exit code.
func (s *server) volumes(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	args = append([]string{"volume"}, append(args, "--admin", s.admin, "--data", s.dir)...)
	out, log, got := run(t, args...)
	if got != code {
		t.Errorf("%v: exit code %d\n%s\n%s\n%s", args, got, out, log, s.log)
	}
	return out, log
}

// volumesOff does so on the files in dir.
func volumesOff(t *testing.T, dir string, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	out, log, got := run(t, append([]string{"volume", "--data", dir}, args...)...)
	if got != code {
		t.Errorf("%v: exit code %d\n%s\n%s", args, got, out, log)
	}
	return out, log
}

func rowsOf(t *testing.T, out string) []listed {
	t.Helper()
	var rows []listed
	if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) == 0 {
		t.Fatalf("%v in %s", err, out)
	}
	return rows
}

// states wants every volume in a state, and returns the bytes of their files.
func states(t *testing.T, rows []listed, want string) (file int64) {
	t.Helper()
	for _, r := range rows {
		if r.State != want {
			t.Errorf("volume %d is %s, not %s", r.ID, r.State, want)
		}
		file += *r.File
	}
	return file
}

func newAlbum(t *testing.T, s *server) *album {
	t.Helper()
	return &album{c: s.account(t, "keeper"), masters: map[string][32]byte{}, shown: map[string]map[string][32]byte{}, deleted: map[string]client.Photo{}}
}

// TestVolumeLife takes volumes of a running server through their whole life,
// and then of the same server when it is stopped.
func TestVolumeLife(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, "--cache-memory", "1MiB")
	a := newAlbum(t, s)
	a.fill(t, s, 5)
	out, _ := s.volumes(t, 0, "ls", "--json")
	rows := rowsOf(t, out)
	states(t, rows, "open")
	for _, r := range rows {
		if r.Replicas == nil || *r.Replicas != 1 || r.Epoch == nil || r.Shards == nil || r.Needles == nil || *r.Needles == 0 || *r.Live > *r.File {
			t.Errorf("%+v", r)
		}
	}
	lookedAt(t, s, rows)

	before := sums(t, dir)
	if out, log := s.volumes(t, 0, "seal", "--all"); strings.Count(out, "would be sealed") != 2 || !strings.Contains(log, "--apply") {
		t.Errorf("the plan: %s %s", out, log)
	}
	if fmt.Sprint(before) != fmt.Sprint(sums(t, dir)) {
		t.Error("a plan changed files")
	}
	sealed := make(chan struct{})
	go func() { // beside uploads, which go on in new volumes
		defer close(sealed)
		s.volumes(t, 0, "seal", "--all", "--apply")
	}()
	a.fill(t, s, 2)
	<-sealed
	s.volumes(t, 0, "seal", "--all", "--apply")
	if _, log := s.volumes(t, 0, "seal", "--all", "--apply"); !strings.Contains(log, "nothing to seal") {
		t.Errorf("sealed again: %s", log)
	}
	out, _ = s.volumes(t, 0, "ls", "--json")
	full := states(t, rowsOf(t, out), "sealed")
	a.check(t, s)
	a.drop(t, s, 4)
	compacted(t, s, full)
	a.check(t, s)
	a.fill(t, s, 2) // into new volumes

	s.stop(t)
	s = start(t, dir, "--cache-memory", "1MiB")
	a.check(t, s)
	s.volumes(t, 0, "verify")
	s.stop(t)
	offlineLife(t, dir)
	s = start(t, dir)
	a.check(t, s)
	out, _ = s.volumes(t, 0, "ls", "--json")
	states(t, rowsOf(t, out), "sealed")
	s.stop(t)
}

// lookedAt runs what only looks.
func lookedAt(t *testing.T, s *server, rows []listed) {
	t.Helper()
	needles := int64(0)
	for _, r := range rows {
		id := fmt.Sprint(r.ID)
		if out, _ := s.volumes(t, 0, "show", id); !strings.Contains(out, r.Class) {
			t.Errorf("show %s: %s", id, out)
		}
		out, _ := s.volumes(t, 0, "dump", id, "--json", "--kind", "needle")
		if n := int64(strings.Count(out, "\n")); n != *r.Needles || strings.Contains(out, "cookie") {
			t.Errorf("dump %s: %d needles of %d, or cookies", id, n, *r.Needles)
		}
		if out, _ := s.volumes(t, 0, "dump", id, "--cookies", "--kind", "needle", "--alt", "0"); strings.Contains(out, "kind-") || !strings.Contains(out, "cookie=") && r.Class == "originals" {
			t.Errorf("dump --cookies %s: %s", id, out)
		}
		needles += *r.Needles
	}
	if out, _ := s.volumes(t, 0, "verify"); strings.Count(out, ": sound, ") != len(rows) {
		t.Errorf("verify: %s", out)
	}
	to := filepath.Join(t.TempDir(), "export")
	s.volumes(t, 0, "export", "-o", to)
	manifest, err := os.ReadFile(filepath.Join(to, "manifest.jsonl"))
	if err != nil || int64(strings.Count(string(manifest), "\n")) != needles {
		t.Errorf("%d needles, %v in the manifest:\n%s", needles, err, manifest)
	}
}

// compacted compacts everything and wants it to be smaller.
func compacted(t *testing.T, s *server, full int64) {
	t.Helper()
	before := sums(t, s.dir)
	out, _ := s.volumes(t, 0, "compact", "--all", "--json")
	var plan []struct {
		ID      int
		Applied bool
		Garbage int64 `json:"garbage_bytes"`
	}
	if err := json.Unmarshal([]byte(out), &plan); err != nil || len(plan) < 2 || plan[0].Applied || plan[0].Garbage == 0 {
		t.Errorf("the plan: %s", out)
	}
	if fmt.Sprint(before) != fmt.Sprint(sums(t, s.dir)) {
		t.Error("a plan changed files")
	}
	s.volumes(t, 0, "compact", "--all", "--apply")
	if _, log := s.volumes(t, 0, "compact", "--all", "--apply"); !strings.Contains(log, "nothing to compact") {
		t.Errorf("compacted again: %s", log)
	}
	out, _ = s.volumes(t, 0, "ls", "--json")
	rows := rowsOf(t, out)
	if now := states(t, rows, "sealed"); now > full*2/3 {
		t.Errorf("four of seven photos were deleted, and the files went from %d to %d bytes", full, now)
	}
	for _, r := range rows {
		// The upkeep may have compacted what it salvaged when it looked at it once more.
		if r.Generation != 2 && r.Generation != 3 {
			t.Errorf("volume %d has generation %d", r.ID, r.Generation)
		}
	}
}

// offlineLife seals and compacts the volumes of a stopped server, of which two
// are open, and looks at them.
func offlineLife(t *testing.T, dir string) {
	t.Helper()
	before := sums(t, dir)
	if out, _ := volumesOff(t, dir, 0, "seal", "--all"); strings.Count(out, "would be sealed") != 2 {
		t.Errorf("the plan: %s", out)
	}
	volumesOff(t, dir, 0, "compact", "--all")
	volumesOff(t, dir, 0, "verify")
	if fmt.Sprint(before) != fmt.Sprint(sums(t, dir)) {
		t.Error("a plan changed files")
	}
	if out, log := volumesOff(t, dir, 0, "seal", "--all", "--apply"); strings.Count(out, ": sealed") != 2 || log != "" {
		t.Errorf("seal: %s %s", out, log)
	}
	volumesOff(t, dir, 0, "compact", "--all", "--apply")
	volumesOff(t, dir, 0, "seal", "--all", "--apply")
	if _, log := volumesOff(t, dir, 0, "compact", "--all", "--apply"); !strings.Contains(log, "nothing to compact") {
		t.Errorf("compacted again: %s", log)
	}
	out, _ := volumesOff(t, dir, 0, "ls", "--json")
	rows := rowsOf(t, out)
	states(t, rows, "sealed")
	if out, _ := volumesOff(t, dir, 0, "verify"); strings.Count(out, ": sound, ") != len(rows) {
		t.Errorf("verify: %s", out)
	}
}

// TestVolumeSalvage poisons the volumes of a server, which is then asked to seal
// them: what was acknowledged is there, and can be deleted.
func TestVolumeSalvage(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, "--cache-memory", "1MiB")
	a := newAlbum(t, s)
	a.fill(t, s, 3)
	s.stop(t)
	files, err := filepath.Glob(filepath.Join(dir, "volumes", "*.vol"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		if err := os.WriteFile(strings.TrimSuffix(name, ".vol")+".poisoned", nil, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if out, _ := volumesOff(t, dir, 0, "seal", "--all"); strings.Count(out, "would be sealed") != 2 {
		t.Errorf("the plan: %s", out)
	}
	s = start(t, dir, "--cache-memory", "1MiB")
	a.check(t, s)
	s.volumes(t, 0, "seal", "--all", "--apply")
	out, _ := s.volumes(t, 0, "ls", "--json")
	rows := rowsOf(t, out)
	states(t, rows, "sealed")
	for _, r := range rows {
		// The upkeep may have compacted what it salvaged when it looked at it once more.
		if r.Generation != 2 && r.Generation != 3 {
			t.Errorf("volume %d has generation %d", r.ID, r.Generation)
		}
	}
	a.drop(t, s, 1)
	a.check(t, s)
	s.volumes(t, 0, "verify")
	s.stop(t)
}

// TestVolumeCompactionKilled kills a server at random moments of sealing and
// compaction, and wants the next one to finish them and to serve everything.
func TestVolumeCompactionKilled(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 7))
	dir := t.TempDir()
	// Slow enough for the kill to meet it.
	slow := []string{"--cache-memory", "1MiB", "--maintenance-rate", "2MiB"}
	s := start(t, dir, slow...)
	a := newAlbum(t, s)
	a.fill(t, s, 8)
	met := 0
	for round := range 4 {
		verb := []string{"seal", "compact"}[min(round, 1)]
		if round > 1 {
			a.drop(t, s, 1)
			a.fill(t, s, 1)
		}
		ended, admin := make(chan int, 1), s.admin
		go func() {
			_, log, code := run(t, "volume", verb, "--all", "--apply", "--admin", admin, "--data", dir)
			if lines := strings.Split(strings.TrimSpace(log), "\n"); code == 1 && !strings.Contains(lines[len(lines)-1], admin) {
				t.Errorf("not one clear line: %s", log)
			}
			ended <- code
		}()
		<-time.After(time.Duration(rng.IntN(900)) * time.Millisecond)
		s.kill()
		if code := <-ended; code == 1 {
			met++
		}
		s = start(t, dir, slow...)
		a.check(t, s)
	}
	s.kill()
	if met == 0 {
		t.Error("no kill met a command")
	}
	// What the kill left is sealed and compacted as it lies there.
	volumesOff(t, dir, 0, "seal", "--all", "--apply")
	volumesOff(t, dir, 0, "compact", "--all", "--apply")
	s = start(t, dir)
	a.check(t, s)
	a.drop(t, s, 1)
	s.volumes(t, 0, "seal", "--all", "--apply")
	s.volumes(t, 0, "compact", "--all", "--apply")
	out, _ := s.volumes(t, 0, "ls", "--json")
	rows := rowsOf(t, out)
	states(t, rows, "sealed")
	if out, _ := s.volumes(t, 0, "verify"); strings.Count(out, ": sound, ") != len(rows) {
		t.Errorf("verify: %s", out)
	}
	a.check(t, s)
	one := map[string]bool{}
	for name := range sums(t, dir) {
		if id, ok := strings.CutSuffix(filepath.Base(name), ".vol"); ok {
			if one[id[:8]] {
				t.Errorf("two generations are left: %s", name)
			}
			one[id[:8]] = true
		}
	}
	s.stop(t)
}

// TestVolumeInterrupted wants Ctrl-C to leave a compaction to the server, the
// same command to join it, and the server to stop cleanly in its middle.
func TestVolumeInterrupted(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	a := newAlbum(t, s)
	a.fill(t, s, 3)
	s.volumes(t, 0, "seal", "1", "--apply")
	s.stop(t)
	s = start(t, dir, "--maintenance-rate", "10KiB") // a minute or more
	interruptCompaction(t, s)
	joinCompaction(t, s)
	if out, _ := s.volumes(t, 0, "ls"); !strings.Contains(out, "compacting") {
		t.Errorf("the compaction ended with those who asked for it: %s", out)
	}
	s.stop(t)
	s = start(t, dir)
	s.volumes(t, 0, "compact", "1", "--apply")
	out, _ := s.volumes(t, 0, "ls", "--json")
	// The start may have ended the one that was interrupted before it was asked again.
	if r := rowsOf(t, out)[0]; r.ID != 1 || r.Generation != 2 && r.Generation != 3 {
		t.Errorf("after a compaction: %+v", r)
	}
	a.check(t, s)
	s.stop(t)
}

// interruptCompaction asks for the compaction of volume 1, and leaves when it is
// under way.
func interruptCompaction(t *testing.T, s *server) {
	t.Helper()
	cmd := exec.Command(hayloft(t), "volume", "compact", "1", "--apply", "--admin", s.admin, "--data", s.dir)
	log := &lockedBuffer{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for busy := false; !busy; {
		out, _ := s.volumes(t, 0, "ls")
		busy = strings.Contains(out, "compacting")
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(log.String(), "interrupted while compacting volume 1") || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("%v: %s", err, log)
	}
	await(t, s.log, regexp.MustCompile(`audit: .*volumes/1/compact.* status=503`))
}

// joinCompaction asks for it over HTTP, reads how far it is, and leaves.
func joinCompaction(t *testing.T, s *server) {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(s.dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	r := mustRequest(t, http.MethodPost, s.admin+"/admin/volumes/1/compact", nil)
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var kinds []string
	for lines := bufio.NewScanner(res.Body); len(kinds) < 2 && lines.Scan(); {
		var l struct {
			Kind  string
			Value struct{ Done int64 }
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		if kinds = append(kinds, l.Kind); len(kinds) == 2 && l.Value.Done == 0 {
			t.Errorf("it was begun anew: %s", lines.Text())
		}
	}
	if fmt.Sprint(kinds) != "[alive progress]" {
		t.Errorf("%v", kinds)
	}
}

// TestVolumeFlipOnline wants a server that runs to find a flipped bit, and to
// export everything else.
func TestVolumeFlipOnline(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	a := newAlbum(t, s)
	a.fill(t, s, 2)
	out, _ := s.volumes(t, 0, "ls", "--json")
	rows := rowsOf(t, out)
	i := slices.IndexFunc(rows, func(r listed) bool { return r.Class == "originals" })
	id := fmt.Sprint(rows[i].ID)
	out, _ = s.volumes(t, 0, "dump", id, "--json", "--kind", "needle")
	var r struct {
		Offset, Size int64
		Key          string
	}
	if err := json.Unmarshal([]byte(out[:strings.IndexByte(out, '\n')]), &r); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "volumes", fmt.Sprintf("%08x-00000001.vol", rows[i].ID))
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, r.Offset+r.Size/2)
	b[0] ^= 8
	if err == nil {
		_, err = f.WriteAt(b, r.Offset+r.Size/2)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	out, log := s.volumes(t, 1, "verify")
	if !strings.Contains(out, "key "+r.Key) || !strings.Contains(log, "1 of 2 volumes are damaged") {
		t.Errorf("verify: %s %s", out, log)
	}
	to := filepath.Join(t.TempDir(), "export")
	out, log = s.volumes(t, 1, "export", "-o", to)
	if !strings.Contains(log, r.Key) || !strings.Contains(out, "exported 9 needles") {
		t.Errorf("export: %s %s", out, log)
	}
	if out, _ := s.volumes(t, 0, "dump", id, "--damaged"); !strings.Contains(out, "DAMAGED") {
		t.Errorf("dump: %s", out)
	}
	s.stop(t)
	if out, _ := volumesOff(t, dir, 1, "verify", "--json"); !strings.Contains(out, r.Key) {
		t.Errorf("verify: %s", out)
	}
}

// TestAdminToken wants what changes something, or hands photos out, to need the
// token, and nothing else to.
func TestAdminToken(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	newAlbum(t, s).fill(t, s, 1)
	text, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil || len(text) != 65 {
		t.Fatalf("%q, %v", text, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "admin.token")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the token's mode is %v, %v", st.Mode(), err)
	}
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte(strings.Repeat("0f", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"ls --admin-token-file " + wrong, 0, ""},
		{"show 1", 0, ""},
		{"dump 1", 1, "wants its admin token"},
		{"verify", 1, "wants its admin token"},
		{"seal 1 --apply", 1, "wants its admin token"},
		{"compact --all --apply", 0, "nothing to compact"}, // none is sealed
		{"show 99", 1, "no such volume"},
		{"seal 99 --apply", 1, "no such volume"},
		{"compact 1 --apply", 1, "seal it first"},
		{"compact --all --garbage 2", 2, "--garbage"},
		{"seal --all --apply --admin-token-file " + wrong, 1, "refuses the admin token"},
		{"export --admin-token-file " + wrong + " -o " + t.TempDir(), 1, "refuses the admin token"},
		{"seal --all --apply --admin-token-file " + wrong + "/x", 1, "not a directory"},
		{"ls --admin-token-file " + filepath.Join(dir, "disk.id"), 1, "does not hold an admin token"},
	} {
		out, log, code := run(t, append([]string{"volume", "--admin", s.admin}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(log, c.says) || strings.Count(log, "\n") > 1 {
			t.Errorf("%s: exit code %d\n%s\n%s", c.args, code, out, log)
		}
	}
	if log := s.log.String(); strings.Contains(log, string(text[:64])) || strings.Contains(log, "0f0f0f") || !strings.Contains(log, "audit: admin call") {
		t.Error("a token was logged, or no call was")
	}
	s.stop(t)
	s = start(t, dir, "--admin-open", "--admin-listen", "0.0.0.0:0")
	if !strings.Contains(s.log.String(), "level=WARN msg=\"--admin-open") {
		t.Errorf("an open door to everywhere, and no warning: %s", s.log)
	}
	if out, log, code := run(t, "volume", "--admin", s.admin, "seal", "--all", "--apply"); code != 0 {
		t.Errorf("an open door: %d\n%s\n%s", code, out, log)
	}
	if again, err := os.ReadFile(filepath.Join(dir, "admin.token")); err != nil || string(again) != string(text) {
		t.Errorf("the token is another one, or %v", err)
	}
	if status, typ := problemAt(t, s.url+"/admin/volumes"); status != http.StatusNotFound {
		t.Errorf("the public listener answers %d %s", status, typ)
	}
	s.stop(t)
}
