package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"hayloft/testdata/photos"
)

// TestStopUnderLoad asks a server to stop while one upload crawls and others are
// being transcoded: it ends with code 0 in its time, and the next start goes on.
func TestStopUnderLoad(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := start(t, dir, "--drain-timeout", "3s")
	c := s.account(t, "slow")
	var ids []string
	for i := range 12 {
		id, err := put(ctx, c, distinct(photos.ByName("bridge.jpg").Data, uint64(i)), true)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	half := crawl(t, uploadURL(t, c, 500_000))
	defer half.Close()
	began := time.Now()
	s.stop(t)
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("stopping took %v", took)
	}
	await(t, s.log, regexp.MustCompile(`msg=stopped after=`)) // a log without it ends with a kill
	s = start(t, dir)
	again := s.as(t, c)
	for _, id := range ids {
		if p, err := again.WaitReady(ctx, id); err != nil || p.Status != "ready" {
			t.Errorf("photo %s is %q after the restart, %v", id, p.Status, err)
		}
	}
	s.stop(t)
}

// TestStopRefusesOperators asks a server that stops what volumes it has: it must
// not say that there are none.
func TestStopRefusesOperators(t *testing.T) {
	s := start(t, t.TempDir(), "--drain-timeout", "9s")
	c := s.account(t, "slow")
	half := crawl(t, uploadURL(t, c, 500_000)) // holds the stop up until it is closed
	defer half.Close()
	await(t, s.log, regexp.MustCompile(`msg=ready`))
	if out, log, code := run(t, "volume", "ls", "--admin", s.admin); code != 0 {
		t.Fatalf("%d\n%s\n%s", code, out, log)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await(t, s.log, regexp.MustCompile(`msg=stopping`))
	for _, args := range [][]string{{"ls"}, {"verify", "--data", s.dir}, {"seal", "--all", "--apply", "--data", s.dir}} {
		out, log, code := run(t, append(append([]string{"volume"}, args...), "--admin", s.admin)...)
		if code != 1 || !strings.Contains(log, "stopping") || strings.Count(log, "\n") != 1 || out != "" {
			t.Errorf("%v: exit code %d\n%s\n%s", args, code, out, log)
		}
	}
	half.Close()
	<-s.exited
	if s.waitErr != nil {
		t.Errorf("%v\n%s", s.waitErr, s.log)
	}
}

// TestStopWithDeafExport stops a server whose export nobody reads: it ends in its
// time, with code 0, and has given everything back.
func TestStopWithDeafExport(t *testing.T) {
	s := start(t, t.TempDir(), "--drain-timeout", "6s", "--admin-open")
	c := s.account(t, "deaf")
	for i := range 12 { // more than sockets hold
		if _, err := put(t.Context(), c, distinct(photos.ByName("sunset.jpg").Data, uint64(i)), true); err != nil {
			t.Fatal(err)
		}
	}
	small := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	conn, err := small.Dial("tcp", strings.TrimPrefix(s.admin, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /admin/volumes/1/export HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	begins := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(conn, begins); err != nil || string(begins) != "HTTP/1.1 200" {
		t.Fatalf("%s %v", begins, err)
	}
	began := time.Now()
	s.stop(t)
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("stopping took %v\n%s", took, s.log)
	}
	if log := s.log.String(); !strings.Contains(log, "the client took no more") || strings.Contains(log, "err=<nil>") {
		t.Errorf("%s", log)
	}
}

// crawl begins an upload and never ends it.
func crawl(t *testing.T, rawURL string) net.Conn {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Type: image/jpeg\r\nContent-Length: 500000\r\n\r\n", u.RequestURI(), u.Host)
	if err == nil {
		_, err = io.WriteString(conn, "\xff\xd8\xff")
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
