package tier

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"hayloft/cache"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// ServerOptions are for NewServer; all but Push and Stall must be given.
type ServerOptions struct {
	Name  string // of this tier, unique among all
	Cache *cache.Cache
	Keys  func() []sign.Key // what private URLs are checked with now
	Path  *Path
	// Push reports whether who asks may put objects in. Nil: nobody may.
	Push func(context.Context) bool
	// Stall is how long a tier may take to read a piece of an object; default 10 s.
	// Beyond, it is cut off: what it reads stays in memory meanwhile.
	Stall time.Duration
}

// Server lends the objects of a cache. Mount it where only tiers can ask.
type Server struct {
	o   ServerOptions
	mux *http.ServeMux
}

// NewServer returns a Server.
func NewServer(o ServerOptions) *Server {
	o.Stall = cmp.Or(o.Stall, 10*time.Second)
	s := &Server{o: o, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET "+pathObject, s.object)
	s.mux.HandleFunc("PUT "+pathObject, s.push)
	s.mux.HandleFunc("GET "+pathVerdict, s.verdict)
	s.mux.HandleFunc("GET "+pathPurges, s.purges)
	s.mux.HandleFunc("GET "+pathKeys, s.keys)
	s.mux.HandleFunc("GET "+pathHot, s.hot)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if slices.Contains(viaTiers(r.Header.Get(headerVia)), s.o.Name) {
		refuse(w, http.StatusLoopDetected, "this question was here before: tiers fill from one another in a circle")
		return
	}
	w.Header().Set(headerVia, viaField([]string{s.o.Name}))
	s.mux.ServeHTTP(w, r)
}

func refuse(w http.ResponseWriter, status int, text string) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, text, status)
}

// object lends one object.
func (s *Server) object(w http.ResponseWriter, r *http.Request) {
	k, ok := s.o.Cache.Key(r.URL.Query().Get("path"))
	if !ok {
		refuse(w, http.StatusNotFound, "no such object")
		return
	}
	defer s.o.Path.enter(k.Blob, viaTiers(r.Header.Get(headerVia)))()
	lent, err := s.o.Cache.Lend(k, r.URL.Query().Has(gutterParam))
	if err != nil {
		if cache.Refusal(err) {
			refuse(w, http.StatusNotFound, "no such object")
		} else {
			refuse(w, http.StatusServiceUnavailable, err.Error())
		}
		return
	}
	defer lent.Release()
	from, err := strconv.Atoi(cmp.Or(r.URL.Query().Get(fromParam), "0"))
	if err != nil || from < 0 || from%chunk != 0 || from >= len(lent.Data) {
		refuse(w, http.StatusBadRequest, "that is no place in the object where a part of it begins")
		return
	}
	h := w.Header()
	h.Set("Content-Type", lent.ContentType)
	h.Set("ETag", lent.ETag)
	h.Set("Content-Length", strconv.FormatInt(framed(len(lent.Data))-framed(from), 10))
	h.Set(headerPath, k.Path())
	h.Set(headerAge, strconv.FormatInt(int64(lent.Age/time.Second), 10))
	h.Set(headerSize, strconv.Itoa(len(lent.Data)))
	out := http.NewResponseController(w)
	_ = writeObject(w, lent.Data, from, func(n int) error {
		s.patience(out)
		if lent.There(n) {
			return nil
		}
		_ = out.Flush() // what was written is of use already; an error shows at the next write
		err := lent.Wait(n)
		s.patience(out)
		return err
	}) // who asked sees that it was cut off
}

// patience lets the next writes take until Stall is over: deadlines of connections follow
// the machine's clock.
func (s *Server) patience(out *http.ResponseController) {
	_ = out.SetWriteDeadline(clock.Real{}.Now().Add(s.o.Stall)) // what is no connection does not stall
}

// push takes an object that was just made.
func (s *Server) push(w http.ResponseWriter, r *http.Request) {
	if s.o.Push == nil || !s.o.Push(r.Context()) {
		refuse(w, http.StatusForbidden, "only nodes put objects in")
		return
	}
	k, ok := s.o.Cache.Key(r.URL.Query().Get("path"))
	if !ok {
		refuse(w, http.StatusBadRequest, "no path of an object")
		return
	}
	obj, err := receive(r.Header, r.Body, r.ContentLength)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	s.o.Cache.Push(k, obj)
	w.WriteHeader(http.StatusNoContent)
}

// seqWait is how long a verdict waits for purges that its asker knows of.
const seqWait = 500 * time.Millisecond

// verdict answers who may be served a blob.
func (s *Server) verdict(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	blob, err := id.Parse(q.Get("blob"))
	seq, err2 := strconv.ParseUint(q.Get("seq"), 10, 64)
	if err = errors.Join(err, err2); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), seqWait)
	err = s.o.Cache.AwaitPurge(ctx, seq)
	cancel()
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, "this tier is behind in the purge log")
		return
	}
	defer s.o.Path.enter(blob, viaTiers(r.Header.Get(headerVia)))()
	v, err := s.o.Cache.Verdict(r.Context(), blob)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, verdictAnswer{v.Audience, v.Epoch, int64(v.Age)})
}

// purges answers with a piece of the purge log, or waits for one.
func (s *Server) purges(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	after, err := strconv.ParseUint(q.Get("after"), 10, 64)
	limit, err2 := strconv.Atoi(q.Get("limit"))
	if err = errors.Join(err, err2); err != nil || limit < 1 {
		refuse(w, http.StatusBadRequest, "after and limit are wanted")
		return
	}
	list, through, age, err := s.o.Cache.Purges(r.Context(), after, min(limit, maxPurges))
	a := purgesAnswer{Through: through, Age: int64(age)}
	if gap := (*cache.GapError)(nil); errors.As(err, &gap) {
		a.Through, a.Gap = gap.Head, true
	} else if err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	for _, p := range list {
		a.Purges = append(a.Purges, purge(p))
	}
	answer(w, a)
}

// keys answers with what private URLs are checked with.
func (s *Server) keys(w http.ResponseWriter, _ *http.Request) {
	list := []keyAnswer{}
	for _, k := range s.o.Keys() {
		list = append(list, keyAnswer{k.Version, k.Secret[:], k.Standby})
	}
	answer(w, list)
}

// hot names public objects that are asked for here.
func (s *Server) hot(w http.ResponseWriter, _ *http.Request) {
	paths := []string{}
	for _, k := range s.o.Cache.Hot(maxHot) {
		paths = append(paths, k.Path())
	}
	answer(w, paths)
}

func answer(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // who asked sees that it was cut off
}
