package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/feed"
)

// A token is tokenPrefix and 256 random bits in unpadded URL-safe base64; only
// its SHA-256 is stored. The prefix lets scanners find one that leaked.
const (
	tokenPrefix = "hls_"
	tokenBytes  = 32
)

var b64url = base64.RawURLEncoding.Strict()

// random returns a fresh secret behind a prefix.
func (a *API) random(prefix string) (string, error) {
	raw := make([]byte, tokenBytes)
	if _, err := io.ReadFull(a.opt.Rand, raw); err != nil {
		return "", fmt.Errorf("api: no random bytes: %w", err)
	}
	return prefix + b64url.EncodeToString(raw), nil
}

// newToken returns a fresh token and what is stored of it.
func (a *API) newToken(cookie bool) (string, feed.NewSession, error) {
	token, err := a.random(tokenPrefix)
	if err != nil {
		return "", feed.NewSession{}, err
	}
	return token, feed.NewSession{
		TokenHash: sha256.Sum256([]byte(token)),
		ExpiresAt: a.opt.Clock.Now().Add(a.opt.Limits.Session).Truncate(time.Second),
		Cookie:    cookie,
	}, nil
}

// authenticate finds out who calls. A token or key that is given must be good;
// a cookie that is not simply leaves the viewer anonymous, because a browser
// sends it unasked.
func (r *request) authenticate() error {
	token, err := r.apiKey()
	if err != nil {
		return err
	}
	if token == "" {
		token = string(r.rc.Request.Header.Cookie(r.a.cookieName()))
		r.byCookie = token != ""
	}
	if token != "" {
		var err error
		if strings.HasPrefix(token, keyPrefix) && !r.byCookie {
			err = r.withAPIKey(token)
		} else {
			err = r.signIn(token)
		}
		switch {
		case err == nil:
		case !errors.Is(err, feed.ErrNotFound):
			return err
		case !r.byCookie:
			return pUnauthorized.because("the token is not valid")
		}
	}
	if r.viewer == 0 {
		if r.route.access == signedIn {
			return pUnauthorized.because("")
		}
		return nil
	}
	if r.byCookie && !isSafe(r.rc) {
		return r.sameOrigin()
	}
	return nil
}

// signIn makes the session of token the call's.
func (r *request) signIn(token string) error {
	raw, ok := strings.CutPrefix(token, tokenPrefix)
	if b, err := b64url.DecodeString(raw); !ok || err != nil || len(b) != tokenBytes {
		return feed.ErrNotFound
	}
	hash := sha256.Sum256([]byte(token))
	r.letIn = r.a.opt.Clock.Elapsed()
	s, err := r.a.opt.Feed.SessionByToken(r.ctx, hash)
	if err != nil {
		return err
	}
	f := r.a.opt.Feed
	r.alive = func(ctx context.Context) error { _, err := f.SessionByToken(ctx, hash); return err }
	if !r.a.opt.Clock.Now().Before(s.ExpiresAt) {
		return feed.ErrNotFound
	}
	r.session, r.viewer = s, s.User
	return nil
}

func isSafe(rc *fasthttp.RequestCtx) bool {
	return rc.IsGet() || rc.IsHead()
}

// sameOrigin refuses what a page of another site may have sent with the
// viewer's cookie: the browser must say that it comes from here. A client that
// says nothing is no browser and has no business with the cookie.
func (r *request) sameOrigin() error {
	site, err := r.header("Sec-Fetch-Site")
	if err != nil {
		return err
	}
	origin, err := r.header("Origin")
	if err != nil {
		return err
	}
	switch {
	case site == "same-origin":
		return nil
	case site != "":
		return pCrossSite.because("")
	case origin == "":
		return pCrossSite.because("neither Sec-Fetch-Site nor Origin")
	case origin == r.a.opt.PublicURL:
		return nil
	}
	// The server may be reached under another name than PublicURL, such as
	// localhost; the page's own host is as good.
	if u, err := url.Parse(origin); err == nil && u.Host != "" && u.Host == string(r.rc.Request.Header.Host()) {
		return nil
	}
	return pCrossSite.because("")
}

// cookieName has the prefix that makes browsers insist on Secure, the whole
// host and no other, wherever that can be.
func (a *API) cookieName() string {
	if a.secure() {
		return "__Host-hayloft"
	}
	return "hayloft"
}

func (a *API) secure() bool { return strings.HasPrefix(a.opt.PublicURL, "https://") }

// setCookie gives the session to a browser; an empty token takes it away.
func (r *request) setCookie(token string) {
	c := fasthttp.AcquireCookie()
	defer fasthttp.ReleaseCookie(c)
	c.SetKey(r.a.cookieName())
	c.SetValue(token)
	c.SetPath("/")
	c.SetHTTPOnly(true)
	c.SetSecure(r.a.secure())
	c.SetSameSite(fasthttp.CookieSameSiteStrictMode)
	c.SetMaxAge(int(r.a.opt.Limits.Session / time.Second))
	if token == "" {
		c.SetMaxAge(-1)
	}
	r.rc.Response.Header.SetCookie(c)
}
