package api

import (
	"context"
	"mime"
	"strconv"
	"strings"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/media"
)

// postPhoto is POST /photos: JSON finalizes an upload, a form brings the bytes
// along.
func (r *request) postPhoto() error {
	t, params, err := mime.ParseMediaType(string(r.rc.Request.Header.ContentType()))
	if err == nil && t == "multipart/form-data" {
		return r.postForm(params["boundary"])
	}
	return r.finalize()
}

// finalize is POST /photos with JSON.
func (r *request) finalize() error {
	wait, err := r.preferWait()
	if err != nil {
		return err
	}
	f, err := r.jsonBody()
	if err != nil {
		return err
	}
	photo := f.ident("photo_id")
	if photo == 0 && f.malformed == nil {
		f.malformed = pMalformed.because("/photo_id is needed")
	}
	d, err := r.details(f)
	if err != nil {
		return err
	}
	key, err := r.idempotent(photo.String(), detailsPrint(d))
	if err != nil {
		return err
	}
	v, err := r.a.opt.Feed.Finalize(key.tie(r.ctx), r.viewer, photo, d)
	if err != nil {
		return err
	}
	v = r.waitReady(v, wait)
	r.rc.Response.Header.Set("Location", r.photoURL(photo))
	return r.json(202, r.photo(v))
}

const maxWait = 10 * time.Second

// preferWait reads Prefer: wait=N (RFC 7240), at most maxWait. Other
// preferences are nobody's concern here.
func (r *request) preferWait() (time.Duration, error) {
	for _, line := range r.rc.Request.Header.PeekAll("Prefer") {
		for pref := range strings.SplitSeq(string(line), ",") {
			pref, _, _ = strings.Cut(pref, ";")
			name, value, _ := strings.Cut(strings.TrimSpace(pref), "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
			if err != nil {
				return 0, pMalformed.because("Prefer: wait is not a number of seconds")
			}
			return min(time.Duration(n)*time.Second, maxWait), nil
		}
	}
	return 0, nil
}

// waitReady holds the answer until the photo is no longer pending, the wait is
// over or the server stops. Whatever happens then, the photo as it was is an
// answer.
func (r *request) waitReady(v feed.PhotoView, wait time.Duration) feed.PhotoView {
	if wait == 0 {
		return v
	}
	r.rc.Response.Header.Set("Preference-Applied", "wait="+itoa(int(wait/time.Second)))
	if v.Status != feed.Pending {
		return v
	}
	ctx, cancel := context.WithTimeout(r.ctx, wait)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-r.a.drain:
			cancel()
		case <-stop:
		}
	}()
	if ready, err := r.a.opt.Feed.WaitReady(ctx, r.viewer, v.ID); err == nil {
		return ready
	}
	return v
}

// getPhoto is GET /photos/{id}.
func (r *request) getPhoto() error {
	photo, err := r.pathID(0)
	if err != nil {
		return err
	}
	wait, err := r.preferWait()
	if err != nil {
		return err
	}
	v, err := r.a.opt.Feed.Photo(r.ctx, r.viewer, photo)
	if err != nil {
		return err
	}
	v = r.waitReady(v, wait)
	r.rc.Response.Header.Set("Vary", "Accept")
	if v.Status != feed.Ready || r.acceptsJSON() {
		return r.json(200, r.photo(v))
	}
	return r.redirect(r.mediaURL(&v, media.Large.String()))
}

// acceptsJSON reports whether Accept names application/json; a wildcard does
// not.
func (r *request) acceptsJSON() bool {
	for _, line := range r.rc.Request.Header.PeekAll("Accept") {
		for t := range strings.SplitSeq(string(line), ",") {
			t, params, _ := strings.Cut(t, ";")
			if !strings.EqualFold(strings.TrimSpace(t), typeJSON) {
				continue
			}
			q := strings.ReplaceAll(strings.ToLower(params), " ", "")
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}

// getVariant is GET /photos/{id}/{variant}.
func (r *request) getVariant() error {
	variant, ok := media.VariantByName(r.values[1])
	if !ok {
		return pNoEndpoint.because("")
	}
	photo, err := r.pathID(0)
	if err != nil {
		return err
	}
	v, err := r.a.opt.Feed.Photo(r.ctx, r.viewer, photo)
	if err != nil {
		return err
	}
	switch v.Status {
	case feed.Ready:
		return r.redirect(r.mediaURL(&v, variant.String()))
	case feed.Failed:
		return pPhotoFailed.because("")
	}
	return &problem{kind: pNotReady, retryAfter: time.Second}
}

// cutWrite returns what ends an answer that waits for its peer, and the
// connection with it.
func (r *request) cutWrite() func() {
	nc := r.rc.Conn()
	return func() { _ = nc.SetWriteDeadline(longAgo) } // as in cutRead
}

// patchPhoto is PATCH /photos/{id}.
func (r *request) patchPhoto() error {
	photo, err := r.pathID(0)
	if err != nil {
		return err
	}
	f, err := r.jsonBody()
	if err != nil {
		return err
	}
	d, err := r.details(f)
	if err != nil {
		return err
	}
	var c feed.PhotoChange
	for _, t := range []struct {
		name  string
		value *string
		to    **string
	}{{"title", &d.Title, &c.Title}, {"caption", &d.Caption, &c.Caption}, {"alt", &d.Alt, &c.Alt}} {
		if f.has(t.name) {
			*t.to = t.value
		}
	}
	if f.has("tags") {
		c.Tags = &d.Tags
	}
	if f.has("people") {
		c.People = &d.People
	}
	if f.has("location") {
		c.Location = &d.Location
	}
	if f.has("visibility") {
		c.Visibility = &d.Visibility
	}
	v, err := r.a.opt.Feed.UpdatePhoto(r.ctx, r.viewer, photo, c)
	if err != nil {
		return err
	}
	return r.json(200, r.photo(v))
}

// deletePhoto is DELETE /photos/{id}, with ?purge=now without grace.
func (r *request) deletePhoto() error {
	photo, err := r.pathID(0)
	if err != nil {
		return err
	}
	q, err := r.query("purge")
	if err != nil {
		return err
	}
	purge, given := q["purge"]
	if given && purge != "now" {
		return pMalformed.because("purge can only be now")
	}
	if err := r.a.opt.Feed.DeletePhoto(r.ctx, r.viewer, photo, given); err != nil {
		return err
	}
	return r.noContent()
}

// restorePhoto is POST /photos/{id}/restore.
func (r *request) restorePhoto() error {
	photo, err := r.pathID(0)
	if err != nil {
		return err
	}
	v, err := r.a.opt.Feed.RestorePhoto(r.ctx, r.viewer, photo)
	if err != nil {
		return err
	}
	return r.json(200, r.photo(v))
}

// deletedPhotos is GET /photos/deleted.
func (r *request) deletedPhotos() error {
	return r.sendPhotos(listing{name: "deleted"}, func(p Page) ([]feed.PhotoView, id.ID, error) {
		return r.a.opt.Feed.DeletedPhotos(r.ctx, r.viewer, p)
	})
}

// feedPage is GET /feed.
func (r *request) feedPage() error {
	return r.sendPhotos(listing{name: "feed"}, func(p Page) ([]feed.PhotoView, id.ID, error) {
		return r.a.opt.Feed.FeedPage(r.ctx, r.viewer, p)
	})
}
