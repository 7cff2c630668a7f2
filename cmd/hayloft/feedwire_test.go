package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"hayloft/internal/mesh"
)

// A node whose feed does not work refuses calls before they begin, so that whoever has
// no feed goes to another one: it stayed with the one that had answered last, also when
// all that it answered was that it could not.
func TestFeedThatDoesNotWorkRefuses(t *testing.T) {
	var down error
	served := 0
	a := answerFeed(func() error { return down }, func(context.Context, []byte) ([]byte, error) { served++; return nil, nil })
	if _, err := a(t.Context(), mesh.Peer{}, nil); err != nil || served != 1 {
		t.Fatalf("%v, %d calls", err, served)
	}
	down = errors.New("the group has stopped")
	_, err := a(t.Context(), mesh.Peer{}, nil)
	var r *mesh.Refusal
	if !errors.As(err, &r) || r.Status != http.StatusServiceUnavailable || served != 1 {
		t.Fatalf("%v, %d calls", err, served)
	}
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{&mesh.RefusedError{Node: "a", Status: r.Status, Code: r.Code, Text: r.Text}, true},
		{fmt.Errorf("call: %w", &mesh.RefusedError{Code: codeNotHere}), true},
		{&mesh.RefusedError{Status: 500}, false},
		{&mesh.UnreachableError{Node: "a", Err: errors.New("refused")}, true},
		{&mesh.UnreachableError{Node: "a", Sent: true, Err: errors.New("cut off")}, false},
		{errors.New("anything"), false},
	} {
		if got := nothingDone(tt.err); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}
