package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"hayloft/client"
)

// Image is a JPEG to upload.
type Image struct {
	Name string
	Data []byte
}

// PhotoOptions are the settings of Photo.
type PhotoOptions struct {
	URL     string  // of the server; it must let accounts be made
	Photos  int     // uploads in each of the two phases
	Clients int     // at once, each with an account of its own
	Rate    float64 // uploads per second in the open-loop phase; 0 leaves it out
	Images  []Image // real photographs, used in turn and made unique
}

// Photo drives the whole road over HTTP: upload, ready, the follower's feed and
// each variant. The closed phase finds the throughput, the open-loop phase the
// latencies at a stated rate. Afterwards every photo must be in the follower's
// feed and its master must have the SHA-256 of what was sent.
func Photo(ctx context.Context, o PhotoOptions) (*Report, error) {
	if o.Photos < 1 || o.Clients < 1 || len(o.Images) == 0 || o.Rate < 0 {
		return nil, errors.New("bench photo: photos, clients and images must be given, and the rate must not be negative")
	}
	b := &photoBench{PhotoOptions: o, sent: map[string]sent{}}
	if err := b.signUp(ctx); err != nil {
		return nil, fmt.Errorf("bench photo: accounts: %w", err)
	}
	r := &Report{Bench: "photo", When: time.Now().UTC(), Settings: b.settings()}

	closed, elapsed := b.phase(ctx, 0)
	r.Results = append(r.Results, Result{Name: "photos_per_s", Unit: "1/s", Value: float64(o.Photos) / elapsed.Seconds(), N: o.Photos})
	r.Results = append(r.Results, closed.results("_closed")...)
	first := closed.err()
	if o.Rate > 0 && ctx.Err() == nil {
		open, _ := b.phase(ctx, o.Rate)
		r.Results = append(r.Results, open.results("")...)
		first = errors.Join(first, open.err())
	}
	inFeed, same, err := b.verify(ctx)
	r.Results = append(r.Results,
		Result{Name: "photos_in_feed", Unit: "1", Value: float64(inFeed), N: len(b.sent), Errors: len(b.sent) - inFeed},
		Result{Name: "masters_identical", Unit: "1", Value: float64(same), N: len(b.sent), Errors: len(b.sent) - same})
	if err = errors.Join(ctx.Err(), first, err); err != nil {
		return r, fmt.Errorf("bench photo: %w", err)
	}
	return r, nil
}

type photoBench struct {
	PhotoOptions
	authors []*client.Client
	reader  *client.Client

	mu   sync.Mutex // guards sent
	sent map[string]sent
	next uint64 // number of the next upload; touched between phases only
}

type sent struct {
	digest [32]byte
	author *client.Client
}

// road is what one phase measured.
type road struct{ upload, ready, feed, photo Latency }

func (r *road) results(suffix string) []Result {
	return []Result{
		r.upload.Result("upload_p99"+suffix, 0.99), r.ready.Result("ready_p99"+suffix, 0.99),
		r.feed.Result("feed_p99"+suffix, 0.99), r.photo.Result("photo_p99"+suffix, 0.99),
	}
}

func (r *road) err() error {
	return errors.Join(r.upload.Err(), r.ready.Err(), r.feed.Err(), r.photo.Err())
}

func (b *photoBench) settings() map[string]string {
	rate := "left out"
	if b.Rate > 0 {
		rate = fmt.Sprintf("%g uploads/s", b.Rate)
	}
	size := 0
	for _, img := range b.Images {
		size += len(img.Data)
	}
	return map[string]string{
		"photos":     fmt.Sprintf("%d in each phase", b.Photos),
		"clients":    fmt.Sprint(b.Clients),
		"open loop":  rate,
		"data set":   fmt.Sprintf("%d photographs, mean %d KB, each copy unique", len(b.Images), size/len(b.Images)/1000),
		"durability": "acknowledged after the sync of volume and log (default)",
		"uploads":    "upload URL and multipart in turn",
		"warm-up":    "none",
	}
}

func (b *photoBench) signUp(ctx context.Context) error {
	var run [5]byte
	if _, err := rand.Read(run[:]); err != nil {
		return err
	}
	anyone, err := client.New(b.URL, client.Options{})
	if err != nil {
		return err
	}
	account := func(name string) (*client.Client, error) {
		login, err := anyone.CreateAccount(ctx, client.NewAccount{
			Handle: fmt.Sprintf("bench_%x_%s", run, name), Password: rand.Text(),
		})
		return anyone.WithToken(login.Token), err
	}
	if b.reader, err = account("reader"); err != nil {
		return err
	}
	for i := range b.Clients {
		name := fmt.Sprintf("a%d", i)
		c, err := account(name)
		if err != nil {
			return err
		}
		b.authors = append(b.authors, c)
		if _, err := b.reader.Follow(ctx, fmt.Sprintf("@bench_%x_%s", run, name)); err != nil {
			return err
		}
	}
	return nil
}

// phase uploads Photos photos, at rate or as fast as the clients can, while the
// reader asks for its feed ten times a second.
func (b *photoBench) phase(ctx context.Context, rate float64) (*road, time.Duration) {
	r := &road{}
	idle := make(chan *client.Client, len(b.authors))
	for _, a := range b.authors {
		idle <- a
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { b.readFeed(ctx, r, stop) })

	begin, base := time.Now(), b.next
	b.next += uint64(b.Photos)
	openLoop(ctx, b.Photos, b.Clients, rate, func(i int, start time.Time) {
		author := <-idle
		b.onePhoto(ctx, author, base+uint64(i), start, r)
		idle <- author
	})
	elapsed := time.Since(begin)
	close(stop)
	wg.Wait()
	return r, elapsed
}

func (b *photoBench) readFeed(ctx context.Context, r *road, stop <-chan struct{}) {
	const every = 100 * time.Millisecond
	for start := time.Now(); ; start = start.Add(every) {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-time.After(time.Until(start)):
		}
		_, err := b.reader.Feed(ctx, client.PageOptions{Limit: 20})
		r.feed.Add(time.Since(start), err)
	}
}

// onePhoto takes one photo down the whole road and records each step.
func (b *photoBench) onePhoto(ctx context.Context, author *client.Client, n uint64, start time.Time, r *road) {
	img := b.Images[n%uint64(len(b.Images))]
	data := unique(img.Data, n)
	id, err := upload(ctx, author, img.Name, data, n%2 == 0)
	r.upload.Add(time.Since(start), err)
	if err != nil {
		return
	}
	b.mu.Lock()
	b.sent[id] = sent{sha256.Sum256(data), author}
	b.mu.Unlock()

	p, err := author.WaitReady(ctx, id)
	if err == nil && p.Status != client.StatusReady {
		err = fmt.Errorf("photo %s is %s", id, p.Status)
	}
	r.ready.Add(time.Since(start), err)
	if err != nil {
		return
	}
	for _, url := range []string{p.URLs.Thumbnail, p.URLs.Small, p.URLs.Medium, p.URLs.Large} {
		t := time.Now()
		err := fetch(ctx, b.reader, url)
		r.photo.Add(time.Since(t), err)
	}
}

func upload(ctx context.Context, c *client.Client, name string, data []byte, byURL bool) (string, error) {
	f := client.File{At: bytes.NewReader(data), Size: int64(len(data)), ContentType: "image/jpeg", Name: name}
	d := client.Details{Caption: name}
	if !byURL {
		p, err := c.PostPhoto(ctx, f, d, 0, "")
		return p.PhotoID, err
	}
	u, err := c.UploadURL(ctx, client.UploadRequest{FileSize: f.Size, ContentType: f.ContentType})
	if err != nil {
		return "", err
	}
	if _, err := c.PutUpload(ctx, u, f); err != nil {
		return "", err
	}
	_, err = c.Finalize(ctx, u.PhotoID, d, 0)
	return u.PhotoID, err
}

// fetch reads one variant to its end.
func fetch(ctx context.Context, c *client.Client, url string) error {
	o, err := c.Media(ctx, url)
	if err != nil {
		return err
	}
	defer o.Body.Close()
	n, err := io.Copy(io.Discard, o.Body)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s is empty", url)
	}
	return err
}

// verify counts the photos that the reader's feed holds and the masters that
// came back as they were sent.
func (b *photoBench) verify(ctx context.Context) (inFeed, same int, err error) {
	left := len(b.sent)
	seen := map[string]bool{}
	for page, perr := range b.reader.FeedPages(ctx, 100) {
		if perr != nil {
			return inFeed, same, perr
		}
		for _, p := range page.Items {
			if _, ours := b.sent[p.ID]; ours && !seen[p.ID] {
				seen[p.ID] = true
				inFeed++
			}
		}
	}
	for id, s := range b.sent {
		d, derr := digest(ctx, s.author, id)
		if derr != nil {
			return inFeed, same, derr
		}
		if d == s.digest {
			same++
		}
	}
	if inFeed < left || same < left {
		err = fmt.Errorf("of %d photos %d are in the feed and %d have their bytes", left, inFeed, same)
	}
	return inFeed, same, err
}

func digest(ctx context.Context, c *client.Client, photo string) (sum [32]byte, err error) {
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

// unique returns a copy of a JPEG with a comment segment that holds n right
// after its start marker: the same picture, other bytes.
func unique(jpeg []byte, n uint64) []byte {
	const soi, length = 2, 10
	out := make([]byte, 0, len(jpeg)+2+length)
	out = append(out, jpeg[:soi]...)
	out = append(out, 0xff, 0xfe, 0, length)
	out = binary.BigEndian.AppendUint64(out, n)
	return append(out, jpeg[soi:]...)
}
