package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/client"

	"github.com/anishathalye/porcupine"
)

// titleOp is a change or a fresh read of the title of a photo.
type titleOp struct {
	photo int
	write bool
	title string // that is written
}

// titles is a register for each photo.
var titles = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		var out [][]porcupine.Operation
		for _, op := range history {
			i := op.Input.(titleOp).photo
			for len(out) <= i {
				out = append(out, nil)
			}
			out[i] = append(out[i], op)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if op := input.(titleOp); op.write {
			return true, op.title
		}
		return output.(string) == state.(string), state
	},
	DescribeOperation: func(input, output any) string {
		if op := input.(titleOp); op.write {
			return fmt.Sprintf("photo %d = %s", op.photo, op.title)
		}
		return fmt.Sprintf("photo %d is %v", input.(titleOp).photo, output)
	},
}

// record is what clients did and were told. A change whose answer was lost may take
// effect at any later time.
type record struct {
	mu   sync.Mutex // guards all below
	ops  []porcupine.Operation
	lost int
}

// never is the return of a change of which nothing was heard.
const never = int64(1) << 62

func (r *record) add(op porcupine.Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
	if op.Return == never {
		r.lost++
	}
}

// setTitle changes the title of a photo through one node, once.
func (f *fleet) setTitle(ctx context.Context, node int, token, photo, title string, through http.RoundTripper) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	body, err := json.Marshal(map[string]string{"title": title})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPatch, f.rig.Nodes[node].URL+"/api/v1/photos/"+photo, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	res, err := through.RoundTrip(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return &client.Problem{Status: res.StatusCode}
	}
	return nil
}

// history is clients who change and read titles.
type history struct {
	f      *fleet
	o      *oracle
	owner  *person
	photos []string     // of the history
	counts []string     // whose titles are numbers that grow
	now    atomic.Int64 // which of counts grows
	r      record
	begun  time.Time
	titles atomic.Int64
	asked  [2]atomic.Int64 // replica reads that were held against their own and against order
}

// newHistory posts the photos.
func newHistory(f *fleet, o *oracle, photos int) *history {
	f.t.Helper()
	s := newSocial(f, o, 1, photos)
	h := &history{f: f, o: o, owner: s.people[0], begun: time.Now()}
	var posts sync.WaitGroup
	for range photos {
		posts.Go(func() { h.owner.post(context.Background()) })
	}
	posts.Wait()
	for i, x := range s.shown() {
		if i < 3 {
			h.photos = append(h.photos, x.id)
		} else {
			h.counts = append(h.counts, x.id)
		}
	}
	if len(h.photos)+len(h.counts) != photos {
		f.t.Fatalf("%d and %d of %d photos are ready", len(h.photos), len(h.counts), photos)
	}
	return h
}

// run has clients act until ctx ends: those of the history, and one writer of numbers
// with its readers.
func (h *history) run(ctx context.Context, work *sync.WaitGroup) {
	token := h.owner.at[0].Token()
	for id := range 6 {
		work.Go(func() {
			for ctx.Err() == nil {
				photo, node := rand.IntN(len(h.photos)), rand.IntN(len(h.f.rig.Nodes))
				if id < 3 {
					h.write(ctx, id, node, photo, token)
				} else {
					h.read(ctx, id, node, photo, token)
				}
				pause(ctx, 20*time.Millisecond)
			}
		})
	}
	work.Go(func() { h.count(ctx, token) })
	for range 2 {
		work.Go(func() { h.follow(ctx, token) })
	}
}

func (h *history) since() int64 { return time.Since(h.begun).Nanoseconds() }

func (h *history) write(ctx context.Context, id, node, photo int, token string) {
	op := porcupine.Operation{ClientId: id, Input: titleOp{photo, true, fmt.Sprintf("t%d", h.titles.Add(1))}, Call: h.since(), Return: never}
	err := h.f.setTitle(ctx, node, token, h.photos[photo], op.Input.(titleOp).title, h.f.http)
	if err == nil {
		op.Return = h.since()
	} else if definite(err) {
		h.o.violated("a title is not taken: %v", err)
	}
	h.r.add(op)
	if err != nil {
		pause(ctx, 200*time.Millisecond) // each of these doubles what is to be thought of
	}
}

// read reads a title fresh. What is refused says nothing.
func (h *history) read(ctx context.Context, id, node, photo int, token string) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	op := porcupine.Operation{ClientId: id, Input: titleOp{photo: photo}, Call: h.since()}
	got, err := h.f.client(node, token, h.f.http).Photo(client.Fresh(ctx), h.photos[photo])
	if err != nil {
		return
	}
	op.Output, op.Return = got.Title, h.since()
	h.r.add(op)
}

// count gives a photo greater and greater numbers for its title and reads it back from
// any node: no less than it was told was done, no more than it has asked for. When an
// answer is lost that number may come after greater ones, so it takes another photo.
func (h *history) count(ctx context.Context, token string) {
	s := &seat{through: h.f.http}
	told := 0
	for n := 1; ctx.Err() == nil; n++ {
		photo := h.now.Load()
		err := h.f.setTitle(ctx, rand.IntN(len(h.f.rig.Nodes)), token, h.counts[photo], fmt.Sprint(n), s)
		switch {
		case err == nil:
			told = n
		case int(photo)+1 == len(h.counts):
			return // the readers go on
		default:
			h.now.Add(1)
			told, n = 0, 0
			continue
		}
		if got, ok := h.number(ctx, s, token, photo); ok {
			h.asked[0].Add(1)
			if got != told {
				h.o.violated("a writer was told that %d is written and reads %d", told, got)
			}
		}
	}
}

// follow reads the numbers from any node: they never fall.
func (h *history) follow(ctx context.Context, token string) {
	s := &seat{through: h.f.http}
	last := make([]int, len(h.counts))
	for ctx.Err() == nil {
		photo := h.now.Load()
		if got, ok := h.number(ctx, s, token, photo); ok {
			h.asked[1].Add(1)
			if got < last[photo] {
				h.o.violated("a reader has seen %d, and then %d", last[photo], got)
			}
			last[photo] = got
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// number reads a photo's title from any node, at the index of s.
func (h *history) number(ctx context.Context, s *seat, token string, photo int64) (n int, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	got, err := h.f.client(rand.IntN(len(h.f.rig.Nodes)), token, s).Photo(ctx, h.counts[photo])
	if err != nil {
		return 0, false
	}
	n, err = strconv.Atoi(got.Title)
	return n, err == nil || got.Title == ""
}

// judge looks for an order of all that was done in which every answer is right.
func (h *history) judge() {
	h.f.t.Helper()
	h.f.t.Logf("%d operations, %d of unknown outcome; %d reads of own writes, %d in order", len(h.r.ops), h.r.lost, h.asked[0].Load(), h.asked[1].Load())
	result, info := porcupine.CheckOperationsVerbose(titles, h.r.ops, time.Minute)
	if result != porcupine.Ok {
		name := fmt.Sprintf("%s/%s.html", os.TempDir(), h.f.t.Name())
		h.f.t.Errorf("there is no order of what was done that explains the answers: %s; see %s (%v)", result, name, porcupine.VisualizePath(titles, info, name))
	}
	if len(h.r.ops) < 50 || h.asked[0].Load() < 5 || h.asked[1].Load() < 20 {
		h.f.t.Error("this is little to go by")
	}
	h.o.tell(h.f.t)
}

// TestClusterHistories changes titles of photos through all nodes and reads them fresh,
// while the node that leads is cut off, paused and killed: all that was answered is as
// if one had come after the other. Reads that do not ask for it see what their client
// did, and never go back.
func TestClusterHistories(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	h := newHistory(f, &oracle{}, 12)
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	h.run(ctx, &work)
	leader := func() int {
		who := f.leads("feed")
		if len(who) != 1 {
			t.Fatalf("nodes %v say that they lead the feed", who)
		}
		return who[0]
	}
	func() {
		defer func() { stop(); work.Wait() }()
		pause(ctx, time.Second)
		n := leader()
		f.net.isolate(n)
		f.awaitLeaders(n)
		pause(ctx, time.Second)
		f.net.heal()
		f.calm()
		n = leader()
		f.rig.Nodes[n].Pause()
		f.awaitLeaders(n)
		pause(ctx, time.Second)
		f.rig.Nodes[n].Resume()
		f.calm()
		n = leader()
		f.rig.Nodes[n].Kill()
		f.awaitLeaders(n)
		f.startNode(n)
		f.calm()
	}()
	h.judge()
}
