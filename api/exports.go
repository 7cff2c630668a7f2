package api

import (
	"context"
	"encoding/binary"
	"strconv"
	"strings"
	"sync"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// An export is leave to take an account's archive for a week (docs/decisions/232). Nothing
// is kept of it: its name is sealed and says whose it is and since when, and the archive is
// made as it leaves.

// Exports is what the API needs of the feed for that.
type Exports interface {
	Owned(ctx context.Context, owner id.ID, p Page) (rows []feed.PhotoView, next id.ID, err error)
	Said(ctx context.Context, user id.ID, p Page) (rows []feed.Remark, next id.ID, err error)
	Liked(ctx context.Context, user id.ID, p Page) (rows []feed.Liking, next id.ID, err error)
}

func exportRoutes() []route {
	return []route{
		{method: "POST", pattern: v1 + "/exports", access: signedIn, login: true, handle: (*request).postExport},
		{method: "GET", pattern: v1 + "/exports/{id}", access: signedIn, login: true, handle: (*request).getExport},
		{method: "GET", pattern: archiveRoute, access: anyone, handle: (*request).getArchive},
	}
}

const (
	archiveRoute  = v1 + "/exports/{id}/archive"
	exportPurpose = "export"
	exportLife    = 7 * day
	exportLink    = time.Hour // least life of a download URL
	exportRetry   = 10 * time.Second
)

// export is what its name says.
type export struct {
	owner id.ID
	made  time.Time // whole seconds
}

// name is key version u32 ‖ code and sealed text, in unpadded URL-safe base64.
func (e export) name(ring *sign.Ring) string {
	version, sealed := ring.Seal(exportPurpose, e.owner.String()+" "+strconv.FormatInt(e.made.Unix(), 10))
	return b64url.EncodeToString(append(binary.BigEndian.AppendUint32(nil, version), sealed...))
}

// openExport is the inverse; false: there is no such export, or it is over.
func (r *request) openExport() (e export, ok bool) {
	name := r.values[0]
	b, err := b64url.DecodeString(name)
	if err != nil || len(b) < 4 || b64url.EncodeToString(b) != name {
		return e, false
	}
	text, ok := r.a.opt.Ring.Open(exportPurpose, binary.BigEndian.Uint32(b), b[4:])
	owner, made, _ := strings.Cut(text, " ")
	seconds, err := strconv.ParseInt(made, 10, 64)
	if !ok || err != nil {
		return e, false
	}
	e.made = time.Unix(seconds, 0)
	e.owner, err = id.Parse(owner)
	return e, err == nil && r.a.opt.Clock.Now().Before(e.made.Add(exportLife))
}

type exportBody struct {
	ID          string    `json:"id"`
	Status      string    `json:"status"`
	DownloadURL string    `json:"download_url"`
	CreatedAt   time.Time `json:"created_at"`
	ExpiresAt   time.Time `json:"expires_at"`
}

func (r *request) exportBody(e export, name string) exportBody {
	path := archivePath(name)
	link := sign.MediaQuery(r.a.opt.Ring, path, 0, r.a.opt.Clock.Now(), exportLink)
	return exportBody{ID: name, Status: "ready", DownloadURL: r.a.opt.PublicURL + path + "?" + link, CreatedAt: utc(e.made), ExpiresAt: utc(e.made.Add(exportLife))}
}

func archivePath(name string) string { return v1 + "/exports/" + name + "/archive" }

// postExport is POST /exports.
func (r *request) postExport() error {
	e := export{owner: r.viewer, made: r.a.opt.Clock.Now().Truncate(time.Second)}
	name := e.name(r.a.opt.Ring)
	r.audit(EventExport, r.viewer)
	r.rc.Response.Header.Set("Location", v1+"/exports/"+name)
	return r.json(202, r.exportBody(e, name))
}

// getExport is GET /exports/{id}, with a fresh link.
func (r *request) getExport() error {
	e, ok := r.openExport()
	if !ok || e.owner != r.viewer {
		return pNotFound.because("")
	}
	return r.json(200, r.exportBody(e, r.values[0]))
}

// getArchive is GET /exports/{id}/archive, the link: whoever has it is served.
func (r *request) getArchive() error {
	e, ok := r.openExport()
	if !ok {
		return pNotFound.because("")
	}
	now := r.a.opt.Clock.Now()
	if _, err := sign.CheckMedia(r.a.opt.Ring, archivePath(r.values[0]), string(r.rc.URI().QueryString()), now); err != nil {
		return pNotFound.because("the link is not whole, or is over: GET /api/v1/exports/{id} has a fresh one")
	}
	me, err := r.a.opt.Feed.UserByID(r.ctx, e.owner, e.owner)
	if err != nil {
		return err
	}
	if r.rc.IsHead() {
		r.archiveHeader(me, now)
		return nil
	}
	if !r.rc.Request.Header.IsHTTP11() {
		return pMalformed.because("an archive takes HTTP/1.1: its length is not known before")
	}
	if !r.a.exports.enter(e.owner) {
		return &problem{kind: pBusy, detail: "this account's archive is on its way already, or as many as may be of others' are", retryAfter: exportRetry}
	}
	desk := &r.a.exports // the request is gone when the archive has left
	leave := sync.OnceFunc(func() { desk.leave(e.owner) })
	body, err := r.stream(e.owner, archiveMemory, func() {}, newArchive(r.a, me, now).next)
	if err != nil {
		leave()
		return err
	}
	body.ended = leave
	r.audit(EventArchive, e.owner)
	r.archiveHeader(me, now)
	r.rc.Response.SetBodyStream(body, -1)
	return nil
}

func (r *request) archiveHeader(me feed.UserView, now time.Time) {
	h := &r.rc.Response.Header
	h.SetContentType("application/zip")
	h.Set("Content-Disposition", `attachment; filename="`+me.Handle+"-"+now.UTC().Format(time.DateOnly)+`.zip"`)
	h.Set("Cache-Control", "no-store")
}

// exportDesk counts the archives that are on their way: one of an account, and so many.
type exportDesk struct {
	max  int
	mu   sync.Mutex // guards open
	open map[id.ID]bool
}

func (d *exportDesk) enter(owner id.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open[owner] || len(d.open) >= d.max {
		return false
	}
	if d.open == nil {
		d.open = make(map[id.ID]bool)
	}
	d.open[owner] = true
	return true
}

func (d *exportDesk) leave(owner id.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, owner)
}
