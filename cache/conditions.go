package cache

import (
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"
)

// Conditions evaluates If-Match and If-None-Match in the order of RFC 9110,
// 13.2.2, and returns 412, 304, or 0 to go on. There is no Last-Modified, so
// the conditions on dates do not apply. etag is quoted, as everywhere here.
func Conditions(req *fasthttp.RequestHeader, etag string) int {
	if field, ok := joined(req, fasthttp.HeaderIfMatch); ok && !matches(field, etag, false) {
		return fasthttp.StatusPreconditionFailed
	}
	if field, ok := joined(req, fasthttp.HeaderIfNoneMatch); ok && matches(field, etag, true) {
		return fasthttp.StatusNotModified
	}
	return 0
}

// joined returns a field as one list, however many lines it came in.
func joined(req *fasthttp.RequestHeader, name string) (string, bool) {
	lines := req.PeekAll(name)
	switch len(lines) {
	case 0:
		return "", false
	case 1:
		return string(lines[0]), true
	}
	var b strings.Builder
	for _, l := range lines {
		b.Write(l)
		b.WriteByte(',')
	}
	return b.String(), true
}

// matches reports whether a list of entity tags, or "*", names the strong tag
// etag (quoted). Weak comparison ignores the weakness of a listed tag. What
// cannot be read matches nothing from there on.
func matches(list, etag string, weak bool) bool {
	list = strings.Trim(list, " \t,")
	if list == "*" {
		return true
	}
	for list != "" {
		isWeak := strings.HasPrefix(list, "W/")
		if isWeak {
			list = list[2:]
		}
		if list == "" || list[0] != '"' {
			return false
		}
		end := strings.IndexByte(list[1:], '"')
		if end < 0 {
			return false
		}
		if list[:end+2] == etag && (weak || !isWeak) {
			return true
		}
		list = strings.TrimLeft(list[end+2:], " \t")
		if list != "" && list[0] != ',' {
			return false
		}
		list = strings.TrimLeft(list, " \t,")
	}
	return false
}

// Span is a part of an object: Len bytes from First on.
type Span struct{ First, Len int }

// maxRanges is how many ranges one request may ask for: more are an attack, or a mistake.
const maxRanges = 16

// Ranges decides what part of size bytes a GET is answered with when it may be one
// part only: first, length and status 200, 206 or 416. Several ranges are ignored.
func Ranges(req *fasthttp.RequestHeader, etag string, size int) (first, n, status int) {
	spans, status := AllRanges(req, etag, size)
	if status == fasthttp.StatusPartialContent && len(spans) == 1 && !strings.Contains(string(req.Peek(fasthttp.HeaderRange)), ",") {
		return spans[0].First, spans[0].Len, status
	}
	if status == fasthttp.StatusRequestedRangeNotSatisfiable && !strings.Contains(string(req.Peek(fasthttp.HeaderRange)), ",") {
		return 0, 0, status
	}
	return 0, size, fasthttp.StatusOK
}

// AllRanges decides what parts of size bytes a GET is answered with: 200 is all of it,
// 206 the spans, in the order in which they were asked for, 416 none. A field that is
// malformed or of another unit is ignored, as RFC 9110, 14.2 allows, and so is one of
// more than maxRanges ranges, of ranges that overlap, or with which the answer would
// not be shorter than the object.
func AllRanges(req *fasthttp.RequestHeader, etag string, size int) (spans []Span, status int) {
	lines := req.PeekAll(fasthttp.HeaderRange)
	if len(lines) != 1 {
		return nil, fasthttp.StatusOK
	}
	field := string(lines[0]) // the next PeekAll uses lines again
	// A condition other than the one strong tag (a date, a weak tag, two lines)
	// cannot be known to hold.
	if cond := req.PeekAll(fasthttp.HeaderIfRange); len(cond) > 0 && (len(cond) > 1 || string(cond[0]) != etag) {
		return nil, fasthttp.StatusOK
	}
	unit, set, ok := strings.Cut(field, "=")
	if !ok || !strings.EqualFold(unit, "bytes") || strings.Count(set, ",") >= maxRanges {
		return nil, fasthttp.StatusOK
	}
	sum := 0
	for spec := range strings.SplitSeq(set, ",") {
		span, ok := oneRange(strings.Trim(spec, " \t"), size)
		if !ok {
			return nil, fasthttp.StatusOK
		}
		if span.Len == 0 { // it lies outside
			continue
		}
		for _, other := range spans {
			if span.First < other.First+other.Len && other.First < span.First+span.Len {
				return nil, fasthttp.StatusOK
			}
		}
		spans = append(spans, span)
		sum += span.Len + partOverhead
	}
	switch {
	case len(spans) == 0:
		return nil, fasthttp.StatusRequestedRangeNotSatisfiable
	case len(spans) > 1 && sum >= size:
		return nil, fasthttp.StatusOK
	}
	return spans, fasthttp.StatusPartialContent
}

// oneRange reads one range: false when it is malformed. Len is 0 when it lies outside.
func oneRange(spec string, size int) (Span, bool) {
	from, to, ok := strings.Cut(spec, "-")
	if !ok {
		return Span{}, false
	}
	a, okA := position(from)
	b, okB := position(to)
	switch {
	case from == "" && okB: // the last b bytes
		b = min(b, size)
		return Span{size - b, b}, true
	case !okA || to != "" && (!okB || b < a):
		return Span{}, false
	case a >= size:
		return Span{}, true
	case to == "":
		return Span{a, size - a}, true
	default:
		return Span{a, min(b, size-1) - a + 1}, true
	}
}

// position reads digits alone; a number too large for an int is the largest one.
func position(s string) (int, bool) {
	if s == "" {
		return 0, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return int(^uint(0) >> 1), true
	}
	return n, true
}
