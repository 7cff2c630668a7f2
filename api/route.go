package api

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// access says who may make a call.
type access uint8

const (
	anyone   access = iota // no account is looked at
	optional               // a viewer when signed in
	signedIn               // 401 otherwise
	withKey                // with an API key of scope blob, 401 otherwise
)

// route is one call. The OpenAPI document lists exactly these: a test compares.
type route struct {
	method, pattern string
	access          access
	unlimited       bool // for probes
	login           bool // by a session, not by an API key
	handle          func(*request) error

	segments []string
}

const v1 = "/api/v1"

// routeList are the calls that this process answers: those of accounts when it has
// a feed, those of blobs when there are keys for them.
func (a *API) routeList() []route {
	rs := commonRoutes()
	if a.opt.Feed != nil {
		rs = append(rs, accountRoutes()...)
	}
	if len(a.opt.BlobKeys) > 0 {
		rs = append(rs, blobRoutes()...)
	}
	return rs
}

func blobRoutes() []route {
	return []route{
		{method: "POST", pattern: v1 + "/blobs", access: withKey, handle: (*request).postBlob},
		{method: "GET", pattern: v1 + "/blobs/{ref}", access: withKey, handle: (*request).getBlob},
		{method: "DELETE", pattern: v1 + "/blobs/{ref}", access: withKey, handle: (*request).deleteBlob},
		{method: "GET", pattern: v1 + "/blobs/{ref}/{variant}", access: withKey, handle: (*request).getBlob},
	}
}

func commonRoutes() []route {
	return []route{
		{method: "GET", pattern: "/healthz", access: anyone, unlimited: true, handle: (*request).health},
		{method: "GET", pattern: "/readyz", access: anyone, unlimited: true, handle: (*request).ready},
		{method: "GET", pattern: "/openapi.yaml", access: anyone, handle: (*request).openAPI},
		{method: "GET", pattern: "/problems/{name}", access: anyone, handle: (*request).problemPage},
		{method: "GET", pattern: v1 + "/openapi.yaml", access: anyone, handle: (*request).openAPI},
		{method: "GET", pattern: v1 + "/instance", access: anyone, handle: (*request).instance},
	}
}

func accountRoutes() []route {
	return slices.Concat(coreRoutes(), peopleRoutes(), personalRoutes(), searchRoutes(), tellingRoutes(), exportRoutes())
}

func coreRoutes() []route {
	return []route{
		{method: "POST", pattern: v1 + "/accounts", access: anyone, handle: (*request).createAccount},
		{method: "POST", pattern: v1 + "/sessions", access: anyone, handle: (*request).createSession},
		{method: "GET", pattern: v1 + "/sessions", access: signedIn, login: true, handle: (*request).listSessions},
		{method: "DELETE", pattern: v1 + "/sessions", access: signedIn, login: true, handle: (*request).deleteSessions},
		{method: "DELETE", pattern: v1 + "/sessions/{id}", access: signedIn, login: true, handle: (*request).deleteSession},

		{method: "GET", pattern: v1 + "/users/me", access: signedIn, handle: (*request).me},
		{method: "PATCH", pattern: v1 + "/users/me", access: signedIn, handle: (*request).patchMe},
		{method: "GET", pattern: v1 + "/users/{user}", access: optional, handle: (*request).getUser},
		{method: "GET", pattern: v1 + "/users/{user}/photos", access: optional, handle: (*request).userPhotos},
		{method: "GET", pattern: v1 + "/users/{user}/followers", access: optional, handle: (*request).followers},
		{method: "GET", pattern: v1 + "/users/{user}/following", access: optional, handle: (*request).following},

		{method: "POST", pattern: v1 + "/photos/upload-url", access: signedIn, handle: (*request).uploadURL},
		{method: "PUT", pattern: v1 + "/uploads/{id}", access: anyone, handle: (*request).putUpload},
		{method: "POST", pattern: v1 + "/photos", access: signedIn, handle: (*request).postPhoto},
		{method: "GET", pattern: v1 + "/photos/deleted", access: signedIn, handle: (*request).deletedPhotos},
		{method: "GET", pattern: v1 + "/photos/{id}", access: optional, handle: (*request).getPhoto},
		{method: "PATCH", pattern: v1 + "/photos/{id}", access: signedIn, handle: (*request).patchPhoto},
		{method: "DELETE", pattern: v1 + "/photos/{id}", access: signedIn, handle: (*request).deletePhoto},
		{method: "POST", pattern: v1 + "/photos/{id}/restore", access: signedIn, handle: (*request).restorePhoto},
		{method: "GET", pattern: v1 + "/photos/{id}/master", access: signedIn, handle: (*request).getMaster},
		{method: "GET", pattern: v1 + "/photos/{id}/{variant}", access: optional, handle: (*request).getVariant},

		{method: "POST", pattern: v1 + "/photos/{id}/like", access: signedIn, handle: (*request).like},
		{method: "DELETE", pattern: v1 + "/photos/{id}/like", access: signedIn, handle: (*request).unlike},
		{method: "POST", pattern: v1 + "/like/{id}", access: signedIn, handle: (*request).like},
		{method: "DELETE", pattern: v1 + "/like/{id}", access: signedIn, handle: (*request).unlike},
		{method: "GET", pattern: v1 + "/photos/{id}/likes", access: optional, handle: (*request).likes},
		{method: "POST", pattern: v1 + "/photos/{id}/comments", access: signedIn, handle: (*request).addComment},
		{method: "GET", pattern: v1 + "/photos/{id}/comments", access: optional, handle: (*request).comments},
		{method: "DELETE", pattern: v1 + "/comments/{id}", access: signedIn, handle: (*request).deleteComment},
		{method: "POST", pattern: v1 + "/comments/{id}/like", access: signedIn, handle: (*request).likeComment},
		{method: "DELETE", pattern: v1 + "/comments/{id}/like", access: signedIn, handle: (*request).unlikeComment},
		{method: "GET", pattern: v1 + "/comments/{id}/replies", access: optional, handle: (*request).replies},

		{method: "GET", pattern: v1 + "/feed", access: signedIn, handle: (*request).feedPage},
	}
}

// routeTable finds a route by method and path.
type routeTable struct {
	bySize map[int][]*route // by number of segments; literal segments before parameters
}

func newRouteTable(list []route) *routeTable {
	t := &routeTable{bySize: make(map[int][]*route)}
	for _, rt := range list {
		rt.segments = strings.Split(rt.pattern[1:], "/")
		t.bySize[len(rt.segments)] = append(t.bySize[len(rt.segments)], &rt)
	}
	for _, rs := range t.bySize {
		slices.SortStableFunc(rs, func(a, b *route) int { return a.params() - b.params() })
	}
	return t
}

func (rt *route) params() int { return strings.Count(rt.pattern, "{") }

// match returns the route and the values of its parameters. Without a route,
// allow lists the methods that the path has; none: the path is no call.
func (t *routeTable) match(method string, segments []string) (rt *route, values []string, allow []string) {
	if method == "HEAD" {
		method = "GET" // the machinery leaves the body out
	}
	for _, rt := range t.bySize[len(segments)] {
		values, ok := rt.capture(segments)
		if !ok {
			continue
		}
		if rt.method == method {
			return rt, values, nil
		}
		if !slices.Contains(allow, rt.method) {
			allow = append(allow, rt.method)
		}
	}
	return nil, nil, allow
}

func (rt *route) capture(segments []string) (values []string, ok bool) {
	for i, s := range rt.segments {
		if s[0] == '{' {
			values = append(values, segments[i])
		} else if s != segments[i] {
			return nil, false
		}
	}
	return values, true
}

// splitPath takes a request path apart as it stands. Nothing is decoded but
// %40, which many clients write for the @ of a handle, and letters beyond ASCII,
// which have no other form in a path: no word of a route has one. Nothing is
// normalised: a path with any other escape, a backslash, an empty, "." or ".."
// segment or any byte outside letters, digits and -._~@ is none of ours. So no
// guard can read a path otherwise than the handler behind it.
func splitPath(path string) (segments []string, ok bool) {
	if len(path) < 2 || path[0] != '/' {
		return nil, false
	}
	segments = strings.Split(path[1:], "/")
	for i, s := range segments {
		if rest, at := strings.CutPrefix(s, "%40"); at {
			s = "@" + rest
			segments[i] = s
		}
		if strings.ContainsRune(s, '%') {
			if s, ok = unescapeLetters(s); !ok {
				return nil, false
			}
			segments[i] = s
		}
		if s == "" || s == "." || s == ".." || strings.ContainsFunc(s, func(c rune) bool { return !isPathRune(c) }) {
			return nil, false
		}
	}
	return segments, true
}

// unescapeLetters decodes escapes of bytes beyond ASCII. ok is false when there are
// others, or something that is not UTF-8 comes of it.
func unescapeLetters(s string) (text string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil || c < utf8.RuneSelf {
			return "", false
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), utf8.ValidString(b.String())
}

func isPathRune(c rune) bool {
	if c >= utf8.RuneSelf {
		return unicode.IsLetter(c) || unicode.IsNumber(c) || unicode.IsMark(c)
	}
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-._~@", c)
}
