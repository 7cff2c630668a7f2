package e2e

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/client"
)

// seat carries one user's Hayloft-Index from node to node, as a browser's tab or a
// program that moves between nodes does.
type seat struct {
	through http.RoundTripper
	index   atomic.Uint64
}

// RoundTrip implements http.RoundTripper.
func (s *seat) RoundTrip(r *http.Request) (*http.Response, error) {
	if i := s.index.Load(); i > 0 && r.Header.Get("Hayloft-Index") != "fresh" && r.Header.Get("Authorization") != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Hayloft-Index", strconv.FormatUint(i, 10))
	}
	res, err := s.through.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if i, perr := strconv.ParseUint(res.Header.Get("Hayloft-Index"), 10, 64); perr == nil {
		for old := s.index.Load(); i > old && !s.index.CompareAndSwap(old, i); old = s.index.Load() {
		}
	}
	return res, nil
}

// state is what a user knows of something that it turns on and off.
type state int

const (
	off state = iota
	on
	unsure // the answer to the last change was lost
)

func stateOf(b bool) state {
	if b {
		return on
	}
	return off
}

// doubtTime is for how long a call of which nothing was heard may take effect: as long as
// a server works on one, and more.
const doubtTime = 40 * time.Second

// relation is something that a user turns on and off, as it was told. An answer that was
// lost before is a reason to doubt it for a while: that call may come last.
type relation struct {
	state state
	doubt time.Time // until then
}

// sure reports whether it is known.
func (r relation) sure() bool { return r.state != unsure && time.Now().After(r.doubt) }

// is reports whether it is known to be what is asked.
func (r relation) is(s state) bool { return r.sure() && r.state == s }

// person is a user with all that it was told. One goroutine acts for it.
type person struct {
	s      *social
	handle string
	id     string
	at     []*client.Client // by node

	follows map[*person]relation
	likes   map[*shot]relation
}

// shot is a photo that was acknowledged.
type shot struct {
	id     string
	author *person
	gone   atomic.Int32 // state: on when its delete was acknowledged
	ready  atomic.Bool  // others were seen to see it
}

// social is users who follow, like, post and delete.
type social struct {
	f      *fleet
	o      *oracle
	people []*person
	photo  []byte

	mu    sync.Mutex // guards posts
	posts []*shot
	limit int // of photos at a time

	changes, failed, reads, refused, posted atomic.Int64
	last                                    atomic.Pointer[string]
}

// smallPhoto is a JPEG that is decoded in a moment.
func smallPhoto(t testing.TB) []byte {
	m := image.NewRGBA(image.Rect(0, 0, 64, 48))
	for x := range 64 {
		for y := range 48 {
			m.Set(x, y, color.RGBA{uint8(4 * x), uint8(5 * y), 90, 255})
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// newSocial signs users up.
func newSocial(f *fleet, o *oracle, users, posts int) *social {
	f.t.Helper()
	s := &social{f: f, o: o, photo: smallPhoto(f.t), limit: posts}
	ctx := context.Background()
	for i := range users {
		p := &person{s: s, handle: fmt.Sprintf("user%d", i), follows: map[*person]relation{}, likes: map[*shot]relation{}}
		c := f.client(i%len(f.rig.Nodes), "", f.http)
		login, err := c.CreateAccount(ctx, client.NewAccount{Handle: p.handle, Password: "correct horse " + p.handle})
		if err != nil {
			f.t.Fatal(err)
		}
		p.id = login.User.ID
		moving := &seat{through: f.http}
		for n := range f.rig.Nodes {
			p.at = append(p.at, f.client(n, login.Token, moving))
		}
		s.people = append(s.people, p)
	}
	return s
}

func (s *social) all() []*shot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.posts)
}

// live is how many photos there are, as far as is known.
func (s *social) live() (n int) {
	for _, x := range s.all() {
		if state(x.gone.Load()) != on {
			n++
		}
	}
	return n
}

// shown are the photos that everybody can see.
func (s *social) shown() []*shot {
	return slices.DeleteFunc(s.all(), func(x *shot) bool { return !x.ready.Load() })
}

// run has every user act until ctx ends.
func (s *social) run(ctx context.Context, work *sync.WaitGroup) {
	for _, p := range s.people {
		work.Go(func() {
			for ctx.Err() == nil {
				p.act(ctx)
				pause(ctx, 30*time.Millisecond)
			}
		})
	}
}

// act does one thing.
func (p *person) act(ctx context.Context) {
	posts := p.s.shown()
	switch k := rand.IntN(20); {
	case k == 0 && p.s.live() < p.s.limit:
		p.post(ctx)
	case k == 1 && len(posts) > 3:
		if x := posts[rand.IntN(len(posts))]; x.author == p && state(x.gone.Load()) == off {
			p.remove(ctx, x)
		}
	case k < 6:
		if x := p.s.people[rand.IntN(len(p.s.people))]; x != p {
			p.follow(ctx, x, rand.IntN(3) > 0)
		}
	case k < 13 && len(posts) > 0:
		if x := posts[rand.IntN(len(posts))]; state(x.gone.Load()) == off {
			p.like(ctx, x, rand.IntN(3) > 0)
		}
	case k < 16 && len(posts) > 0:
		p.look(ctx, posts[rand.IntN(len(posts))])
	default:
		p.page(ctx)
	}
}

// turn makes a relation be on or off, by a call at whichever node takes it.
func (p *person) turn(ctx context.Context, r relation, want bool, call func(ctx context.Context, c *client.Client) error) (relation, error) {
	tries := 0
	err := p.change(ctx, func(ctx context.Context, c *client.Client) error {
		tries++
		return call(ctx, c)
	})
	switch {
	case err == nil:
		r.state = stateOf(want)
	case !definite(err):
		r.state = unsure
	}
	if tries > 1 || err != nil {
		r.doubt = time.Now().Add(doubtTime)
	}
	return r, err
}

// change makes a call at whichever node takes it and says how it went.
func (p *person) change(ctx context.Context, call func(ctx context.Context, c *client.Client) error) error {
	err := p.s.f.anywhere(ctx, func(ctx context.Context, node int) error { return call(ctx, p.at[node]) })
	if err == nil {
		p.s.changes.Add(1)
	} else if ctx.Err() == nil && !definite(err) {
		p.s.failed.Add(1)
		text := err.Error()
		p.s.last.Store(&text)
	}
	return err
}

func (p *person) follow(ctx context.Context, x *person, want bool) {
	r, err := p.turn(ctx, p.follows[x], want, func(ctx context.Context, c *client.Client) error {
		if want {
			_, err := c.Follow(ctx, x.handle)
			return err
		}
		return c.Unfollow(ctx, x.handle)
	})
	p.follows[x] = r
	if err != nil && definite(err) {
		p.s.o.violated("%s follows %s: %v", p.handle, x.handle, err)
	}
}

func (p *person) like(ctx context.Context, x *shot, want bool) {
	r, err := p.turn(ctx, p.likes[x], want, func(ctx context.Context, c *client.Client) error {
		if want {
			return c.Like(ctx, x.id)
		}
		return c.Unlike(ctx, x.id)
	})
	p.likes[x] = r
	if err != nil && definite(err) && state(x.gone.Load()) == off {
		p.s.o.violated("%s likes %s, which was acknowledged: %v", p.handle, x.id, err)
	}
}

// post uploads a photo, again and again with the same key until that is acknowledged.
func (p *person) post(ctx context.Context) {
	key := fmt.Sprintf("%s-%x", p.handle, randomBytes(8))
	f := client.File{At: bytes.NewReader(p.s.photo), Size: int64(len(p.s.photo)), Name: "p.jpg", ContentType: "image/jpeg"}
	var got client.Posted
	err := p.change(context.WithoutCancel(ctx), func(ctx context.Context, c *client.Client) (err error) {
		got, err = c.PostPhoto(ctx, f, client.Details{Caption: key}, 0, key)
		return err
	})
	if err != nil {
		p.s.o.violated("%s cannot post: %v", p.handle, err) // of which nobody would know whether it is in feeds
		return
	}
	p.s.posted.Add(1)
	x := &shot{id: got.Photo.ID, author: p}
	p.s.mu.Lock()
	p.s.posts = append(p.s.posts, x)
	p.s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := x.awaitReady(ctx); err == nil {
		x.ready.Store(true)
	}
}

// readMaster reads what was uploaded back.
func (x *shot) readMaster(ctx context.Context, node int) error {
	o, err := x.author.at[node].Master(ctx, x.id)
	if err != nil {
		return err
	}
	defer o.Body.Close()
	got, err := io.ReadAll(o.Body)
	if err == nil && !bytes.Equal(got, x.author.s.photo) {
		x.author.s.o.violated("wrong bytes: the master of photo %s", x.id)
	}
	return err
}

// awaitReady asks one node after the other until the photo has its variants. With an
// error it returns what was answered last.
func (x *shot) awaitReady(ctx context.Context) (got client.Photo, err error) {
	err = x.author.s.f.anywhere(ctx, func(ctx context.Context, node int) error {
		answer, err := x.author.at[node].Photo(ctx, x.id)
		if err != nil {
			return err
		}
		if got = answer; got.Status == client.StatusPending {
			return fmt.Errorf("photo %s is pending", x.id)
		}
		return nil
	})
	return got, err
}

// remove deletes a photo of p's.
func (p *person) remove(ctx context.Context, x *shot) {
	x.gone.Store(int32(unsure))
	err := p.change(context.WithoutCancel(ctx), func(ctx context.Context, c *client.Client) error { return c.Delete(ctx, x.id) })
	switch {
	case err == nil:
		x.gone.Store(int32(on))
	case definite(err):
		p.s.o.violated("%s deletes %s, which was acknowledged: %v", p.handle, x.id, err)
	}
}

// read makes one call at any node.
func (p *person) read(ctx context.Context, call func(ctx context.Context, c *client.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	err := call(ctx, p.at[rand.IntN(len(p.at))])
	if err != nil && !definite(err) {
		p.s.refused.Add(1)
		return err
	}
	p.s.reads.Add(1)
	return err
}

// look reads a photo: p sees what it did itself, on any node.
func (p *person) look(ctx context.Context, x *shot) {
	gone := state(x.gone.Load())
	var got client.Photo
	err := p.read(ctx, func(ctx context.Context, c *client.Client) (err error) {
		got, err = c.Photo(ctx, x.id)
		return err
	})
	liked, known := p.likes[x]
	switch {
	case err == nil && gone == on && x.author == p:
		p.s.o.violated("%s sees %s, which it deleted", p.handle, x.id)
	case err == nil && known && liked.sure() && got.Liked != (liked.state == on):
		p.s.o.violated("%s sees %s liked: %v, and was told otherwise", p.handle, x.id, got.Liked)
	case client.IsStatus(err, http.StatusNotFound) && state(x.gone.Load()) == off:
		p.s.o.violated("lost: photo %s, which was acknowledged, is not found", x.id)
	}
}

// page reads p's feed: nobody whom it does not follow is in it.
func (p *person) page(ctx context.Context) {
	var got client.Page[client.Photo]
	if p.read(ctx, func(ctx context.Context, c *client.Client) (err error) {
		got, err = c.Feed(ctx, client.PageOptions{Limit: 100})
		return err
	}) != nil {
		return
	}
	for _, x := range got.Items {
		for _, other := range p.s.people {
			if r, known := p.follows[other]; other.id == x.Author.ID && other != p && (!known || r.is(off)) {
				p.s.o.violated("%s sees %s of %s, whom it does not follow", p.handle, x.ID, other.handle)
			}
		}
	}
}

// verify holds what every node says in the end against what users were told.
func (s *social) verify() {
	s.f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*calmTime)
	defer cancel()
	for _, p := range s.people { // what nobody knows is done once more
		for x, r := range p.follows {
			if r.state == unsure {
				p.follow(ctx, x, true)
			}
		}
		for x, r := range p.likes {
			if r.state == unsure && state(x.gone.Load()) == off {
				p.like(ctx, x, true)
			}
		}
	}
	for _, x := range s.all() {
		if state(x.gone.Load()) == unsure {
			x.author.remove(ctx, x)
		}
	}
	published := s.awaitReady(ctx)
	for _, p := range s.people {
		for node := range p.at {
			p.verifyAt(ctx, node, published)
		}
	}
}

// readyTime is how long photos are waited for in the end. Longer, when the node that was
// at work on them is lost: its effects are lent to another one after a minute.
const readyTime = 10 * time.Second

// awaitReady waits until photos have their variants and returns when they were published.
// Of those that are not ready in time it reads the master.
func (s *social) awaitReady(ctx context.Context) map[*shot]time.Time {
	out := map[*shot]time.Time{}
	for _, x := range s.all() {
		if state(x.gone.Load()) == on {
			continue
		}
		within, cancel := context.WithTimeout(ctx, readyTime)
		got, err := x.awaitReady(within)
		cancel()
		if err != nil && got.Status == client.StatusPending {
			if err := s.f.anywhere(ctx, func(ctx context.Context, node int) error { return x.readMaster(ctx, node) }); err != nil {
				s.o.violated("photo %s, which was acknowledged, is pending, and of its master it is said: %v%s", x.id, err, s.f.why(x.id))
			}
			continue
		}
		if err != nil || got.Status != client.StatusReady || got.PublishedAt == nil {
			s.o.violated("photo %s, which was acknowledged, is %q: %v%s", x.id, got.Status, err, s.f.why(x.id))
			continue
		}
		out[x] = *got.PublishedAt
	}
	return out
}

// verifyAt compares what one node tells a user with what it was told.
func (p *person) verifyAt(ctx context.Context, node int, published map[*shot]time.Time) {
	s, name := p.s, p.s.f.rig.Nodes[node].Name
	for x := range published {
		var got client.Photo
		err := insist(func() (err error) { got, err = p.at[node].Photo(client.Fresh(ctx), x.id); return err })
		if r := p.likes[x]; err != nil || r.sure() && got.Liked != (r.state == on) {
			s.o.violated("%s says that %s likes %s: %v, want %v, %v", name, p.handle, x.id, got.Liked, r.state == on, err)
		}
	}
	var got client.Page[client.Photo]
	err := insist(func() (err error) {
		got, err = p.at[node].Feed(client.Fresh(ctx), client.PageOptions{Limit: 100})
		return err
	})
	if err != nil || got.NextCursor != "" {
		s.o.violated("%s: the feed of %s: %v, more %v", name, p.handle, err, got.NextCursor != "")
		return
	}
	var want, have []string
	counts := func(x *shot) bool { return x.author == p || p.follows[x.author].sure() }
	for x := range published {
		if x.author == p || p.follows[x.author].is(on) {
			want = append(want, x.id)
		}
	}
	for _, x := range got.Items {
		if slices.ContainsFunc(s.all(), func(y *shot) bool {
			_, ready := published[y]
			return y.id == x.ID && counts(y) && (ready || state(y.gone.Load()) == on)
		}) {
			have = append(have, x.ID)
		}
	}
	if !slices.IsSortedFunc(got.Items, func(a, b client.Photo) int { return cmp.Compare(b.PublishedAt.UnixNano(), a.PublishedAt.UnixNano()) }) {
		s.o.violated("%s: the feed of %s is out of order", name, p.handle)
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		s.o.violated("%s: the feed of %s is [%s], want [%s]", name, p.handle, strings.Join(have, " "), strings.Join(want, " "))
	}
}

// insist repeats a call that is refused for now.
func insist(call func() error) (err error) {
	eventually(20*time.Second, func() bool {
		err = call()
		return err == nil || definite(err)
	})
	return err
}

// String is how it went.
func (s *social) String() string {
	last := ""
	if p := s.last.Load(); p != nil {
		last = "; last failure: " + *p
	}
	return fmt.Sprintf("%d changes (%d failed), %d photos among them, %d reads (%d refused)%s", s.changes.Load(), s.failed.Load(), s.posted.Load(), s.reads.Load(), s.refused.Load(), last)
}
