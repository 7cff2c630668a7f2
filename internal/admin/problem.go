package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// problemBase begins the type of every problem.
const problemBase = "/admin/problems/"

// Problem is an error of a call as both sides know it (RFC 9457).
type Problem struct {
	Type   string `json:"type"` // stable: problemBase and a name
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Allow are the methods there are, with status 405.
	Allow string `json:"-"`
}

// Error implements error: one line.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Detail
}

// Named reports whether the problem has that name.
func (p *Problem) Named(name string) bool { return p.Type == problemBase+name }

// NewProblem makes a problem.
func NewProblem(name string, status int, title, format string, args ...any) *Problem {
	return &Problem{Type: problemBase + name, Title: title, Status: status, Detail: fmt.Sprintf(format, args...)}
}

// Invalid is a parameter that makes no sense.
func Invalid(format string, args ...any) *Problem {
	return NewProblem("invalid", http.StatusBadRequest, "The request makes no sense", format, args...)
}

// Names of the problems that the door itself has.
const (
	Unauthorized = "unauthorized"
	NotHere      = "no-such-call"
	Stopped      = "stopped" // the client left or the server stops
)

// problemOf names an error: itself when it is a problem, else by the table of
// the caller, else 500.
func (d *Door) problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	if errors.Is(err, context.Canceled) {
		return NewProblem(Stopped, http.StatusServiceUnavailable, "The call was stopped", "the client left, or the server stops")
	}
	if d.o.Problem != nil {
		if p := d.o.Problem(err); p != nil {
			return p
		}
	}
	return NewProblem("failed", http.StatusInternalServerError, "The call failed", "%v", err)
}

// write sends the problem as the whole answer.
func (p *Problem) write(w http.ResponseWriter) {
	body, err := json.Marshal(p)
	if err != nil { // strings and a number
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="hayloft admin"`)
	}
	if p.Named(Stopped) {
		h.Set("Retry-After", "5")
	}
	if p.Allow != "" {
		h.Set("Allow", p.Allow)
	}
	w.WriteHeader(p.Status)
	w.Write(body) //nolint:errcheck // whoever asked is gone then
}
