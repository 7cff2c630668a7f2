package tools

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"hayloft/internal/admin"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/server"
)

// Kinds of lines in the streams of these calls, besides those of package admin.
const (
	kindFile    = "file"    // of a dump: which file the records below are from
	kindRecord  = "record"  // of a dump
	kindReplica = "replica" // of a verification: what one replica has
	kindNeedle  = "needle"  // of an export, followed by its bytes
	kindDamaged = "damaged" // of an export: a text
)

const base = "/admin/volumes"

// maxLong is how many dumps, verifications, exports and decodings are served at
// once: each reads whole files.
const maxLong = 4

// Serve adds the calls to a door. A nil clock is the machine's.
func Serve(d *admin.Door, k Keeper, c clock.Clock) {
	if c == nil {
		c = clock.Real{}
	}
	s := &service{k: k, clock: c, long: make(chan struct{}, maxLong)}
	d.Look(http.MethodGet, base, s.list)
	d.Look(http.MethodGet, base+"/{volume}", s.show)
	d.Guard(http.MethodGet, base+"/{volume}/dump", s.reading(s.dump))
	d.Guard(http.MethodPost, base+"/{volume}/verify", s.reading(s.verify))
	d.Guard(http.MethodGet, base+"/{volume}/export", s.reading(s.export))
	d.Guard(http.MethodPost, base+"/{volume}/seal", s.seal)
	d.Guard(http.MethodPost, base+"/{volume}/compact", s.compact)
	s.serveCoded(d)
}

// Answers of the calls that are no streams.
type (
	listAnswer struct {
		Volumes []Row `json:"volumes"`
	}
	showAnswer struct {
		Replicas []Detail `json:"replicas"`
	}
)

type service struct {
	k     Keeper
	clock clock.Clock
	long  chan struct{} // places
}

// reading bounds how many long readings there are.
func (s *service) reading(fn func(*admin.Call) error) func(*admin.Call) error {
	return func(c *admin.Call) error {
		select {
		case s.long <- struct{}{}:
			defer func() { <-s.long }()
			return fn(c)
		default:
			return admin.NewProblem("busy", http.StatusServiceUnavailable, "Too much at once", "%d dumps, verifications, exports and decodings are under way: ask again when one has ended", maxLong)
		}
	}
}

func volumeOf(c *admin.Call) (volume.ID, error) {
	n, err := strconv.ParseUint(c.Path("volume"), 10, 32)
	if err != nil || n == 0 {
		return 0, admin.Invalid("%q is not the number of a volume", c.Path("volume"))
	}
	return volume.ID(n), nil
}

// plain is a call's volume when it has no parameters.
func plain(c *admin.Call) (volume.ID, error) {
	if _, err := c.Query(); err != nil {
		return 0, err
	}
	return volumeOf(c)
}

func (s *service) list(c *admin.Call) error {
	if _, err := c.Query(); err != nil {
		return err
	}
	rows, err := s.k.List(c.Context())
	if err != nil {
		return err
	}
	return c.Answer(listAnswer{rows})
}

func (s *service) show(c *admin.Call) error {
	v, err := plain(c)
	if err != nil {
		return err
	}
	replicas, err := s.k.Show(c.Context(), v)
	if err != nil {
		return err
	}
	return c.Answer(showAnswer{replicas})
}

func (s *service) dump(c *admin.Call) error {
	v, err := volumeOf(c)
	if err != nil {
		return err
	}
	values, err := c.Query("kind*", "key", "alt", "from", "to", "damaged", "cookies")
	if err != nil {
		return err
	}
	q, err := queryOf(values)
	if err != nil {
		return err
	}
	if _, err := s.k.Show(c.Context(), v); err != nil { // before the stream says 200
		return err
	}
	to := c.Stream()
	err = s.k.Dump(c.Context(), v, q, DumpSink{
		File:   func(f DumpFile) error { return to.Send(kindFile, f) },
		Record: func(r DumpRecord) error { return to.Send(kindRecord, r) },
	})
	if err != nil {
		return err
	}
	return to.Send(admin.KindResult, struct{}{})
}

// queryOf reads what (Query).values writes.
func queryOf(v url.Values) (q Query, err error) {
	q.Kinds, q.Alt = v["kind"], AllAlts
	number := func(name string, to *int64) {
		if text := v.Get(name); text != "" && err == nil {
			if *to, err = strconv.ParseInt(text, 10, 64); err != nil {
				err = admin.Invalid("%s %q is not a number", name, text)
			}
		}
	}
	flag := func(name string, to *bool) {
		if text := v.Get(name); text != "" && err == nil {
			if *to, err = strconv.ParseBool(text); err != nil {
				err = admin.Invalid("%s %q is neither true nor false", name, text)
			}
		}
	}
	alt := int64(AllAlts)
	number("alt", &alt)
	number("from", &q.From)
	number("to", &q.To)
	flag("damaged", &q.Damaged)
	flag("cookies", &q.Cookies)
	q.Alt = int(alt)
	if text := v.Get("key"); text != "" && err == nil {
		if q.Key, err = id.Parse(text); err != nil {
			err = admin.Invalid("key %q is not a blob id", text)
		}
	}
	if err == nil {
		if err = q.Validate(); err != nil {
			err = admin.Invalid("%v", err)
		}
	}
	return q, err
}

// values is the query as the parameters of a call.
func (q *Query) values() url.Values {
	v := url.Values{}
	for _, k := range q.Kinds {
		v.Add("kind", k)
	}
	set := func(name, text string, given bool) {
		if given {
			v.Set(name, text)
		}
	}
	set("key", q.Key.String(), q.Key != 0)
	set("alt", strconv.Itoa(q.Alt), q.Alt != AllAlts)
	set("from", strconv.FormatInt(q.From, 10), q.From != 0)
	set("to", strconv.FormatInt(q.To, 10), q.To != 0)
	set("damaged", "true", q.Damaged)
	set("cookies", "true", q.Cookies)
	return v
}

func (s *service) verify(c *admin.Call) error {
	v, err := plain(c)
	if err != nil {
		return err
	}
	if _, err := s.k.Show(c.Context(), v); err != nil {
		return err
	}
	to := c.Stream()
	rows, err := s.k.Verify(c.Context(), v, s.telling(to))
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := to.Send(kindReplica, r); err != nil {
			return err
		}
	}
	return to.Send(admin.KindResult, struct{}{})
}

func (s *service) export(c *admin.Call) error {
	v, err := plain(c)
	if err != nil {
		return err
	}
	if _, err := s.k.Show(c.Context(), v); err != nil {
		return err
	}
	to := c.Stream()
	err = s.k.Export(c.Context(), v, ExportSink{
		Needle:  func(e Exported, data []byte) error { return to.SendBytes(kindNeedle, e, data) },
		Damaged: func(text string) error { return to.Send(kindDamaged, text) },
	})
	if err != nil {
		return err
	}
	return to.Send(admin.KindResult, struct{}{})
}

func (s *service) seal(c *admin.Call) error {
	return s.change(c, func(v volume.ID, _ *admin.Stream, report func(Progress)) (any, error) {
		return struct{}{}, s.k.Seal(c.Context(), v, report)
	})
}

func (s *service) compact(c *admin.Call) error {
	return s.change(c, func(v volume.ID, _ *admin.Stream, report func(Progress)) (any, error) {
		return s.k.Compact(c.Context(), v, report)
	})
}

func (s *service) change(c *admin.Call, fn func(volume.ID, *admin.Stream, func(Progress)) (any, error)) error {
	v, err := plain(c)
	if err != nil {
		return err
	}
	if _, err := s.k.Show(c.Context(), v); err != nil {
		return err
	}
	to := c.Stream()
	result, err := fn(v, to, s.telling(to))
	if err != nil {
		return err
	}
	return to.Send(admin.KindResult, result)
}

// telling passes progress on, twice a second at most. That the client has left
// the context says.
func (s *service) telling(to *admin.Stream) func(Progress) {
	last, step := time.Duration(0), ""
	return func(p Progress) {
		if now := s.clock.Elapsed(); p.Step != step || now-last >= tellEvery {
			last, step = now, p.Step
			to.Send(admin.KindProgress, p) //nolint:errcheck // see above
		}
	}
}

// ProblemOf names the errors of these calls for a door; nil: none of them.
func ProblemOf(err error) *admin.Problem {
	for _, p := range []struct {
		is     error
		name   string
		status int
		title  string
	}{
		{volume.ErrNoVolume, "no-such-volume", http.StatusNotFound, "There is no such volume"},
		{volume.ErrNotSealed, "not-sealed", http.StatusConflict, "The volume is not sealed"},
		{ErrNotCoded, "not-coded", http.StatusConflict, "The volume is not coded"},
		{server.ErrPlacement, "too-few-disks", http.StatusConflict, "There are too few disks"},
		{volume.ErrInvalid, "invalid", http.StatusBadRequest, "The request makes no sense"},
		{volume.ErrCorrupt, "corrupt", http.StatusInternalServerError, "Stored bytes are damaged"},
		{server.ErrNoSpace, "no-space", http.StatusInsufficientStorage, "The disk has no room"},
		{volume.ErrNoSpace, "no-space", http.StatusInsufficientStorage, "The disk has no room"},
		{server.ErrUnavailable, "unavailable", http.StatusServiceUnavailable, "Not now"},
		{server.ErrClosed, "unavailable", http.StatusServiceUnavailable, "The server stops"},
	} {
		if errors.Is(err, p.is) {
			return admin.NewProblem(p.name, p.status, p.title, "%s", OneLine(err))
		}
	}
	return nil
}
