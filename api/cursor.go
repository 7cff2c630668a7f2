package api

import (
	"encoding/binary"
	"strconv"
	"sync"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// A cursor is key version u32 ‖ position u64 ‖ code, big-endian, in unpadded
// URL-safe base64. The code covers the list, its subject, the viewer and the
// position: a cursor is good for nothing else.
const cursorPurpose = "cursor"

const (
	defaultLimit = 20
	maxLimit     = 100
)

// listing names a list that cursors walk.
type listing struct {
	name    string
	subject id.ID // whose list; 0 for the viewer's own
	viewer  id.ID
}

func (l listing) parts(after id.ID) []string {
	return []string{l.name, strconv.FormatUint(uint64(l.subject), 10), strconv.FormatUint(uint64(l.viewer), 10), strconv.FormatUint(uint64(after), 10)}
}

// cursor returns the text that goes on after a row.
func (l listing) cursor(ring *sign.Ring, after id.ID) string {
	version, mac := ring.Sign(cursorPurpose, l.parts(after)...)
	b := binary.BigEndian.AppendUint32(nil, version)
	b = binary.BigEndian.AppendUint64(b, uint64(after))
	return b64url.EncodeToString(append(b, mac...))
}

// open is the inverse of cursor.
func (l listing) open(ring *sign.Ring, text string) (id.ID, bool) {
	if len(text) != b64url.EncodedLen(12+sign.MACSize) {
		return 0, false
	}
	b, err := b64url.DecodeString(text)
	if err != nil || len(b) != 12+sign.MACSize { // the decoder skips line ends
		return 0, false
	}
	after := id.ID(binary.BigEndian.Uint64(b[4:]))
	return after, ring.Verify(cursorPurpose, binary.BigEndian.Uint32(b), b[12:], l.parts(after)...)
}

// textCursor is cursor for a list whose rows have no ids: key version u32 ‖ code and
// sealed text, in unpadded URL-safe base64. The code covers the same, and the text. It is sealed
// since a page may end at a row that the viewer may not see.
func (l listing) textCursor(ring *sign.Ring, after string) string {
	version, sealed := ring.Seal(cursorPurpose, after, l.textParts()...)
	return b64url.EncodeToString(append(binary.BigEndian.AppendUint32(nil, version), sealed...))
}

func (l listing) textParts() []string { return append(l.parts(0), "text") }

// openText is the inverse of textCursor.
func (l listing) openText(ring *sign.Ring, text string) (string, bool) {
	b, err := b64url.DecodeString(text)
	if err != nil || len(b) < 4 || b64url.EncodeToString(b) != text {
		return "", false
	}
	return ring.Open(cursorPurpose, binary.BigEndian.Uint32(b), b[4:], l.textParts()...)
}

// readPage reads limit and cursor of a list call.
func (r *request) readPage(l listing) (Page, error) {
	q, err := r.query("limit", "cursor")
	if err != nil {
		return Page{}, err
	}
	return r.pageOf(l, q)
}

// limitOf reads limit.
func limitOf(args map[string]string) (int, error) {
	text, ok := args["limit"]
	if !ok {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, pMalformed.because("limit is not a number from 1 to %d", maxLimit)
	}
	return min(n, maxLimit), nil
}

// pageOf is readPage for parameters that were read.
func (r *request) pageOf(l listing, args map[string]string) (p Page, err error) {
	if p.Limit, err = limitOf(args); err != nil {
		return p, err
	}
	if text, ok := args["cursor"]; ok {
		after, ok := l.open(r.a.opt.Ring, text)
		if !ok {
			return Page{}, pBadCursor.because("")
		}
		p.After = after
	}
	return p, nil
}

// pageBody is the JSON of a page.
type pageBody[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// sendPage answers a list call: rows fetches, show renders one row.
func sendPage[R, T any](r *request, l listing, rows func(Page) ([]R, id.ID, error), show func(R) T) error {
	got, next, err := fetchPage(r, l, rows)
	if err != nil {
		return err
	}
	body := pageBody[T]{Items: make([]T, 0, len(got)), NextCursor: next}
	for _, row := range got {
		body.Items = append(body.Items, show(row))
	}
	return r.json(200, body)
}

// fetchPage fetches the rows that a list call asks for, and the cursor of those after
// them; empty: there are none.
func fetchPage[R any](r *request, l listing, rows func(Page) ([]R, id.ID, error)) (got []R, cursor string, err error) {
	l.viewer = r.viewer
	p, err := r.readPage(l)
	if err != nil {
		return nil, "", err
	}
	got, next, err := rows(p)
	if err != nil || next == 0 {
		return got, "", err
	}
	return got, l.cursor(r.a.opt.Ring, next), nil
}

// sendPhotos is sendPage for photos, which most pages are made of: a pageBody, written
// without one.
func (r *request) sendPhotos(l listing, rows func(Page) ([]feed.PhotoView, id.ID, error)) error {
	got, next, err := fetchPage(r, l, rows)
	if err != nil {
		return err
	}
	o := objects.Get().(*object)
	defer objects.Put(o)
	o.b = o.b[:0]
	o.open('{')
	o.name("items").open('[')
	for i := range got {
		photoBody{r, &got[i]}.write(o.item())
	}
	o.close(']')
	if next != "" {
		o.text("next_cursor", next)
	}
	o.close('}')
	r.rc.SetStatusCode(200)
	r.rc.Response.Header.SetContentType(typeJSON)
	r.rc.Response.SetBody(o.b) // a copy
	return nil
}

// objects are those that pages were written into. Pages are bounded (maxLimit), and so
// is what is kept.
var objects = sync.Pool{New: func() any { return new(object) }}
