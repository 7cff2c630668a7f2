package api

import (
	"context"
	"errors"
	"io"
	"mime/multipart"

	"hayloft/feed"
	"hayloft/internal/id"
)

const (
	formSlack  = 256 * kib // of a form beside its photo: fields, headers, boundaries
	maxParts   = 80
	maxField   = 16 * kib // one field
	partHeader = 8 * kib  // headers and boundary of one part
)

type formBody struct {
	PhotoID id.ID     `json:"photo_id"`
	CDNURL  string    `json:"cdn_url"`
	Photo   photoBody `json:"photo"`
}

// postForm is POST /photos with multipart/form-data: the bytes in the part
// photo, and the members of the JSON call as fields before or after it (tags
// and people may be repeated, location is a JSON object).
func (r *request) postForm(boundary string) error {
	wait, err := r.preferWait()
	if err != nil {
		return err
	}
	n := int64(r.rc.Request.Header.ContentLength())
	switch {
	case n < 0:
		return pLength.because("")
	case n > r.a.opt.Limits.PhotoBytes+formSlack:
		return pFileTooLarge.because("the form is over %d bytes", r.a.opt.Limits.PhotoBytes+formSlack)
	case n == 0 || boundary == "":
		return pMalformed.because("no form, or no boundary")
	}
	photo, err := r.takeForm(boundary, n)
	if err != nil {
		return err
	}
	v, err := r.a.opt.Feed.Photo(r.ctx, r.viewer, photo)
	if err != nil {
		return err
	}
	v = r.waitReady(v, wait)
	r.rc.Response.Header.Set("Location", r.photoURL(photo))
	return r.json(201, formBody{photo, r.photoURL(photo) + "/large", r.photo(v)})
}

// takeForm reads and stores a form of n bytes. When it returns the bytes and
// their room in the spool are given back: waiting for variants needs neither.
func (r *request) takeForm(boundary string, n int64) (id.ID, error) {
	room, err := r.a.spool.begin(r.viewer, n, r.cutRead())
	if err != nil {
		return 0, err
	}
	defer room.close()
	data, f, err := r.readForm(room, boundary, n)
	if err != nil {
		return 0, err
	}
	r.extend()
	if err := r.stillIn(); err != nil {
		return 0, err
	}
	d, err := r.details(f)
	if err != nil {
		return 0, err
	}
	img, err := r.a.inspect(data, "")
	if err != nil {
		return 0, err
	}
	return r.storeForm(img, d)
}

// stillIn refuses a call whose token has ended while its body arrived, which may take
// minutes.
func (r *request) stillIn() error {
	err := r.alive(r.ctx)
	if errors.Is(err, feed.ErrNotFound) {
		return pUnauthorized.because("the token is not valid")
	}
	return err
}

// storeForm makes a pending photo of an image, or finds the one that an earlier
// call with the same Idempotency-Key made.
func (r *request) storeForm(img photoFile, d feed.Details) (id.ID, error) {
	key, err := r.idempotent(digestName(img.digest), detailsPrint(d))
	if err != nil {
		return 0, err
	}
	if key != nil { // asked first to spare the bytes; the command decides
		earlier, found, err := r.a.opt.Feed.Repeated(r.ctx, key.Idempotency)
		if found || err != nil {
			return earlier, err
		}
	}
	photo, err := r.a.opt.Feed.BeginUpload(r.ctx, r.viewer, feed.UploadSpec{Size: int64(len(img.data)), ContentType: img.info.ContentType,
		Digest: &img.digest, ExpiresAt: r.uploadEnds()})
	if err != nil {
		return 0, err
	}
	if err := r.a.ingest(r.ctx, photo, r.viewer, img, &d, key); err != nil {
		return 0, err
	}
	if key != nil && key.earlier != 0 {
		return key.earlier, nil
	}
	return photo, nil
}

// metered is a reader with an allowance that its user raises as it goes on;
// beyond it reading fails. It bounds what the parser of part headers, which has
// no bound of its own to set, can take in.
type metered struct {
	r    io.Reader
	left int64
}

var errAllowance = errors.New("api: form over its allowance")

func (m *metered) Read(b []byte) (int, error) {
	if m.left <= 0 {
		return 0, errAllowance
	}
	n, err := m.r.Read(b[:min(int64(len(b)), m.left)])
	m.left -= int64(n)
	return n, err
}

// readForm takes a form of n bytes apart.
func (r *request) readForm(room *booking, boundary string, n int64) ([]byte, *fields, error) {
	body, err := r.paced(room)
	if err != nil {
		return nil, nil, err
	}
	if err := room.grow(r.ctx, min(n, formSlack)); err != nil { // fields and photo's frame
		return nil, nil, err
	}
	room.pace(true)
	in := &metered{r: body}
	mr := multipart.NewReader(in, boundary)
	f := &fields{members: make(map[string]any)}
	var photo []byte
	left := formSlack
	for parts := 0; ; parts++ {
		if parts > maxParts {
			return nil, nil, pMalformed.because("the form has more than %d parts", maxParts)
		}
		in.left = 2 * partHeader
		p, err := mr.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, formFault(err)
		}
		if p.FormName() == "photo" {
			if photo != nil {
				return nil, nil, pMalformed.because("the form has more than one part named photo")
			}
			in.left = n
			photo, err = body.readPhoto(p, r.a.opt.Limits.PhotoBytes, n)
		} else {
			in.left = maxField + partHeader
			var b []byte
			if b, err = readField(p); err == nil {
				if left -= len(b); left < 0 {
					return nil, nil, pMalformed.because("the fields of the form are over %d bytes", formSlack)
				}
				err = f.add(p.FormName(), b)
			}
		}
		if err != nil {
			return nil, nil, formFault(err)
		}
	}
	if err := r.endForm(in); err != nil {
		return nil, nil, err
	}
	room.pace(false)
	if photo == nil {
		return nil, nil, pMalformed.because("the form has no part named photo")
	}
	return photo, f, nil
}

// endForm reads the little that may follow the last boundary, so that the
// connection can be used again.
func (r *request) endForm(in *metered) error {
	in.left = partHeader
	_, err := io.Copy(io.Discard, in)
	switch {
	case errors.Is(err, errAllowance):
		return pMalformed.because("bytes after the end of the form")
	case err != nil:
		return incomplete(err)
	case in.r.(*pacedReader).done != int64(r.rc.Request.Header.ContentLength()):
		return pIncomplete.because("")
	}
	r.bodyDone = true
	return nil
}

// readPhoto reads the part photo, of at most limit bytes, from a form of n.
func (p *pacedReader) readPhoto(part *multipart.Part, limit, n int64) ([]byte, error) {
	most := min(limit, n) + 1 // so that one byte too many, or the end, is seen
	var buf []byte
	for {
		if len(buf) == cap(buf) {
			var err error
			if buf, err = p.widen(buf, most); err != nil {
				return nil, err
			}
		}
		m, err := part.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+m]
		switch {
		case int64(len(buf)) > limit:
			return nil, pFileTooLarge.because("the photo is over %d bytes", limit)
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return nil, err
		}
	}
}

// readField reads any other part.
func readField(part *multipart.Part) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(part, maxField+1))
	if len(b) > maxField {
		return nil, pMalformed.because("a field is over %d bytes", maxField)
	}
	return b, err
}

// formFault is what a failure to read a form is shown as.
func formFault(err error) error {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, errAllowance):
		return pMalformed.because("a part of the form is over its limit")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isTimeout(err):
		return &problem{kind: pIncomplete, cause: err}
	}
	return &problem{kind: pMalformed, detail: "the form cannot be read", cause: err}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// add takes a field of a form as the member of the same name.
func (f *fields) add(name string, value []byte) error {
	text := string(value)
	switch name {
	case "tags", "people":
		list, _ := f.members[name].([]any)
		f.members[name] = append(list, text)
		return nil
	case "location":
		if text == "" {
			return nil
		}
		m, err := decodeObject(value)
		if err != nil {
			return pMalformed.because("%s", "in location: "+err.Error())
		}
		f.members[name] = m
		return nil
	}
	if f.has(name) {
		return pMalformed.because("a field is given twice")
	}
	f.members[name] = text
	return nil
}
