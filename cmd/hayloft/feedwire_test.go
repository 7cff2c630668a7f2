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

// TestRepeatedAtAnotherNode: whoever asked hears whether a node before the one that
// answered may have done it already.
func TestRepeatedAtAnotherNode(t *testing.T) {
	cutOff, refused := error(&mesh.UnreachableError{Sent: true, Err: errors.New("cut off")}), error(&mesh.RefusedError{Code: codeNotReady})
	for _, tt := range []struct {
		name     string
		again    bool
		errs     []error // of the nodes, in turn
		by       int     // -1: nobody
		repeated bool
	}{
		{"first", true, []error{nil, nil}, 0, false},
		{"refused", false, []error{refused, nil}, 1, false},
		{"lost", true, []error{cutOff, refused, nil}, 2, true},
		{"lost, once only", false, []error{cutOff, nil}, -1, false},
		{"nobody", true, nil, -1, false},
	} {
		_, by, repeated, err := askInTurn(t.Context(), make([]string, len(tt.errs)), tt.again, func(i int) ([]byte, error) { return nil, tt.errs[i] })
		if err != nil {
			by = -1
		}
		if by != tt.by || repeated != tt.repeated {
			t.Errorf("%s: by %d, repeated %v, %v", tt.name, by, repeated, err)
		}
	}
}
