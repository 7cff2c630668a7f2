package server

import (
	"context"
	"slices"
	"sync"

	"hayloft/internal/id"
	"hayloft/volume"
)

// near is a replica on a disk of this process, as the others of the same volume see
// it: like one on another node it may fall silent, and then whoever asks it is answered
// as soon as the disk is out of service. Else one disk that hangs would stop the upkeep
// of all disks that share volumes with it. What a call that was left does later is done
// as if its answer had been lost.
type near struct {
	r *replicas
	d *disk
}

var _ fellow = near{}

// hear calls f and leaves it when the disk goes out.
func hear[T any](n near, f func() (T, error)) (out T, err error) {
	var got T
	answered, err := impatient{d: n.d}.call(func() (err error) {
		got, err = f()
		return err
	}, func() {})
	if answered {
		out = got
	}
	return out, err
}

// tell is hear without an answer.
func (n near) tell(f func() error) error { return impatient{d: n.d}.do(f) }

// until lends fn to f, and takes it back when f is left: what fn writes to is the
// caller's again then.
func until[T, A any](n near, fn func(A) error, f func(func(A) error) (T, error)) (T, error) {
	var mu sync.Mutex // guards over, and is held by fn
	over := false
	defer func() {
		mu.Lock()
		over = true
		mu.Unlock()
	}()
	return hear(n, func() (T, error) {
		return f(func(a A) error {
			mu.Lock()
			defer mu.Unlock()
			if over {
				return errNoAnswer
			}
			return fn(a)
		})
	})
}

// Standing implements PeerLife.
func (n near) Standing(ctx context.Context, disk uint32, v volume.ID) (Standing, error) {
	return hear(n, func() (Standing, error) { return n.r.Standing(ctx, disk, v) })
}

// Fence implements PeerLife.
func (n near) Fence(ctx context.Context, disk uint32, v volume.ID) (Standing, error) {
	return hear(n, func() (Standing, error) { return n.r.Fence(ctx, disk, v) })
}

// Holdings implements PeerLife.
func (n near) Holdings(ctx context.Context, disk uint32, v volume.ID, fn func(Holding) error) error {
	_, err := until(n, fn, func(fn func(Holding) error) (struct{}, error) {
		return struct{}{}, n.r.Holdings(ctx, disk, v, fn)
	})
	return err
}

// Fetch implements PeerLife.
func (n near) Fetch(ctx context.Context, disk uint32, v volume.ID, keys []id.ID, fn func(volume.Needle) error) error {
	keys = slices.Clone(keys)
	_, err := until(n, fn, func(fn func(volume.Needle) error) (struct{}, error) {
		return struct{}{}, n.r.Fetch(ctx, disk, v, keys, fn)
	})
	return err
}

// Fill implements PeerLife. The bytes of group are not changed by the caller, but the
// slice may be.
func (n near) Fill(ctx context.Context, disk uint32, ident volume.Identity, group []volume.Needle) error {
	group = slices.Clone(group)
	return n.tell(func() error { return n.r.Fill(ctx, disk, ident, group) })
}

// Bury implements PeerLife.
func (n near) Bury(ctx context.Context, disk uint32, v volume.ID, keys []id.ID) error {
	keys = slices.Clone(keys)
	return n.tell(func() error { return n.r.Bury(ctx, disk, v, keys) })
}

// Seal implements PeerLife.
func (n near) Seal(ctx context.Context, disk uint32, v volume.ID, info volume.SealInfo) (Sealed, error) {
	return hear(n, func() (Sealed, error) { return n.r.Seal(ctx, disk, v, info) })
}

// Make implements PeerLife.
func (n near) Make(ctx context.Context, disk uint32, v volume.ID, generation uint32) (Sealed, error) {
	return hear(n, func() (Sealed, error) { return n.r.Make(ctx, disk, v, generation) })
}

// Copy implements PeerLife.
func (n near) Copy(ctx context.Context, disk uint32, v volume.ID, generation uint32, fn func([]byte) error) (Sealed, error) {
	return until(n, fn, func(fn func([]byte) error) (Sealed, error) {
		return n.r.Copy(ctx, disk, v, generation, fn)
	})
}

// Deletes implements PeerLife.
func (n near) Deletes(ctx context.Context, disk uint32, v volume.ID, after uint32, limit int) ([]volume.Delete, uint32, error) {
	type page struct {
		list   []volume.Delete
		newest uint32
	}
	p, err := hear(n, func() (p page, err error) {
		p.list, p.newest, err = n.r.Deletes(ctx, disk, v, after, limit)
		return p, err
	})
	return p.list, p.newest, err
}

// Admit implements PeerLife.
func (n near) Admit(ctx context.Context, disk uint32, v volume.ID, joining uint32) error {
	return n.tell(func() error { return n.r.Admit(ctx, disk, v, joining) })
}

// LogDeletes implements fellow.
func (n near) LogDeletes(ctx context.Context, disk uint32, v volume.ID, sync, after uint32, keys []id.ID) (newest uint32, err error) {
	keys = slices.Clone(keys)
	return hear(n, func() (uint32, error) { return n.r.LogDeletes(ctx, disk, v, sync, after, keys) })
}
