package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hayloft/client"
	"hayloft/testdata/photos"
)

// command runs the binary to its end.
func command(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(hayloft(t), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), "HAYLOFT_TOKEN=")
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestPhotoCommands(t *testing.T) {
	s := start(t, t.TempDir())
	token := s.account(t, "cli").Token()
	as := []string{"--server", s.url, "--token", token}
	file := filepath.Join(t.TempDir(), "bridge.jpg")
	photo := photos.ByName("bridge.jpg").Data
	if err := os.WriteFile(file, photo, 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code := command(t, append([]string{"photo", "put", "--wait", "--caption", "by hand", file}, as...)...)
	id := strings.TrimSpace(out)
	if code != 0 || len(id) != 13 || out != id+"\n" {
		t.Fatalf("photo put: code %d, %q, %q", code, out, errs)
	}
	back := filepath.Join(t.TempDir(), "back.jpg")
	if _, errs, code := command(t, append([]string{"photo", "get", id, "--variant", "master", "-o", back}, as...)...); code != 0 {
		t.Fatalf("photo get: code %d, %q", code, errs)
	}
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, photo) {
		t.Errorf("the master came back with %d bytes, %v", len(got), err)
	}
	var p client.Photo
	out, errs, code = command(t, append([]string{"photo", "show", "--json", id}, as...)...)
	if err := json.Unmarshal([]byte(out), &p); err != nil || code != 0 || p.Caption != "by hand" || p.Status != client.StatusReady {
		t.Errorf("photo show: code %d, %+v, %v, %q", code, p, err, errs)
	}
	if _, errs, code := command(t, append([]string{"photo", "rm", id}, as...)...); code != 0 {
		t.Errorf("photo rm: code %d, %q", code, errs)
	}
	for what, bad := range map[string]struct {
		args []string
		code int
	}{
		"a deleted photo":  {append([]string{"photo", "get", id}, as...), 1},
		"no such file":     {append([]string{"photo", "put", file + "x"}, as...), 1},
		"no photo":         {append([]string{"photo", "put", hayloft(t)}, as...), 1},
		"no arguments":     {[]string{"photo", "get"}, 2},
		"an unknown flag":  {[]string{"photo", "get", id, "--colour"}, 2},
		"no such command":  {[]string{"fotos"}, 2},
		"nor in a group":   {[]string{"photo", "list"}, 2},
		"no such variant":  {append([]string{"photo", "get", id, "--variant", "huge"}, as...), 2},
		"no token":         {[]string{"photo", "put", file}, 2},
		"no server there":  {[]string{"photo", "get", id, "--server", "http://127.0.0.1:1"}, 1},
		"a wrong setting":  {[]string{"server", "--volume-size", "12"}, 2},
		"a small volume":   {[]string{"server", "--volume-size", "1MiB"}, 2},
		"demo on the wire": {[]string{"demo", "--server", "http://192.0.2.1:8080"}, 2},
	} {
		out, errs, code := command(t, bad.args...)
		if code != bad.code || out != "" || strings.Count(errs, "\n") != 1 || strings.Contains(errs, " hayloft: ") {
			t.Errorf("%s: code %d, want %d and one line on standard error: %q %q", what, code, bad.code, out, errs)
		}
	}
	s.stop(t)
}

// TestDemo loads the demo into a fresh server, and prints the same login again
// on the next start.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	login := regexp.MustCompile(`sign in   (\S+)\n  password  (\S+)`)
	s := start(t, dir, "--demo")
	first := s.awaitOutput(t, login)
	c, err := client.New(s.url, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Login(t.Context(), first[1], first[2])
	if err != nil {
		t.Fatal(err)
	}
	feed, err := c.WithToken(l.Token).Feed(t.Context(), client.PageOptions{Limit: 100})
	if err != nil || len(feed.Items) != len(photos.All()) {
		t.Fatalf("the demo's feed has %d photos, want %d: %v", len(feed.Items), len(photos.All()), err)
	}
	for _, p := range feed.Items {
		if p.LikeCount == 0 || p.CommentCount == 0 || !strings.Contains(p.Caption, "Photo: ") {
			t.Errorf("photo %s has %d likes, %d comments, caption %q", p.ID, p.LikeCount, p.CommentCount, p.Caption)
		}
	}
	s.stop(t)
	s = start(t, dir, "--demo")
	if again := s.awaitOutput(t, login); again[2] != first[2] {
		t.Errorf("the second start prints %q, the first printed %q", again[0], first[0])
	}
	s.stop(t)
}

// TestSecondProcessIsRefused: one process owns a data directory, and the other
// is told so in one line.
func TestSecondProcessIsRefused(t *testing.T) {
	s := start(t, t.TempDir())
	_, errs, code := command(t, "server", "--data", s.dir, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	if code != 1 || !strings.Contains(errs, "in use by another hayloft process") {
		t.Errorf("code %d: %q", code, errs)
	}
	_, errs, code = command(t, "server", "--data", t.TempDir(), "--listen", strings.TrimPrefix(s.url, "http://"), "--admin-listen", "127.0.0.1:0")
	if code != 1 || !strings.Contains(errs, "--listen") {
		t.Errorf("a taken port: code %d: %q", code, errs)
	}
	s.stop(t)
}
