package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
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
	s = start(t, dir)
	again := s.as(t, c)
	for _, id := range ids {
		if p, err := again.WaitReady(ctx, id); err != nil || p.Status != "ready" {
			t.Errorf("photo %s is %q after the restart, %v", id, p.Status, err)
		}
	}
	s.stop(t)
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
