package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"hayloft/client"
	"hayloft/testdata/photos"
)

// TestKillDuringUploads kills the server with kill -9 at random moments of a
// stream of uploads and deletes, starts it again over the same directory, and
// checks every acknowledged photo: there with the SHA-256 that was sent, ready
// and in the follower's feed in the end; every deleted one gone.
func TestKillDuringUploads(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	dir := t.TempDir()
	s := start(t, dir)
	if s.started > time.Second {
		t.Errorf("ready on an empty directory after %v, more than 1 s", s.started)
	}
	w := &world{acked: map[string][32]byte{}, deleted: map[string]client.Photo{}}
	for i := range 4 {
		w.authors = append(w.authors, s.account(t, fmt.Sprintf("author%d", i)))
	}
	reader := s.account(t, "reader")
	for i := range w.authors {
		if _, err := reader.Follow(context.Background(), fmt.Sprintf("@author%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	const rounds = 5
	for round := range rounds {
		w.stream(t, s, rng.Uint64(), time.Duration(200+rng.IntN(600))*time.Millisecond)
		s = start(t, dir)
		if s.started > 2*time.Second {
			t.Errorf("ready after a kill after %v, more than 2 s", s.started)
		}
		t.Logf("round %d: %d acknowledged, %d deleted, ready after %v", round, len(w.acked), len(w.deleted), s.started.Round(time.Millisecond))
		w.check(t, s)
	}
	if len(w.acked) < rounds || len(w.deleted) == 0 {
		t.Fatalf("the stream was too thin to prove anything: %d acknowledged, %d deleted", len(w.acked), len(w.deleted))
	}
	w.settle(t, s, reader)
	s.stop(t)
}

// world is what clients know to be acknowledged.
type world struct {
	authors []*client.Client

	mu       sync.Mutex // guards all below
	acked    map[string][32]byte
	owner    map[string]int
	deleted  map[string]client.Photo
	doubtful map[string]bool // a delete was sent, no answer came
	n        uint64
}

// on returns the authors' clients for this run of the server.
func (w *world) on(t *testing.T, s *server) []*client.Client {
	t.Helper()
	var out []*client.Client
	for _, a := range w.authors {
		c := s.as(t, a)
		t.Cleanup(c.CloseIdle)
		out = append(out, c)
	}
	return out
}

// stream uploads and deletes with every author until the server is killed.
func (w *world) stream(t *testing.T, s *server, seed uint64, life time.Duration) {
	t.Helper()
	if w.owner == nil {
		w.owner, w.doubtful = map[string]int{}, map[string]bool{}
	}
	var wg sync.WaitGroup
	for a, c := range w.on(t, s) {
		rng := rand.New(rand.NewPCG(seed, uint64(a)))
		wg.Go(func() {
			for w.step(t, c, a, rng) == nil {
			}
		})
	}
	time.AfterFunc(life, func() { s.cmd.Process.Kill() })
	wg.Wait()
	<-s.exited
}

// step does one upload, and now and then a delete. An error means that the
// server is gone.
func (w *world) step(t *testing.T, c *client.Client, author int, rng *rand.Rand) error {
	ctx := context.Background()
	w.mu.Lock()
	w.n++
	n := w.n
	w.mu.Unlock()
	data := distinct(photos.ByName("nuthatch.jpg").Data, n)
	photo, err := put(ctx, c, data, n%2 == 0)
	if err != nil {
		return w.mustBeGone(t, c, err)
	}
	w.mu.Lock()
	w.acked[photo], w.owner[photo] = sha256.Sum256(data), author
	w.mu.Unlock()
	if rng.IntN(4) != 0 {
		return nil
	}
	p, err := c.Photo(ctx, photo)
	if err != nil {
		return w.mustBeGone(t, c, err)
	}
	w.mu.Lock()
	w.doubtful[photo] = true
	w.mu.Unlock()
	if err := c.Delete(ctx, photo); err != nil {
		return w.mustBeGone(t, c, err)
	}
	w.mu.Lock()
	delete(w.acked, photo)
	delete(w.doubtful, photo)
	w.deleted[photo] = p
	w.mu.Unlock()
	return nil
}

// mustBeGone fails the test when the error is an answer of the server: under
// this load no call may be refused.
func (w *world) mustBeGone(t *testing.T, _ *client.Client, err error) error {
	var p *client.Problem
	if errors.As(err, &p) {
		t.Errorf("refused: %v", err)
	}
	return err
}

// put uploads by URL or by one multipart call and returns when the photo is
// acknowledged.
func put(ctx context.Context, c *client.Client, data []byte, byURL bool) (string, error) {
	f := client.File{At: bytes.NewReader(data), Size: int64(len(data)), ContentType: "image/jpeg", Name: "photo.jpg"}
	if !byURL {
		p, err := c.PostPhoto(ctx, f, client.Details{Caption: "both ways"}, 0, "")
		return p.PhotoID, err
	}
	u, err := c.UploadURL(ctx, client.UploadRequest{FileSize: f.Size, ContentType: f.ContentType})
	if err != nil {
		return "", err
	}
	if _, err := c.PutUpload(ctx, u, f); err != nil {
		return "", err
	}
	_, err = c.Finalize(ctx, u.PhotoID, client.Details{Caption: "both ways"}, 0)
	return u.PhotoID, err
}

// check compares every acknowledged photo's master with what was sent, and
// looks for every deleted one.
func (w *world) check(t *testing.T, s *server) {
	t.Helper()
	ctx := context.Background()
	authors := w.on(t, s)
	for photo, want := range w.acked {
		got, err := masterDigest(ctx, authors[w.owner[photo]], photo)
		switch {
		case err == nil && got == want:
		case w.doubtful[photo] && client.IsStatus(err, http.StatusNotFound):
			delete(w.acked, photo) // the delete was committed before the kill
			delete(w.doubtful, photo)
		case err != nil:
			t.Errorf("acknowledged photo %s: %v", photo, err)
		default:
			t.Errorf("acknowledged photo %s came back with other bytes", photo)
		}
	}
	for photo, before := range w.deleted {
		for _, c := range authors {
			if _, err := c.Master(ctx, photo); !client.IsStatus(err, http.StatusNotFound) {
				t.Errorf("deleted photo %s: its master answers %v", photo, err)
			}
		}
		for _, url := range variantURLs(before) {
			if status, _ := get(t, rebase(url, s.url)); status != http.StatusNotFound {
				t.Errorf("deleted photo %s: %s answers %d", photo, url, status)
			}
		}
	}
}

// settle waits until transcoding and fan-out have caught up, and then compares
// the follower's feed with what must be in it.
func (w *world) settle(t *testing.T, s *server, reader *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	authors := w.on(t, s)
	for photo := range w.acked {
		p, err := authors[w.owner[photo]].WaitReady(ctx, photo)
		if err != nil || p.Status != client.StatusReady {
			t.Fatalf("photo %s is %q, %v", photo, p.Status, err)
		}
	}
	inFeed := map[string]bool{}
	reader = s.as(t, reader)
	for page, err := range reader.FeedPages(ctx, 37) {
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Items {
			if inFeed[p.ID] {
				t.Errorf("photo %s is in the feed twice", p.ID)
			}
			inFeed[p.ID] = true
			if _, ok := w.deleted[p.ID]; ok {
				t.Errorf("deleted photo %s is in the feed", p.ID)
			}
		}
	}
	for _, photo := range slices.Sorted(maps.Keys(w.acked)) {
		if !inFeed[photo] {
			t.Errorf("photo %s is ready and not in the follower's feed", photo)
		}
	}
}

func masterDigest(ctx context.Context, c *client.Client, photo string) (sum [32]byte, err error) {
	o, err := c.Master(ctx, photo)
	if err != nil {
		return sum, err
	}
	defer o.Body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, o.Body); err != nil {
		return sum, err
	}
	return [32]byte(h.Sum(nil)), nil
}

// distinct returns a copy of a JPEG with a comment segment that holds n.
func distinct(jpeg []byte, n uint64) []byte {
	out := append([]byte{}, jpeg[:2]...)
	out = append(out, 0xff, 0xfe, 0, 10)
	out = binary.BigEndian.AppendUint64(out, n)
	return append(out, jpeg[2:]...)
}
