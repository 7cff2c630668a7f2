package directory

import (
	"context"
	"errors"
	"fmt"

	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

// Leaser returns the directory as one worker sees it: what an id.Keeper needs.
// r.Now is ignored. A lease is handed out once this node's Map shows it, so that
// nothing is minted under an older table. When the group has stopped, every error
// wraps id.ErrStopped.
func (d *Directory) Leaser(r AcquireRequest) id.Leaser { return leaser{d, r} }

type leaser struct {
	d *Directory
	r AcquireRequest
}

// Acquire implements id.Leaser.
func (l leaser) Acquire(ctx context.Context, now id.Millis) (id.Lease, error) {
	r := l.r
	r.Now = now
	return l.known(ctx)(l.d.AcquireSlot(ctx, r))
}

// Renew implements id.Leaser.
func (l leaser) Renew(ctx context.Context, lease id.Lease, now id.Millis) (id.Lease, error) {
	return l.known(ctx)(l.d.RenewLease(ctx, lease, now, l.r.Want))
}

// Surrender implements id.Leaser.
func (l leaser) Surrender(ctx context.Context, lease id.Lease, at id.Millis) error {
	return l.final(l.d.SurrenderLease(ctx, lease, at))
}

// final marks an error of a directory that will not come back. The group is
// asked, because the error of the call that made it stop does not say so.
func (l leaser) final(err error) error {
	if stopped := l.d.group.Working(); err != nil && errors.Is(stopped, raftgroup.ErrStopped) {
		return fmt.Errorf("%w: %w", id.ErrStopped, err)
	}
	return err
}

// known waits until the Map is of the lease's version.
func (l leaser) known(ctx context.Context) func(id.Lease, error) (id.Lease, error) {
	return func(lease id.Lease, err error) (id.Lease, error) {
		if err == nil && lease.Map > 0 {
			_, err = l.d.Wait(ctx, lease.Map-1)
		}
		return lease, l.final(err)
	}
}
