package cache

import (
	"crypto/rand"
	"io"
	"strconv"

	"github.com/valyala/fasthttp"
)

// partOverhead is about what a part of an answer costs beside its bytes.
const partOverhead = 128

// piece is a part of a body: a text, or bytes of the entry.
type piece struct {
	text string
	span Span
}

// partsBody streams several parts of a pinned entry, which may grow, as
// multipart/byteranges. Its Close is that of body.
type partsBody struct {
	growingBody
	pieces []piece // what was not begun; the current one is at:end, or text
	text   string
}

// respondParts answers with several parts of e, which is pinned.
func (c *Cache) respondParts(ctx *fasthttp.RequestCtx, e *entry, spans []Span) {
	boundary := rand.Text() // so nobody can have put it into a photo
	b := &partsBody{growingBody: growingBody{body: body{entry: e}}}
	length := 0
	add := func(p piece) {
		b.pieces = append(b.pieces, p)
		length += len(p.text) + p.span.Len
	}
	for _, s := range spans {
		add(piece{text: "\r\n--" + boundary + "\r\nContent-Type: " + e.typ + "\r\nContent-Range: " + contentRange(s, len(e.data)) + "\r\n\r\n"})
		add(piece{span: s})
	}
	add(piece{text: "\r\n--" + boundary + "--\r\n"})
	ctx.SetStatusCode(fasthttp.StatusPartialContent)
	ctx.Response.Header.SetContentType("multipart/byteranges; boundary=" + boundary)
	ctx.Response.SetBodyStream(b, length)
}

// contentRange is the field of that name.
func contentRange(s Span, size int) string {
	return "bytes " + strconv.Itoa(s.First) + "-" + strconv.Itoa(s.First+s.Len-1) + "/" + strconv.Itoa(size)
}

// begin goes on to the next piece; false at the end.
func (b *partsBody) begin() bool {
	if b.entry == nil || len(b.pieces) == 0 {
		return false
	}
	p := b.pieces[0]
	b.pieces = b.pieces[1:]
	b.text, b.at, b.end = p.text, p.span.First, p.span.First+p.span.Len
	return true
}

// Read implements io.Reader.
func (b *partsBody) Read(p []byte) (int, error) {
	for b.text == "" && b.at == b.end {
		if !b.begin() {
			return 0, io.EOF
		}
	}
	if b.text == "" {
		return b.growingBody.Read(p)
	}
	n := copy(p, b.text)
	b.text = b.text[n:]
	return n, nil
}

// WriteTo implements io.WriterTo.
func (b *partsBody) WriteTo(w io.Writer) (sum int64, err error) {
	for err == nil && b.begin() {
		var n int64
		if b.text == "" {
			n, err = b.growingBody.WriteTo(w)
		} else {
			var m int
			m, err = io.WriteString(w, b.text)
			n, b.text = int64(m), ""
		}
		sum += n
	}
	return sum, err
}
