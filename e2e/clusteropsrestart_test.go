package e2e

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"hayloft/bench/rig"
	"hayloft/client"
	"hayloft/internal/testenv"
	"hayloft/testdata/photos"
)

// TestRollingRestart restarts every node of three, one after the other, under a load
// that asks another node when one does not answer: nothing fails and nothing is lost.
// Then an operator chooses who votes, and two nodes stand still: the third says that it
// is not ready, and is again when they go on.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	o := operate(t, 3, 3)
	n1 := o.Nodes[0]
	o.whole(n1, 3)
	o.voting(n1, "directory", 3)
	l := o.load(2, o.every...)
	l.more(50)
	for _, n := range o.Nodes {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
		l.more(10)
		o.start2(n)
		o.whole(n, 3)
		l.more(10)
		o.told(n.Name + " was restarted")
	}
	l.end()
	l.check(o.calm...)
	o.told("all was read")
	o.standStill()
}

// start2 starts a node that has run before.
func (o *operated) start2(n *rig.Node) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), time.Minute)
	defer cancel()
	if err := n.Start(ctx); err != nil {
		o.t.Fatal(err)
	}
}

// voting waits until so many members of a group vote.
func (o *operated) voting(n *rig.Node, group string, want int) (voters []string) {
	o.t.Helper()
	for deadline := time.Now().Add(testenv.Patience); ; <-time.After(100 * time.Millisecond) {
		voters, _, _ = o.members(n, group)
		if len(voters) == want {
			return voters
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("%v vote in the group %s, want %d", voters, group, want)
		}
	}
}

// standStill has two of three nodes stand still.
func (o *operated) standStill() {
	o.t.Helper()
	n := o.Nodes[1]
	probes := []string{n.URL + "/readyz", n.Admin + "/readyz"}
	for _, p := range probes {
		if status, body := get(o.t, p); status != http.StatusOK {
			o.t.Errorf("%s before: %d %s", p, status, body)
		}
	}
	o.Nodes[0].Pause()
	o.Nodes[2].Pause()
	o.ready(probes, http.StatusServiceUnavailable, 15*time.Second)
	for _, p := range []string{n.URL + "/healthz", n.Admin + "/healthz"} {
		if status, body := get(o.t, p); status != http.StatusOK {
			o.t.Errorf("%s while it is cut off: %d %s", p, status, body)
		}
	}
	o.told("it says that it is cut off")
	o.Nodes[0].Resume()
	o.Nodes[2].Resume()
	o.ready(probes, http.StatusOK, 15*time.Second)
	o.told("it is ready again")
}

// ready waits until all probes have a status.
func (o *operated) ready(probes []string, want int, within time.Duration) {
	o.t.Helper()
	for _, p := range probes {
		for deadline := time.Now().Add(within); ; <-time.After(50 * time.Millisecond) {
			status, body := get(o.t, p)
			if status == want {
				break
			}
			if time.Now().After(deadline) {
				o.t.Fatalf("%s is answered %d after %v: %s", p, status, within, body)
			}
		}
	}
}

// TestVotersAreReplaced lets an operator choose who votes, also in place of the leader.
func TestVotersAreReplaced(t *testing.T) {
	t.Parallel()
	o := operate(t, 4, 4)
	n1 := o.Nodes[0]
	o.whole(n1, 4)
	for _, group := range []string{"directory", "feed"} {
		voters := o.voting(n1, group, 3)
		_, followers, leader := o.members(n1, group)
		if len(followers) != 1 || !slices.Contains(voters, leader) {
			t.Fatalf("%v vote, %v follow, %s leads", voters, followers, leader)
		}
		out, log, code := run(t, "cluster", "voters", "replace", leader, followers[0], "--group", group, "--admin", n1.Admin, "--data", n1.Data[0])
		if code != 0 || !strings.Contains(log, "nothing was changed") || strings.Count(out, group) != 4 {
			t.Errorf("dry: %d %s %s", code, out, log)
		}
		o.ask(n1, "cluster", "voters", "replace", leader, followers[0], "--group", group, "--apply")
		now, left, next := o.members(n1, group)
		if !slices.Contains(now, followers[0]) || !slices.Equal(left, []string{leader}) || next == leader || len(now) != 3 {
			t.Errorf("%s: %v vote, %v follow, %s leads", group, now, left, next)
		}
		o.ask(n1, "cluster", "voters", "replace", leader, followers[0], "--group", group, "--apply") // again
	}
	if out, log, code := run(t, "cluster", "voters", "replace", "n1", "n9", "--apply", "--admin", n1.Admin, "--data", n1.Data[0]); code == 0 || !strings.Contains(log, "n9 is no member") {
		t.Errorf("an unknown node: %d %s %s", code, out, log)
	}
	l := o.load(2, o.every...)
	l.more(60)
	l.end()
	l.check(o.calm...)
}

// TestBehindABalancer goes from node to node with every call, as clients behind a
// balancer do: accounts, upload URLs, cursors and media of one are good at all.
func TestBehindABalancer(t *testing.T) {
	t.Parallel()
	const public = "http://photos.example.org"
	o := operate(t, 3, 3, "--public-url", public)
	o.whole(o.Nodes[0], 3)
	ctx := t.Context()
	front := newTurns(o)
	author, reader := front.account(t, "author"), front.account(t, "reader")
	if _, err := reader.Follow(ctx, "@author"); err != nil {
		t.Fatal(err)
	}
	jpeg := photos.ByName("bridge.jpg").Data
	const n = 5
	var posted []string
	for i := range n {
		id, err := put(ctx, author, distinct(jpeg, uint64(i)), i%2 == 0)
		if err != nil {
			t.Fatalf("photo %d: %v", i, err)
		}
		posted = append(posted, id)
	}
	for _, id := range posted {
		p, err := author.WaitReady(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(p.URLs.Small, public) {
			t.Errorf("a URL of its own: %s", p.URLs.Small)
		}
		for _, at := range o.Nodes {
			if status, body := get(t, rebase(p.URLs.Small, at.URL)); status != http.StatusOK || len(body) == 0 {
				t.Errorf("%s at %s: %d", p.URLs.Small, at.Name, status)
			}
		}
	}
	var seen []string
	for page := range reader.FeedPages(ctx, 2) {
		for _, p := range page.Items {
			seen = append(seen, p.ID)
		}
	}
	slices.Sort(seen) // the feed is in the order in which photos became ready
	slices.Sort(posted)
	if !slices.Equal(seen, posted) {
		t.Errorf("the feed, page by page from node to node: %v, want %v", seen, posted)
	}
	got, err := author.Photo(ctx, posted[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := author.Purge(ctx, posted[0]); err != nil {
		t.Fatal(err)
	}
	for _, at := range o.Nodes {
		waitStatus(t, rebase(got.URLs.Small, at.URL), http.StatusNotFound, "a deleted photo at "+at.Name)
	}
	if len(front.asked) != 3 {
		t.Errorf("asked were %v", front.asked)
	}
}

// turns is a transport that sends each request to the next node.
type turns struct {
	o     *operated
	next  int
	asked map[string]int
}

func newTurns(o *operated) *turns { return &turns{o: o, asked: map[string]int{}} }

// RoundTrip implements http.RoundTripper. One request is made at a time.
func (b *turns) RoundTrip(r *http.Request) (*http.Response, error) {
	n := b.o.Nodes[b.next%len(b.o.Nodes)]
	b.next++
	b.asked[n.Name]++
	to := r.Clone(r.Context())
	to.URL.Host, to.Host = strings.TrimPrefix(n.URL, "http://"), r.URL.Host
	return http.DefaultTransport.RoundTrip(to)
}

func (b *turns) account(t *testing.T, handle string) *client.Client {
	t.Helper()
	c, err := client.New("http://photos.example.org", client.Options{HTTPClient: &http.Client{Transport: b}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateAccount(t.Context(), client.NewAccount{Handle: handle, Password: "correct horse " + handle}); err != nil {
		t.Fatal(err)
	}
	login, err := c.Login(t.Context(), handle, "correct horse "+handle) // the next node knows it
	if err != nil {
		t.Fatal(err)
	}
	return c.WithToken(login.Token)
}
