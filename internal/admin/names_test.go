package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A page whose name resolves to this machine sends no Origin with a GET: its
// name is what tells.
func TestNames(t *testing.T) {
	asked := 0
	h := Named([]string{"Admin.Internal", "vault."}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	for host, known := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:9090": true, "10.1.2.3:1": true, "[::1]": true, "[::1]:9090": true, "[fe80::1%eth0]:9090": true,
		"localhost": true, "localhost:9090": true, "LOCALHOST.:9090": true,
		"admin.internal": true, "ADMIN.internal.:9090": true, "vault": true, "vault.:1": true,
		"": false, ":9090": false, ".": false, "evil.example": false, "evil.example:9090": false, "localhost.evil.example": false,
		"evil.localhost": false, "127.0.0.1.evil.example:9090": false, "x.admin.internal": false, "admin": false,
		"::1": false, "[::1": false, "[::1]evil.example": false, "[localhost]": false, "[evil.example]:1": false, "127.0.0.1@evil.example": false,
		"localhost evil.example": false, "[127.0.0.1]": false, "2130706433": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Host = host
		w := httptest.NewRecorder()
		before := asked
		h.ServeHTTP(w, r)
		if (asked > before) != known {
			t.Errorf("%q: %d", host, w.Code)
		}
		if known {
			continue
		}
		var p Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusMisdirectedRequest || !p.Named("name") || !strings.Contains(p.Detail, "--admin-names") {
			t.Errorf("%q: %d %s, %v", host, w.Code, w.Body, err)
		}
	}
}
