package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hayloft/internal/clock"
)

// rig is a door with some calls, behind a listener.
type rig struct {
	url string

	mu      sync.Mutex // guards actions
	actions []Action
}

var errTeapot = errors.New("short and stout")

func newRig(t *testing.T, o Options, add func(*Door)) *rig {
	t.Helper()
	r := &rig{}
	o.Audit = func(a Action) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.actions = append(r.actions, a)
	}
	o.Problem = func(err error) *Problem {
		if errors.Is(err, errTeapot) {
			return NewProblem("teapot", http.StatusTeapot, "A teapot", "%v", err)
		}
		return nil
	}
	d := NewDoor(o)
	d.Look(http.MethodGet, "/admin/look", func(c *Call) error {
		if _, err := c.Query("a", "many*"); err != nil {
			return err
		}
		return c.Answer(map[string]int{"seen": 1})
	})
	d.Guard(http.MethodPost, "/admin/things/{thing}/do", func(c *Call) error { return c.Answer(c.Path("thing")) })
	d.Guard(http.MethodGet, "/admin/fails", func(*Call) error { return errTeapot })
	d.Guard(http.MethodGet, "/admin/breaks", func(*Call) error { return errors.New("broken") })
	if add != nil {
		add(d)
	}
	s := httptest.NewServer(d)
	t.Cleanup(s.Close)
	r.url = s.URL
	return r
}

// audited waits for n actions.
func (r *rig) audited(t *testing.T, n int) []Action {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
		r.mu.Lock()
		got := append([]Action{}, r.actions...)
		r.mu.Unlock()
		if len(got) >= n {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d actions: %+v", len(got), n, got)
		}
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t, Options{Token: "secret"}, nil)
	const bearer = "Authorization: Bearer "
	for _, c := range []struct {
		method, path, header, body string
		status                     int
		typ                        string
	}{
		{"GET", "/admin/look", "", "", 200, ""},
		{"GET", "/admin/look?a=1&many=1&many=2", "", "", 200, ""},
		{"GET", "/admin/look?b=1", "", "", 400, "invalid"},
		{"GET", "/admin/look?a=1&a=2", "", "", 400, "invalid"},
		{"GET", "/admin/look?a=%zz", "", "", 400, "invalid"},
		{"GET", "/admin/look", "", "body", 413, "body"},
		{"GET", "/admin/look", "Origin: http://localhost", "", 403, "browser"},
		{"GET", "/admin/look", "Sec-Fetch-Site: same-origin", "", 403, "browser"},
		{"GET", "/admin/look", "Sec-Fetch-Site: none", "", 200, ""},
		{"HEAD", "/admin/look", "", "", 405, ""},
		{"POST", "/admin/look", "", "", 405, "method"},
		{"GET", "/admin/nothing", "", "", 404, "no-such-call"},
		{"POST", "/admin/things/7/do", "", "", 401, "unauthorized"},
		{"POST", "/admin/things/7/do", bearer, "", 401, "unauthorized"},
		{"POST", "/admin/things/7/do", bearer + "secre", "", 401, "unauthorized"},
		{"POST", "/admin/things/7/do", bearer + "secrets", "", 401, "unauthorized"},
		{"POST", "/admin/things/7/do", "Authorization: secret", "", 401, "unauthorized"},
		{"POST", "/admin/things/7/do", bearer + "secret", "", 200, ""},
		{"POST", "/admin/things/7/do", bearer + "secret", "{}", 413, "body"},
		{"GET", "/admin/things/7/do", bearer + "secret", "", 405, "method"},
		{"GET", "/admin/fails", bearer + "secret", "", 418, "teapot"},
		{"GET", "/admin/breaks", bearer + "secret", "", 500, "failed"},
	} {
		what := fmt.Sprintf("%s %s %s %s", c.method, c.path, c.header, c.body)
		req, err := http.NewRequest(c.method, r.url+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if name, value, ok := strings.Cut(c.header, ": "); ok {
			req.Header.Set(name, value)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.status || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d, %v", what, res.StatusCode, err)
		}
		if c.typ == "" {
			continue
		}
		var p Problem
		if err := json.Unmarshal(body, &p); err != nil || res.Header.Get("Content-Type") != "application/problem+json" || !p.Named(c.typ) || p.Status != c.status {
			t.Errorf("%s: %s, %v", what, body, err)
		}
	}
	var guarded, refused int
	for _, a := range r.audited(t, 8) {
		guarded++
		if a.Status == http.StatusUnauthorized {
			refused++
		}
		if a.Address == "" || a.Err != nil && strings.Contains(a.Err.Error(), "secre") {
			t.Errorf("%+v", a)
		}
	}
	if guarded != 8 || refused != 5 {
		t.Errorf("%d guarded calls, %d refused, in the audit", guarded, refused)
	}
}

// A door without a token lets nobody through, an open one everybody.
func TestNoTokenAndOpen(t *testing.T) {
	for _, open := range []bool{false, true} {
		r := newRig(t, Options{Open: open}, nil)
		c, err := NewClient(r.url, "")
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest(http.MethodPost, r.url+"/admin/things/7/do", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer ")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if (res.StatusCode == http.StatusOK) != open {
			t.Errorf("open %v: %s", open, res.Status)
		}
		c.Close()
	}
}

// A closed door refuses calls, and the answers of those that had none yet: what
// they looked at may be half gone.
func TestClosedDoor(t *testing.T) {
	var d *Door
	r := newRig(t, Options{Token: "secret"}, func(made *Door) {
		d = made
		d.Look(http.MethodGet, "/admin/slow", func(c *Call) error {
			d.Close()
			return c.Answer("nothing is left")
		})
	})
	for _, call := range []string{"GET /admin/slow", "GET /admin/look", "POST /admin/things/7/do", "GET /admin/nothing"} {
		method, path, _ := strings.Cut(call, " ")
		req, err := http.NewRequest(method, r.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer secret")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var p Problem
		err = json.NewDecoder(res.Body).Decode(&p)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusServiceUnavailable || !p.Named(Stopped) || res.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %s %+v, %v", call, res.Status, p, err)
		}
	}
}

// stream makes a call that sends what it is given.
func stream(t *testing.T, o Options, fn func(*Call, *Stream) error) (*rig, *Client) {
	t.Helper()
	o.Token = "secret"
	r := newRig(t, o, func(d *Door) {
		d.Guard(http.MethodGet, "/admin/long", func(c *Call) error { return fn(c, c.Stream()) })
	})
	c, err := NewClient(r.url+"/", "secret")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return r, c
}

func TestStream(t *testing.T) {
	big := strings.Repeat("photo", 1_000_000)
	_, c := stream(t, Options{}, func(_ *Call, s *Stream) error {
		for i := range 3 {
			if err := s.SendBytes("thing", i, []byte(big[:i*2_000_000])); err != nil {
				return err
			}
		}
		return s.Send(KindResult, "done")
	})
	var got []string
	var result string
	err := c.Stream(t.Context(), http.MethodGet, "/admin/long", &result, func(kind string, value json.RawMessage, raw []byte) error {
		if string(raw) != big[:len(raw)] {
			t.Error("other bytes")
		}
		got = append(got, fmt.Sprintf("%s %s %d", kind, value, len(raw)))
		return nil
	})
	if err != nil || result != "done" || fmt.Sprint(got) != "[thing 0 0 thing 1 2000000 thing 2 4000000]" {
		t.Errorf("%v %q %v", got, result, err)
	}
	stop := errors.New("enough")
	err = c.Stream(t.Context(), http.MethodGet, "/admin/long", &result, func(string, json.RawMessage, []byte) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

// What fails in the middle of a stream is its last line.
func TestStreamFails(t *testing.T) {
	r, c := stream(t, Options{}, func(_ *Call, s *Stream) error {
		if err := s.Send("thing", 1); err != nil {
			return err
		}
		return errTeapot
	})
	err := c.Stream(t.Context(), http.MethodGet, "/admin/long", nil, func(string, json.RawMessage, []byte) error { return nil })
	var p *Problem
	if !errors.As(err, &p) || !p.Named("teapot") || p.Error() != errTeapot.Error() {
		t.Errorf("%v", err)
	}
	if a := r.audited(t, 1)[0]; a.Status != http.StatusTeapot || !errors.Is(a.Err, errTeapot) {
		t.Errorf("%+v", a)
	}
}

// A stream that ends without a last line was cut off.
func TestStreamCutOff(t *testing.T) {
	_, c := stream(t, Options{}, func(_ *Call, s *Stream) error { return s.Send("thing", 1) })
	err := c.Stream(t.Context(), http.MethodGet, "/admin/long", nil, func(string, json.RawMessage, []byte) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("%v", err)
	}
}

// A client that leaves, and a process that stops, end the call's context.
func TestLeaving(t *testing.T) {
	work, stop := context.WithCancel(context.Background())
	began := make(chan struct{}, 2)
	r, c := stream(t, Options{Work: work}, func(c *Call, s *Stream) error {
		began <- struct{}{}
		<-c.Context().Done()
		return c.Context().Err()
	})
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-began; leave() }()
	none := func(string, json.RawMessage, []byte) error { return nil }
	if err := c.Stream(ctx, http.MethodGet, "/admin/long", nil, none); !errors.Is(err, context.Canceled) {
		t.Errorf("left: %v", err)
	}
	if a := r.audited(t, 1)[0]; a.Status != http.StatusServiceUnavailable {
		t.Errorf("%+v", a)
	}
	go func() { <-began; stop() }()
	err := c.Stream(t.Context(), http.MethodGet, "/admin/long", nil, none)
	var p *Problem
	if !errors.As(err, &p) || !p.Named(Stopped) {
		t.Errorf("stopped: %v", err)
	}
}

// pipe is a ResponseWriter whose bytes a reader takes.
type pipe struct {
	*io.PipeWriter
	header http.Header
}

func (p pipe) Header() http.Header { return p.header }
func (pipe) WriteHeader(int)       {}
func (pipe) Flush()                {}

// Silence is broken every ten seconds.
func TestAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDoor(Options{Open: true, Clock: clock.Real{}})
		d.Guard(http.MethodGet, "/admin/slow", func(c *Call) error {
			s := c.Stream()
			<-c.d.o.Clock.After(35 * time.Second)
			return s.Send(KindResult, 1)
		})
		in, out := io.Pipe()
		began := time.Now()
		go func() {
			d.ServeHTTP(pipe{out, http.Header{}}, httptest.NewRequest(http.MethodGet, "/admin/slow", nil))
			out.Close()
		}()
		var kinds []string
		for lines := bufio.NewScanner(in); lines.Scan(); {
			var l Line
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, l.Kind)
		}
		if took := time.Since(began); took != 35*time.Second || fmt.Sprint(kinds) != "[alive alive alive alive result]" {
			t.Errorf("%v after %v", kinds, took)
		}
	})
}

// A client that reads nothing ends its stream by the first write that fails.
func TestDeadClient(t *testing.T) {
	in, out := io.Pipe()
	in.Close()
	var sent []error
	d := NewDoor(Options{Open: true})
	d.Guard(http.MethodGet, "/admin/dead", func(c *Call) error {
		s := c.Stream()
		sent = append(sent, s.Send("thing", 1), s.SendBytes("thing", 2, []byte("x")), s.Send("thing", func() {}))
		return sent[0]
	})
	d.ServeHTTP(pipe{out, http.Header{}}, httptest.NewRequest(http.MethodGet, "/admin/dead", nil))
	if len(sent) != 3 || !errors.Is(sent[0], io.ErrClosedPipe) || !errors.Is(sent[1], io.ErrClosedPipe) || sent[2] == nil {
		t.Errorf("%v", sent)
	}
}
