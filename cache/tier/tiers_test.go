package tier

import (
	"bytes"
	"context"
	"hash/crc32"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/cache"
	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// keysOfHome are variants of many blobs whose home is that upstream.
func keysOfHome(n *node, up int, blobs []id.ID) (keys []cache.Key) {
	for _, b := range blobs {
		if k := keyOf(b, "small"); n.chain.order(hashKey(k))[0] == n.chain.ups[up] {
			keys = append(keys, k)
		}
	}
	return keys
}

func someBlobs(n int) (list []id.ID) {
	for i := range n {
		list = append(list, id.ID(i+1))
	}
	return list
}

// An edge begins with what its upstreams are asked for: public objects alone, and of
// each upstream what has its home there.
func TestWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := someBlobs(6)
		h := newHome(blobs...)
		a, a2 := inner(t, "a", h), inner(t, "a2", h)
		h.set(6, cache.Verdict{Audience: cache.Signed, Epoch: 1})
		pass(time.Second)
		for _, b := range blobs[:5] {
			status(t, "a", a.get(t, keyOf(b, "small"), ""), 200)
			status(t, "a2", a2.get(t, keyOf(b, "small"), ""), 200)
		}
		private := keyOf(6, "small")
		status(t, "private", a.get(t, private, "?"+sign.MediaQuery(ring, private.Path(), 1, time.Now(), time.Hour)), 200)
		l1, l2 := &link{to: a.srv}, &link{to: a2.srv}
		b := outer(t, "b", Options{}, l1, l2)
		pass(time.Second)
		n, err := b.chain.Warm(t.Context(), b.Cache, 1<<20)
		if err != nil || n != 5 || b.Stats().Entries == 0 {
			t.Fatalf("%d objects, %v, %+v", n, err, b.Stats())
		}
		synctest.Wait()
		for i := range 2 {
			if got, want := b.chain.Stats()[i].Fills, len(keysOfHome(b, i, blobs[:5])); int(got) != want || want == 0 {
				t.Errorf("upstream %d sent %d, and is the home of %d", i, got, want)
			}
		}
		calls := l1.calls + l2.calls
		for _, blob := range blobs[:5] {
			status(t, "warm", b.get(t, keyOf(blob, "small"), ""), 200)
		}
		if asked := l1.calls + l2.calls - calls; asked != 0 {
			t.Errorf("%d questions for what was there", asked)
		}

		// One that does not answer is left out; a full cache takes no more.
		l1.setCut(true)
		c := outer(t, "c", Options{}, l1, l2)
		if n, err := c.chain.Warm(t.Context(), c.Cache, 1<<20); err != nil || n != len(keysOfHome(c, 1, blobs[:5])) {
			t.Errorf("%d objects, %v", n, err)
		}
		d := outer(t, "d", Options{}, l2)
		if n, err := d.chain.Warm(t.Context(), d.Cache, 0); err != nil || n != 0 {
			t.Errorf("%d objects, %v", n, err)
		}
		e := outer(t, "e", Options{}, l1)
		if _, err := e.chain.Warm(t.Context(), e.Cache, 1<<20); err == nil {
			t.Error("nobody answered, and no error")
		}
	})
}

// A dead upstream's keys go to the other one as guests, and come back when it does.
// Nobody waits for it meanwhile.
func TestGutter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := someBlobs(40)
		h := newHome(blobs...)
		a, a2 := inner(t, "a", h), inner(t, "a2", h)
		l1, l2 := &link{to: a.srv}, &link{to: a2.srv}
		b := outer(t, "b", Options{}, l1, l2)
		pass(time.Second)
		mine := keysOfHome(b, 0, blobs)
		if len(mine) < 8 || len(mine) > 32 {
			t.Fatalf("%d of 40 have their home at one of two", len(mine))
		}
		l1.setCut(true)
		pass(5 * time.Second) // its breaker opens over questions for the purge log
		for _, k := range mine[:6] {
			began := time.Now()
			status(t, "home is dead", b.get(t, k, ""), 200)
			if took := time.Since(began); took > 1200*time.Millisecond { // of a trial's time
				t.Errorf("took %v", took)
			}
		}
		synctest.Wait() // an upstream's figures are there a moment after the last byte
		if st := b.chain.Stats()[1]; st.Gutter == 0 {
			t.Errorf("no guests: %+v", st)
		}
		l1.setCut(false)
		pass(5 * time.Second)
		before := b.chain.Stats()[0].Fills
		status(t, "home is back", b.get(t, mine[7], ""), 200)
		synctest.Wait()
		if st := b.chain.Stats()[0]; st.Fills != before+1 || st.Open {
			t.Errorf("not asked: %+v", st)
		}
	})
}

// An upstream gets a quarter more fills than its share at most.
func TestBoundedLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := someBlobs(200)
		h := newHome(blobs...)
		h.hold = make(chan struct{})
		a, a2 := inner(t, "a", h), inner(t, "a2", h)
		b := outer(t, "b", Options{Hedge: time.Hour}, &link{to: a.srv}, &link{to: a2.srv})
		pass(time.Second)
		mine := keysOfHome(b, 0, blobs) // all of one home
		var all sync.WaitGroup
		for _, k := range mine[:40] {
			all.Go(func() { status(t, "held", b.get(t, k, ""), 200) })
		}
		synctest.Wait()
		one, other := b.chain.Stats()[0].Busy, b.chain.Stats()[1].Busy
		if one+other != 40 || one > 26 || other > 26 {
			t.Errorf("%d fills at the home of all 40, %d at the other", one, other)
		}
		close(h.hold)
		all.Wait()
	})
}

// What was damaged on its way is neither served nor kept: another upstream is asked.
func TestDamagedOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(1)
		a, a2 := inner(t, "a", h), inner(t, "a2", h)
		k := keyOf(1, "large")
		for name, spoil := range map[string]func(http.Header, []byte) []byte{
			"a flipped bit": func(_ http.Header, b []byte) []byte { b[len(b)/2] ^= 1; return b },
			"cut short":     func(_ http.Header, b []byte) []byte { return b[:len(b)-9] },
			"another's tag": func(h http.Header, b []byte) []byte { h.Set("ETag", `"00000000"`); return b },
			"another size":  func(h http.Header, b []byte) []byte { h.Set("Hayloft-Size", "4"); return b },
			"another key":   func(h http.Header, b []byte) []byte { h.Set("Hayloft-Path", keyOf(1, "small").Path()); return b },
			"another type":  func(h http.Header, b []byte) []byte { h.Set("Content-Type", "text/html"); return b },
		} {
			bad := func(h http.Header, b []byte) []byte {
				if h.Get("Hayloft-Size") == "" {
					return b
				}
				return spoil(h, bytes.Clone(b))
			}
			l1, l2 := &link{to: a.srv, spoil: bad}, &link{to: a2.srv, spoil: bad}
			b := outer(t, "b", Options{}, l1, l2)
			pass(time.Second)
			if got := b.get(t, k, ""); got != 503 && got != cutOff && (got != 404 || name != "another type") {
				t.Errorf("%s, at both: %d", name, got)
			}
			synctest.Wait()
			if n := b.Stats().Entries; n != 0 {
				t.Errorf("%s: kept", name)
			}
			if name == "another type" || name == "another's tag" {
				continue // it is found out at the end, when the tag has been told to a reader
			}
			good := l1
			if b.chain.order(hashKey(k))[0] == b.chain.ups[0] {
				good = l2
			}
			good.mu.Lock()
			good.spoil = nil
			good.mu.Unlock()
			status(t, name+", at one", b.get(t, k, ""), 200)
		}
	})
}

// An object whose upstreams break off again and again comes whole, each piece once, and
// from where it broke off.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(1)
		a, a2 := inner(t, "a", h), inner(t, "a2", h)
		l1, l2 := &link{to: a.srv}, &link{to: a2.srv}
		b := outer(t, "b", Options{}, l1, l2)
		pass(time.Second)
		variants := []string{"thumbnail", "small", "medium", "large", "original"}
		resumed := 0
		for _, v := range variants {
			k := keyOf(1, v)
			size := int64(len(bytesOf(k)))
			for _, l := range []*link{l1, l2} {
				l.mu.Lock()
				l.breakAfter = chunk + 4 // the first chunk and no more
				l.mu.Unlock()
			}
			if pieces := (size + chunk - 1) / chunk; pieces > 1 {
				resumed++
			}
			status(t, v, b.get(t, k, ""), 200)
		}
		if resumed == 0 {
			t.Error("nothing was larger than a piece")
		}
		synctest.Wait()
		sent := b.chain.Stats()[0].Bytes + b.chain.Stats()[1].Bytes
		want := 0
		for _, v := range variants {
			want += len(bytesOf(keyOf(1, v)))
		}
		if int(sent) != want {
			t.Errorf("%d bytes were sent for %d", sent, want)
		}
	})
}

// An answer says for how long tiers had it, all of them together.
func TestAgeThroughTiers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(1)
		a := inner(t, "a", h)
		b := outer(t, "b", Options{}, &link{to: a.srv})
		c := outer(t, "c", Options{}, &link{to: b.srv})
		pass(time.Second)
		for _, v := range []string{"thumbnail", "original"} {
			age := func(n *node, want string) {
				t.Helper()
				var ctx fasthttp.RequestCtx
				ctx.Request.SetRequestURI(keyOf(1, v).Path())
				n.Handle(&ctx)
				if got := string(ctx.Response.Header.Peek("Age")); got != want {
					t.Errorf("%s: Age %q, want %q", v, got, want)
				}
				if _, err := io.Copy(io.Discard, ctx.Response.BodyStream()); err != nil {
					t.Error(err)
				}
				if err := ctx.Response.CloseBodyStream(); err != nil {
					t.Error(err)
				}
			}
			age(a, "") // just read
			pass(10 * time.Second)
			age(b, "10") // from a
			pass(5 * time.Second)
			age(c, "15") // from b
			pass(2 * time.Second)
			age(c, "17")
			age(a, "17")
		}
	})
}

// What grows at one tier is passed on by it while it grows.
func TestGrowsThroughTiers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(1)
		a := inner(t, "a", h)
		b := outer(t, "b", Options{Attempt: time.Minute}, &link{to: a.srv})
		slow := &trickle{to: b.srv, every: time.Second}
		c := outer(t, "c", Options{Attempt: time.Minute}, &link{to: slow})
		d := outer(t, "d", Options{Attempt: time.Minute}, &link{to: c.srv})
		pass(time.Second)
		k := keyOf(1, "large")
		for i := 0; len(bytesOf(k)) < 2*chunk; i++ {
			k = keyOf(1, []string{"thumbnail", "small", "medium", "original"}[i])
		}
		var ctx fasthttp.RequestCtx
		ctx.Request.SetRequestURI(k.Path())
		began := time.Now()
		d.Handle(&ctx)
		part := make([]byte, chunk)
		if _, err := io.ReadFull(ctx.Response.BodyStream(), part); err != nil || !bytes.Equal(part, bytesOf(k)[:chunk]) {
			t.Fatalf("the first piece: %v", err)
		}
		first := time.Since(began)
		rest, err := io.ReadAll(ctx.Response.BodyStream())
		if err != nil || !bytes.Equal(rest, bytesOf(k)[chunk:]) {
			t.Fatalf("the rest: %v", err)
		}
		if last := time.Since(began); last < first+time.Second/2 {
			t.Errorf("the first piece after %v, the last after %v", first, last)
		}
		if err := ctx.Response.CloseBodyStream(); err != nil {
			t.Error(err)
		}
		pass(time.Millisecond)
		for name, n := range map[string]*node{"b": b, "c": c, "d": d} {
			status(t, "whole, at "+name, n.get(t, k, ""), 200)
		}
		if h.fetches != 1 {
			t.Errorf("%d reads of the store", h.fetches)
		}
	})
}

// trickle passes answers on a write at a time.
type trickle struct {
	to    http.Handler
	every time.Duration
}

func (s *trickle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.to.ServeHTTP(&trickling{w, s.every}, r)
}

type trickling struct {
	http.ResponseWriter
	every time.Duration
}

func (w *trickling) Write(b []byte) (int, error) {
	if len(b) >= chunk {
		defer pass(w.every)
	}
	return w.ResponseWriter.Write(b)
}

// Tiers that fill from one another in a circle are told so, and nobody waits.
func TestCircle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		toB, toC := &later{}, &later{}
		lb, lc := &link{to: toB}, &link{to: toC}
		b := outer(t, "b", Options{}, lc)
		c := outer(t, "c", Options{}, lb)
		toB.srv.Store(b.srv)
		toC.srv.Store(c.srv)
		pass(time.Second)
		began := time.Now()
		status(t, "a circle", b.get(t, keyOf(1, "small"), ""), 503)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// later is a tier that is not there from the beginning.
type later struct{ srv atomic.Pointer[Server] }

func (l *later) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s := l.srv.Load(); s != nil {
		s.ServeHTTP(w, r)
		return
	}
	refuse(w, http.StatusServiceUnavailable, "not yet")
}

// Nodes put fresh variants in; others are refused, and so is what is damaged.
func TestPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(1)
		a := inner(t, "a", h)
		pass(time.Second)
		k := keyOf(1, "small")
		b := bytesOf(k)
		obj := cache.Object{Data: b, ContentType: "image/jpeg", ETag: tagOf(crc32.Checksum(b, castagnoli))}
		l := &link{to: a.srv}
		if err := Put(t.Context(), l, k, cache.Object{Data: b, ContentType: "image/jpeg", ETag: "00000000"}); err == nil {
			t.Error("a wrong tag was taken")
		}
		a.srv.o.Push = func(context.Context) bool { return false }
		if err := Put(t.Context(), l, k, obj); err == nil {
			t.Error("a client may put in")
		}
		a.srv.o.Push = func(context.Context) bool { return true }
		if err := Put(t.Context(), l, k, obj); err != nil {
			t.Fatal(err)
		}
		status(t, "pushed", a.get(t, k, ""), 200)
		if h.fetches != 0 || a.Stats().Pushes != 1 {
			t.Errorf("%d reads of the store, %+v", h.fetches, a.Stats())
		}
	})
}
