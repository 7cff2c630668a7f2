package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"hayloft/api"
	"hayloft/cache"
	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/media"
	"hayloft/media/transcode"
	"hayloft/volume"
	"hayloft/volume/server"
)

// The rooms do not import one another. Each adapter here hands one room's
// implementation to another room's interface, and does nothing else.

var (
	_ api.Feed         = front{}
	_ api.Blobs        = masters{}
	_ transcode.Blobs  = groups{}
	_ transcode.Photos = photoWork{}
	_ cache.Origin     = origin{}
	_ cache.Access     = access{}
	_ cache.Purger     = purger{}
)

// front is the feed as the API sees it: ready only when the whole node is.
type front struct {
	feedOf
	ready func() error
}

func (f front) Ready() error { return f.ready() }

// masters is the blob server as the API sees it.
type masters struct{ s *server.Server }

func (m masters) Reserve(ctx context.Context) (id.ID, id.Cookie, error) {
	blob, cookie, err := m.s.Reserve(ctx, volume.ClassOriginals)
	return blob, cookie, blobError(err)
}

func (m masters) WriteMaster(ctx context.Context, blob id.ID, cookie id.Cookie, n api.MasterNeedle) error {
	return blobError(m.s.Write(ctx, blob, []volume.Needle{{
		Key: blob, Alt: uint8(media.Original), Cookie: cookie, Data: n.Data,
		Master: &volume.MasterInfo{Photo: n.Photo, Owner: n.Owner, ContentType: n.ContentType, Time: blob.Millis().Time()},
	}}))
}

func (m masters) ReadMaster(ctx context.Context, blob id.ID, cookie id.Cookie, off int64, to []byte) (int, error) {
	r, err := m.s.ReadRange(ctx, blob, uint8(media.Original), cookie, off, int64(len(to)))
	defer r.Release()
	return copy(to, r.Data), blobError(err)
}

// blobError names the blob server's refusals as the API does.
func blobError(err error) error {
	switch {
	case errors.Is(err, server.ErrMoved):
		return fmt.Errorf("%w: %w", api.ErrMoved, err)
	case errors.Is(err, server.ErrNoSpace):
		return fmt.Errorf("%w: %w", api.ErrFull, err)
	case errors.Is(err, server.ErrUnavailable):
		return fmt.Errorf("%w: %w", api.ErrUnavailable, err)
	}
	return err
}

// groups is the blob server as the transcoding worker sees it.
type groups struct{ s *server.Server }

func (g groups) ReadMaster(ctx context.Context, blob id.ID, cookie id.Cookie) ([]byte, error) {
	b, err := g.s.Read(ctx, blob, uint8(media.Original), cookie)
	return b.Take(), err // a child may take its time: that is no disk's budget
}

func (g groups) ReserveVariants(ctx context.Context) (id.ID, id.Cookie, error) {
	return g.s.Reserve(ctx, volume.ClassVariants)
}

func (g groups) WriteVariants(ctx context.Context, blob id.ID, cookie id.Cookie, group []transcode.VariantBytes) error {
	needles := make([]volume.Needle, len(group))
	for i, v := range group {
		needles[i] = volume.Needle{Key: blob, Alt: v.Alt, Cookie: cookie, Data: v.Data}
	}
	err := g.s.Write(ctx, blob, needles)
	if errors.Is(err, server.ErrMoved) {
		return fmt.Errorf("%w: %w", transcode.ErrMoved, err)
	}
	return err
}

// photoWork is the feed as the transcoding worker sees it.
type photoWork struct{ f feedOf }

func (p photoWork) Master(ctx context.Context, photo id.ID) (transcode.Master, error) {
	row, err := p.f.Master(ctx, photo)
	if err == nil && row.Status != feed.Pending {
		err = transcode.ErrGone
	}
	return transcode.Master{Blob: row.Master.Blob, Cookie: row.Master.Cookie}, goneError(err)
}

func (p photoWork) Intend(ctx context.Context, photo, blob id.ID) error {
	return goneError(p.f.Intend(ctx, photo, blob))
}

func (p photoWork) MarkReady(ctx context.Context, photo id.ID, r transcode.Rendition) error {
	variants := make([]feed.Variant, len(r.Variants))
	for i, v := range r.Variants {
		variants[i] = feed.Variant(v)
	}
	return goneError(p.f.MarkReady(ctx, photo, feed.Rendition{
		Blob: r.Blob, Cookie: r.Cookie, Variants: variants, Placeholder: r.Placeholder, Colour: r.Colour,
	}))
}

func (p photoWork) MarkFailed(ctx context.Context, photo id.ID, why transcode.Failure) error {
	return goneError(p.f.MarkFailed(ctx, photo, feed.Failure(why)))
}

// goneError: a photo that is not there, or is ready already, needs no work.
func goneError(err error) error {
	if errors.Is(err, feed.ErrNotFound) || errors.Is(err, feed.ErrConflict) {
		return fmt.Errorf("%w: %w", transcode.ErrGone, err)
	}
	return err
}

// transcoder makes the worker that brings photos from pending to ready.
func (n *node) transcoder(push *pusher) (*transcode.Worker, error) {
	return transcode.New(transcode.Options{
		Photos: photoWork{n.theFeed()}, Blobs: groups{n.blobs}, Maker: n.pool,
		Push: func(p transcode.Pushed) {
			push.push(cache.Key{Variant: p.Variant.String(), Blob: p.Blob, Cookie: p.Cookie, Ext: media.Ext(p.ContentType)},
				cache.Object{Data: p.Data, ContentType: p.ContentType, ETag: etag(checksum(p.Data))})
		},
	})
}

// origin is where the cache's fills come from: variants as they are stored, the
// public original stripped on its way.
type origin struct{ s *server.Server }

func (o origin) Fetch(ctx context.Context, k cache.Key) (cache.Object, error) {
	variant, ok := media.VariantByName(k.Variant)
	contentType, known := media.TypeByExt(k.Ext)
	if !ok || !known || variant != media.Original && contentType != media.TypeJPEG {
		return cache.Object{}, cache.ErrNotFound
	}
	b, err := o.s.Read(ctx, k.Blob, uint8(variant), k.Cookie)
	if errors.Is(err, volume.ErrNotFound) {
		return cache.Object{}, fmt.Errorf("%w: %w", cache.ErrNotFound, err)
	}
	if err != nil {
		return cache.Object{}, err
	}
	if variant != media.Original {
		return cache.Object{Data: b.Data, ContentType: contentType, ETag: etag(b.ETag), Release: b.Release}, nil
	}
	defer b.Release() // what is stripped is a copy
	if b.Master == nil || b.Master.ContentType != contentType {
		return cache.Object{}, cache.ErrNotFound
	}
	public, err := media.Strip(contentType, b.Data)
	if err != nil {
		return cache.Object{}, fmt.Errorf("strip original %s: %w", k.Blob, err)
	}
	return cache.Object{Data: public, ContentType: contentType, ETag: etag(checksum(public))}, nil
}

// etag is the strong entity tag of bytes with this CRC32C: a media URL names
// one blob of one cookie, so the tag only has to tell its bytes from others'.
func etag(crc uint32) string { return fmt.Sprintf("%08x", crc) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the one that volumes keep of their needles.
func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// access is the feed as the cache sees it.
type access struct{ f feedOf }

var audiences = map[feed.Access]cache.Audience{
	feed.AccessGone: cache.Gone, feed.AccessPublic: cache.Public, feed.AccessSigned: cache.Signed,
}

func (a access) Access(ctx context.Context, blob id.ID) (cache.Verdict, error) {
	v, err := a.f.Access(ctx, blob)
	return cache.Verdict{Audience: audiences[v.Access], Epoch: v.Epoch, Age: v.Age}, err
}

// purger is the feed's purge log as the cache sees it.
type purger struct{ f feedOf }

func (p purger) Purges(ctx context.Context, after uint64, limit int) ([]cache.Purge, time.Duration, error) {
	list, age, err := p.f.Purges(ctx, after, limit)
	var gap *feed.PurgeGap
	if errors.As(err, &gap) {
		return nil, 0, &cache.GapError{Head: gap.Resume}
	}
	out := make([]cache.Purge, len(list))
	for i, e := range list {
		out[i] = cache.Purge(e)
	}
	return out, age, err
}
