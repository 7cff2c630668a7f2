package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"hayloft/feed"
	"hayloft/media"
)

// problemBase is what a problem's type begins with: a reference relative to
// the server, where GET answers with what it means.
const problemBase = "/problems/"

// problemKind is a row of the one table of errors that the outside sees. Names
// are stable: a client may switch on them.
type problemKind struct {
	name   string
	status int
	title  string
	about  string // what happened and what a client can do, for docs and GET /problems/{name}
}

// problem is an error with a kind. The detail is for people and never repeats
// secrets or bytes of the request that were not checked.
type problem struct {
	kind       *problemKind
	detail     string
	faults     []fault       // 422: every fault at once
	retryAfter time.Duration // 429, 503: when to try again
	allow      string        // 405: the methods there are
	cause      error         // what an operator should see; never shown outside
}

// fault points at one wrong member of a JSON body or one parameter.
type fault struct {
	Pointer   string `json:"pointer,omitempty"`   // RFC 6901, into the JSON body
	Parameter string `json:"parameter,omitempty"` // of the query, a header or a form
	Detail    string `json:"detail"`
}

func (p *problem) Error() string {
	s := p.kind.name
	if p.detail != "" {
		s += ": " + p.detail
	}
	if p.cause != nil {
		s += ": " + p.cause.Error()
	}
	return s
}

func (p *problem) Unwrap() error { return p.cause }

// because returns a problem of this kind with a detail for the client.
func (k *problemKind) because(format string, args ...any) *problem {
	return &problem{kind: k, detail: fmt.Sprintf(format, args...)}
}

// of returns a problem of this kind that hides cause from the client.
func (k *problemKind) of(cause error) *problem { return &problem{kind: k, cause: cause} }

// The kinds, by status.
var (
	pMalformed     = kind("malformed", 400, "The request is malformed", "The body is not the JSON that the call takes, or a header or parameter cannot be read. The detail says where.")
	pMalformedID   = kind("malformed-id", 400, "Not an id", "An id in the body or query is not 13 characters of lower-case Crockford base32. In a path such an id is simply not-found.")
	pBadCursor     = kind("malformed-cursor", 400, "Not a cursor of this list", "A cursor is only good for the list, the viewer and the server that gave it out, unchanged. Start again without one.")
	pIncomplete    = kind("body-incomplete", 400, "The body ended early", "The connection ended, or was too slow, before the announced length arrived. Nothing was stored; send it again.")
	pUnauthorized  = kind("unauthorized", 401, "Sign in first", "The call needs a valid token (Authorization: Bearer) or session cookie.")
	pBadLogin      = kind("wrong-credentials", 401, "Wrong handle or password", "No account has this handle and password together.")
	pCrossSite     = kind("cross-site", 403, "Refused from another site", "A call that changes something with the session cookie must come from the page of this server (Sec-Fetch-Site or Origin).")
	pBadSignature  = kind("bad-signature", 403, "The upload URL is not genuine", "The URL was changed, or is not one this server gave out. Ask for a new one.")
	pUploadExpired = kind("upload-expired", 403, "The upload URL has expired", "Upload URLs are good for 15 minutes. Ask for a new one.")
	pScope         = kind("insufficient-scope", 403, "The key may not do that", "An API key may do what its scopes say: read (GET), write (all else). Passwords, sessions, keys, exports and the end of an account take a session.")
	pSignupClosed  = kind("signup-closed", 403, "Sign-up is closed", "The operator of this server makes accounts.")
	pNotFound      = kind("not-found", 404, "Not found", "There is no such thing, or you may not see it: the answer is the same.")
	pNoEndpoint    = kind("unknown-endpoint", 404, "No such call", "The path is none of this API's. See /openapi.yaml.")
	pMethod        = kind("method-not-allowed", 405, "Method not allowed", "The path exists, the method does not. Allow lists those that do.")
	pTimeout       = kind("request-timeout", 408, "The request took too long", "The header did not arrive in time.")
	pConflict      = kind("conflict", 409, "In conflict with the present state", "For example restoring a photo after its grace.")
	pHandleTaken   = kind("handle-taken", 409, "The handle is taken", "Choose another handle.")
	pBytesMissing  = kind("bytes-missing", 409, "The photo has no bytes yet", "PUT the bytes to the upload URL before POST /photos.")
	pUploadStored  = kind("upload-already-stored", 409, "The upload URL was used", "The bytes are stored. An upload URL stores once; go on with POST /photos.")
	pNotReady      = kind("not-ready", 409, "The photo is not ready", "Its variants are being made. Ask again in a moment, or use Prefer: wait when posting.")
	pPhotoFailed   = kind("photo-failed", 409, "The photo could not be processed", "Its variants cannot be made; the photo object's failure says why.")
	pIdemBusy      = kind("idempotency-in-flight", 409, "The first request is still running", "A request with this Idempotency-Key has not finished. Try again in a moment.")
	pLength        = kind("length-required", 411, "A Content-Length is needed", "An upload must announce its length.")
	pPrecondition  = kind("precondition-failed", 412, "A condition does not hold", "If-Match names another entity tag than that of the bytes.")
	pTooLarge      = kind("too-large", 413, "Too large", "The body is over the limit of the call.")
	pFileTooLarge  = kind(media.RejectTooLarge, 413, "The photo is too large", "The file is over the limit that /api/v1/instance names.")
	pMediaType     = kind(media.RejectUnsupported, 415, "Not a format this call takes", "JSON calls take application/json. Photos are judged by their content, not by their name: see formats in /api/v1/instance.")
	pTypeMismatch  = kind("type-mismatch", 415, "Not the announced type", "The content is of another image type than the upload URL was asked for.")
	pRange         = kind("range-not-satisfiable", 416, "No such range", "The range begins behind the end of the bytes. Content-Range says how many there are.")
	pInvalid       = kind("invalid", 422, "Some values are not allowed", "errors lists every fault with its place.")
	pLengthOther   = kind("length-mismatch", 422, "Not the announced length", "Content-Length differs from the file_size that the upload URL was asked for. Nothing was stored.")
	pDigest        = kind("digest-mismatch", 422, "Not the announced digest", "The SHA-256 of the bytes that arrived is not the announced one. Nothing was stored; send it again.")
	pTooManyPixels = kind(media.RejectTooManyPixels, 422, "Too many pixels", "The image header names more pixels than the limit in /api/v1/instance.")
	pTruncated     = kind(media.RejectTruncated, 422, "The image is cut off", "The image's end marker is missing.")
	pBadImage      = kind(media.RejectMalformed, 422, "The image cannot be read", "Its header contradicts itself.")
	_              = kind(media.RejectUndecodable, 422, "The image cannot be decoded", "Seen as the failure of a photo: its header was fine, its content was not.")
	pIdemOther     = kind("idempotency-key-reused", 422, "The key was used for another request", "The same Idempotency-Key came with another payload within 24 hours.")
	pRateLimited   = kind("rate-limited", 429, "Too many requests", "Wait for Retry-After. RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers) name the limit.")
	pStreams       = kind("too-many-streams", 429, "Too many streams at once", "This account has as many notification streams open as one account may. Close one.")
	pUploadsBusy   = kind("too-many-uploads", 429, "Too many uploads at once", "This account has as many bytes under way as one account may. Wait for one to finish.")
	pHeaderLarge   = kind("header-too-large", 431, "The header is too large", "Request line and header fields together are limited.")
	pInternal      = kind("internal", 500, "A fault of the server", "The request may be repeated; the operator's log has the reason.")
	pUnavailable   = kind("unavailable", 503, "Not available now", "The server is starting, stopping or cut off. Repeat after Retry-After.")
	pBusy          = kind("busy", 503, "Busy", "A queue is full, a slow upload had to make room for faster ones, or an archive is on its way already. Repeat after Retry-After.")
	pBehind        = kind("behind", 503, "This replica is behind", "It has not yet applied the Hayloft-Index that the request names, or cannot make sure that it has applied everything. Repeat after Retry-After.")
	pStorageFull   = kind("storage-full", 507, "No room to store it", "The server's disks are full. Nothing was stored.")
)

// problemKinds is the table, by name.
var problemKinds = make(map[string]*problemKind)

func kind(name string, status int, title, about string) *problemKind {
	k := &problemKind{name, status, title, about}
	problemKinds[name] = k
	return k
}

// sortedKinds returns the table by status and name.
func sortedKinds() []*problemKind {
	var ks []*problemKind
	for _, k := range problemKinds {
		ks = append(ks, k)
	}
	slices.SortFunc(ks, func(a, b *problemKind) int {
		return cmp.Or(cmp.Compare(a.status, b.status), cmp.Compare(a.name, b.name))
	})
	return ks
}

// inner maps the errors of the rooms behind the API. The first match counts.
var inner = []struct {
	err  error
	kind *problemKind
}{
	{feed.ErrNotFound, pNotFound},
	{feed.ErrForbidden, pNotFound},
	{feed.ErrHandleTaken, pHandleTaken},
	{feed.ErrBytesMissing, pBytesMissing},
	{feed.ErrStored, pUploadStored},
	{feed.ErrExpired, pUploadExpired},
	{feed.ErrConflict, pConflict},
	{feed.ErrInvalid, pInvalid},
	{feed.ErrUnavailable, pUnavailable},
	{feed.ErrIdempotencyReused, pIdemOther},
	{ErrNoBlob, pNotFound},
	{ErrFull, pStorageFull},
	{ErrUnavailable, pUnavailable},
	{media.ErrTooLarge, pFileTooLarge},
	{media.ErrUnsupported, pMediaType},
	{media.ErrTooManyPixels, pTooManyPixels},
	{media.ErrTruncated, pTruncated},
	{media.ErrMalformed, pBadImage},
}

// asProblem returns the problem that err is shown as.
func asProblem(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	for _, m := range inner {
		if errors.Is(err, m.err) {
			p := m.kind.of(err)
			if inv, ok := errors.AsType[feed.Invalid](err); ok {
				p.faults = []fault{{Parameter: inv.Field, Detail: inv.Reason}}
			}
			if p.kind.status == 503 {
				p.retryAfter = time.Second
			}
			return p
		}
	}
	if isDone(err) {
		return &problem{kind: pUnavailable, cause: err, retryAfter: time.Second}
	}
	return pInternal.of(err)
}

// Starting is the problem that answers every request, with status 503, before there is
// an API that could: its type and its body.
func Starting() (contentType string, body []byte) {
	return typeProblem, (&problem{kind: pUnavailable, detail: "the server is starting"}).body()
}

// problemBody is the JSON of RFC 9457.
type problemBody struct {
	Type   string  `json:"type"`
	Title  string  `json:"title"`
	Status int     `json:"status"`
	Detail string  `json:"detail,omitempty"`
	Errors []fault `json:"errors,omitempty"`
}

func (p *problem) body() []byte {
	b, err := json.Marshal(problemBody{problemBase + p.kind.name, p.kind.title, p.kind.status, p.detail, p.faults})
	if err != nil { // strings and ints only
		panic(err)
	}
	return b
}
