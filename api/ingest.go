package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/media"
)

// photoFile is an upload that passed every check.
type photoFile struct {
	data   []byte
	info   media.Info
	digest [32]byte
}

// inspect judges an upload by its content: an image that is taken, whole,
// within limits, of the announced type (if one was) and with each announced
// digest. Nothing is decoded here.
func (a *API) inspect(data []byte, contentType string, announced ...*[32]byte) (photoFile, error) {
	info, err := media.Inspect(data, media.Limits{MaxBytes: a.opt.Limits.PhotoBytes, MaxPixels: a.opt.Limits.PhotoPixels, HEIF: a.opt.HEIF})
	if err != nil {
		return photoFile{}, err
	}
	if contentType != "" && info.ContentType != contentType {
		return photoFile{}, pTypeMismatch.because("the content is %s, announced was %s", info.ContentType, contentType)
	}
	img := photoFile{data: data, info: info, digest: sha256.Sum256(data)}
	for _, d := range announced {
		if d != nil && *d != img.digest {
			return photoFile{}, pDigest.because("the bytes that arrived are %s", digestName(img.digest))
		}
	}
	return img, nil
}

// maxMoves bounds how often a write follows tiles that close under it.
const maxMoves = 4

// ingest stores an inspected upload as the photo's master: the intent is
// committed first, so that whatever happens in between, bytes that no photo
// owns are found and taken away; then the bytes are made durable; then the
// photo is told. With details the photo is pending afterwards. key may be nil.
func (a *API) ingest(ctx context.Context, photo, owner id.ID, img photoFile, details *feed.Details, key *repeatable) error {
	for range maxMoves {
		blob, cookie, err := a.opt.Blobs.Reserve(ctx)
		if err != nil {
			return err
		}
		if err := a.opt.Feed.Intend(ctx, photo, blob); err != nil {
			return err
		}
		err = a.opt.Blobs.WriteMaster(ctx, blob, cookie, MasterNeedle{Photo: photo, Owner: owner, ContentType: img.info.ContentType, Data: img.data})
		if errors.Is(err, ErrMoved) {
			continue
		}
		if err != nil {
			return err
		}
		return a.opt.Feed.Stored(key.tie(ctx), photo, feed.Master{Blob: blob, Cookie: cookie, Size: int64(len(img.data)), ContentType: img.info.ContentType,
			Digest: img.digest, Width: img.info.Width, Height: img.info.Height}, details)
	}
	return &problem{kind: pBusy, detail: "the store kept moving", retryAfter: time.Second}
}
