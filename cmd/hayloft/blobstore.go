package main

import (
	"context"
	"errors"
	"fmt"

	"hayloft/api"
	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/server"
)

// blobStore is the blob server as the blob API sees it.
type blobStore struct{ s *server.Server }

var _ api.Store = blobStore{}

var blobClasses = map[api.BlobClass]volume.Class{
	api.BlobOriginals: volume.ClassOriginals, api.BlobVariants: volume.ClassVariants,
}

func (b blobStore) ReserveBlob(ctx context.Context, class api.BlobClass) (id.ID, id.Cookie, error) {
	blob, cookie, err := b.s.Reserve(ctx, blobClasses[class])
	return blob, cookie, blobError(err)
}

func (b blobStore) WriteBlob(ctx context.Context, blob id.ID, cookie id.Cookie, variants []api.BlobVariant) error {
	group := make([]volume.Needle, len(variants))
	for i, v := range variants {
		group[i] = volume.Needle{Key: blob, Alt: v.Variant, Cookie: cookie, Data: v.Data}
		if v.Owner != 0 {
			group[i].Master = &volume.MasterInfo{Photo: blob, Owner: v.Owner, ContentType: v.ContentType, Time: blob.Millis().Time()}
		}
	}
	return blobError(b.s.Write(ctx, blob, group))
}

func (b blobStore) ReadBlob(ctx context.Context, blob id.ID, cookie id.Cookie, variant uint8, off, n int64) (api.BlobPiece, error) {
	r, err := b.s.ReadRange(ctx, blob, variant, cookie, off, n)
	if err == nil && r.Master != nil && r.Master.Photo != blob {
		r.Release()
		return api.BlobPiece{}, api.ErrNoBlob // somebody's photo as it was uploaded, with what is stripped for others
	}
	p := api.BlobPiece{Data: r.Data, Size: r.Size, ETag: r.ETag, Release: r.Release}
	if r.Master != nil {
		p.ContentType = r.Master.ContentType
	}
	if errors.Is(err, volume.ErrNotFound) {
		return p, fmt.Errorf("%w: %w", api.ErrNoBlob, err)
	}
	return p, blobError(err)
}

func (b blobStore) DeleteBlob(ctx context.Context, blob id.ID) error {
	return blobError(b.s.Delete(ctx, blob))
}
