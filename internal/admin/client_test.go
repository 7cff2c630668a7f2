package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestNewClient(t *testing.T) {
	for _, bad := range []string{"", "localhost:9090", "ftp://h", "http://", "http://h/path", "http://h?q=1", "http://u:p@h", "http://h h"} {
		if _, err := NewClient(bad, ""); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// answer is one that no door gives.
func answer(t *testing.T, status int, contentType, body string) *Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		if status == http.StatusFound {
			http.Redirect(w, r, "/elsewhere", status)
			return
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	c, err := NewClient(s.URL, "secret")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestStrangeAnswers(t *testing.T) {
	const ndjson = "application/x-ndjson"
	for _, a := range []struct {
		status          int
		typ, body, says string
	}{
		{404, "text/plain", "404 page not found", "is that the admin listener"},
		{302, ndjson, "", "is that the admin listener"},
		{200, "text/html", "<html>", "is that the admin listener"},
		{200, ndjson, "", "cut off"},
		{200, ndjson, "nonsense\n", "cut off"},
		{200, ndjson, `{"kind":"alive"}`, "cut off"},
		{200, ndjson, `{"kind":"thing","bytes":-1}` + "\n", "-1 bytes"},
		{200, ndjson, `{"kind":"thing","bytes":99999999999}` + "\n", "99999999999 bytes"},
		{200, ndjson, `{"kind":"thing","bytes":9}` + "\nshort", "cut off"},
		{200, ndjson, strings.Repeat("x", maxLine+1<<20), "too long"},
		{200, ndjson, `{"kind":"problem","value":7}` + "\n", "unmarshal"},
		{200, ndjson, `{"kind":"result","value":"text"}` + "\n", "unmarshal"},
		{500, "application/problem+json", "{}", "is that the admin listener"},
		{404, "application/problem+json", `{"type":"/problems/not-found","title":"No","status":404}`, "is that the admin listener"},
		{500, "application/problem+json", `{"type":"/admin/problems/x","title":"Odd","status":500}`, "Odd"},
	} {
		c := answer(t, a.status, a.typ, a.body)
		var result int
		err := c.Stream(t.Context(), http.MethodPost, "/admin/x", &result, func(string, json.RawMessage, []byte) error { return nil })
		if err == nil || !strings.Contains(err.Error(), a.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d %s %.60q: %v", a.status, a.typ, a.body, err)
		}
	}
	var v int
	if err := answer(t, 200, "application/json", "{").Get(t.Context(), "/admin/x", &v); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("%v", err)
	}
	if err := answer(t, 200, "application/json", "7").Get(t.Context(), "/admin/x", &v); err != nil || v != 7 {
		t.Errorf("%d %v", v, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := answer(t, 200, "application/json", "7").Get(gone, "/admin/x", &v); err == nil {
		t.Error("answered nobody")
	}
}

// slowly is an answer that comes a little at a time.
type slowly struct {
	ctx   context.Context
	left  []byte
	piece int
	every time.Duration
}

func (s *slowly) Close() error { return nil }

func (s *slowly) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(s.every):
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
	n := copy(p[:min(len(p), s.piece)], s.left)
	s.left = s.left[n:]
	return n, nil
}

func (s *slowly) RoundTrip(r *http.Request) (*http.Response, error) {
	s.ctx = r.Context()
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-ndjson"}}, Body: s}, nil
}

// What comes slowly comes: only silence ends it.
func TestSlowLink(t *testing.T) {
	const size = 1 << 20
	text := []byte(fmt.Sprintf(`{"kind":"thing","value":1,"bytes":%d}`+"\n", size) + strings.Repeat("x", size) + `{"kind":"result","value":2}` + "\n")
	for _, every := range []time.Duration{50 * time.Second, 70 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c, err := NewClient("http://127.0.0.1:1", "")
			if err != nil {
				t.Fatal(err)
			}
			c.http.Transport = &slowly{left: text, piece: 64 << 10, every: every}
			result, got := 0, 0
			err = c.Stream(t.Context(), http.MethodGet, "/admin/x", &result, func(_ string, _ json.RawMessage, raw []byte) error { got += len(raw); return nil })
			if whole := every < maxSilence; whole && (err != nil || got != size || result != 2) || !whole && (err == nil || !strings.Contains(err.Error(), "says nothing")) {
				t.Errorf("64 KiB every %v: %d bytes, %v", every, got, err)
			}
		})
	}
}
