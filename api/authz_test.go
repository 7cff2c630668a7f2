package api

import (
	"bytes"
	"slices"
	"sort"
	"strings"
	"testing"

	"hayloft/internal/id"
)

// matrix is the cast of the authorization tests: ada owns everything, bob
// follows her, carl is a stranger, and "" is anonymous.
type matrix struct {
	*world
	tokens map[string]string
	photos map[string]id.ID // ready photos of ada, by visibility
}

func newMatrix(t *testing.T) *matrix {
	x := &matrix{world: newWorld(t), tokens: map[string]string{"anonymous": ""}, photos: map[string]id.ID{}}
	for role, handle := range map[string]string{"owner": "ada", "follower": "bob", "stranger": "carl"} {
		x.tokens[role], _ = x.account(handle)
	}
	x.call(x.tokens["follower"], "POST", "/api/v1/follow/ada", nil).is(204)
	for _, v := range []string{"public", "followers", "only_me"} {
		x.photos[v] = x.photo(v)
	}
	return x
}

func (x *matrix) photo(visibility string) id.ID {
	x.t.Helper()
	p := x.post(x.tokens["owner"], picture(16, 16, 1), m{"visibility": visibility})
	x.makeReady(p)
	return p
}

// sees reports whether a role may see ada's photos of a visibility.
func sees(role, visibility string) bool {
	return role == "owner" || visibility == "public" || visibility == "followers" && role == "follower"
}

// bodies are what a call is made with, by operation.
func (x *matrix) body(op string) any {
	switch op {
	case "patchMe":
		return m{"bio": "x"}
	case "patchPhoto":
		return m{"title": "x"}
	case "patchPreferences":
		return m{"like": true}
	case "setAvatar":
		return m{"photo_id": nil}
	case "createKey":
		return m{"name": "x", "scopes": []string{"read"}}
	case "feedSeen":
		return m{"photo_id": x.photos["public"]}
	case "addComment":
		return m{"text": "x"}
	case "uploadURL":
		return m{"file_size": 10, "content_type": "image/jpeg"}
	case "createAccount":
		return m{"handle": "me", "password": "x"}
	case "createSession":
		return m{"handle": "nobody", "password": "x"}
	case "postPhoto":
		return m{"photo_id": id.Make(1, 1, 1).String()}
	}
	return nil
}

// target returns the path of an operation on ada's things of a visibility, made
// fresh where the call changes them.
func (x *matrix) target(method, pattern, visibility string) string {
	x.t.Helper()
	photo := x.photos[visibility]
	if method != "GET" {
		photo = x.photo(visibility)
	}
	named := photo.String()
	switch {
	case strings.Contains(pattern, "/sessions/"):
		login := m{"handle": "ada", "password": "pass of ada"}
		fresh := into[signedInBody](x.call("", "POST", "/api/v1/sessions", login).is(201)).Token
		for _, s := range into[pageBody[sessionBody]](x.call(fresh, "GET", "/api/v1/sessions", nil).is(200)).Items {
			if s.Current {
				named = s.ID.String()
			}
		}
	case strings.Contains(pattern, "/api-keys/"):
		named = into[keyBody](x.call(x.tokens["owner"], "POST", "/api/v1/api-keys", m{"name": "x", "scopes": []string{"read"}}).is(201)).ID.String()
	case strings.Contains(pattern, "/comments/"):
		c := into[commentBody](x.call(x.tokens["owner"], "POST", "/api/v1/photos/"+photo.String()+"/comments", m{"text": "x"}).is(201))
		named = c.ID.String()
	case strings.Contains(pattern, "/exports/"):
		named = x.export(x.tokens["owner"]).ID
	case strings.HasSuffix(pattern, "/restore"):
		x.call(x.tokens["owner"], "DELETE", "/api/v1/photos/"+named, nil).is(204)
	}
	if pattern == "/api/v1/search" {
		return pattern + "?q=x"
	}
	return strings.NewReplacer("{id}", named, "{user}", "@ada", "{tag}", "sun", "{variant}", "small", "{name}", "not-found", "{ref}", named+"-"+named).Replace(pattern)
}

// endsLogins are calls after which their caller is signed out, or not who they were,
// and one that does not end. They have tests of their own.
var endsLogins = map[string]bool{
	"DELETE /api/v1/sessions": true, "DELETE /api/v1/users/me": true, "PUT /api/v1/users/me/password": true,
	"GET /api/v1/notifications/stream": true,
}

// Every call of the document, by everybody, on things of every visibility: who
// may gets it done; who may not gets the answer of a thing that does not exist.
func TestAuthorizationMatrix(t *testing.T) {
	x := newMatrix(t)
	c := contract(t)
	var calls []string
	for pattern, item := range c.doc["paths"].(m) {
		for method := range item.(m) {
			if call := strings.ToUpper(method) + " " + pattern; !endsLogins[call] {
				calls = append(calls, call)
			}
		}
	}
	sort.Strings(calls)
	for _, call := range calls {
		method, pattern, _ := strings.Cut(call, " ")
		op := c.doc["paths"].(m)[pattern].(m)[strings.ToLower(method)].(m)
		visibilities := []string{"public"}
		if strings.Contains(pattern, "/photos/{id}") || strings.Contains(pattern, "/like/{id}") || strings.Contains(pattern, "/comments/{id}") {
			visibilities = []string{"public", "followers", "only_me"}
		}
		for _, visibility := range visibilities {
			for _, role := range []string{"owner", "follower", "stranger", "anonymous"} {
				x.checkCell(method, pattern, op, role, visibility)
			}
		}
	}
}

func (x *matrix) checkCell(method, pattern string, op m, role, visibility string) {
	x.t.Helper()
	who, name := op["x-access"].(string), op["operationId"].(string)
	path := x.target(method, pattern, visibility)
	got := x.call(x.tokens[role], method, path, x.body(name))
	if strings.Contains(name, "ollow") || strings.HasSuffix(name, "block") || strings.HasSuffix(name, "mute") { // everybody back to their part
		for _, other := range []string{"follower", "stranger"} {
			x.call(x.tokens[other], "DELETE", "/api/v1/users/ada/block", nil).is(204)
			x.call(x.tokens[other], "DELETE", "/api/v1/users/ada/mute", nil).is(204)
		}
		x.call(x.tokens["follower"], "POST", "/api/v1/follow/ada", nil).is(204)
		x.call(x.tokens["stranger"], "DELETE", "/api/v1/follow/ada", nil).is(204)
	}
	done := got.status >= 200 && got.status < 400
	cell := call{method, pattern, role, visibility, got.status}
	switch {
	case who == "anyone" || who == "signature":
		if got.status == 401 && name != "createSession" {
			x.t.Errorf("%v: asks for a sign-in", cell)
		}
	case role == "anonymous" && who != "optional", who == "key": // no session is a key
		if got.status != 401 {
			x.t.Errorf("%v: want 401", cell)
		}
	case who == "owner" && role != "owner", !sees(role, visibility):
		if got.status != 404 {
			x.t.Errorf("%v: want 404", cell)
			return
		}
		missing := strings.NewReplacer("{id}", id.Make(9, 9, 9).String(), "{variant}", "small").Replace(pattern)
		if none := x.call(x.tokens[role], method, missing, x.body(name)); none.status != 404 || !bytes.Equal(none.body, got.body) {
			x.t.Errorf("%v: a thing that is missing looks different: %d %s, %s", cell, none.status, none.body, got.body)
		}
	case slices.Contains([]string{"follow", "followShort", "block", "mute", "listen"}, name) && role == "owner": // nobody is that to themselves
		if got.status != 422 {
			x.t.Errorf("%v: want 422", cell)
		}
	case name == "listen" && role == "stranger": // who follows nobody hears of nobody
		if got.status != 409 {
			x.t.Errorf("%v: want 409", cell)
		}
	case name == "approveFollow" || name == "declineFollow": // ada asks nobody
		if got.status != 404 {
			x.t.Errorf("%v: want 404", cell)
		}
	case name == "postPhoto": // of a photo that does not exist
		if got.status != 404 {
			x.t.Errorf("%v: want 404", cell)
		}
	case !done:
		x.t.Errorf("%v: refused: %s", cell, got.body)
	}
}

type call struct {
	method, pattern, role, visibility string
	status                            int
}
