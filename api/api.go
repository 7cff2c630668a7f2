package api

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/internal/id"
)

const (
	serverName = "hayloft"
	workerLife = 10 * time.Second // of a goroutine without a connection
)

// API is the public HTTP face of one process.
type API struct {
	opt     Options
	routes  *routeTable
	limits  *limiters
	hasher  *hasher
	spool   *spool   // of uploads
	masters *spool   // of masters on their way to their owners
	keys    *flights // idempotency keys whose first request is running
	ingests *mutexes // one ingest per photo at a time
	conns   *connTable
	streams streams
	exports exportDesk
	server  *fasthttp.Server

	laneHead []byte // first lines of what the lane answers
	date     dateText

	base      context.Context // of every call; ends when Shutdown gives up or is done
	end       context.CancelFunc
	drain     chan struct{} // closed when Shutdown begins: long waits end
	drainOnce sync.Once
	live      context.Context // of streams; ends when Shutdown begins
	endLive   context.CancelFunc
}

// New checks o and returns an API that serves nothing yet.
func New(o Options) (*API, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	a := &API{opt: o, drain: make(chan struct{})}
	a.base, a.end = context.WithCancel(context.Background())
	a.live, a.endLive = context.WithCancel(a.base)
	a.routes = newRouteTable(a.routeList())
	a.limits = newLimiters(o.Clock, o.Limits.Rates)
	hasher, err := newHasher(o.Rand, o.Limits.Hashers, o.Limits.HashQueue)
	if err != nil {
		return nil, err
	}
	a.hasher = hasher
	a.spool = newSpool(o.Limits.SpoolBytes, o.Limits.SpoolWait, o.Limits.BytesPerSecond)
	a.masters = newSpool(o.Limits.MasterBytes, o.Limits.SpoolWait, o.Limits.BytesPerSecond)
	a.exports.max = o.Limits.Exports
	a.keys = newFlights()
	a.ingests = newMutexes()
	a.conns = newConnTable(o.Limits.Connections, o.Limits.PerAddress, a.trusted)
	a.laneHead = a.laneFields()
	a.server = a.newServer()
	return a, nil
}

func (a *API) newServer() *fasthttp.Server {
	l := a.opt.Limits
	return &fasthttp.Server{
		Handler:            a.Handler(),
		ErrorHandler:       a.wireError,
		Logger:             serverLog{a},
		Name:               serverName,
		Concurrency:        l.Connections + 1, // conns refuses first, in our own words
		ReadBufferSize:     l.HeaderBytes,     // fasthttp's bound on a header
		WriteBufferSize:    16 * kib,
		ReadTimeout:        l.HeaderTimeout, // header and small bodies; uploads extend it as bytes come
		IdleTimeout:        l.IdleTimeout,
		MaxRequestBodySize: maxBodyBytes, // what may be read before a handler runs; handlers have limits of their own
		StreamRequestBody:  true,
		// WriteTimeout stays 0: conn bounds slow readers by their rate. MaxConnsPerIP
		// stays 0: the connTable counts, and the machinery would wrap connections,
		// which then are not TCP ones. Keep-alive probes are set by conn.
		MaxIdleWorkerDuration:        workerLife,
		DisablePreParseMultipartForm: true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
		CloseOnShutdown:              true,
		ConnState:                    a.connState,
	}
}

// Serve answers connections from ln until Shutdown or until ln fails for good.
// It closes ln. One API may serve several listeners.
func (a *API) Serve(ln net.Listener) error {
	// Shutdown knows the listeners that the machinery has begun with: this is for one
	// that comes at the same moment or later.
	stop := context.AfterFunc(a.base, func() { _ = ln.Close() }) // Accept reports it
	defer stop()
	return a.server.Serve(&listener{ln, a})
}

// Shutdown stops accepting, lets calls that run finish until ctx ends, then
// cuts what is left and returns ctx's error.
func (a *API) Shutdown(ctx context.Context) error {
	a.drainOnce.Do(func() { close(a.drain) })
	a.endLive()
	a.conns.closeUnused()
	err := a.server.ShutdownWithContext(ctx)
	a.end()
	if err != nil {
		a.conns.closeAll()
	}
	return err
}

// draining reports whether Shutdown has begun.
func (a *API) draining() bool {
	select {
	case <-a.drain:
		return true
	default:
		return false
	}
}

// Handler returns the handler alone, for a server of the caller's. The
// promises about slow clients hold only under Serve.
func (a *API) Handler() fasthttp.RequestHandler { return a.handle }

func (a *API) emit(e Event) {
	if e.Time.IsZero() {
		e.Time = a.opt.Clock.Now()
	}
	a.opt.Events(e)
}

// serverLog turns the HTTP machinery's log into events. Arguments are dropped:
// they may hold raw bytes of a request.
type serverLog struct{ a *API }

// Printf implements fasthttp.Logger.
func (l serverLog) Printf(format string, _ ...any) {
	l.a.emit(Event{Kind: EventServer, Note: format})
}

// audit reports a sign-in, a sign-out and the like.
func (r *request) audit(kind EventKind, account id.ID) {
	r.a.emit(Event{Kind: kind, Account: account, Address: r.addr, Route: r.route.pattern})
}
