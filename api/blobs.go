package api

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/cache"
	"hayloft/internal/id"
	"hayloft/media"
)

// typeBytes is what a blob is served as of which no type is kept.
const typeBytes = "application/octet-stream"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blobTag is the entity tag of bytes with this CRC32C: a blob never changes, so
// the tag only has to tell its bytes from another variant's.
func blobTag(crc uint32) string { return fmt.Sprintf(`"%08x"`, crc) }

type blobBody struct {
	ID       id.ID             `json:"id"`
	Cookie   string            `json:"cookie"`
	ETag     string            `json:"etag"` // of the first variant
	Size     int64             `json:"size"` // of all variants, in bytes
	Variants map[string]string `json:"variants"`
}

// postBlob is POST /blobs: one body, or a form whose parts are named variants.
func (r *request) postBlob() error {
	q, err := r.query("class")
	if err != nil {
		return err
	}
	class := BlobClass(q["class"])
	switch class {
	case "":
		class = BlobOriginals
	case BlobOriginals, BlobVariants:
	default:
		return &problem{kind: pInvalid, faults: []fault{{Parameter: "class", Detail: "is neither originals nor variants"}}}
	}
	n := int64(r.rc.Request.Header.ContentLength())
	switch {
	case n < 0:
		return pLength.because("")
	case n > r.a.opt.Limits.PhotoBytes+formSlack:
		return pFileTooLarge.because("the body is over %d bytes", r.a.opt.Limits.PhotoBytes)
	case n == 0:
		return pMalformed.because("the body is empty")
	}
	room, err := r.a.spool.begin(r.payer(), n, r.cutRead())
	if err != nil {
		return err
	}
	defer room.close()
	variants, err := r.blobVariants(room, n)
	if err != nil {
		return err
	}
	r.extend()
	return r.storeBlob(class, variants)
}

// blobVariants reads the body of a POST.
func (r *request) blobVariants(room *booking, n int64) ([]BlobVariant, error) {
	contentType, params, err := mime.ParseMediaType(string(r.rc.Request.Header.ContentType()))
	if err == nil && contentType == "multipart/form-data" {
		return r.blobForm(room, params["boundary"], n)
	}
	if n > r.a.opt.Limits.PhotoBytes {
		return nil, pFileTooLarge.because("the body is over %d bytes", r.a.opt.Limits.PhotoBytes)
	}
	if err != nil || len(contentType) > 127 {
		contentType = typeBytes
	}
	data, err := r.readUpload(room, n)
	if err != nil {
		return nil, err
	}
	return []BlobVariant{{Variant: uint8(media.Original), Data: data, Owner: r.viewer, ContentType: contentType}}, nil
}

// blobForm reads a form whose parts are named by the variants they are.
func (r *request) blobForm(room *booking, boundary string, n int64) ([]BlobVariant, error) {
	if boundary == "" {
		return nil, pMalformed.because("the form has no boundary")
	}
	body, err := r.paced(room)
	if err != nil {
		return nil, err
	}
	room.pace(true)
	in := &metered{r: body}
	mr := multipart.NewReader(in, boundary)
	var out []BlobVariant
	seen := map[media.Variant]bool{}
	for {
		in.left = 2 * partHeader
		p, err := mr.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, formFault(err)
		}
		v, ok := media.VariantByName(p.FormName())
		if !ok || seen[v] {
			return nil, pMalformed.because("each part is one of the variants thumbnail, small, medium, large, original, and comes once")
		}
		seen[v] = true
		in.left = n
		data, err := body.readPhoto(p, r.a.opt.Limits.PhotoBytes, n)
		if err != nil {
			return nil, formFault(err)
		}
		if len(data) == 0 {
			return nil, pMalformed.because("the part %s is empty", v)
		}
		out = append(out, BlobVariant{Variant: uint8(v), Data: data})
	}
	if err := r.endForm(in); err != nil {
		return nil, err
	}
	room.pace(false)
	if len(out) == 0 {
		return nil, pMalformed.because("the form has no part")
	}
	return out, nil
}

// storeBlob writes a blob where there is room for it.
func (r *request) storeBlob(class BlobClass, variants []BlobVariant) error {
	b := blobBody{Variants: make(map[string]string, len(variants))}
	for i, v := range variants {
		tag := blobTag(crc32.Checksum(v.Data, castagnoli))
		if b.Variants[media.Variant(v.Variant).String()] = tag; i == 0 {
			b.ETag = tag
		}
		b.Size += int64(len(v.Data))
	}
	for range maxMoves {
		blob, cookie, err := r.a.opt.Store.ReserveBlob(r.ctx, class)
		if err != nil {
			return err
		}
		err = r.a.opt.Store.WriteBlob(r.ctx, blob, cookie, variants)
		if errors.Is(err, ErrMoved) {
			continue
		}
		if err != nil {
			return err
		}
		b.ID, b.Cookie = blob, cookie.String()
		r.rc.Response.Header.Set("Location", r.a.opt.PublicURL+"/api/v1/blobs/"+blob.String()+"-"+b.Cookie)
		return r.json(201, b)
	}
	return &problem{kind: pBusy, detail: "the store kept moving", retryAfter: time.Second}
}

// blobRef reads the parameters id-cookie and, if there is one, the variant. What
// is no such thing names nothing.
func (r *request) blobRef() (blob id.ID, cookie id.Cookie, v media.Variant, err error) {
	idText, cookieText, ok := strings.Cut(r.values[0], "-")
	blob, err1 := id.Parse(idText)
	cookie, err2 := id.ParseCookie(cookieText)
	v = media.Original
	if len(r.values) > 1 && ok {
		v, ok = media.VariantByName(r.values[1])
	}
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, 0, pNotFound.because("")
	}
	return blob, cookie, v, nil
}

// getBlob is GET and HEAD /blobs/{id}-{cookie}[/{variant}]; without a variant it
// is the original.
func (r *request) getBlob() error {
	blob, cookie, v, err := r.blobRef()
	if err != nil {
		return err
	}
	read := func(off, n int64) (BlobPiece, error) {
		return r.a.opt.Store.ReadBlob(r.ctx, blob, cookie, uint8(v), off, n)
	}
	// The first piece of most answers is all of it: one read of the disk.
	off, n := int64(0), int64(pieceBytes)
	if r.rc.IsHead() || len(r.rc.Request.Header.Peek("Range")) > 0 {
		n = 0 // what is wanted depends on the size
	}
	p, err := read(off, n)
	if err != nil {
		return err
	}
	h := &r.rc.Response.Header
	tag := blobTag(p.ETag)
	h.Set("ETag", tag)
	h.Set("Accept-Ranges", "bytes")
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	switch cache.Conditions(&r.rc.Request.Header, tag) {
	case fasthttp.StatusNotModified:
		p.Release()
		r.rc.SetStatusCode(fasthttp.StatusNotModified)
		return nil
	case fasthttp.StatusPreconditionFailed:
		p.Release()
		return pPrecondition.because("")
	}
	first, length, status := cache.Ranges(&r.rc.Request.Header, tag, int(p.Size))
	h.SetContentType(typeBytes)
	if p.ContentType != "" {
		h.SetContentType(p.ContentType)
	}
	h.Set("Content-Disposition", "attachment")
	switch status {
	case fasthttp.StatusRequestedRangeNotSatisfiable:
		p.Release()
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", p.Size))
		return pRange.because("the blob has %d bytes", p.Size)
	case fasthttp.StatusPartialContent:
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, first+length-1, p.Size))
	}
	r.rc.SetStatusCode(status)
	if r.rc.IsHead() {
		p.Release()
		r.rc.Response.SkipBody = true
		h.SetContentLength(length)
		return nil
	}
	return r.sendBlob(p, blob, cookie, v, int64(first), int64(length))
}

// sendBlob answers with length bytes from first on, of which p may have the first
// ones.
func (r *request) sendBlob(p BlobPiece, blob id.ID, cookie id.Cookie, v media.Variant, first, length int64) error {
	size := p.Size
	got := p.Data // of a whole answer; none of a range
	release := sync.OnceFunc(func() {
		got = nil
		p.Release() // its room among the reads of a disk is not for waiting
	})
	b, err := r.pieces(length, release, func(ctx context.Context, off int64, to []byte) error {
		defer release()
		if len(got) >= len(to) {
			copy(to, got)
			return nil
		}
		next, err := r.a.opt.Store.ReadBlob(ctx, blob, cookie, uint8(v), first+off, int64(len(to)))
		if err != nil {
			return err
		}
		defer next.Release()
		if copy(to, next.Data) < len(to) || next.Size != size {
			return errors.New("it is not what it was")
		}
		return nil
	})
	release()
	if err != nil {
		return fmt.Errorf("api: blob %v: %w", blob, err)
	}
	r.rc.Response.SetBodyStream(b, int(length))
	return nil
}

// deleteBlob is DELETE /blobs/{id}-{cookie}: who does not have the cookie cannot
// delete either. One that is gone is gone.
func (r *request) deleteBlob() error {
	blob, cookie, _, err := r.blobRef()
	if err != nil {
		return err
	}
	for v := media.Original; ; v++ {
		p, err := r.a.opt.Store.ReadBlob(r.ctx, blob, cookie, uint8(v), 0, 0)
		if err == nil {
			p.Release()
			break
		}
		if !errors.Is(err, ErrNoBlob) || v == media.Large {
			return err
		}
	}
	if err := r.a.opt.Store.DeleteBlob(r.ctx, blob); err != nil {
		return err
	}
	return r.noContent()
}
