package feed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/feed/timeline"
	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
	"hayloft/internal/testenv"
)

// replicas are three feeds on one group, with streams over loopback, that can be
// stopped, started, and cut off from one another.
type replicas struct {
	t    *testing.T
	ctx  context.Context
	dirs map[string]string
	seq  atomic.Uint64 // of ids, shared

	mu    sync.Mutex // guards all below
	addrs map[string]string
	open  map[string]*replica
	cut   map[string]bool // takes and makes no calls
}

// replica is one of them.
type replica struct {
	*Feed
	name  string
	group *raftgroup.Group
	stop  func()
}

var errCut = errors.New("test: cut off")

func newReplicas(t *testing.T) *replicas {
	r := &replicas{t: t, ctx: t.Context(), dirs: map[string]string{}, addrs: map[string]string{}, open: map[string]*replica{}, cut: map[string]bool{}}
	r.seq.Store(uint64(id.Make(id.MillisOf(time.Now()), 3, 0)))
	for _, name := range []string{"n1", "n2", "n3"} {
		r.dirs[name] = t.TempDir()
		r.start(name)
	}
	for _, name := range []string{"n2", "n3"} {
		r.must(r.any().group.AddVoter(r.within(testenv.Patience), name))
	}
	t.Cleanup(func() {
		for name := range r.dirs {
			r.stop(name)
		}
	})
	return r
}

func (r *replicas) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *replicas) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(r.ctx, d)
	r.t.Cleanup(cancel)
	return ctx
}

// Call implements raftgroup.Peers for one of them.
type caller struct {
	r    *replicas
	from string
}

func (c caller) Call(ctx context.Context, member string, req []byte) ([]byte, error) {
	c.r.mu.Lock()
	to := c.r.open[member]
	cut := c.r.cut[member] || c.r.cut[c.from]
	c.r.mu.Unlock()
	if to == nil || cut {
		return nil, errCut
	}
	return to.group.Serve(ctx, c.from, req)
}

func (c caller) dial(member string, timeout time.Duration) (net.Conn, error) {
	c.r.mu.Lock()
	addr := c.r.addrs[member]
	cut := c.r.cut[member] || c.r.cut[c.from]
	c.r.mu.Unlock()
	if cut {
		return nil, errCut
	}
	return net.DialTimeout("tcp", addr, timeout)
}

// lender reaches whoever leads.
type lender struct{ caller }

func (l lender) leader() (*Feed, error) {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	for name, m := range l.r.open {
		if name != l.from && !l.r.cut[name] && !l.r.cut[l.from] && m.group.Leading() == nil {
			return m.Feed, nil
		}
	}
	return nil, ErrUnavailable
}

func (l lender) Lend(ctx context.Context, kind EffectKind, holder string) (*Effect, error) {
	f, err := l.leader()
	if err != nil {
		return nil, err
	}
	return f.Lend(ctx, kind, holder)
}

func (l lender) Keep(ctx context.Context, seq uint64, holder string) error {
	f, err := l.leader()
	if err != nil {
		return err
	}
	return f.Keep(ctx, seq, holder)
}

func (l lender) Return(ctx context.Context, seq uint64, holder string) error {
	f, err := l.leader()
	if err != nil {
		return err
	}
	return f.Return(ctx, seq, holder)
}

func (r *replicas) start(name string) *replica {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err)
	r.mu.Lock()
	r.addrs[name] = l.Addr().String()
	r.mu.Unlock()
	m := NewMachine()
	c := caller{r, name}
	g, err := raftgroup.Open(r.ctx, raftgroup.Options{
		Dirs: []string{r.dirs[name] + "/raft"}, Name: "feed", NodeID: name, Machine: m, Join: name != "n1", Peers: c,
		Transport: raftgroup.NewTransport(name, l, c.dial, func(raftgroup.Event) {}),
	})
	r.must(err)
	f, err := Open(Options{
		Group: g, Machine: m, Member: name, TimelineDirs: []string{r.dirs[name] + "/timelines"}, Lender: lender{c},
		Timeline: timeline.Options{Cap: 20, CacheBytes: 1 << 20, MemoryBytes: 1 << 20},
		Mint:     func(context.Context) (id.ID, error) { return id.ID(r.seq.Add(1)), nil },
		Policy:   Policy{CelebrityThreshold: 3},
	})
	r.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- f.Run(ctx) }()
	rep := &replica{Feed: f, name: name, group: g}
	rep.stop = func() {
		cancel()
		if err := <-ran; !errors.Is(err, context.Canceled) {
			r.t.Errorf("%s: Run: %v", name, err)
		}
		r.must(errors.Join(f.Close(), g.Close()))
	}
	r.mu.Lock()
	r.open[name] = rep
	r.mu.Unlock()
	return rep
}

func (r *replicas) stop(name string) {
	r.mu.Lock()
	rep := r.open[name]
	delete(r.open, name)
	r.mu.Unlock()
	if rep != nil {
		rep.stop()
	}
}

// any is one that leads, once there is one.
func (r *replicas) any() *replica {
	r.t.Helper()
	var found *replica
	r.eventually("somebody leads", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for name, m := range r.open {
			if m.group.Leading() == nil && !r.cut[name] {
				found = m
			}
		}
		return found != nil
	})
	return found
}

// followers are the others.
func (r *replicas) followers() (out []*replica) {
	lead := r.any()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.open {
		if m != lead {
			out = append(out, m)
		}
	}
	return out
}

func (r *replicas) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(testenv.Patience); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("in vain: %s", what)
		}
	}
}

func (r *replicas) account(f *replica, handle string) id.ID {
	r.t.Helper()
	u, _, err := f.CreateAccount(r.ctx, NewAccount{Handle: handle, PasswordHash: "x",
		Session: NewSession{TokenHash: [32]byte{handle[0], handle[len(handle)-1]}, ExpiresAt: time.Now().Add(time.Hour)}})
	r.must(err)
	return u.ID
}

// post brings a photo up to pending through one replica.
func (r *replicas) post(f *replica, owner id.ID) id.ID {
	r.t.Helper()
	photo, err := f.BeginUpload(r.ctx, owner, UploadSpec{Size: 9, ContentType: "image/jpeg", ExpiresAt: time.Now().Add(time.Hour)})
	r.must(err)
	blob := id.ID(r.seq.Add(1))
	r.must(f.Intend(r.ctx, photo, blob))
	r.must(f.Stored(r.ctx, photo, Master{Blob: blob, Cookie: 7, Size: 9, ContentType: "image/jpeg", Digest: [32]byte{1}, Width: 3, Height: 3}, &Details{}))
	return photo
}

func (r *replicas) ready(f *replica, photo id.ID) {
	r.t.Helper()
	blob := id.ID(r.seq.Add(1))
	r.must(f.Intend(r.ctx, photo, blob))
	r.must(f.MarkReady(r.ctx, photo, rendition(blob)))
}

// feedOf is a reader's whole feed, on one replica, which has applied index.
func (r *replicas) feedOf(f *replica, reader id.ID, index uint64) (out []id.ID) {
	r.t.Helper()
	r.must(f.WaitApplied(r.within(testenv.Patience), index))
	for p := (Page{Limit: 3}); ; {
		rows, next, err := f.FeedPage(r.ctx, reader, p)
		r.must(err)
		for _, row := range rows {
			out = append(out, row.ID)
		}
		if next == 0 {
			return out
		}
		p.After = next
	}
}

// TestReplicas: any replica takes commands and answers reads; what one has answered
// is read from every other that has applied its index; nothing is said not to be there
// that another has acknowledged; and all of this goes on when the leader is lost.
func TestReplicas(t *testing.T) {
	r := newReplicas(t)
	f := r.followers()
	anna, bob := r.account(f[0], "anna"), r.account(f[1], "bob")
	r.must(f[0].Follow(r.ctx, bob, anna))
	var posted []id.ID
	for i := range 7 {
		by := f[i%2]
		photo := r.post(by, anna)
		other := f[(i+1)%2]
		// Another replica knows the upload at once, though it may be behind.
		if up, err := other.Upload(r.ctx, photo); err != nil || up.Owner != anna {
			t.Fatalf("upload %d: %+v, %v", i, up, err)
		}
		r.ready(other, photo)
		posted = append([]id.ID{photo}, posted...)
		index := other.AppliedIndex()
		for _, m := range append(f, r.any()) {
			if got := r.feedOf(m, bob, index); fmt.Sprint(got) != fmt.Sprint(posted) {
				t.Fatalf("after %d posts %s shows %v, want %v", i+1, m.name, got, posted)
			}
		}
	}
	lead := r.any()
	index := lead.AppliedIndex()
	r.stop(lead.name)
	r.any()
	for _, m := range f {
		if got := r.feedOf(m, bob, index); fmt.Sprint(got) != fmt.Sprint(posted) {
			t.Errorf("%s shows %v without the leader, want %v", m.name, got, posted)
		}
	}
	last := r.post(f[0], anna)
	r.ready(f[1], last)
	again := r.start(lead.name)
	r.must(again.group.Fresh(r.within(testenv.Patience))) // before, it knows that it may be behind
	if got := r.feedOf(again, bob, f[1].AppliedIndex()); len(got) != 8 || got[0] != last {
		t.Errorf("%s came back and shows %v", again.name, got)
	}
}

// TestReplicaCutOff: a replica that is cut off says that it does not know, where it
// would have to say that something is not there, or may be served.
func TestReplicaCutOff(t *testing.T) {
	r := newReplicas(t)
	f := r.followers()[0]
	anna := r.account(f, "anna")
	photo := r.post(f, anna)
	r.ready(f, photo)
	row, err := f.Master(r.ctx, photo)
	r.must(err)
	if v, err := f.Access(r.ctx, row.Rendition.Blob); err != nil || v.Access != AccessPublic {
		t.Fatalf("%+v, %v", v, err)
	}
	r.mu.Lock()
	r.cut[f.name] = true
	r.mu.Unlock()
	r.eventually("the replica knows", func() bool { return f.group.Staleness() > verdictAge })
	short := func() context.Context { return r.within(300 * time.Millisecond) }
	if _, err := f.Access(short(), row.Rendition.Blob); !errors.Is(err, ErrUnavailable) {
		t.Errorf("access: %v", err)
	}
	if _, err := f.Photo(short(), anna, photo+1); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a photo that is not there yet: %v", err)
	}
	if _, _, err := f.Purges(short(), 0, 1); !errors.Is(err, ErrUnavailable) {
		t.Errorf("purges: %v", err)
	}
	if _, err := f.Photo(short(), anna, photo); err != nil { // within MaxStale
		t.Errorf("what it knows: %v", err)
	}
	r.mu.Lock()
	r.cut[f.name] = false
	r.mu.Unlock()
	r.eventually("it is back", func() bool {
		v, err := f.Access(short(), row.Rendition.Blob)
		return err == nil && v.Access == AccessPublic
	})
}

// TestEffectsAreLentOnce: every member handles effects, each effect is handled by one
// of them, and those of one that died by another.
func TestEffectsAreLentOnce(t *testing.T) {
	r := newReplicas(t)
	lead := r.any()
	anna := r.account(lead, "anna")
	var mu sync.Mutex
	seen, by := map[id.ID]int{}, map[string]int{}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	hold := make(chan struct{})
	for _, m := range append(r.followers(), lead) {
		running.Go(func() {
			err := m.RunEffects(ctx, EffectTranscode, 2, func(_ context.Context, e Effect) error {
				mu.Lock()
				seen[e.Photo]++
				by[m.name]++
				mu.Unlock()
				<-hold // so that each member gets some
				r.ready(m, e.Photo)
				return nil
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", m.name, err)
			}
		})
	}
	var photos []id.ID
	for range 6 {
		photos = append(photos, r.post(lead, anna))
	}
	r.eventually("each of six workers has one", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == 6 })
	close(hold)
	for range 12 {
		photos = append(photos, r.post(lead, anna))
	}
	for _, p := range photos {
		if v, err := lead.WaitReady(r.within(testenv.Patience), anna, p); err != nil || v.Status != Ready {
			t.Fatalf("%v: %+v, %v", p, v.Status, err)
		}
	}
	cancel()
	running.Wait()
	for p, n := range seen {
		if n != 1 {
			t.Errorf("%v was handled %d times", p, n)
		}
	}
	if len(by) != 3 {
		t.Errorf("handled by %v", by)
	}
}

// TestEventsWaitForTheOthers: events are kept until every member has them, and not for
// those that are members no more.
func TestEventsWaitForTheOthers(t *testing.T) {
	r := newReplicas(t)
	lead := r.any()
	anna := r.account(lead, "anna")
	photo := r.post(lead, anna)
	r.ready(lead, photo)
	f := r.followers()
	last := uint64(0)
	r.must(lead.read(r.ctx, func(v *view) (err error) { last, err = v.meta(metaEvent); return err }))
	through := func() uint64 {
		n, err := lead.processed(r.ctx, last)
		r.must(err)
		return n
	}
	tell := func(m string, seq uint64) {
		_, err := lead.propose(r.ctx, &cmdWatermark{Member: m, Seq: seq})
		r.must(err)
	}
	tell(f[0].name, 0)
	tell("stranger", 0)
	if n := through(); last == 0 || n != 0 {
		t.Errorf("trimmed through %d of %d though %s is at 0", n, last, f[0].name)
	}
	marks, err := lead.Watermarks(r.ctx)
	r.must(err)
	if _, ok := marks["stranger"]; ok {
		t.Errorf("who is no member is waited for: %v", marks)
	}
	tell(f[0].name, 1<<40) // no further than there are events
	if n := through(); n != last {
		t.Errorf("trimmed through %d, want %d", n, last)
	}
	tell(f[0].name, 0)
	l := lead.laggards[f[0].name]
	through()
	if l = lead.laggards[f[0].name]; l.seq != 0 {
		t.Errorf("%+v", l)
	}
	lead.laggards[f[0].name] = laggard{0, l.since - watermarkWait}
	if n := through(); n != last {
		t.Errorf("one that does not move for long is waited for: through %d", n)
	}
}
