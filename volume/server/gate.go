package server

import (
	"errors"
	"sync"
)

// gate is passed by the deletes of a volume. It is shut while another handle
// takes over its delete log, so that no acknowledged delete is left behind.
type gate struct {
	mu   sync.RWMutex // held for reading by who passes; guards shut
	shut error        // why nobody passes any more, or nil
}

// errElsewhere shuts the gate of a handle for good: the volume has another.
var errElsewhere = errors.New("server: the volume is served elsewhere now")

func (g *gate) pass(fn func() error) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.shut != nil {
		return g.shut
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

// hold is close for who may not open a gate that is shut: it returns why that is.
func (g *gate) hold(fn func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		g.shut = fn()
	}
	return g.shut
}

// reopen opens a gate that is shut for one reason.
func (g *gate) reopen(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == why { //nolint:errorlint // that very one
		g.shut = nil
	}
}
