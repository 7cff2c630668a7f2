package api

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/internal/sign"
)

const uploadPurpose = "upload"

// grant is what an upload URL allows: one PUT of so many bytes of one type to
// one photo of one owner, until it expires. In the query: o owner, n size, t
// type, d digest (hex, when announced), e expiry (Unix seconds), v key version,
// s code. The code covers all of them with the method and the path.
type grant struct {
	photo, owner id.ID
	size         int64
	contentType  string
	digest       string
	expires      int64
}

func (g grant) path() string { return "/api/v1/uploads/" + g.photo.String() }

func (g grant) parts() []string {
	return []string{"PUT", g.path(), g.photo.String(), g.owner.String(), strconv.FormatInt(g.size, 10), g.contentType, g.digest, strconv.FormatInt(g.expires, 10)}
}

// query signs the grant.
func (g grant) query(ring *sign.Ring) string {
	version, mac := ring.Sign(uploadPurpose, g.parts()...)
	q := "o=" + g.owner.String() + "&n=" + strconv.FormatInt(g.size, 10) + "&t=" + url.QueryEscape(g.contentType)
	if g.digest != "" {
		q += "&d=" + g.digest
	}
	return q + "&e=" + strconv.FormatInt(g.expires, 10) + "&v=" + strconv.FormatUint(uint64(version), 10) + "&s=" + b64url.EncodeToString(mac)
}

// openGrant is the inverse: it takes exactly the parameters that query writes,
// each once, and only with the right code.
func (r *request) openGrant() (grant, error) {
	bad := pBadSignature.because("")
	photo, err := r.pathID(0)
	if err != nil {
		return grant{}, err
	}
	q := make(map[string]string)
	for k, v := range r.rc.QueryArgs().All() {
		name := string(k)
		if _, twice := q[name]; twice || !slices.Contains([]string{"o", "n", "t", "d", "e", "v", "s"}, name) {
			return grant{}, bad
		}
		q[name] = string(v)
	}
	g := grant{photo: photo, contentType: q["t"], digest: q["d"]}
	version, err1 := strconv.ParseUint(q["v"], 10, 32)
	mac, err2 := b64url.DecodeString(q["s"])
	owner, err3 := id.Parse(q["o"])
	size, err4 := strconv.ParseInt(q["n"], 10, 64)
	expires, err5 := strconv.ParseInt(q["e"], 10, 64)
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			return grant{}, bad
		}
	}
	if _, given := q["d"]; given && g.digest == "" {
		return grant{}, bad
	}
	g.owner, g.size, g.expires = owner, size, expires
	if !r.a.opt.Ring.Verify(uploadPurpose, uint32(version), mac, g.parts()...) {
		return grant{}, bad
	}
	if r.a.opt.Clock.Now().Unix() >= g.expires {
		return grant{}, pUploadExpired.because("")
	}
	return g, nil
}

type uploadURLBody struct {
	UploadURL string `json:"upload_url"`
	PhotoID   id.ID  `json:"photo_id"`
	ExpiresIn int64  `json:"upload_expires_in"` // seconds
}

// uploadURL is POST /photos/upload-url {file_size, content_type, digest?}.
func (r *request) uploadURL() error {
	f, err := r.jsonBody()
	if err != nil {
		return err
	}
	size, contentType, digestText := f.integer("file_size"), f.raw("content_type"), f.raw("digest")
	if contentType == nil {
		f.wrong("content_type", "there")
	}
	var digest *[32]byte
	if digestText != nil && *digestText != "" {
		d, ok := parseDigest(*digestText)
		if !ok {
			f.fault("digest", "is not sha256: and 64 lower-case hexadecimal digits")
		}
		digest = &d
	}
	if f.malformed == nil && size < 1 {
		f.fault("file_size", "is not positive")
	}
	if err := f.done(); err != nil {
		return err
	}
	if size > r.a.opt.Limits.PhotoBytes {
		return pFileTooLarge.because("file_size is over %d bytes", r.a.opt.Limits.PhotoBytes)
	}
	if !slices.Contains(r.a.formats(), *contentType) {
		return pMediaType.because("content_type is none of %s", strings.Join(r.a.formats(), ", "))
	}
	g := grant{owner: r.viewer, size: size, contentType: *contentType}
	if digest != nil {
		g.digest = hex.EncodeToString(digest[:])
	}
	key, err := r.idempotent(strconv.FormatInt(size, 10), *contentType, g.digest)
	if err != nil {
		return err
	}
	spec := feed.UploadSpec{Size: size, ContentType: *contentType, Digest: digest, ExpiresAt: r.uploadEnds()}
	photo, err := r.a.opt.Feed.BeginUpload(key.tie(r.ctx), r.viewer, spec)
	if err != nil {
		return err
	}
	up, err := r.reserved(photo, key)
	if err != nil {
		return err
	}
	g.photo, g.expires = photo, up.Spec.ExpiresAt.Unix()
	left := up.Spec.ExpiresAt.Sub(r.a.opt.Clock.Now()).Round(time.Second)
	return r.json(201, uploadURLBody{r.a.opt.PublicURL + g.path() + "?" + g.query(r.a.opt.Ring), photo, int64(max(left, 0) / time.Second)})
}

// uploadEnds is when an upload that begins now ends, by this node's clock.
func (r *request) uploadEnds() time.Time {
	return r.a.opt.Clock.Now().Add(r.a.opt.Limits.Uploads).Truncate(time.Second)
}

// reserved returns the upload that a URL can still be given out for. A repeat
// with the same Idempotency-Key gets the first call's photo and what is left of
// its time; when the bytes are stored or the time is over there is no URL that
// would work, and the answer says so.
func (r *request) reserved(photo id.ID, key *repeatable) (feed.Upload, error) {
	up, err := r.a.opt.Feed.Upload(r.ctx, photo)
	repeat := key != nil && key.earlier != 0
	gone := errors.Is(err, feed.ErrNotFound)
	switch {
	case err != nil && !(repeat && gone):
		return up, err
	case err == nil && up.Status != feed.Reserved:
		return up, pUploadStored.because("photo_id is %s", photo)
	case gone || !r.a.opt.Clock.Now().Before(up.Spec.ExpiresAt):
		return up, pUploadExpired.because("a new one needs another Idempotency-Key")
	}
	return up, nil
}

// Digests are written sha256:<hex>; a Content-Digest field (RFC 9530) writes
// the same bytes as sha-256=:<base64>:.
func digestName(d [32]byte) string { return "sha256:" + hex.EncodeToString(d[:]) }

func parseDigest(s string) (d [32]byte, ok bool) {
	var b []byte
	var err error
	if h, isHex := strings.CutPrefix(s, "sha256:"); isHex && h == strings.ToLower(h) {
		b, err = hex.DecodeString(h)
	} else if inner, isField := strings.CutPrefix(s, "sha-256=:"); isField && strings.HasSuffix(inner, ":") {
		b, err = base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(inner, ":"))
	}
	if err != nil || len(b) != len(d) {
		return d, false
	}
	return [32]byte(b), true
}

// headerDigest reads the digest that the request itself announces, if any.
func (r *request) headerDigest() (*[32]byte, error) {
	for _, name := range []string{"Content-Digest", "Repr-Digest"} {
		text, err := r.header(name)
		if err != nil || text == "" {
			if err != nil {
				return nil, err
			}
			continue
		}
		for member := range strings.SplitSeq(text, ",") {
			if d, ok := parseDigest(strings.TrimSpace(member)); ok {
				return &d, nil
			}
		}
		if strings.Contains(text, "sha-256=") {
			return nil, pMalformed.because("%s cannot be read", name)
		}
	}
	return nil, nil
}

type storedBody struct {
	PhotoID id.ID  `json:"photo_id"`
	Size    int64  `json:"size"`
	Digest  string `json:"digest"`
}

// putUpload is PUT <upload_url>. Everything that can be refused is refused
// before a byte is appended anywhere, and only what is stored uses the URL up.
func (r *request) putUpload() error {
	g, err := r.openGrant()
	if err != nil {
		return err
	}
	if err := r.a.limits.account.take(r, g.owner.String()); err != nil {
		return err
	}
	up, err := r.unstored(r.ctx, g)
	if err != nil {
		return err
	}
	announced, err := r.headerDigest()
	if err != nil {
		return err
	}
	n := int64(r.rc.Request.Header.ContentLength())
	if n < 0 {
		return pLength.because("")
	}
	if n != g.size {
		return pLengthOther.because("Content-Length is %d, the upload URL was asked for %d bytes", n, g.size)
	}
	room, err := r.a.spool.begin(g.owner, n, r.cutRead())
	if err != nil {
		return err
	}
	defer room.close()
	data, err := r.readUpload(room, n)
	if err != nil {
		return err
	}
	r.extend()
	img, err := r.a.inspect(data, g.contentType, up.Spec.Digest, announced)
	if err != nil {
		return err
	}
	unlock, err := r.a.ingests.lock(r.ctx, g.photo)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := r.unstored(r.ctx, g); err != nil { // another PUT may have been faster
		return err
	}
	if err := r.a.ingest(r.ctx, g.photo, g.owner, img, nil, nil); err != nil {
		return err
	}
	return r.json(201, storedBody{g.photo, g.size, digestName(img.digest)})
}

// unstored returns the upload if its URL is still to be used.
func (r *request) unstored(ctx context.Context, g grant) (feed.Upload, error) {
	up, err := r.a.opt.Feed.Upload(ctx, g.photo)
	switch {
	case err != nil:
		return up, err
	case up.Owner != g.owner:
		return up, pBadSignature.because("")
	case up.Status != feed.Reserved:
		return up, pUploadStored.because("")
	}
	return up, nil
}

// readUpload reads a body of n bytes.
func (r *request) readUpload(room *booking, n int64) ([]byte, error) {
	body, err := r.paced(room)
	if err != nil {
		return nil, err
	}
	var buf []byte
	for int64(len(buf)) < n {
		if len(buf) == cap(buf) {
			if buf, err = body.widen(buf, n); err != nil {
				return nil, err
			}
		}
		m, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+m]
		if err != nil && int64(len(buf)) < n {
			return nil, incomplete(err)
		}
	}
	room.pace(false)
	r.bodyDone = true
	return buf, nil
}

// incomplete is what a body that could not be read to its end is shown as.
func incomplete(err error) error {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	return &problem{kind: pIncomplete, cause: err}
}

// pacedReader reads a request's body and moves the connection's deadline along
// as bytes come, so that a slow sender cannot hold its room for nothing.
type pacedReader struct {
	r      *request
	room   *booking
	stream interface{ Read([]byte) (int, error) }
	start  time.Time // by the machine's clock, like all deadlines of connections
	done   int64
}

// paced returns the reader of the request's body, whose bytes go to room.
func (r *request) paced(room *booking) (*pacedReader, error) {
	stream := r.rc.RequestBodyStream()
	if stream == nil {
		return nil, pIncomplete.because("")
	}
	return &pacedReader{r: r, room: room, stream: stream, start: time.Now()}, nil
}

// cutRead returns what wakes a read of the body that waits for its peer.
func (r *request) cutRead() func() {
	nc := r.rc.Conn()
	return func() { _ = nc.SetReadDeadline(longAgo) } // a connection that is gone wakes by itself
}

// widen returns buf with more capacity, at most limit, once there is room for
// it. The time that this takes does not count against the peer.
func (p *pacedReader) widen(buf []byte, limit int64) ([]byte, error) {
	began := time.Now()
	next := min(max(2*int64(cap(buf)), spoolStep), limit)
	// The call's own time does not count while a body comes: an upload may take
	// longer.
	if err := p.room.grow(p.r.a.base, next-int64(cap(buf))); err != nil {
		return nil, err
	}
	p.room.pace(true)
	p.start = p.start.Add(time.Since(began))
	return append(make([]byte, 0, next), buf...), nil
}

func (p *pacedReader) Read(b []byte) (int, error) {
	if c, ok := p.r.rc.Conn().(*conn); ok {
		if err := c.allowRead(p.start, p.done); err != nil {
			return 0, err
		}
	}
	if p.room.ended.Load() {
		return 0, errCrowded("the room was needed for faster transfers")
	}
	n, err := p.stream.Read(b[:min(len(b), readChunk)])
	p.done += int64(n)
	p.room.done.Add(int64(n))
	p.r.bodyRead += int64(n)
	if err != nil && p.room.ended.Load() {
		err = errCrowded("the room was needed for faster transfers")
	}
	return n, err
}
