package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"hayloft/internal/admin"
	"hayloft/volume/tools"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// adminListener is what operators reach: metrics, health, profiles, and the door
// to what changes things, below /admin.
type adminListener struct {
	srv      *http.Server
	door     *admin.Door
	registry *prometheus.Registry
}

// newAdmin makes the handlers.
func newAdmin(n *node, log *slog.Logger) *adminListener {
	a := &adminListener{registry: prometheus.NewRegistry()}
	a.registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{Registry: a.registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := n.ready(); err != nil {
			http.Error(w, fmt.Sprintf("not ready: %v", err), http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ready\n")
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", patient(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", patient(pprof.Trace))
	if n.edge != nil { // which has nothing that an operator could change
		a.srv = adminServer(admin.Named(n.s.adminHosts(), mux), log)
		return a
	}
	a.door = admin.NewDoor(admin.Options{
		Token: n.adminToken, Open: n.s.adminOpen, Work: n.work, Clock: n.clock, Problem: problemOf, Audit: n.adminAction,
	})
	tools.Serve(a.door, n.keeper(), n.clock)
	tools.ServeScrub(a.door, tools.NewScrubber(n.blobs), n.clock)
	n.serveSearch(a.door)
	if n.steward != nil { // not on the way of a command that works offline
		placementCalls{n}.serve(a.door)
		voterCalls{n}.serve(a.door)
		keyCalls{n}.serve(a.door)
		userCalls{n}.serve(a.door)
		feedCalls{n}.serve(a.door)
		outboxCalls{n}.serve(a.door)
	}
	mux.Handle("/admin/", a.door)
	a.srv = adminServer(admin.Named(n.s.adminHosts(), mux), log)
	return a
}

func adminServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// hatch is a handler that another one can take the place of.
type hatch struct{ h atomic.Pointer[http.Handler] }

func (d *hatch) set(h http.Handler) { d.h.Store(&h) }

// ServeHTTP implements http.Handler.
func (d *hatch) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*d.h.Load()).ServeHTTP(w, r) }

// starting answers on the admin listener before the node is ready: that it lives, and
// what it waits for. why may return nil.
func starting(hosts []string, why func() *string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		text := "not ready: starting"
		if s := why(); s != nil {
			text += ": " + *s
		}
		w.Header().Set("Retry-After", "1")
		http.Error(w, text, http.StatusServiceUnavailable)
	})
	return admin.Named(hosts, mux)
}

// patient lets a call take longer than a request may take to arrive: when that
// time is over the server takes its client for gone.
func patient(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetReadDeadline(time.Time{}) //nolint:errcheck // then it is cut off, as before
		h(w, r)
	}
}

// openAdmin reads or draws the token of the admin listener.
func (n *node) openAdmin(context.Context) error {
	token, loose, weak, err := adminToken(n.s.data...)
	if loose != "" {
		n.log.Warn("others on this machine could read the admin token: remove it for a new one", "file", loose)
	}
	if weak != nil {
		n.log.Warn("a data directory has no copy of the admin token", "err", weak)
	}
	n.adminToken = token
	return err
}

// adminAction logs what somebody did, or was not let do.
func (n *node) adminAction(a admin.Action) {
	level, more := slog.LevelInfo, []any{}
	if a.Err != nil {
		level, more = slog.LevelWarn, []any{"err", tools.OneLine(a.Err)}
	}
	n.log.Log(context.Background(), level, "audit: admin call", append([]any{"address", a.Address, "call", a.Method + " " + a.Path, "query", a.Query,
		"status", a.Status, "took", a.Took.Round(time.Millisecond)}, more...)...)
}

// serveAdmin returns when the server was closed.
func serveAdmin(srv *http.Server, l net.Listener) error {
	if err := srv.Serve(l); err != http.ErrServerClosed {
		return fmt.Errorf("admin listener: %w", err)
	}
	return nil
}

// stop cuts what is being asked short: calls below /admin have ended with the
// node's work, or were refused since the door was closed.
func (a *adminListener) stop() { a.srv.Close() }
