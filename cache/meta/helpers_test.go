package meta

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memcached is a real server on loopback.
type memcached struct {
	addr string
	cmd  *exec.Cmd
}

// startMemcached starts one, on addr if that is not "".
func startMemcached(t testing.TB, addr string) *memcached {
	t.Helper()
	program, err := exec.LookPath("memcached")
	if err != nil {
		t.Fatalf("%v: make deps-test installs it", err)
	}
	for try := 0; ; try++ {
		m := &memcached{addr: addr}
		if addr == "" {
			m.addr = freeAddr(t)
		}
		_, port, _ := net.SplitHostPort(m.addr)
		m.cmd = exec.Command(program, "-l", "127.0.0.1", "-p", port, "-U", "0", "-u", "root", "-m", "64", "-t", "2")
		m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := m.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if m.awake() {
			t.Cleanup(m.kill)
			return m
		}
		m.kill()
		if try == 5 {
			t.Fatal("memcached does not start")
		}
	}
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// awake waits until the server takes connections.
func (m *memcached) awake() bool {
	for range 500 {
		if c, err := net.Dial("tcp", m.addr); err == nil {
			c.Close()
			return true
		}
		<-time.After(10 * time.Millisecond)
	}
	return false
}

// kill ends it as kill -9 does.
func (m *memcached) kill() {
	m.cmd.Process.Kill() // an error means that it has ended
	m.cmd.Wait()
}

var secret = []byte("a secret of the whole cluster")

// open opens a cache with patience: the machine may be busy.
func open(t testing.TB, o Options) *Cache {
	t.Helper()
	o.Secret = func() []byte { return secret }
	o.Timeout = cmp.Or(o.Timeout, 2*time.Second)
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func value(key string) []byte { return []byte(strings.Repeat("value of "+key+"; ", 20)) }

// loads is a Load that knows every key but those that begin with "no".
func loads(_ context.Context, keys []string) (map[string][]byte, error) {
	out := make(map[string][]byte)
	for _, k := range keys {
		if !strings.HasPrefix(k, "no") {
			out[k] = value(k)
		}
	}
	return out, nil
}

// hydrate asks for keys and compares what comes.
func hydrate(t testing.TB, c *Cache, keys []string, load Load) {
	t.Helper()
	got, err := c.Hydrate(context.Background(), keys, load)
	if err != nil {
		t.Errorf("%v", err)
	}
	for _, k := range keys {
		if want := !strings.HasPrefix(k, "no"); want != (got[k] != nil) || want && string(got[k]) != string(value(k)) {
			t.Errorf("%s: %q", k, got[k])
		}
	}
}

func names(prefix string, n int) (keys []string) {
	for i := range n {
		keys = append(keys, fmt.Sprintf("%s %d: with a space", prefix, i))
	}
	return keys
}

// until waits for the effect of what goes on beside.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for range 3000 {
		if cond() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("not within half a minute: %s", what)
}
