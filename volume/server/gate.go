package server

import (
	"errors"
	"sync"
)

// gate is passed by the deletes of a volume. It is shut while another handle
// takes over its delete log, so that no acknowledged delete is left behind.
type gate struct {
	mu   sync.RWMutex // held for reading by who passes; guards all below
	shut error        // why nobody passes any more, or nil
	held error        // the same, for a reason of its own, which shutting and opening leaves alone
}

// errElsewhere shuts the gate of a handle for good: the volume has another.
var errElsewhere = errors.New("server: the volume is served elsewhere now")

func (g *gate) pass(fn func() error) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.shut != nil {
		return g.shut
	}
	if g.held != nil {
		return g.held
	}
	return fn()
}

// close waits for those who pass, and calls fn while nobody does. The gate then
// stays shut with the error that fn returns, or is open again when that is nil.
func (g *gate) close(fn func() error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = fn()
}

// hold is close for who may not open a gate that is shut, and whose reason nobody else
// ends: it returns why the gate is shut.
func (g *gate) hold(fn func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		return g.shut
	}
	if g.held == nil {
		g.held = fn()
	}
	return g.held
}

// release ends what hold left.
func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = nil
}
