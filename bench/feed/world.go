package feed

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	service "hayloft/feed"
	"hayloft/feed/timeline"
	"hayloft/internal/clock"
	"hayloft/internal/heap"
	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

// Those whom the graph does not have by itself, numbered after its people.
const (
	planted   = iota // everybody follows it
	wide             // follows some 2,000, celebrities among them
	widest           // follows some 5,000, and so pulls
	celebrity        // the first of them: their posts are pulled
)

const (
	celebrities    = 50
	celebrityPosts = 40
	wideFollows    = 2000
	widestFollows  = 5000
	postSpacing    = 250 // milliseconds between two posts of the history
)

// world is a feed with everything that it needs.
type world struct {
	o      *Options
	dir    string
	g      *graph
	n      int // people of the graph; the others come after them
	begin  id.Millis
	group  *raftgroup.Group
	feed   *service.Feed
	stop   func() error // ends feed.Run
	minted atomic.Uint64
	ready  atomic.Uint64 // photos published since the world began
}

// seeded seeds the state when it is opened for the first time.
type seeded struct {
	*service.Machine
	seed func(*pebble.DB) error
}

// Restored implements raftgroup.Machine.
func (m *seeded) Restored(db *pebble.DB) error {
	if err := m.seed(db); err != nil {
		return err
	}
	return m.Machine.Restored(db)
}

// newWorld makes a world of people readers and opens it.
func newWorld(ctx context.Context, o *Options, people int) (*world, error) {
	w := &world{o: o}
	if err := w.open(ctx, people); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *world) open(ctx context.Context, people int) (err error) {
	o := w.o
	if w.dir, err = os.MkdirTemp(o.Dir, "hayloft-bench-feed-*"); err != nil {
		return err
	}
	if w.g, err = newGraph(o, people); err != nil {
		return err
	}
	w.n = w.g.people()
	w.plant()
	now := time.Now()
	w.begin = id.MillisOf(now) - id.Millis(len(w.g.posts)+1)*postSpacing
	machine := service.NewMachine()
	state, timelines := service.SplitBlocks(service.BlockCache(heap.Machine()))
	w.group, err = raftgroup.Open(ctx, raftgroup.Options{
		Dirs: []string{filepath.Join(w.dir, "group")}, Name: "feed", NodeID: "bench", Tune: service.Tune(state),
		Machine: &seeded{machine, func(db *pebble.DB) error { return w.seed(db, now) }},
	})
	if err != nil {
		return err
	}
	if err := w.group.Ready(ctx); err != nil {
		return err
	}
	w.feed, err = service.Open(service.Options{
		Group: w.group, Machine: machine, Member: "bench", Mint: w.mint, TimelineDirs: []string{filepath.Join(w.dir, "timelines")},
		Timeline: timeline.Options{Cap: o.Cap, CacheBytes: timelines},
		Policy:   service.Policy{CelebrityThreshold: uint64(max(1_000_000, w.n+1000))},
	})
	if err != nil {
		return err
	}
	if err := w.seedTimelines(); err != nil {
		return err
	}
	running, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.feed.Run(running) }()
	paced := make(chan struct{})
	go func() { defer close(paced); heap.Pace(running, clock.Real{}) }() // as in a node
	w.stop = func() error {
		cancel()
		<-paced
		if err := <-ended; !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
	return nil
}

// close ends the world and removes it.
func (w *world) close() error {
	var errs []error
	if w.stop != nil {
		errs = append(errs, w.stop())
	}
	if w.feed != nil {
		errs = append(errs, w.feed.Close())
	}
	if w.group != nil {
		errs = append(errs, w.group.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// plant adds those of whom the graph knows nothing.
func (w *world) plant() {
	g, n := w.g, w.n
	rng := rand.New(rand.NewPCG(w.o.Seed, 2))
	everybody := make([]uint32, n)
	for i := range everybody {
		everybody[i] = uint32(i)
	}
	g.followers = append(g.followers, everybody, nil, nil)
	g.history = append(g.history, nil, nil, nil)
	for range celebrities {
		g.followers = append(g.followers, []uint32{uint32(n + wide), uint32(n + widest)})
		g.history = append(g.history, nil)
	}
	for who, follows := range map[int]int{wide: wideFollows - celebrities, widest: widestFollows - celebrities} {
		for _, a := range rng.Perm(n)[:min(follows, n)] {
			g.followers[a] = append(g.followers[a], uint32(n+who))
		}
	}
	for _, f := range g.followers {
		slices.Sort(f)
	}
}

func userID(i int) id.ID { return id.Make(id.Millis(1000+i), 1, 0) }

// pos is the position of a post of the history; half of it belongs to celebrities.
func (w *world) pos(post int, half id.Millis) id.ID {
	return id.Make(w.begin+id.Millis(post)*postSpacing+half, 2, 0)
}

// mint hands out ids that ascend and follow the clock.
func (w *world) mint(context.Context) (id.ID, error) {
	for {
		last := w.minted.Load()
		next := max(last+1, uint64(id.Make(id.MillisOf(time.Now()), 7, 0)))
		if w.minted.CompareAndSwap(last, next) {
			return id.ID(next), nil
		}
	}
}

// photo is a ready photo of ordinary size.
func (w *world) photo(author int, pos id.ID, pull bool) service.Photo {
	at := pos.Millis().Time()
	return service.Photo{
		ID: pos + 1<<13, Author: userID(author), Status: service.Ready, Pos: pos, Pull: pull, CreatedAt: at, PublishedAt: at,
		Details: details(uint64(pos)), Master: master(pos + 2<<13), Rendition: rendition(pos + 3<<13),
	}
}

func details(n uint64) service.Details {
	return service.Details{Caption: "A caption of the length that people write, number " + fmt.Sprint(n), Tags: []string{"harbour", "morning"}}
}

func master(blob id.ID) service.Master {
	m := service.Master{Blob: blob, Cookie: id.Cookie(blob * 7), Size: 3 << 20, ContentType: "image/jpeg", Width: 4000, Height: 3000}
	binary.BigEndian.PutUint64(m.Digest[:], uint64(blob))
	return m
}

func rendition(blob id.ID) service.Rendition {
	return service.Rendition{
		Blob: blob, Cookie: id.Cookie(blob * 11), Placeholder: "LEHV6nWB2yk8pyo0adR*.7kCMdnj", Colour: "#a4b5c6",
		Variants: []service.Variant{
			{Alt: 1, Width: 150, Height: 150, Size: 9000}, {Alt: 2, Width: 320, Height: 240, Size: 20_000},
			{Alt: 3, Width: 640, Height: 480, Size: 60_000}, {Alt: 4, Width: 1080, Height: 810, Size: 160_000},
		},
	}
}

// seed writes accounts, edges, posts and logins.
func (w *world) seed(db *pebble.DB, now time.Time) error {
	s, err := service.NewSeed(db, now)
	if err != nil {
		return err
	}
	following := make([]uint64, len(w.g.followers))
	edge := 0
	for a, f := range w.g.followers {
		for _, r := range f {
			following[r]++
			edge++
			if err := s.Follow(userID(int(r)), userID(a), id.Make(id.Millis(1000+edge), 4, 0)); err != nil {
				return err
			}
		}
	}
	for i := range w.g.followers {
		u := service.User{
			ID: userID(i), Handle: fmt.Sprintf("person%d", i), Name: fmt.Sprintf("Person %d", i), Photos: uint64(len(w.g.history[i])),
			Followers: uint64(len(w.g.followers[i])), Following: following[i],
		}
		star := i >= w.n+celebrity
		if star {
			u.Photos = celebrityPosts
		}
		if err := s.Account(u, star); err != nil {
			return err
		}
		err := s.Login(u.ID, id.Make(id.Millis(1000+i), 5, 0), service.NewSession{
			TokenHash: sha256.Sum256([]byte(token(i))), ExpiresAt: now.Add(24 * time.Hour).Truncate(time.Second),
		})
		if err != nil {
			return err
		}
	}
	for i, a := range w.g.posts {
		if err := s.Post(w.photo(int(a), w.pos(i, 0), false)); err != nil {
			return err
		}
	}
	for c := range celebrities {
		for k := range celebrityPosts {
			at := len(w.g.posts) - 1 - (k*celebrities+c)*max(1, len(w.g.posts)/4/(celebrities*celebrityPosts))
			if err := s.Post(w.photo(w.n+celebrity+c, w.pos(at, postSpacing/2), true)); err != nil {
				return err
			}
		}
	}
	return s.Close()
}

// token is the login of a person, in the form that the API gives out.
func token(i int) string {
	raw := sha256.Sum256(fmt.Appendf(nil, "person %d", i))
	return "hls_" + strings.TrimRight(base64.URLEncoding.EncodeToString(raw[:]), "=")
}

// seedTimelines gives everybody but widest a timeline.
func (w *world) seedTimelines() error {
	posts := func(yield func(timeline.Post) bool) {
		for i, a := range w.g.posts {
			pos := w.pos(i, 0)
			if !yield(timeline.Post{Pos: pos, Photo: pos + 1<<13, Author: userID(int(a))}) {
				return
			}
		}
	}
	lists := func(yield func(id.ID, []id.ID) bool) {
		var list []id.ID
		w.g.timelines(func(reader int, posts []uint32) bool {
			if reader > w.n+wide {
				return true
			}
			list = list[:0]
			for _, p := range posts {
				list = append(list, w.pos(int(p), 0))
			}
			return yield(userID(reader), list)
		})
	}
	return w.feed.Timelines().Seed(posts, lists)
}
