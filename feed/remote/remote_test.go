package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hayloft/feed"
	"hayloft/feed/timeline"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// local carries calls to a Server of this process.
type local struct {
	s     *Server
	cut   atomic.Bool
	twice atomic.Bool // calls that may be repeated are: their first answers are lost
}

var errCut = errors.New("test: cut off")

func (l *local) Call(ctx context.Context, again bool, req []byte) ([]byte, bool, error) {
	if l.cut.Load() {
		return nil, false, errCut
	}
	repeated := again && l.twice.Load()
	if repeated {
		if _, err := l.s.Serve(ctx, req); err != nil {
			return nil, false, err
		}
	}
	answer, err := l.s.Serve(ctx, req)
	return answer, repeated, err
}

// world is a feed, and the same feed over the wire.
type world struct {
	t    testing.TB
	ctx  context.Context
	seq  atomic.Uint64
	feed *feed.Feed
	to   *local
	c    *Client
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, ctx: t.Context()}
	w.seq.Store(uint64(id.Make(id.MillisOf(time.Now()), 3, 0)))
	m := feed.NewMachine()
	g, err := raftgroup.Open(t.Context(), raftgroup.Options{Dirs: []string{t.TempDir()}, Name: "feed", NodeID: "n1", Machine: m})
	w.must(err)
	w.feed, err = feed.Open(feed.Options{Group: g, Machine: m, Member: "n1", TimelineDirs: []string{t.TempDir()}, SearchDirs: []string{t.TempDir()},
		Timeline: timeline.Options{CacheBytes: 1 << 20, MemoryBytes: 1 << 20},
		Mint:     func(context.Context) (id.ID, error) { return id.ID(w.seq.Add(1)), nil }})
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- w.feed.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ran // ends with ctx's error
		w.must(errors.Join(w.feed.Close(), g.Close()))
	})
	w.to = &local{s: NewServer(w.feed)}
	w.c = New(w.to)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// same wants two answers to be equal.
func same[T any](w *world, what string, remote, here T, errs ...error) {
	w.t.Helper()
	w.must(errors.Join(errs...))
	if !reflect.DeepEqual(remote, here) {
		w.t.Errorf("%s: over the wire %+v, here %+v", what, remote, here)
	}
}

func (w *world) account(handle string) feed.User {
	w.t.Helper()
	u, s, err := w.c.CreateAccount(w.ctx, feed.NewAccount{Handle: handle, PasswordHash: "x",
		Session: feed.NewSession{TokenHash: [32]byte{handle[0]}, ExpiresAt: time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)}})
	w.must(err)
	got, err := w.c.SessionByToken(w.ctx, [32]byte{handle[0]})
	same(w, "session", got, s, err)
	return u
}

func (w *world) post(owner id.ID, d *feed.Details) id.ID {
	w.t.Helper()
	photo, err := w.c.BeginUpload(w.ctx, owner, feed.UploadSpec{Size: 9, ContentType: "image/jpeg", ExpiresAt: time.Now().Add(time.Hour)})
	w.must(err)
	blob := id.ID(w.seq.Add(1))
	w.must(w.c.Intend(w.ctx, photo, blob))
	w.must(w.c.Stored(w.ctx, photo, feed.Master{Blob: blob, Cookie: 7, Size: 9, ContentType: "image/jpeg", Digest: [32]byte{1}, Width: 3, Height: 3}, d))
	return photo
}

func (w *world) ready(photo id.ID) {
	w.t.Helper()
	blob := id.ID(w.seq.Add(1))
	w.must(w.c.Intend(w.ctx, photo, blob))
	w.must(w.c.MarkReady(w.ctx, photo, feed.Rendition{Blob: blob, Cookie: 9, Variants: []feed.Variant{{Alt: 1, Width: 3, Height: 3, Size: 5}}, Placeholder: "p", Colour: "#010203"}))
}

// TestSameAnswers: what a client is told over the wire is what the feed says.
func TestSameAnswers(t *testing.T) {
	w := newWorld(t)
	anna, bob := w.account("anna"), w.account("bob")
	w.must(w.c.Follow(w.ctx, bob.ID, anna.ID))
	where := &feed.Location{Lat: 52.5, Lng: 13.4, Name: "here"}
	photo := w.post(anna.ID, &feed.Details{Title: "one", Tags: []string{"a", "b"}, People: []id.ID{bob.ID}, Location: where})
	w.ready(photo)
	w.must(w.c.Like(w.ctx, bob.ID, photo))
	c, err := w.c.AddComment(w.ctx, bob.ID, photo, "hello", 0)
	w.must(err)
	_, err = w.c.AddComment(w.ctx, anna.ID, photo, "reply", c.ID)
	w.must(err)

	page := feed.Page{Limit: 10}
	rows, next, err := w.c.FeedPage(w.ctx, bob.ID, page)
	rows2, next2, err2 := w.feed.FeedPage(w.ctx, bob.ID, page)
	same(w, "feed", rows, rows2, err, err2)
	same(w, "next", next, next2)
	if len(rows) != 1 || rows[0].Details.Location == nil || *rows[0].Details.Location != *where {
		t.Errorf("%+v", rows)
	}
	p, err := w.c.Photo(w.ctx, bob.ID, photo)
	p2, err2 := w.feed.Photo(w.ctx, bob.ID, photo)
	same(w, "photo", p, p2, err, err2)
	u, err := w.c.UserByHandle(w.ctx, bob.ID, "anna")
	u2, err2 := w.feed.UserByHandle(w.ctx, bob.ID, "anna")
	same(w, "user", u, u2, err, err2)
	cs, _, err := w.c.Comments(w.ctx, bob.ID, photo, page)
	cs2, _, err2 := w.feed.Comments(w.ctx, bob.ID, photo, page)
	same(w, "comments", cs, cs2, err, err2)
	v, err := w.c.Access(w.ctx, p.Rendition.Blob)
	v2, err2 := w.feed.Access(w.ctx, p.Rendition.Blob)
	same(w, "access", v, v2, err, err2)
	up, err := w.c.Upload(w.ctx, photo)
	up2, err2 := w.feed.Upload(w.ctx, photo)
	same(w, "upload", up, up2, err, err2)

	// What is set to nothing is not what is left alone.
	none, title := (*feed.Location)(nil), "two"
	edited, err := w.c.UpdatePhoto(w.ctx, anna.ID, photo, feed.PhotoChange{Title: &title, Location: &none, Tags: &[]string{}})
	w.must(err)
	if d := edited.Details; d.Title != "two" || d.Location != nil || len(d.Tags) != 0 || len(d.People) != 1 {
		t.Errorf("edited to %+v", d)
	}
	before := w.c.AppliedIndex()
	w.must(w.feed.Unlike(w.ctx, bob.ID, photo)) // of which the client does not know
	if err := w.c.Fresh(w.ctx); err != nil || w.c.AppliedIndex() <= before {
		t.Errorf("fresh at %d, after %d: %v", w.c.AppliedIndex(), before, err)
	}
	if w.c.AppliedIndex() == 0 || w.c.Ready() != nil || w.c.Ping(w.ctx) != nil {
		t.Errorf("index %d, ready %v", w.c.AppliedIndex(), w.c.Ready())
	}
}

// TestErrorsKeepTheirIdentity: each error of the feed is the same on the other side,
// and what was cut short is unavailable.
func TestErrorsKeepTheirIdentity(t *testing.T) {
	for _, c := range codes {
		got := failureOf(fmt.Errorf("somewhere: %w", c.err)).error()
		if !errors.Is(got, c.err) {
			t.Errorf("%v arrives as %v", c.err, got)
		}
	}
	inv := feed.Invalid{Field: "name", Reason: "is too long"}
	if got, ok := errors.AsType[feed.Invalid](failureOf(inv).error()); !ok || got != inv {
		t.Errorf("%v arrives as %v", inv, got)
	}
	var gap *feed.PurgeGap
	if !errors.As(failureOf(&feed.PurgeGap{Resume: 7}).error(), &gap) || gap.Resume != 7 {
		t.Errorf("a gap arrives as %+v", gap)
	}
	w := newWorld(t)
	anna := w.account("anna")
	if _, err := w.c.Photo(w.ctx, anna.ID, id.ID(w.seq.Add(1))); !errors.Is(err, feed.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if err := w.c.Follow(w.ctx, anna.ID, anna.ID); !errors.Is(err, feed.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if err := w.c.call(w.ctx, "Nonsense", false, nil); !errors.Is(err, feed.ErrUnavailable) {
		t.Errorf("an unknown method: %v", err)
	}
	if err := w.c.call(w.ctx, "Follow", false, []any{"x"}); !errors.Is(err, feed.ErrUnavailable) {
		t.Errorf("wrong arguments: %v", err)
	}
	w.to.cut.Store(true)
	if err := w.c.Follow(w.ctx, anna.ID, anna.ID); !errors.Is(err, feed.ErrUnavailable) || w.c.Ready() == nil {
		t.Errorf("cut off: %v, ready %v", err, w.c.Ready())
	}
	w.to.cut.Store(false)
	if err := w.c.Ping(w.ctx); err != nil || w.c.Ready() != nil {
		t.Errorf("back: %v, %v", err, w.c.Ready())
	}
}

// TestIdempotencyTravels: a repeat is known again, and its caller learns of the first.
func TestIdempotencyTravels(t *testing.T) {
	w := newWorld(t)
	anna := w.account("anna")
	spec := feed.UploadSpec{Size: 9, ContentType: "image/jpeg", ExpiresAt: time.Now().Add(time.Hour)}
	key := feed.Idempotency{Account: anna.ID, Route: "POST /x", Key: "k", Fingerprint: [32]byte{5}}
	first, err := w.c.BeginUpload(feed.WithIdempotency(w.ctx, key), anna.ID, spec)
	w.must(err)
	var earlier id.ID
	key.Earlier = &earlier
	second, err := w.c.BeginUpload(feed.WithIdempotency(w.ctx, key), anna.ID, spec)
	w.must(err)
	if second != first || earlier != first {
		t.Errorf("first %v, then %v, earlier %v", first, second, earlier)
	}
	if got, found, err := w.c.Repeated(w.ctx, key); err != nil || !found || got != first {
		t.Errorf("%v, %v, %v", got, found, err)
	}
	key.Fingerprint[0]++
	if _, err := w.c.BeginUpload(feed.WithIdempotency(w.ctx, key), anna.ID, spec); !errors.Is(err, feed.ErrIdempotencyReused) {
		t.Errorf("%v", err)
	}
}

// TestWorker: a process without a replica handles effects, well and badly.
func TestWorker(t *testing.T) {
	w := newWorld(t)
	anna := w.account("anna")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	b := feed.Borrower{Lender: w.c, Holder: "worker", Clock: clock.Real{}, Finish: w.c.Finish}
	bad := w.post(anna.ID, &feed.Details{})
	good := w.post(anna.ID, &feed.Details{})
	go func() {
		ended <- b.RunEffects(ctx, feed.EffectTranscode, 2, func(ctx context.Context, e feed.Effect) error {
			row, err := w.c.Master(ctx, e.Photo)
			if err != nil || row.Status != feed.Pending {
				return err
			}
			if e.Photo == bad {
				return feed.Poison(errors.New("it explodes"))
			}
			w.ready(e.Photo)
			return nil
		})
	}()
	if v, err := w.c.WaitReady(w.ctx, anna.ID, good); err != nil || v.Status != feed.Ready {
		t.Errorf("%+v, %v", v.Status, err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(5 * time.Millisecond) {
		parked, err := w.feed.ParkedEffects(w.ctx, 0, 10)
		w.must(err)
		if len(parked) == 1 && parked[0].Photo == bad && parked[0].Reason == "it explodes" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("parked: %+v", parked)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestImpatientCallersSayNothing: a call that its caller gave up does not make the whole
// node unready; one that failed does.
func TestImpatientCallersSayNothing(t *testing.T) {
	w := newWorld(t)
	w.must(w.c.Ping(w.ctx))
	w.to.cut.Store(true)
	gone, cancel := context.WithCancel(w.ctx)
	cancel()
	if _, err := w.c.UserByHandle(gone, 0, "ada"); !errors.Is(err, feed.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if err := w.c.Ready(); err != nil {
		t.Errorf("one caller was impatient: %v", err)
	}
	if _, err := w.c.UserByHandle(w.ctx, 0, "ada"); !errors.Is(err, feed.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if w.c.Ready() == nil {
		t.Error("ready, and the last call failed")
	}
}

// TestLeaderLends: a member that does not lead borrows from the one that does, over the
// wire; so each call that it makes is one that is answered.
func TestLeaderLends(t *testing.T) {
	w := newWorld(t)
	anna := w.account("anna")
	photo := w.post(anna.ID, &feed.Details{})
	var l feed.Lender = NewLeader(w.to)
	e, err := l.Lend(w.ctx, feed.EffectTranscode, "follower")
	w.must(err)
	if e == nil || e.Photo != photo {
		t.Fatalf("%+v, want photo %v", e, photo)
	}
	w.must(l.Keep(w.ctx, e.Seq, "follower"))
	if err := l.Keep(w.ctx, e.Seq, "another"); !errors.Is(err, feed.ErrNotFound) {
		t.Errorf("another's loan: %v", err)
	}
	w.must(l.Return(w.ctx, e.Seq, "follower"))
	again, err := w.c.Lend(w.ctx, feed.EffectTranscode, "beside")
	if err != nil || again == nil || again.Seq != e.Seq {
		t.Errorf("given back: %+v, %v", again, err)
	}
}

// TestEveryMethodIsServed: what clients call is known to servers.
func TestEveryMethodIsServed(t *testing.T) {
	w := newWorld(t)
	for _, file := range []string{"methods.go", "pages.go", "graph.go", "leader.go", "client.go"} {
		text, err := os.ReadFile(file)
		w.must(err)
		called := regexp.MustCompile(`(?:ctx, (?:l\.)?c, |call\(ctx, )"(\w+)"`).FindAllSubmatch(text, -1)
		if len(called) == 0 {
			t.Errorf("%s calls nothing", file)
		}
		for _, m := range called {
			if _, ok := w.to.s.methods[string(m[1])]; !ok {
				t.Errorf("%s: %s is not served", file, m[1])
			}
		}
	}
}

// TestRepetitionOfWhatIsDone: when the answer to a call that removes something is lost,
// the call is repeated at another node, which finds nothing to remove. Whoever asked was
// told that there had been nothing.
func TestRepetitionOfWhatIsDone(t *testing.T) {
	w := newWorld(t)
	anna := w.account("anna")
	photo := w.post(anna.ID, &feed.Details{Title: "one"})
	w.ready(photo)
	comment, err := w.c.AddComment(w.ctx, anna.ID, photo, "hello", 0)
	w.must(err)
	session, err := w.c.SessionByToken(w.ctx, [32]byte{'a'})
	w.must(err)
	remove := map[string]func() error{
		"comment": func() error { return w.c.DeleteComment(w.ctx, anna.ID, comment.ID) },
		"session": func() error { return w.c.DeleteSession(w.ctx, anna.ID, session.ID) },
	}
	w.to.twice.Store(true)
	w.must(w.c.DeletePhoto(w.ctx, anna.ID, photo, false))
	if p, err := w.c.RestorePhoto(w.ctx, anna.ID, photo); err != nil || p.ID != photo {
		t.Errorf("restored: %+v, %v", p, err)
	}
	for what, f := range remove {
		if err := f(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.must(w.c.DeletePhoto(w.ctx, anna.ID, photo, true))
	if _, err := w.c.Photo(w.ctx, anna.ID, photo); !errors.Is(err, feed.ErrNotFound) {
		t.Errorf("what reads is told what there is: %v", err)
	}
	w.to.twice.Store(false)
	remove["photo"] = func() error { return w.c.DeletePhoto(w.ctx, anna.ID, photo, true) }
	for what, f := range remove {
		if err := f(); !errors.Is(err, feed.ErrNotFound) {
			t.Errorf("%s that was not there: %v", what, err)
		}
	}
}
