package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"hayloft/directory"
)

// stop closes every part that is open, highest first. It may be called once.
// Requests have two thirds of the time, so that one slow upload does not keep
// leases from being given back. Those that take longer are cut short, which is no
// error: their clients were told nothing.
func (n *node) stop() error {
	third := time.Duration(n.s.drainTimeout) / 3
	if n.api != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*third)
		defer cancel()
		if err := n.api.Shutdown(ctx); err != nil {
			n.log.Warn("requests were cut short", "err", err)
		}
	}
	n.stopWork()
	if n.pool != nil {
		n.pool.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), third)
	defer cancel()
	if n.idle != nil {
		select {
		case <-n.idle:
		case <-ctx.Done():
			// Closing what it uses would take its ground away. Everything
			// acknowledged is durable: leave the rest to the end of the process,
			// but for leases, which nobody else could have meanwhile.
			err := errors.New("background work did not end in time")
			if n.edge != nil { // it has no leases
				return err
			}
			return errors.Join(err, n.leaseFault(n.blobs.Close(ctx)), n.leaseFault(n.closeIDs()))
		}
	}
	return n.closeParts(ctx)
}

// leaseTimeout bounds the giving back of the slot for ids. Time for it is there
// when everything else took too long.
const leaseTimeout = 2 * time.Second

// leaseFault is what remains of an error of closing when leases could not be given
// back because nobody decides in the directory: it stops with the last of the nodes
// that vote, and the leases end by themselves.
func (n *node) leaseFault(err error) error {
	if n.wire == nil || !errors.Is(err, directory.ErrUnavailable) {
		return err
	}
	n.log.Warn("leases were not given back: they end by themselves", "err", err)
	return nil
}

func (n *node) closeIDs() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaseTimeout)
	defer cancel()
	return n.ids.Close(ctx)
}

// closeParts closes what requests and background work used, which have ended.
func (n *node) closeParts(ctx context.Context) error {
	var errs []error
	if n.cache != nil {
		n.cache.Close()
	}
	n.closeDevice()
	if n.pages != nil {
		n.pages.Close()
	}
	if n.feed != nil {
		errs = append(errs, n.feed.Close())
	}
	closeDirectory := sync.OnceValue(func() error {
		if n.directory == nil {
			return nil
		}
		return n.directory.Close()
	})
	led := n.leaveUnled(func() { closeDirectory() }) //nolint:errcheck // it is returned below
	if n.blobs != nil {
		errs = append(errs, n.leaseFault(n.blobs.Close(ctx)))
	}
	if n.ids != nil {
		errs = append(errs, n.leaseFault(n.closeIDs()))
	}
	led()
	if n.group != nil {
		errs = append(errs, n.group.Close())
	}
	errs = append(errs, closeDirectory())
	if n.mesh != nil {
		errs = append(errs, n.mesh.Close(ctx))
	}
	n.locksMu.Lock()
	defer n.locksMu.Unlock()
	return errors.Join(append(errs, n.who.close())...)
}
