package api

import (
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"hayloft/api/web"
)

func TestWebPage(t *testing.T) {
	page, err := WebPage("http://media.example:8081/x")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(path, ifNoneMatch string) (*fasthttp.RequestCtx, bool) {
		rc := &fasthttp.RequestCtx{}
		rc.Request.SetRequestURI(path)
		if ifNoneMatch != "" {
			rc.Request.Header.Set("If-None-Match", ifNoneMatch)
		}
		return rc, page(rc)
	}
	for _, a := range web.Assets() {
		rc, ok := ask(a.Path, "")
		h := &rc.Response.Header
		if !ok || rc.Response.StatusCode() != 200 || string(rc.Response.Body()) != string(a.Body) ||
			string(h.ContentType()) != a.ContentType || string(h.Peek("ETag")) != a.ETag || string(h.Peek("Cache-Control")) != a.CacheControl {
			t.Errorf("%s: %v %d %s", a.Path, ok, rc.Response.StatusCode(), h)
		}
		if csp := string(h.Peek("Content-Security-Policy")); !strings.Contains(csp, "img-src 'self' data: blob: http://media.example:8081;") {
			t.Errorf("%s: policy %q", a.Path, csp)
		}
		for given, want := range map[string]int{a.ETag: 304, "W/" + a.ETag: 304, `"x", ` + a.ETag: 304, "*": 304, `"x"`: 200} {
			if rc, _ := ask(a.Path, given); rc.Response.StatusCode() != want || want == 304 && len(rc.Response.Body()) > 0 {
				t.Errorf("%s, If-None-Match %s: %d, want %d", a.Path, given, rc.Response.StatusCode(), want)
			}
		}
	}
	for _, path := range []string{"/index.html", "/static/", "/static/app.js", "/%2e%2e/web.go", "/page/index.html"} {
		if rc, ok := ask(path, ""); ok || len(rc.Response.Body()) > 0 {
			t.Errorf("%s is served", path)
		}
	}
	if _, err := WebPage("javascript:alert(1)"); err == nil {
		t.Error("a media URL that is none was taken")
	}
}
