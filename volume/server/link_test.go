package server_test

import (
	"context"
	"fmt"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// ask is link.do for calls with a result.
func ask[T any](ctx context.Context, l link, method string, call func(context.Context, server.Peer) (T, error)) (out T, err error) {
	type answer struct {
		got T
		err error
	}
	var a answer
	err = l.do(ctx, method, func(ctx context.Context, p server.Peer) error {
		a.got, a.err = call(ctx, p)
		return a.err
	})
	if err != nil && a.err == nil {
		return out, err // nobody hears of the result
	}
	return a.got, err
}

func (l link) Create(ctx context.Context, disk uint32, ident volume.Identity) error {
	return l.do(ctx, "Create", func(ctx context.Context, p server.Peer) error { return p.Create(ctx, disk, ident) })
}

func (l link) Append(ctx context.Context, disk uint32, ident volume.Identity, group []volume.Needle) error {
	return l.do(ctx, "Append", func(ctx context.Context, p server.Peer) error { return p.Append(ctx, disk, ident, group) })
}

func (l link) Entomb(ctx context.Context, disk uint32, v volume.ID, key id.ID) error {
	return l.do(ctx, "Entomb", func(ctx context.Context, p server.Peer) error { return p.Entomb(ctx, disk, v, key) })
}

func (l link) Delete(ctx context.Context, disk uint32, v volume.ID, key id.ID) error {
	return l.do(ctx, "Delete", func(ctx context.Context, p server.Peer) error { return p.Delete(ctx, disk, v, key) })
}

func (l link) LogDeletes(ctx context.Context, disk uint32, v volume.ID, sync, after uint32, keys []id.ID) (uint32, error) {
	return ask(ctx, l, "LogDeletes", func(ctx context.Context, p server.Peer) (uint32, error) {
		return p.LogDeletes(ctx, disk, v, sync, after, keys)
	})
}

func (l link) Read(ctx context.Context, disk uint32, v volume.ID, blob id.ID, alt uint8, cookie id.Cookie) (volume.Blob, error) {
	return ask(ctx, l, "Read", func(ctx context.Context, p server.Peer) (volume.Blob, error) {
		return p.Read(ctx, disk, v, blob, alt, cookie)
	})
}

func (l link) ReadRange(ctx context.Context, disk uint32, v volume.ID, blob id.ID, alt uint8, cookie id.Cookie, off, n int64) (volume.Range, error) {
	return ask(ctx, l, "ReadRange", func(ctx context.Context, p server.Peer) (volume.Range, error) {
		return p.ReadRange(ctx, disk, v, blob, alt, cookie, off, n)
	})
}

func (l link) Probe(ctx context.Context, disk uint32, v volume.ID, blob id.ID) (volume.Probed, error) {
	return ask(ctx, l, "Probe", func(ctx context.Context, p server.Peer) (volume.Probed, error) {
		return p.Probe(ctx, disk, v, blob)
	})
}

func (l link) Standing(ctx context.Context, disk uint32, v volume.ID) (server.Standing, error) {
	return ask(ctx, l, "Standing", func(ctx context.Context, p server.Peer) (server.Standing, error) { return p.Standing(ctx, disk, v) })
}

func (l link) Fence(ctx context.Context, disk uint32, v volume.ID) (server.Standing, error) {
	return ask(ctx, l, "Fence", func(ctx context.Context, p server.Peer) (server.Standing, error) { return p.Fence(ctx, disk, v) })
}

func (l link) Holdings(ctx context.Context, disk uint32, v volume.ID, fn func(server.Holding) error) error {
	return l.do(ctx, "Holdings", func(ctx context.Context, p server.Peer) error { return p.Holdings(ctx, disk, v, fn) })
}

func (l link) Fetch(ctx context.Context, disk uint32, v volume.ID, keys []id.ID, fn func(volume.Needle) error) error {
	return l.do(ctx, "Fetch", func(ctx context.Context, p server.Peer) error { return p.Fetch(ctx, disk, v, keys, fn) })
}

func (l link) Fill(ctx context.Context, disk uint32, ident volume.Identity, group []volume.Needle) error {
	return l.do(ctx, "Fill", func(ctx context.Context, p server.Peer) error { return p.Fill(ctx, disk, ident, group) })
}

func (l link) Bury(ctx context.Context, disk uint32, v volume.ID, keys []id.ID) error {
	return l.do(ctx, "Bury", func(ctx context.Context, p server.Peer) error { return p.Bury(ctx, disk, v, keys) })
}

func (l link) Seal(ctx context.Context, disk uint32, v volume.ID, info volume.SealInfo) (server.Sealed, error) {
	return ask(ctx, l, "Seal", func(ctx context.Context, p server.Peer) (server.Sealed, error) { return p.Seal(ctx, disk, v, info) })
}

func (l link) Make(ctx context.Context, disk uint32, v volume.ID, generation uint32) (server.Sealed, error) {
	return ask(ctx, l, "Make", func(ctx context.Context, p server.Peer) (server.Sealed, error) {
		return p.Make(ctx, disk, v, generation)
	})
}

func (l link) Copy(ctx context.Context, disk uint32, v volume.ID, generation uint32, fn func([]byte) error) (server.Sealed, error) {
	return ask(ctx, l, "Copy", func(ctx context.Context, p server.Peer) (server.Sealed, error) {
		return p.Copy(ctx, disk, v, generation, fn)
	})
}

func (l link) Deletes(ctx context.Context, disk uint32, v volume.ID, after uint32, limit int) (list []volume.Delete, newest uint32, err error) {
	newest, err = ask(ctx, l, "Deletes", func(ctx context.Context, p server.Peer) (n uint32, err error) {
		list, n, err = p.Deletes(ctx, disk, v, after, limit)
		return n, err
	})
	return list, newest, err
}

// linkShelf is a shelf of a member as another one reaches it.
type linkShelf struct {
	*vfs.Fault
	lost func() bool
}

func (s *linkShelf) Lost() bool { return s.lost() }

func (l link) Shelf(ctx context.Context, disk uint32, v volume.ID, epoch, term uint32) (server.Shelf, error) {
	shelf, err := ask(ctx, l, "Shelf", func(ctx context.Context, p server.Peer) (server.Shelf, error) {
		return p.Shelf(ctx, disk, v, epoch, term)
	})
	if err != nil {
		return nil, err
	}
	s := l.to.server()
	reach := &vfs.Fault{FS: shelf, Before: func(op vfs.Op) (o vfs.Outcome) {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		o.Err = l.do(ctx, "Shelf."+fmt.Sprint(op.Kind), func(context.Context, server.Peer) error { return nil })
		if o.Err == nil && l.to.server() != s {
			o.Err = server.ErrShelf // it was started anew
		}
		return o
	}}
	return &linkShelf{reach, func() bool { return shelf.Lost() || l.to.server() != s }}, nil
}

func (l link) Mend(ctx context.Context, disk uint32, v volume.ID, epoch uint32, damage []server.Damage) error {
	return l.do(ctx, "Mend", func(ctx context.Context, p server.Peer) error { return p.Mend(ctx, disk, v, epoch, damage) })
}

func (l link) Admit(ctx context.Context, disk uint32, v volume.ID, joining uint32) error {
	return l.do(ctx, "Admit", func(ctx context.Context, p server.Peer) error { return p.Admit(ctx, disk, v, joining) })
}
