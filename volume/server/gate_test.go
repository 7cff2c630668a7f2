package server

import (
	"context"
	"errors"
	"testing"
)

// Who wants to hold the gate while a delete hangs gives up with its context, and leaves
// the gate as it was: nobody waits behind it.
func TestGateIsNotHeldBehindADeleteThatHangs(t *testing.T) {
	g := newGate()
	in, out, passed := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		passed <- g.pass(func() error { close(in); <-out; return nil })
	}()
	<-in
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		gone <- g.hold(ctx, func() error { t.Error("held beside a delete"); return errJoining })
	}()
	cancel()
	if err := <-gone; !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := g.pass(func() error { return nil }); err != nil { // beside the one that hangs
		t.Errorf("%v", err)
	}
	close(out)
	if err := <-passed; err != nil {
		t.Error(err)
	}
	if err := g.hold(t.Context(), func() error { return errJoining }); !errors.Is(err, errJoining) {
		t.Errorf("%v", err)
	}
	if err := g.pass(func() error { return nil }); !errors.Is(err, errJoining) {
		t.Errorf("%v", err)
	}
	g.release()
	if err := g.pass(func() error { return nil }); err != nil {
		t.Error(err)
	}
}
