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

// Ranges decides what part of size bytes a GET is answered with: first, length
// and status 200, 206 or 416. A field that is malformed, of another unit or of
// several ranges is ignored, as RFC 9110, 14.2 allows: photos have no use for
// multipart answers, and many tiny ranges are an attack.
func Ranges(req *fasthttp.RequestHeader, etag string, size int) (first, n, status int) {
	whole := func() (int, int, int) { return 0, size, fasthttp.StatusOK }
	lines := req.PeekAll(fasthttp.HeaderRange)
	if len(lines) != 1 {
		return whole()
	}
	field := string(lines[0]) // the next PeekAll uses lines again
	// A condition other than the one strong tag (a date, a weak tag, two lines)
	// cannot be known to hold.
	if cond := req.PeekAll(fasthttp.HeaderIfRange); len(cond) > 0 && (len(cond) > 1 || string(cond[0]) != etag) {
		return whole()
	}
	unit, spec, ok := strings.Cut(field, "=")
	if !ok || !strings.EqualFold(unit, "bytes") || strings.Contains(spec, ",") {
		return whole()
	}
	from, to, ok := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !ok {
		return whole()
	}
	a, okA := position(from)
	b, okB := position(to)
	switch {
	case from == "" && okB: // the last b bytes
		b = min(b, size)
		if b == 0 {
			return 0, 0, fasthttp.StatusRequestedRangeNotSatisfiable
		}
		return size - b, b, fasthttp.StatusPartialContent
	case !okA || to != "" && (!okB || b < a):
		return whole()
	case a >= size:
		return 0, 0, fasthttp.StatusRequestedRangeNotSatisfiable
	case to == "":
		return a, size - a, fasthttp.StatusPartialContent
	default:
		return a, min(b, size-1) - a + 1, fasthttp.StatusPartialContent
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
