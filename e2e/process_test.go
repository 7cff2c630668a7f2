package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hayloft/client"
	"hayloft/internal/testenv"
)

// hayloft is the path of the hayloft under test.
func hayloft(t testing.TB) string {
	t.Helper()
	name := os.Getenv("HAYLOFT_BIN")
	if name == "" {
		name = filepath.Join("..", "bin", "hayloft")
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(abs); err != nil {
		t.Fatalf("no binary to test (make build makes it): %v", err)
	}
	return abs
}

// server is one run of the binary.
type server struct {
	url, admin string
	dir        string
	started    time.Duration // from exec to ready
	cmd        *exec.Cmd
	exited     chan struct{} // closed when the process has ended
	waitErr    error         // valid after exited
	log        *lockedBuffer // standard error
	out        *lockedBuffer // standard output
}

// start runs a server over dir with extra flags and waits until it is ready. It
// is ended with the test.
func start(t testing.TB, dir string, flags ...string) *server {
	t.Helper()
	s := &server{dir: dir, log: &lockedBuffer{}, out: &lockedBuffer{}, exited: make(chan struct{})}
	args := append([]string{"server", "--data", dir, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, flags...)
	s.cmd = exec.Command(hayloft(t), args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(s.out, lines.Text())
			if url, ok := strings.CutPrefix(lines.Text(), "hayloft: serving on "); ok {
				ready <- url
			}
		}
		s.waitErr = s.cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(s.kill)
	select {
	case s.url = <-ready:
		s.started = time.Since(began)
	case <-s.exited:
		t.Fatalf("the server ended before it was ready: %v\n%s", s.waitErr, s.log)
	case <-time.After(testenv.Patience):
		t.Fatalf("the server is not ready after %v\n%s", testenv.Patience, s.log)
	}
	s.admin = await(t, s.log, regexp.MustCompile(`admin=(http://\S+)`))[1]
	return s
}

// awaitOutput waits until standard output matches, and returns the groups.
func (s *server) awaitOutput(t testing.TB, re *regexp.Regexp) []string {
	t.Helper()
	return await(t, s.out, re)
}

func await(t testing.TB, from *lockedBuffer, re *regexp.Regexp) []string {
	t.Helper()
	for deadline := time.Now().Add(testenv.Patience); ; <-time.After(5 * time.Millisecond) {
		if m := re.FindStringSubmatch(from.String()); m != nil {
			return m
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing matches %v in:\n%s", re, from)
		}
	}
}

// kill ends the process at once, as kill -9 does, and waits until it is gone.
func (s *server) kill() {
	s.cmd.Process.Kill() // an error means that it has ended
	<-s.exited
}

// stop asks the process to end and checks that it does so cleanly.
func (s *server) stop(t testing.TB) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.exited:
	case <-time.After(testenv.Patience):
		t.Fatalf("the server did not stop\n%s", s.log)
	}
	if s.waitErr != nil {
		t.Fatalf("the server stopped with %v\n%s", s.waitErr, s.log)
	}
}

// metric reads one metric, summed over its labels, from the admin listener.
func (s *server) metric(t testing.TB, name string) float64 {
	t.Helper()
	res, err := http.Get(s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64)
		if err != nil {
			t.Fatal(err)
		}
		sum, found = sum+v, true
	}
	if !found {
		t.Fatalf("there is no metric %s", name)
	}
	return sum
}

// account makes a user and returns a client that is signed in.
func (s *server) account(t testing.TB, handle string) *client.Client {
	t.Helper()
	c, err := client.New(s.url, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	login, err := c.CreateAccount(context.Background(), client.NewAccount{Handle: handle, Password: "correct horse " + handle})
	if err != nil {
		t.Fatal(err)
	}
	return c.WithToken(login.Token)
}

// as returns a client for this run of the server with another client's login.
func (s *server) as(t testing.TB, c *client.Client) *client.Client {
	t.Helper()
	again, err := client.New(s.url, client.Options{Token: c.Token(), Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// lockedBuffer is a bytes.Buffer that a process writes and a test reads.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// get fetches a URL without following redirects and returns status and body.
func get(t testing.TB, url string) (int, []byte) {
	t.Helper()
	res, err := http.DefaultTransport.RoundTrip(mustRequest(t, http.MethodGet, url, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, body
}

func mustRequest(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// seed prints how to repeat a random test and returns its seed.
func seed(t testing.TB) uint64 {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("HAYLOFT_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n = v
	}
	t.Logf("repeat with HAYLOFT_SEED=%d go test ./e2e -run '^%s$'", n, t.Name())
	return n
}

// waitStatus asks until the answer has the status: a purge reaches the cache
// within two seconds, and that bound is what is tested.
func waitStatus(t testing.TB, url string, want int, what string) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Second)
	for {
		status, _ := get(t, url)
		if status == want {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s: still %d after 2 s, want %d", what, status, want)
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}
