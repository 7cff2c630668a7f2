package feed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"hayloft/internal/id"
)

// Random users do what others are told of, and take it back; everybody's
// notifications, their order, counts and marks, and what a stream would have brought,
// must equal those of a model that filters all that ever happened, through crashes.
func TestNotificationOracle(t *testing.T) {
	seeds := []uint64{*seedFlag}
	if *seedFlag == 0 {
		seeds = nil
		for range *countFlag {
			seeds = append(seeds, rand.Uint64())
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := newNoteHistory(t, seed)
			defer func() {
				if t.Failed() {
					t.Logf("last steps:\n%v", h.log[max(0, len(h.log)-30):])
					t.Logf("repeat: go test ./feed -run TestNotificationOracle -feed.steps %d -feed.seed %d", *stepsFlag, seed)
				}
			}()
			h.play(*stepsFlag)
		})
	}
}

type noteHistory struct {
	*house
	t     *testing.T
	rng   *rand.Rand
	m     *noteModel
	last  id.ID // minted last
	log   []string
	order []id.ID // of photos
	after map[id.ID]uint64
	limit int // listeners told by one command
}

func newNoteHistory(t *testing.T, seed uint64) *noteHistory {
	h := &noteHistory{t: t, rng: rand.New(rand.NewPCG(seed, 3)), m: newNoteModel(), after: map[id.ID]uint64{}}
	h.house = newHouse(t, func(o *Options) {
		mint := o.Mint
		o.Mint = func(ctx context.Context) (v id.ID, err error) {
			h.last, err = mint(ctx)
			return h.last, err
		}
	})
	h.limit = 1 + h.rng.IntN(3)
	for i := range 6 {
		u := h.user(fmt.Sprintf("user%d", i))
		h.m.users = append(h.m.users, u)
		h.m.boxes[u] = &noteBox{off: map[NotificationKind]bool{}}
	}
	return h
}

func (h *noteHistory) play(steps int) {
	for i := range steps {
		h.step()
		if h.compareStreams(); i%10 == 9 {
			h.compare()
		}
		if h.t.Failed() {
			return
		}
	}
	twin := newLocalGroup(h.t)
	for _, cmd := range h.group.log {
		if _, err := twin.apply(cmd); err != nil && !refusal(err) {
			h.t.Fatal(err)
		}
	}
	if !slices.Equal(twin.dump(h.t), h.group.dump(h.t)) {
		h.t.Error("the same commands made different states")
	}
}

func (h *noteHistory) step() {
	actions := []struct {
		weight int
		do     func()
	}{
		{12, h.follow}, {4, h.unfollow}, {5, h.answer}, {2, h.block}, {3, h.unblock}, {4, h.mute}, {2, h.setPrivate}, {10, h.post},
		{4, h.edit}, {4, h.remove}, {3, h.restore}, {14, h.like}, {7, h.unlike}, {8, h.likeComment}, {14, h.addComment}, {5, h.removeComment},
		{8, h.listen}, {6, h.tellSome}, {4, h.see}, {4, h.want}, {3, h.advance}, {2, h.crash}, {2, h.suspend},
		{1, h.erase},
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	n := h.rng.IntN(total)
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			a.do()
			return
		}
	}
}

// did notes a step and reports whether it was accepted.
func (h *noteHistory) did(err error, format string, a ...any) bool {
	h.log = append(h.log, fmt.Sprintf(format+": %v\n", append(a, err)...))
	if err != nil && !refusal(err) {
		h.t.Errorf("%v: %v", h.log[len(h.log)-1], err)
	}
	return err == nil
}

func (h *noteHistory) some() id.ID { return pick(h.rng, h.m.users) }

func (h *noteHistory) two() (a, b id.ID) {
	for a == b {
		a, b = h.some(), h.some()
	}
	return a, b
}

func (h *noteHistory) somePhoto() *notePhoto {
	photo := pick(h.rng, h.order)
	if h.rng.IntN(3) > 0 && len(h.order) > 3 {
		photo = pick(h.rng, h.order[len(h.order)-3:])
	}
	return h.m.photos[photo]
}

// names draws a text that names users.
func (h *noteHistory) names() (string, map[id.ID]bool) {
	text, names := "look", map[id.ID]bool{}
	for i, u := range h.m.users {
		if h.rng.IntN(5) == 0 {
			text += fmt.Sprintf(" @user%d", i)
			names[u] = true
		}
	}
	return text, names
}

func (h *noteHistory) follow() {
	r, a := h.two()
	asked, err := h.feed.FollowOrAsk(context.Background(), r, a)
	if !h.did(err, "%v follows %v (asked %v)", r, a, asked) {
		return
	}
	e := pair{r, a}
	if _, follows := h.m.follows[e]; follows {
		return
	}
	if _, requested := h.m.requests[e]; asked && requested {
		return
	}
	delete(h.m.requests, e)
	if asked {
		h.m.requests[e] = h.last
		h.m.tell(a, noteEvent{kind: NotifyRequest, subject: a, cause: h.last, actor: r}, r)
		return
	}
	h.m.follows[e] = h.last
	h.m.tell(a, noteEvent{kind: NotifyFollow, subject: a, cause: h.last, actor: r}, r)
}

func (h *noteHistory) unfollow() {
	r, a := h.two()
	err := h.feed.Unfollow(context.Background(), r, a)
	if h.did(err, "%v unfollows %v", r, a) {
		h.apart(r, a)
	}
}

func (h *noteHistory) apart(r, a id.ID) {
	delete(h.m.follows, pair{r, a})
	delete(h.m.requests, pair{r, a})
	delete(h.m.listens, pair{r, a})
}

func (h *noteHistory) answer() {
	r, a := h.two()
	if h.rng.IntN(3) == 0 {
		if h.did(h.feed.DeclineFollow(context.Background(), a, r), "%v declines %v", a, r) {
			delete(h.m.requests, pair{r, a})
		}
		return
	}
	if h.did(h.feed.ApproveFollow(context.Background(), a, r), "%v approves %v", a, r) {
		delete(h.m.requests, pair{r, a})
		h.m.follows[pair{r, a}] = h.last
	}
}

func (h *noteHistory) block() {
	a, b := h.two()
	if h.did(h.feed.Block(context.Background(), a, b), "%v blocks %v", a, b) {
		h.m.blocks[pair{a, b}] = true
		h.apart(a, b)
		h.apart(b, a)
	}
}

func (h *noteHistory) unblock() {
	a, b := h.two()
	if h.did(h.feed.Unblock(context.Background(), a, b), "%v unblocks %v", a, b) {
		delete(h.m.blocks, pair{a, b})
	}
}

func (h *noteHistory) mute() {
	a, b := h.two()
	if h.rng.IntN(2) == 0 {
		if h.did(h.feed.Mute(context.Background(), a, b), "%v mutes %v", a, b) {
			h.m.mutes[pair{a, b}] = true
		}
	} else if h.did(h.feed.Unmute(context.Background(), a, b), "%v unmutes %v", a, b) {
		delete(h.m.mutes, pair{a, b})
	}
}

func (h *noteHistory) setPrivate() {
	u, private := h.some(), h.rng.IntN(2) == 0
	_, err := h.feed.SetPrivate(context.Background(), u, private)
	if h.did(err, "%v private: %v", u, private) {
		h.m.private[u] = private
	}
}

func (h *noteHistory) suspend() {
	u, suspended := h.some(), h.rng.IntN(3) == 0
	if h.did(h.feed.Suspend(context.Background(), u, suspended), "%v suspended: %v", u, suspended) {
		h.m.hidden[u] = suspended
	}
}

// erase deletes an account, now and then, and lets a step or all of its chores be done.
func (h *noteHistory) erase() {
	u := h.some()
	if h.rng.IntN(2) == 0 || len(h.m.gone) > 2 || !h.did(h.feed.DeleteAccount(context.Background(), u), "%v leaves", u) {
		return
	}
	_, err := h.sweepNow()
	h.did(err, "sweep")
	h.m.erase(u)
	h.must(store{h.group.db}.scan([]byte{tabInbox}, []byte{tabTelling}, func(k, _ []byte) error {
		if first(k) == u {
			h.t.Errorf("%x is left of %v", k, u)
		}
		return nil
	}))
}

func (h *noteHistory) post() {
	u := h.some()
	if h.m.hidden[u] {
		return
	}
	d := Details{}
	var names map[id.ID]bool
	d.Caption, names = h.names()
	if h.rng.IntN(3) == 0 {
		d.Visibility = Visibility(h.rng.IntN(3))
	}
	if on := h.some(); h.rng.IntN(3) == 0 && !h.m.hidden[on] {
		d.People = []id.ID{on}
		names[on] = true
	}
	photo := h.house.post(u, d)
	row, err := h.feed.PhotoRow(context.Background(), photo)
	h.did(err, "%v posts %v: %v", u, photo, d.Caption)
	p := &notePhoto{id: photo, owner: u, pos: row.Pos, vis: d.Visibility, names: names, likes: map[id.ID]id.ID{}}
	h.m.photos[photo] = p
	h.order = append(h.order, photo)
	h.m.named(p, nil)
	for l := range h.m.listens {
		if l[1] == u {
			h.m.queue = append(h.m.queue, &noteTelling{pos: p.pos, photo: photo, author: u})
			break
		}
	}
}

func (h *noteHistory) edit() {
	p := h.somePhoto()
	if p == nil {
		return
	}
	caption, names := h.names()
	people := []id.ID{}
	vis := Visibility(h.rng.IntN(3))
	change := PhotoChange{Caption: &caption, People: &people}
	if h.rng.IntN(3) == 0 {
		change.Visibility = &vis
	}
	_, err := h.feed.UpdatePhoto(context.Background(), p.owner, p.id, change)
	if h.did(err, "%v says %q of %v", p.owner, caption, p.id) {
		before := p.names
		p.names = names
		if change.Visibility != nil {
			p.vis = vis
		}
		h.m.named(p, before)
	}
}

func (h *noteHistory) remove() {
	p := h.somePhoto()
	if p == nil {
		return
	}
	purge := h.rng.IntN(2) == 0
	if !h.did(h.feed.DeletePhoto(context.Background(), p.owner, p.id, purge), "delete %v, purge %v", p.id, purge) {
		return
	}
	p.deleted = true
	if !purge {
		return
	}
	h.m.purge(p.id)
	if h.rng.IntN(2) == 0 {
		_, err := h.sweepNow()
		h.did(err, "sweep")
	}
}

func (h *noteHistory) restore() {
	if p := h.somePhoto(); p != nil {
		_, err := h.feed.RestorePhoto(context.Background(), p.owner, p.id)
		if h.did(err, "restore %v", p.id) {
			p.deleted = false
		}
	}
}

func (h *noteHistory) like() {
	p, u := h.somePhoto(), h.some()
	if p == nil || !h.did(h.feed.Like(context.Background(), u, p.id), "%v likes %v", u, p.id) {
		return
	}
	if _, likes := p.likes[u]; !likes {
		p.likes[u] = h.last
		h.m.tell(p.owner, noteEvent{kind: NotifyLike, subject: p.id, cause: h.last, actor: u, photo: p.id}, u)
	}
}

func (h *noteHistory) unlike() {
	p, u := h.somePhoto(), h.some()
	if p != nil && h.did(h.feed.Unlike(context.Background(), u, p.id), "%v unlikes %v", u, p.id) {
		delete(p.likes, u)
	}
}

func (h *noteHistory) likeComment() {
	c, u := h.m.comments[pick(h.rng, sortedKeys(h.m.comments))], h.some()
	if c == nil {
		return
	}
	if h.rng.IntN(3) == 0 {
		if h.did(h.feed.UnlikeComment(context.Background(), u, c.id), "%v unlikes comment %v", u, c.id) {
			delete(c.likes, u)
		}
		return
	}
	if !h.did(h.feed.LikeComment(context.Background(), u, c.id), "%v likes comment %v", u, c.id) {
		return
	}
	if _, likes := c.likes[u]; !likes {
		c.likes[u] = h.last
		h.m.tell(c.author, noteEvent{kind: NotifyLike, subject: c.id, cause: h.last, actor: u, photo: c.photo, comment: c.id}, u)
	}
}

func (h *noteHistory) addComment() {
	p, u := h.somePhoto(), h.some()
	if p == nil {
		return
	}
	c := &noteComment{photo: p.id, author: u, likes: map[id.ID]id.ID{}}
	if on := h.m.comments[pick(h.rng, sortedKeys(h.m.comments))]; on != nil && h.rng.IntN(2) == 0 {
		c.photo = on.photo
		if c.parent = on.id; on.parent != 0 {
			c.parent = on.parent
		}
	}
	var text string
	text, c.names = h.names()
	got, err := h.feed.AddComment(context.Background(), u, c.photo, text, c.parent)
	if h.did(err, "%v comments %v under %v: %v", u, c.photo, c.parent, text) {
		c.id = got.ID
		h.m.comments[c.id] = c
		h.m.comment(c)
	}
}

func (h *noteHistory) removeComment() {
	c := h.m.comments[pick(h.rng, sortedKeys(h.m.comments))]
	if c == nil || !h.did(h.feed.DeleteComment(context.Background(), c.author, c.id), "delete comment %v", c.id) {
		return
	}
	h.m.dropComment(c.id)
	if h.rng.IntN(2) == 0 {
		_, err := h.sweepNow()
		h.did(err, "sweep")
	}
}

func (h *noteHistory) listen() {
	u, a := h.two()
	if h.rng.IntN(4) == 0 {
		if h.did(h.feed.Unlisten(context.Background(), u, a), "%v no longer listens to %v", u, a) {
			delete(h.m.listens, pair{u, a})
		}
		return
	}
	err := h.feed.Listen(context.Background(), u, a)
	_, follows := h.m.follows[pair{u, a}]
	follows = follows && !h.m.hidden[u] && !h.m.hidden[a]
	if h.did(err, "%v listens to %v", u, a) != follows {
		h.t.Errorf("%v listens to %v: %v, follows %v", u, a, err, follows)
	}
	if follows {
		h.m.listens[pair{u, a}] = true
	}
}

func (h *noteHistory) tellSome() {
	for range 1 + h.rng.IntN(3) {
		_, err := h.feed.propose(context.Background(), &cmdTell{Limit: h.limit})
		h.did(err, "tell %d", h.limit)
		h.m.step(h.limit)
	}
}

func (h *noteHistory) see() {
	u := h.some()
	if h.m.hidden[u] {
		return
	}
	box := h.m.boxes[u]
	through := uint64(0)
	if h.rng.IntN(2) == 0 {
		through = 1 + h.rng.Uint64N(box.last+3)
	}
	h.did(h.feed.NotificationsSeen(context.Background(), u, through), "%v has seen %d", u, through)
	if through == 0 {
		through = box.last
	}
	box.seen = max(box.seen, min(through, box.last))
}

func (h *noteHistory) want() {
	u, k, on := h.some(), NotificationKinds()[h.rng.IntN(6)], h.rng.IntN(3) > 0
	if h.m.hidden[u] {
		return
	}
	h.did(h.feed.WantNotifications(context.Background(), u, map[NotificationKind]bool{k: on}), "%v wants %v: %v", u, k, on)
	h.m.boxes[u].off[k] = !on
	got, err := h.feed.NotificationsWanted(context.Background(), u)
	for _, k := range NotificationKinds() {
		if err != nil || got[k] == h.m.boxes[u].off[k] {
			h.t.Errorf("%v wants %v: %v, %v", u, k, got[k], err)
		}
	}
}

func (h *noteHistory) advance() {
	h.clock.Advance(time.Duration(h.rng.Int64N(int64(9 * time.Hour))))
}

func (h *noteHistory) crash() {
	h.log = append(h.log, "crash\n")
	h.house.close()
	h.group.crash(h.t, h.rng)
	h.house.open()
}

// noteOf is what a Notification says.
func noteOf(n Notification) note {
	out := note{kind: n.Kind, subject: n.Subject, day: n.Day, seq: n.Seq, count: n.Count, actors: userIDs(n.Actors), seen: n.Seen}
	if n.Comment != nil {
		out.comment = n.Comment.ID
	}
	if n.Photo != nil {
		out.photo = n.Photo.ID
	}
	return out
}

func sameNote(a, b note) bool {
	actors := slices.Equal(a.actors, b.actors)
	a.actors, b.actors, a.place, b.place = nil, nil, 0, 0
	return actors && fmt.Sprint(a) == fmt.Sprint(b)
}

func unseenOf(notes []note) (n int) {
	for _, x := range notes {
		if !x.seen {
			n++
		}
	}
	return n
}

func (h *noteHistory) compare() {
	h.check()
	for _, u := range h.m.users {
		if h.m.hidden[u] {
			_, _, err := h.feed.Notifications(context.Background(), u, Page{Limit: 1})
			h.wants(err, ErrNotFound)
			continue
		}
		want := h.m.notes(u)
		var got []note
		p := Page{Limit: 1 + h.rng.IntN(4)}
		for {
			out, next, err := h.feed.Notifications(context.Background(), u, p)
			if err != nil || out.Unseen != unseenOf(want) || out.Last != h.m.boxes[u].last || len(out.Rows) > p.Limit {
				h.t.Errorf("notifications of %v: %d unseen of %d, want %d; last %d; %v", u, out.Unseen, len(want), unseenOf(want), out.Last, err)
				return
			}
			for _, n := range out.Rows {
				got = append(got, noteOf(n))
			}
			if p.After = next; next == 0 {
				break
			}
		}
		if !slices.EqualFunc(got, want, sameNote) {
			h.t.Errorf("notifications of %v:\n got %+v\nwant %+v", u, got, want)
		}
	}
}

// compareStreams lets some of the users' streams go on. Nothing may come twice, and
// nothing be left out.
func (h *noteHistory) compareStreams() {
	for _, u := range h.m.users {
		if h.rng.IntN(4) > 0 || h.m.hidden[u] {
			continue
		}
		limit := 1 + h.rng.IntN(3)
		after := h.after[u]
		got, err := h.feed.NotificationsAfter(context.Background(), u, after, -1, limit)
		var want []note
		for _, n := range h.m.notes(u) {
			if n.seq > after {
				want = append(want, n)
			}
		}
		slices.SortFunc(want, func(a, b note) int { return int(a.seq) - int(b.seq) })
		want = want[:min(limit, len(want))]
		var rows []note
		for _, n := range got.Rows {
			rows = append(rows, noteOf(n))
			after = n.Seq
		}
		if err != nil || !slices.EqualFunc(rows, want, sameNote) || got.Last != after {
			h.t.Errorf("stream of %v after %d:\n got %+v\nwant %+v, %v", u, h.after[u], rows, want, err)
		}
		h.after[u] = got.Last
	}
}

// A stream wakes for what is new, for what is seen elsewhere, and as a sign of life;
// one whose reader has gone ends.
func TestNotificationStreamWakes(t *testing.T) {
	h := newHouse(t, nil)
	anna, bob := h.user("anna"), h.user("bob")
	type answer struct {
		n   Notifications
		err error
	}
	ctx, cancel := context.WithCancel(t.Context())
	wait := func(after uint64, unseen int) chan answer {
		ch, before := make(chan answer, 1), h.clock.Waiters()
		go func() {
			n, err := h.feed.NotificationsAfter(ctx, anna, after, unseen, 10)
			ch <- answer{n, err}
		}()
		for h.clock.Waiters() == before { // until it waits
			runtime.Gosched()
		}
		return ch
	}
	ch := wait(0, 0)
	h.must(h.feed.Follow(t.Context(), bob, anna))
	a := <-ch
	if h.must(a.err); len(a.n.Rows) != 1 || a.n.Rows[0].Kind != NotifyFollow || a.n.Last != 1 || a.n.Unseen != 1 {
		t.Fatalf("woken with %+v", a.n)
	}
	ch = wait(1, 1)
	h.must(h.feed.NotificationsSeen(t.Context(), anna, 0))
	if a = <-ch; a.err != nil || len(a.n.Rows) != 0 || a.n.Unseen != 0 || a.n.Last != 1 {
		t.Fatalf("seen elsewhere: %+v", a)
	}
	ch = wait(1, 0)
	h.clock.Advance(notificationWait)
	if a = <-ch; a.err != nil || len(a.n.Rows) != 0 {
		t.Fatalf("a sign of life: %+v", a)
	}
	ch = wait(1, 0)
	cancel()
	if a = <-ch; !errors.Is(a.err, context.Canceled) {
		t.Fatalf("a reader who has gone: %+v", a)
	}
	if n := len(h.group.machine.watch.inboxes); n != 0 {
		t.Errorf("%d watches are left", n)
	}
}
