package main

import (
	"time"

	"hayloft/internal/clock"
)

const (
	unledLook = 100 * time.Millisecond
	unledWait = time.Second // an election takes less
)

// leaveUnled begins to call leave as soon as nobody leads the directory, until done is
// called. It is for a stop: the last of the nodes that vote has nobody to give its leases
// back to, and with its directory closed nothing waits for an answer any more.
func (n *node) leaveUnled(leave func()) (done func()) {
	if n.wire == nil || n.directory == nil {
		return func() {}
	}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		if unled(n.clock, over, n.directory.Ready) {
			leave()
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// unled waits until ready has failed for unledWait, or over is closed; it reports which.
func unled(c clock.Clock, over <-chan struct{}, ready func() error) bool {
	since := c.Elapsed()
	for {
		if now := c.Elapsed(); ready() == nil {
			since = now
		} else if now-since >= unledWait {
			return true
		}
		select {
		case <-c.After(unledLook):
		case <-over:
			return false
		}
	}
}
