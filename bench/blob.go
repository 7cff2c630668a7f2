package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/client"
)

// BlobOptions are the settings of Blob.
type BlobOptions struct {
	URL     string // of any Hayloft with a key for blobs
	Key     string
	Size    int           // bytes of a blob
	Clients int           // at once, each waits for its answer before it asks again
	Time    time.Duration // of each phase
}

// Blob drives the blob API: PUT, GET at random of what was stored, DELETE of all of it.
// Each answer to a GET is compared with what was sent.
func Blob(ctx context.Context, o BlobOptions) (*Report, error) {
	if o.Size < 1 || o.Clients < 1 || o.Time <= 0 {
		return nil, errors.New("bench blob: size, clients and time must be above 0")
	}
	c, err := client.New(o.URL, client.Options{Token: o.Key, Retries: -1})
	if err != nil {
		return nil, err
	}
	defer c.CloseIdle()
	b := &blobBench{BlobOptions: o, c: c}
	r := &Report{Bench: "blob", When: time.Now().UTC(), Settings: map[string]string{
		"blobs":      fmt.Sprintf("%d bytes each, incompressible, class originals", o.Size),
		"clients":    fmt.Sprintf("%d, closed loop, %v for each phase", o.Clients, o.Time),
		"durability": "acknowledged after the sync of every replica (default)",
		"reads":      "at random among all that was written, none from a cache of photos; compared with what was sent",
		"warm-up":    "none",
	}}
	for _, p := range []struct {
		name string
		do   func(context.Context) error
	}{{"put", b.put}, {"get", b.get}, {"delete", b.remove}} {
		l, n, took := b.phase(ctx, p.do)
		r.Results = append(r.Results,
			Result{Name: p.name + "_per_s", Unit: "1/s", Value: float64(n) / took.Seconds(), N: n, Errors: l.failed},
			l.Result(p.name+"_p99", 0.99))
		if err := l.Err(); err != nil {
			return r, fmt.Errorf("bench blob: %s: %w", p.name, err)
		}
	}
	return r, ctx.Err()
}

type blobBench struct {
	BlobOptions
	c *client.Client

	mu   sync.Mutex // guards list
	list []storedBlob
	gone atomic.Int64 // of list, from its front
}

type storedBlob struct {
	blob client.Blob
	sum  [32]byte
}

// errDone ends a phase early: nothing is left to do.
var errDone = errors.New("done")

// phase runs do on every client until its time is over.
func (b *blobBench) phase(ctx context.Context, do func(context.Context) error) (*Latency, int, time.Duration) {
	l := &Latency{}
	var n atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range b.Clients {
		wg.Go(func() {
			for ctx.Err() == nil && time.Since(began) < b.Time {
				start := time.Now()
				err := do(ctx)
				if errors.Is(err, errDone) {
					return
				}
				l.Add(time.Since(start), err)
				if err != nil {
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return l, int(n.Load()), time.Since(began)
}

func (b *blobBench) put(ctx context.Context) error {
	data := make([]byte, b.Size)
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	_, _ = rand.NewChaCha8(seed).Read(data) // it never fails
	blob, err := b.c.PutBlob(ctx, client.ClassOriginals, client.File{At: bytes.NewReader(data), Size: int64(len(data)), ContentType: "application/octet-stream"})
	if err == nil {
		b.mu.Lock()
		b.list = append(b.list, storedBlob{blob, sha256.Sum256(data)})
		b.mu.Unlock()
	}
	return err
}

func (b *blobBench) get(ctx context.Context) error {
	s := b.list[rand.IntN(len(b.list))]
	o, err := b.c.GetBlob(ctx, s.blob, "")
	if err != nil {
		return err
	}
	defer o.Body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, o.Body); err != nil {
		return err
	}
	if [32]byte(h.Sum(nil)) != s.sum {
		return fmt.Errorf("blob %s is not what was stored", s.blob.ID)
	}
	return nil
}

func (b *blobBench) remove(ctx context.Context) error {
	i := int(b.gone.Add(1)) - 1
	if i >= len(b.list) {
		return errDone
	}
	return b.c.DeleteBlob(ctx, b.list[i].blob)
}
