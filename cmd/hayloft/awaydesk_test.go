package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
)

// TestAwayDesk: while a node starts, its public listener says so at once, to uploads
// too. Whoever comes afterwards meets the API.
func TestAwayDesk(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := newAwayDesk(l, slog.New(slog.DiscardHandler))
	defer d.close()
	d.open()
	client := http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	post := func() (*http.Response, []byte) {
		t.Helper()
		resp, err := client.Post("http://"+l.Addr().String()+"/api/v1/blobs", "image/jpeg", bytes.NewReader(make([]byte, 100_000)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, body
	}
	for range 2 {
		resp, body := post()
		var p struct{ Type, Detail string }
		if err := json.Unmarshal(body, &p); err != nil || p.Detail != "the server is starting" {
			t.Errorf("%q: %v", body, err)
		}
		if h := resp.Header; resp.StatusCode != 503 || h.Get("Retry-After") != "1" || h.Get("Content-Type") != "application/problem+json" || !resp.Close {
			t.Errorf("%d %v", resp.StatusCode, h)
		}
	}
	early, err := net.Dial("tcp", l.Addr().String()) // and says nothing yet
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	if err := d.leave(); err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })}
	defer srv.Close()
	go srv.Serve(l) //nolint:errcheck // ends with the test
	if resp, _ := post(); resp.StatusCode != http.StatusTeapot {
		t.Errorf("%d after the start", resp.StatusCode)
	}
}

// TestNoAwayDesk: a node that serves only others has none.
func TestNoAwayDesk(t *testing.T) {
	d := newAwayDesk(nil, slog.New(slog.DiscardHandler))
	d.open()
	if err := d.leave(); err != nil {
		t.Error(err)
	}
	d.close()
}

// TestAwayDeskOfAFailedStart: a start that fails ends, although somebody accepts. It
// waited for ever.
func TestAwayDeskOfAFailedStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := newAwayDesk(l, slog.New(slog.DiscardHandler))
	d.open()
	resp, err := http.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	d.close()
	if err := <-d.ended; err == nil {
		t.Error("it serves on")
	}
}
