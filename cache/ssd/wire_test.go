package ssd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/cache"
	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// world is everything behind a cache: a store, who may see what, and the purge log.
type world struct {
	fetched atomic.Int64
	down    atomic.Bool
	gone    atomic.Pointer[id.ID]
	purges  chan cache.Purge
}

func (w *world) Fetch(_ context.Context, k cache.Key) (cache.Object, error) {
	w.fetched.Add(1)
	if w.down.Load() {
		return cache.Object{}, errDown
	}
	o := object(k)
	o.Release = func() { clear(o.Data) }
	return o, nil
}

func (w *world) Access(_ context.Context, blob id.ID) (cache.Verdict, error) {
	if p := w.gone.Load(); p != nil && *p == blob {
		return cache.Verdict{Audience: cache.Gone}, nil
	}
	return cache.Verdict{Audience: cache.Public}, nil
}

func (w *world) Purges(ctx context.Context, _ uint64, _ int) ([]cache.Purge, time.Duration, error) {
	select {
	case p := <-w.purges:
		return []cache.Purge{p}, 0, nil
	case <-time.After(time.Second): // of the bubble
		return nil, 0, nil
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

// front starts a cache over the tier, as small as can be: one large object empties it.
func (r *rig) front(w *world) *cache.Cache {
	c, err := cache.New(cache.Options{Origin: r.Before(w), Access: w, Purges: r.Following(w), Budget: 1 << 20})
	if err != nil {
		r.Fatal(err)
	}
	return c
}

// asks sends a request for k and compares the answer's bytes.
func (r *rig) asks(c *cache.Cache, k cache.Key) int {
	r.Helper()
	var ctx fasthttp.RequestCtx
	var req fasthttp.Request
	req.SetRequestURI(k.Path())
	ctx.Init(&req, nil, nil)
	c.Handle(&ctx)
	status, body := ctx.Response.StatusCode(), ctx.Response.Body()
	if status == 200 && !bytes.Equal(body, content(k)) {
		r.Errorf("%v: %d bytes, not those of the photo", k, len(body))
	}
	return status
}

// What had to be fetched twice is not fetched a third time, also by another process
// after kill -9, and with the store down.
func TestCacheFillsFromTheDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := newRig(t, Options{}), &world{}
		r.open(r.mem)
		k := keyOf(7, "small")
		for i, want := range []int64{1, 2, 2, 2} {
			c := r.front(w)
			if status := r.asks(c, k); status != 200 || w.fetched.Load() != want {
				t.Errorf("request %d: %d, %d fetched", i, status, w.fetched.Load())
			}
			c.Close()
			synctest.Wait() // until it is on the device
			if i == 2 {
				w.down.Store(true)
				mem := r.mem.Kill()
				r.close()
				r.open(mem)
			}
		}
		r.close()
	})
}

// A deleted photo does not come back from the device: not while it is there, and not
// after its purge has gone through.
func TestDeletedDoesNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := newRig(t, all), &world{purges: make(chan cache.Purge)}
		r.open(r.mem)
		k, other := keyOf(7, "small"), keyOf(8, "small")
		c := r.front(w)
		r.asks(c, k)
		r.asks(c, other)
		c.Close()
		synctest.Wait()
		if !r.has(k) {
			t.Fatal("not on the device")
		}
		w.gone.Store(&k.Blob)
		c = r.front(w)
		if status := r.asks(c, k); status != 404 {
			t.Errorf("%d: the device had it, and it was served", status)
		}
		w.purges <- cache.Purge{Seq: 1, Blob: k.Blob}
		synctest.Wait()
		if r.has(k) || !r.has(other) {
			t.Error("the purge did not reach the device, or took too much")
		}
		if status := r.asks(c, k); status != 404 {
			t.Errorf("%d after the purge", status)
		}
		c.Close()
		r.close()
	})
}

// Whatever the device does, requests are answered as if there were none.
func TestCacheWithoutDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := newRig(t, all), &world{}
		r.open(r.mem)
		c := r.front(w)
		for _, k := range keys(1, 20) {
			r.asks(c, k)
		}
		c.Close()
		c = r.front(w)
		hold := make(chan struct{})
		r.fail(func(op vfs.Op) vfs.Outcome {
			if op.N%2 == 0 {
				<-hold
			}
			return vfs.Outcome{Err: errors.New("dead")}
		})
		for _, k := range keys(1, 40) {
			begun := time.Now()
			if status := r.asks(c, k); status != 200 {
				t.Errorf("%v: %d", k, status)
			}
			if took := time.Since(begun); took > 100*time.Millisecond {
				t.Errorf("%v after %v", k, took)
			}
		}
		close(hold)
		r.fail(nil)
		c.Close()
		r.close()
	})
}

// What is made anew at each fill is neither kept nor looked for.
func TestExceptedVariantsPassBy(t *testing.T) {
	o := all
	o.Except = []string{"large"}
	bubble(t, o, func(r *rig) {
		w := &world{}
		for range 3 {
			for _, k := range []cache.Key{keyOf(1, "small"), keyOf(1, "large")} {
				o, err := r.Before(w).Fetch(context.Background(), k)
				if err != nil || !bytes.Equal(o.Data, content(k)) {
					t.Errorf("%v: %v", k, err)
				}
				o.Release()
			}
			synctest.Wait()
		}
		if n := w.fetched.Load(); n != 4 || r.has(keyOf(1, "large")) {
			t.Errorf("%d fetched", n)
		}
	})
}

// growing is an Origin whose objects come in pieces, and not all of them to the end.
type growing struct{ cut bool }

func (g growing) Fetch(_ context.Context, k cache.Key) (cache.Object, error) {
	o := object(k)
	o.Rest, o.Size, o.Data = &pieces{left: o.Data, cut: g.cut}, len(o.Data), nil
	return o, nil
}

type pieces struct {
	left []byte
	cut  bool
}

func (p *pieces) Next(to []byte) (int, error) {
	if p.cut && len(p.left) < 150 {
		return 0, errDown
	}
	n := copy(to[:min(len(to), 100)], p.left)
	p.left = p.left[n:]
	return n, nil
}

func (p *pieces) Done([]byte) {}

// What comes in pieces is kept when all of it has come, and only then.
func TestPiecesAreKeptAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := newRig(t, all), &world{}
		r.open(r.mem)
		whole, cut := keyOf(7, "small"), keyOf(8, "small")
		for _, try := range []struct {
			origin cache.Origin
			k      cache.Key
		}{{growing{}, whole}, {growing{cut: true}, cut}} {
			c, err := cache.New(cache.Options{Origin: r.Before(try.origin), Access: w, Purges: w, Budget: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			var ctx fasthttp.RequestCtx
			var req fasthttp.Request
			req.SetRequestURI(try.k.Path())
			ctx.Init(&req, nil, nil)
			c.Handle(&ctx)
			_ = ctx.Response.BodyWriteTo(io.Discard) // of the one that is cut: an error
			c.Close()
			synctest.Wait()
		}
		if !r.has(whole) || r.has(cut) {
			t.Errorf("the whole one is there: %v, the one that was cut: %v", r.has(whole), r.has(cut))
		}
		r.close()
	})
}
