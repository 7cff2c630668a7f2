package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/media"
)

// getMaster is GET /photos/{id}/master: the upload byte for byte, for its
// owner alone, since nothing was taken out of it.
func (r *request) getMaster() error {
	photo, err := r.pathID(0)
	if err != nil {
		return err
	}
	v, err := r.a.opt.Feed.Photo(r.ctx, r.viewer, photo)
	if err != nil {
		return err
	}
	m := v.Master
	if v.Author != r.viewer || m.Blob == 0 {
		return pNotFound.because("")
	}
	body, err := r.masterBody(photo, m)
	if err != nil {
		return err
	}
	h := &r.rc.Response.Header
	h.SetContentType(m.ContentType)
	h.Set("Content-Disposition", `attachment; filename="`+photo.String()+"."+media.Ext(m.ContentType)+`"`)
	h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(m.Digest[:])+":")
	h.Set("ETag", `"`+hex.EncodeToString(m.Digest[:])+`"`)
	r.rc.Response.SetBodyStream(body, int(m.Size))
	return nil
}

// masterBody is a master on its way to its owner.
func (r *request) masterBody(photo id.ID, m feed.Master) (*pieceBody, error) {
	b, err := r.pieces(m.Size, func() {}, r.a.masterPieces(m))
	if err != nil {
		return nil, fmt.Errorf("api: master of photo %v: %w", photo, err)
	}
	return b, nil
}

// masterPieces reads a master piece after piece. The last one is only given out
// if all of them together are the upload: else the answer is cut off. A master of
// one piece is judged before anything leaves.
func (a *API) masterPieces(m feed.Master) fetchFunc {
	sum := sha256.New()
	return func(ctx context.Context, off int64, to []byte) error {
		n, err := a.opt.Blobs.ReadMaster(ctx, m.Blob, m.Cookie, off, to)
		if err != nil {
			return err
		}
		sum.Write(to[:n])
		if n < len(to) || off+int64(n) == m.Size && [sha256.Size]byte(sum.Sum(nil)) != m.Digest {
			return errors.New("it is not what was stored")
		}
		return nil
	}
}
