package peer

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"hayloft/internal/clock"
	"hayloft/volume"
	"hayloft/volume/server"
)

// HandlerOptions configure a Handler. Caller must be given.
type HandlerOptions struct {
	// Caller names the node that sent a request, as its connection proves it.
	Caller func(ctx context.Context) (node string, ok bool)
	// WriteBytes bounds the data of appends under way, FillBytes that of fills; more
	// wait. A larger group goes alone. 0: 128 MiB, 64 MiB.
	WriteBytes, FillBytes int64
	// PieceBytes bounds what is read and written of files on shelves. 0: 64 MiB.
	PieceBytes int64
	Limits     Limits
	Timing     Timing
}

// handler answers for a server.Peer here.
type handler struct {
	local  server.Peer
	o      HandlerOptions
	slots  *slots
	writes *volume.ReadBudget
	fills  *volume.ReadBudget
	pieces *volume.ReadBudget // of files on shelves
	lent   lent
}

// Handler answers the calls of other nodes out of local. The server around it has to
// leave deadlines of requests and answers to it: WriteTimeout and ReadTimeout 0.
func Handler(local server.Peer, o HandlerOptions) http.Handler {
	if o.WriteBytes <= 0 {
		o.WriteBytes = 128 << 20
	}
	if o.FillBytes <= 0 {
		o.FillBytes = 64 << 20
	}
	if o.PieceBytes <= 0 {
		o.PieceBytes = 64 << 20
	}
	o.Timing.setDefaults()
	return &handler{
		local: local, o: o, slots: newSlots(o.Limits),
		writes: volume.NewReadBudget(o.WriteBytes, 1), fills: volume.NewReadBudget(o.FillBytes, 1),
		pieces: volume.NewReadBudget(o.PieceBytes, 1), lent: lent{shelves: make(map[uint64]*lentShelf), newest: make(map[shelfKey]uint64)},
	}
}

// exchange is one call being answered.
type exchange struct {
	h    *handler
	call call
	node string // that calls
	in   frames
	out  *answer
	args args
	// cancel ends the call's context.
	cancel func()
}

// serves has the work of each call: it reads what follows the arguments, asks the
// local Peer and returns result and error of the end frame.
var serves = map[call]func(*exchange, context.Context) ([]byte, error){
	callCreate: (*exchange).create, callAppend: (*exchange).append, callEntomb: (*exchange).entomb,
	callDelete: (*exchange).delete, callLog: (*exchange).log, callRead: (*exchange).read, callRange: (*exchange).readRange,
	callProbe: (*exchange).probe, callStanding: (*exchange).standing, callFence: (*exchange).fence, callAdmit: (*exchange).admit,
	callHoldings: (*exchange).holdings, callFetch: (*exchange).fetch, callFill: (*exchange).fill, callBury: (*exchange).bury,
	callSeal: (*exchange).seal, callMake: (*exchange).make, callCopy: (*exchange).copy, callDeletes: (*exchange).deletes,
	callMend: (*exchange).mend, callShelf: (*exchange).shelf, callOpen: (*exchange).open, callGet: (*exchange).get, callPut: (*exchange).put,
	callFile: (*exchange).file, callName: (*exchange).name,
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := h.route(w, r)
	if !ok {
		return
	}
	node, ok := h.o.Caller(r.Context())
	if !ok {
		http.Error(w, "the caller is not a node of the cluster", http.StatusForbidden)
		return
	}
	ctx, cancel, ok := h.deadline(r, name)
	if !ok {
		http.Error(w, headerTimeout+" is not a number of milliseconds", http.StatusBadRequest)
		return
	}
	defer cancel()
	// What blocks on the connection is let go when the call's time is over.
	out := newAnswer(w, h.o.Timing)
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		out.sockets.end(r.Context().Err() == nil)
		close(over)
	})
	e := &exchange{h: h, call: name, node: node, out: out, cancel: cancel}
	e.in = frames{r: r.Body}
	if classOf[name].long() {
		e.in.waiting = out.sockets.reading
	}
	err := h.serve(ctx, e, node)
	out.quiet()
	if !stop() {
		<-over
	}
	switch {
	case err != nil && ctx.Err() != nil:
		panic(http.ErrAbortHandler) // the connection has no time left
	case errors.Is(err, errMalformed) && !out.began():
		http.Error(w, err.Error(), http.StatusBadRequest)
	case err != nil:
		panic(http.ErrAbortHandler) // the answer is cut off, and known to be
	}
}

// route says which call a request is, or answers it.
func (h *handler) route(w http.ResponseWriter, r *http.Request) (call, bool) {
	rest, ok := strings.CutPrefix(r.URL.Path, pathPrefix)
	v, name, ok2 := strings.Cut(rest, "/")
	switch _, known := classOf[call(name)]; {
	case !ok || !ok2:
		http.NotFound(w, r)
	case v != version:
		w.Header().Set(headerVersions, version)
		http.Error(w, "version "+strconv.Quote(v)+" is not spoken", http.StatusNotImplemented)
	case !known:
		http.NotFound(w, r)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "only POST", http.StatusMethodNotAllowed)
	default:
		return call(name), true
	}
	return "", false
}

// deadline gives a call the time that its caller has, and no more than calls have.
func (h *handler) deadline(r *http.Request, name call) (context.Context, context.CancelFunc, bool) {
	limit := h.o.Timing.Timeout
	if classOf[name].long() {
		limit = 0
	}
	if text := r.Header.Get(headerTimeout); text != "" {
		ms, err := strconv.ParseUint(text, 10, 32)
		if err != nil || ms == 0 {
			return nil, nil, false
		}
		if d := time.Duration(ms) * time.Millisecond; limit == 0 || d < limit {
			limit = d
		}
	}
	if limit == 0 {
		ctx, cancel := context.WithCancel(r.Context())
		return ctx, cancel, true
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	return ctx, cancel, true
}

// serve answers a call. An error means that there is no whole answer.
func (h *handler) serve(ctx context.Context, e *exchange, node string) error {
	leave, err := h.enter(ctx, node, classOf[e.call])
	if err != nil {
		return e.out.end(nil, unavailable(err))
	}
	defer leave()
	head, err := e.in.want(kindArgs)
	if err != nil {
		return cutShort(err)
	}
	b, err := e.in.payload(head)
	if err != nil {
		return cutShort(err)
	}
	if e.args, err = parseArgs(b, tailOf(e.call)); err != nil {
		return err
	}
	result, err := serves[e.call](e, ctx)
	var broken *brokenError
	if errors.As(err, &broken) {
		return broken.err
	}
	return e.out.end(result, err)
}

// enter waits for a slot, not longer than the caller waits for a sign of life.
func (h *handler) enter(ctx context.Context, node string, c class) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, h.o.Timing.Patience*9/10)
	defer cancel()
	return h.slots.enter(ctx, node, c)
}

// brokenError is why an exchange cannot go on: the request was not understood, or
// the connection is gone. It is nothing that the Peer said.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

func broken(err error) error {
	if err == nil {
		return nil
	}
	return &brokenError{cutShort(err)}
}

// cutShort: a request that is not whole is malformed. If nobody waits for an answer
// it does no harm.
func cutShort(err error) error {
	if errors.Is(err, errMalformed) {
		return err
	}
	return malformed("the request ends early: %v", err)
}

// whole reads the end of the request: only then it counts. From then on a long call
// shows that it is at work.
func (e *exchange) whole() error {
	h, err := e.in.want(kindEnd)
	if err == nil && h.n > 0 {
		err = malformed("the end of a request has %d bytes", h.n)
	}
	if err == nil {
		err = e.in.into(h, nil)
	}
	if err == nil {
		err = e.in.finish()
	}
	if err == nil && classOf[e.call].long() {
		e.out.beat(e.cancel)
	}
	return broken(err)
}

// machine is the time by which sockets go.
var machine clock.Real
