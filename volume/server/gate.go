package server

import (
	"context"
	"errors"
	"math"

	"golang.org/x/sync/semaphore"
)

// gate is passed by the deletes of a volume. It is shut while another handle
// takes over its delete log, so that no acknowledged delete is left behind.
type gate struct {
	way  *semaphore.Weighted // a part is held by who passes, all of it by who shuts; guards all below
	shut error               // why nobody passes any more, or nil
	held error               // the same, for a reason of its own, which shutting and opening leaves alone
}

// whole is all of the way through a gate.
const whole = math.MaxInt64

func newGate() *gate { return &gate{way: semaphore.NewWeighted(whole)} }

// errElsewhere shuts the gate of a handle for good: the volume has another.
var errElsewhere = errors.New("server: the volume is served elsewhere now")

func (g *gate) pass(fn func() error) error {
	_ = g.way.Acquire(context.Background(), 1) // which does not end
	defer g.way.Release(1)
	if g.shut != nil {
		return g.shut
	}
	if g.held != nil {
		return g.held
	}
	return fn()
}

// alone calls fn while nobody passes.
func (g *gate) alone(ctx context.Context, fn func()) error {
	if err := g.way.Acquire(ctx, whole); err != nil {
		return err
	}
	defer g.way.Release(whole)
	fn()
	return nil
}

// close waits for those who pass, and calls fn while nobody does. The gate then
// stays shut with the error that fn returns, or is open again when that is nil.
func (g *gate) close(fn func() error) {
	_ = g.alone(context.Background(), func() { g.shut = fn() })
}

// hold is close for who may not open a gate that is shut, and whose reason nobody else
// ends: it returns why the gate is shut. It waits for those who pass until ctx ends,
// then fn is not called and the gate stays as it is: that is unavailable.
func (g *gate) hold(ctx context.Context, fn func() error) (shut error) {
	err := g.alone(ctx, func() {
		switch {
		case g.shut != nil:
			shut = g.shut
		case g.held == nil:
			g.held = fn()
			shut = g.held
		default:
			shut = g.held
		}
	})
	if err != nil {
		return unavailable("deletes are under way that do not end: %w", err)
	}
	return shut
}

// release ends what hold left.
func (g *gate) release() {
	_ = g.alone(context.Background(), func() { g.held = nil })
}
