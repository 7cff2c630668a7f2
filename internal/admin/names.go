package admin

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Named passes on to h what was asked of an address, of localhost or of one of
// names, and refuses everything else with 421. A page can be served under a name
// of its own that then resolves to this machine, and reads what answers there as
// if it were of its own origin, without an Origin to tell it by. The name in its
// requests is the page's. It cannot be an address: that would be this listener's
// own, whose pages are its own answers.
func Named(names []string, h http.Handler) http.Handler {
	known := []string{"localhost"}
	for _, n := range names {
		known = append(known, plainName(n))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostOf(r.Host)
		if _, err := netip.ParseAddr(host); err != nil && !slices.Contains(known, plainName(host)) {
			refuse(w, r, NewProblem("name", http.StatusMisdirectedRequest, "Not under this name",
				"the admin listener is asked as %q: use its address or localhost, or name it in --admin-names", r.Host))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// plainName is a name as it is compared.
func plainName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

// hostOf takes a Host header without its port and brackets.
func hostOf(host string) string {
	if inside, ok := strings.CutPrefix(host, "["); ok {
		inside, port, closed := strings.Cut(inside, "]")
		if !closed || port != "" && port[0] != ':' || !strings.Contains(inside, ":") {
			return ""
		}
		return inside
	}
	if name, _, ok := strings.Cut(host, ":"); ok {
		return name // an address with colons has brackets
	}
	return host
}
