package feed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/feed/timeline"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

// roof is a feed on a real Raft group whose state lies in a file system that
// can lose what was not synced.
type roof struct {
	t     *testing.T
	dir   string
	fs    *vfs.MemFS
	lines *vfs.MemFS
	rng   *rand.Rand

	mu   sync.Mutex // guards next
	next id.ID

	group *raftgroup.Group
	feed  *Feed
	stop  func()
}

func (r *roof) open() {
	r.t.Helper()
	m := NewMachine()
	g, err := raftgroup.Open(context.Background(), raftgroup.Options{
		Dirs: []string{r.dir}, Name: "feed", NodeID: "n1", Machine: m, FS: r.fs,
		SnapshotEntries: 1 << 30, SnapshotBytes: 1 << 40, // the log lies elsewhere and must not lose what a clone of fs lacks
	})
	if err != nil {
		r.t.Fatal(err)
	}
	f, err := Open(Options{
		Group: g, Machine: m, Member: "n1", TimelineDirs: []string{"timelines"}, Clock: clock.Real{},
		Timeline: timeline.Options{FS: r.lines, Cap: 20},
		Mint: func(context.Context) (id.ID, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.next = max(r.next+1, id.Make(id.MillisOf(time.Now()), 3, 0))
			return r.next, nil
		},
		Policy: Policy{CelebrityThreshold: 2},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.group, r.feed = g, f // the handlers use it
	var wg sync.WaitGroup
	wg.Go(func() { r.ended("Run", f.Run(ctx)) })
	wg.Go(func() { r.ended("RunEffects", f.RunEffects(ctx, EffectTranscode, 2, r.transcode)) })
	wg.Go(func() {
		r.ended("RunEffects", f.RunEffects(ctx, EffectReclaim, 1, func(context.Context, Effect) error { return nil }))
	})
	r.stop = func() { cancel(); wg.Wait() }
}

// ended wants a background loop to have ended because it was told to.
func (r *roof) ended(what string, err error) {
	if !errors.Is(err, context.Canceled) {
		r.t.Errorf("%s: %v", what, err)
	}
}

func (r *roof) transcode(ctx context.Context, e Effect) error {
	p, err := r.feed.Master(ctx, e.Photo)
	if errors.Is(err, ErrNotFound) || err == nil && p.Status != Pending {
		return nil
	}
	if err != nil {
		return err
	}
	blob, err := r.feed.newID(ctx)
	if err != nil {
		return err
	}
	if err := r.feed.Intend(ctx, e.Photo, blob); err != nil {
		return err
	}
	return r.feed.MarkReady(ctx, e.Photo, rendition(blob))
}

func (r *roof) close() {
	r.stop()
	if err := errors.Join(r.feed.Close(), r.group.Close()); err != nil {
		r.t.Error(err)
	}
}

// Users post, like and delete at the same time on a real group that loses
// power; what was acknowledged is there afterwards, and only that.
func TestAcknowledgedSurvivesCrashes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := &roof{
		t: t, dir: t.TempDir(), fs: vfs.NewCrashableMem(), lines: vfs.NewCrashableMem(),
		rng: rand.New(rand.NewPCG(seed, 0)),
	}
	ctx := context.Background()
	r.open()
	var users []id.ID
	for i := range 4 {
		u, _, err := r.feed.CreateAccount(ctx, NewAccount{
			Handle: fmt.Sprintf("user%d", i), PasswordHash: "x",
			Session: NewSession{TokenHash: [32]byte{byte(i + 1)}, ExpiresAt: time.Now().Add(time.Hour)},
		})
		if err != nil {
			t.Fatal(err)
		}
		users = append(users, u.ID)
	}
	for i := range users { // all follow the first, who becomes a celebrity, and their neighbour
		for _, a := range []id.ID{users[0], users[(i+1)%len(users)]} {
			if err := r.feed.Follow(ctx, users[i], a); err != nil && a != users[i] {
				t.Fatal(err)
			}
		}
	}
	posted := make([]map[id.ID]bool, len(users)) // value: deleted
	for i := range posted {
		posted[i] = map[id.ID]bool{}
	}
	for range 3 {
		var wg sync.WaitGroup
		half := make(chan struct{})
		for i, u := range users {
			wg.Go(func() {
				for n := range 8 {
					if n == 4 && i == 0 {
						close(half)
					}
					if !r.userStep(u, n, posted[i]) {
						return
					}
				}
			})
		}
		<-half
		cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: r.rng.IntN(101), RNG: r.rng}
		lines, state := r.lines.CrashClone(cfg), r.fs.CrashClone(cfg) // in the middle of it all
		wg.Wait()
		r.close()
		r.lines, r.fs = lines, state
		r.open()
	}
	r.verify(users, posted)
	r.close()
}

// userStep posts one photo and at times deletes it again.
func (r *roof) userStep(user id.ID, n int, posted map[id.ID]bool) bool {
	ctx := context.Background()
	photo, err := r.feed.BeginUpload(ctx, user, UploadSpec{Size: 1000, ContentType: "image/jpeg", ExpiresAt: time.Now().Add(time.Minute)})
	var blob id.ID
	if err == nil {
		blob, err = r.feed.newID(ctx)
	}
	if err == nil {
		err = r.feed.Intend(ctx, photo, blob)
	}
	if err == nil {
		err = r.feed.Stored(ctx, photo, master(blob), &Details{Title: "t"})
	}
	if err == nil {
		posted[photo] = false
		if n%3 == 0 {
			if err = r.feed.DeletePhoto(ctx, user, photo, n == 6); err == nil {
				posted[photo] = true
			}
		}
	}
	if err != nil {
		r.t.Errorf("user %v: %v", user, err)
	}
	return err == nil
}

func (r *roof) verify(users []id.ID, posted []map[id.ID]bool) {
	t := r.t
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for i, u := range users {
		live := 0
		for photo, deleted := range posted[i] {
			p, err := r.feed.WaitReady(ctx, u, photo)
			if deleted != errors.Is(err, ErrNotFound) || !deleted && (err != nil || p.Status != Ready) {
				t.Errorf("photo %v, deleted %v: %v, %v", photo, deleted, p.Status, err)
			}
			if !deleted {
				live++
			}
		}
		v, err := r.feed.UserByID(ctx, 0, u)
		if err != nil || v.Photos != uint64(live) || v.Celebrity != (v.Followers >= 2) {
			t.Errorf("user %+v, %v: %d live", v, err, live)
		}
	}
	seen, last := map[id.ID]bool{}, Pos(0)
	for p := (Page{Limit: 7}); ; {
		rows, next, err := r.feed.FeedPage(ctx, users[3], p) // follows the first, and so sees two
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if seen[row.ID] || last != 0 && row.Pos >= last {
				t.Errorf("%v at %v after %v", row.ID, row.Pos, last)
			}
			seen[row.ID], last = true, row.Pos
		}
		if next == 0 {
			break
		}
		p.After = next
	}
	for i, of := range posted {
		for photo, deleted := range of {
			if want := !deleted && (i == 0 || i == 3); seen[photo] != want {
				t.Errorf("photo %v of user %d in the feed: %v, want %v", photo, i, seen[photo], want)
			}
		}
	}
	if err := r.feed.Check(ctx, func(f Finding) { t.Errorf("%x: %s", f.Key, f.Text) }); err != nil {
		t.Error(err)
	}
}
