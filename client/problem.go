package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxProblemBytes bounds what is read of a refusal.
const maxProblemBytes = 64 << 10

// Problem is what the server said when it refused a call: problem details
// (RFC 9457), or what could be made of an answer that carried none.
type Problem struct {
	Status   int    // HTTP status
	Type     string // stable and documented; compare with errors.As and this field
	Title    string
	Detail   string
	Instance string
	Faults   []Fault // when the request holds wrong values: every one of them
	// RetryAfter is how long the server asks to wait; 0 when it did not say.
	RetryAfter time.Duration
}

// Fault points at one wrong value of a request.
type Fault struct {
	Pointer   string `json:"pointer,omitempty"`   // into the JSON body (RFC 6901)
	Parameter string `json:"parameter,omitempty"` // of the query, a header or a form
	Detail    string `json:"detail"`
}

// Error is one line: the status, then the clearest text there is.
func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	if text == "" {
		text = http.StatusText(p.Status)
	}
	for i, f := range p.Faults {
		sep := "; "
		if i == 0 {
			sep = " ("
		}
		text += sep + strings.TrimSpace(strings.TrimPrefix(f.Pointer, "/")+f.Parameter+" "+f.Detail)
	}
	if len(p.Faults) > 0 {
		text += ")"
	}
	if p.Type == "" || p.Type == "about:blank" {
		return fmt.Sprintf("%d: %s", p.Status, text)
	}
	return fmt.Sprintf("%d %s: %s", p.Status, p.Type, text)
}

// IsStatus reports whether err is a refusal with this HTTP status.
func IsStatus(err error, status int) bool {
	var p *Problem
	return errors.As(err, &p) && p.Status == status
}

// IsType reports whether err is a refusal of this problem type. The type may be
// given in short, as its last part ("upload-already-stored").
func IsType(err error, problem string) bool {
	var p *Problem
	return errors.As(err, &p) && (p.Type == problem || lastPart(p.Type) == problem)
}

// lastPart is what follows the last separator of a problem type: types are URI
// references, their last part is the name that documents list.
func lastPart(s string) string {
	for i := len(s) - 1; i >= 0; i-- {
		if c := s[i]; c == '/' || c == ':' || c == '#' {
			return s[i+1:]
		}
	}
	return s
}

// problemOf reads a refusal. It does not close the body.
func problemOf(r *http.Response) *Problem {
	p := &Problem{Status: r.StatusCode, RetryAfter: retryAfter(r.Header)}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxProblemBytes))
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || (media != "application/problem+json" && media != "application/json") {
		return p
	}
	var w struct {
		Type     string  `json:"type"`
		Title    string  `json:"title"`
		Detail   string  `json:"detail"`
		Instance string  `json:"instance"`
		Faults   []Fault `json:"errors"`
	}
	if json.Unmarshal(body, &w) == nil { // otherwise the status has to speak for itself
		p.Type, p.Title, p.Detail, p.Instance, p.Faults = w.Type, w.Title, w.Detail, w.Instance, w.Faults
	}
	return p
}

// retryAfter reads both forms of Retry-After. A date is taken relative to the
// answer's own Date, so that it does not depend on the two clocks agreeing.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if s, err := strconv.Atoi(v); err == nil {
		if s < 0 || s > 1<<30 {
			return 0
		}
		return time.Duration(s) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return max(0, at.Sub(now))
}
