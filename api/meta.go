package api

import (
	_ "embed"
	"fmt"
	"time"

	"hayloft/media"
)

// openAPIDocument describes every call of this package; tests hold the two
// together.
//
//go:embed openapi.yaml
var openAPIDocument []byte

// health is GET /healthz: the process answers.
func (r *request) health() error {
	return r.json(200, map[string]string{"status": "ok"})
}

// ready is GET /readyz: the process can do its work.
func (r *request) ready() error {
	if err := r.a.opt.Ready(); err != nil {
		return &problem{kind: pUnavailable, cause: err, retryAfter: time.Second}
	}
	select {
	case <-r.a.drain:
		return &problem{kind: pUnavailable, detail: "stopping", retryAfter: time.Second}
	default:
		return r.json(200, map[string]string{"status": "ok"})
	}
}

func (r *request) openAPI() error {
	r.rc.Response.Header.SetContentType("application/yaml")
	r.rc.Response.SetBodyRaw(openAPIDocument)
	return nil
}

// problemPage is GET /problems/{name}: what a problem's type means.
func (r *request) problemPage() error {
	k, ok := problemKinds[r.values[0]]
	if !ok {
		return pNotFound.because("")
	}
	r.rc.Response.Header.SetContentType("text/plain; charset=utf-8")
	r.rc.Response.SetBodyString(fmt.Sprintf("%s (%d)\n\n%s\n", k.title, k.status, k.about))
	return nil
}

type instanceBody struct {
	Name      string     `json:"name"`
	Version   string     `json:"version"`
	PublicURL string     `json:"public_url"`
	MediaURL  string     `json:"media_url"`
	Signup    Signup     `json:"signup"`
	Formats   []string   `json:"formats"`
	Variants  []string   `json:"variants"`
	Limits    limitsBody `json:"limits"`
}

type limitsBody struct {
	PhotoBytes     int64 `json:"photo_bytes"`
	PhotoPixels    int64 `json:"photo_pixels"`
	BodyBytes      int64 `json:"body_bytes"`
	TitleChars     int   `json:"title_characters"`
	CaptionChars   int   `json:"caption_characters"`
	CommentChars   int   `json:"comment_characters"`
	NameChars      int   `json:"name_characters"`
	BioChars       int   `json:"bio_characters"`
	HandleChars    int   `json:"handle_characters"`
	Tags           int   `json:"tags"`
	People         int   `json:"people"`
	PasswordChars  int   `json:"password_characters_min"`
	PageItems      int   `json:"page_items"`
	UploadSeconds  int   `json:"upload_expires_in"`
	WaitSeconds    int   `json:"wait_seconds"`
	BytesPerSecond int64 `json:"bytes_per_second_min"`
	SessionSeconds int64 `json:"session_seconds"`
}

// formats are the content types that are accepted.
func (a *API) formats() []string {
	f := []string{media.TypeJPEG, media.TypePNG, media.TypeWebP, media.TypeGIF}
	if a.opt.HEIF {
		f = append(f, media.TypeAVIF, media.TypeHEIC)
	}
	return f
}

// instance is GET /instance.
func (r *request) instance() error {
	o, l := r.a.opt, r.a.opt.Limits
	b := instanceBody{Name: "Hayloft", Version: o.Version, PublicURL: o.PublicURL, MediaURL: o.MediaURL, Signup: o.Signup, Formats: r.a.formats(),
		Limits: limitsBody{PhotoBytes: l.PhotoBytes, PhotoPixels: l.PhotoPixels, BodyBytes: l.BodyBytes, TitleChars: maxTitle, CaptionChars: maxCaption,
			CommentChars: maxComment, NameChars: maxName, BioChars: maxBio, HandleChars: maxHandle, Tags: maxTags, People: maxPeople,
			PasswordChars: minPassword, PageItems: maxLimit, UploadSeconds: int(l.Uploads / time.Second), WaitSeconds: int(maxWait / time.Second),
			BytesPerSecond: l.BytesPerSecond, SessionSeconds: int64(l.Session / time.Second)}}
	for _, v := range media.Made() {
		b.Variants = append(b.Variants, v.String())
	}
	b.Variants = append(b.Variants, media.Original.String())
	return r.json(200, b)
}
