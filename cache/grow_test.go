package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"hayloft/internal/id"
)

// dripping is an origin whose objects come piece by piece: each piece is as long as the
// number that the test gives it; one below zero breaks it off.
type dripping struct {
	*world
	drops chan int

	mu    sync.Mutex
	whole int // objects that came whole
	ended int
}

func newDripping() *dripping {
	w := newWorld()
	w.size = func(Key) int { return 300_000 }
	return &dripping{world: w, drops: make(chan int)}
}

func (d *dripping) Fetch(ctx context.Context, k Key) (Object, error) {
	o, err := d.world.Fetch(ctx, k)
	if err != nil {
		return o, err
	}
	data := bytes.Clone(o.Data)
	o.Release()
	return Object{Rest: &drip{d, ctx, data}, Size: len(data), ContentType: o.ContentType, ETag: o.ETag}, nil
}

type drip struct {
	d    *dripping
	ctx  context.Context
	left []byte
}

var errBroken = errors.New("broken off")

func (r *drip) Next(to []byte) (int, error) {
	if len(to) != len(r.left) {
		return 0, fmt.Errorf("room for %d of %d", len(to), len(r.left))
	}
	select {
	case n := <-r.d.drops:
		if n < 0 {
			copy(to, "garbage that nobody may read")
			return 0, errBroken
		}
		n = copy(to[:min(n, len(to))], r.left)
		r.left = r.left[n:]
		return n, nil
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}

func (r *drip) Done(whole []byte) {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	r.d.ended++
	if whole != nil {
		r.d.whole++
	}
}

// ends waits until so many objects have ended, which is a moment after the last reader
// has it, and wants so many of them whole.
func (d *dripping) ends(t *testing.T, ended, whole int) {
	t.Helper()
	for {
		d.mu.Lock()
		e, w := d.ended, d.whole
		d.mu.Unlock()
		if e >= ended {
			if e != ended || w != whole {
				t.Errorf("%d ended, %d whole, want %d and %d", e, w, ended, whole)
			}
			return
		}
		<-time.After(time.Millisecond)
	}
}

// ask begins a request and returns what has come of it so far as it is read.
func (s *site) ask(t *testing.T, target string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://hayloft.test"+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// begin begins a request for something that is not there, and has 100,000 bytes of it come.
func (s *site) begin(t *testing.T, d *dripping, k Key) *http.Response {
	t.Helper()
	go func() { d.drops <- 100_000 }()
	return s.ask(t, k.Path())
}

// takes wants the next bytes of an answer.
func takes(t *testing.T, resp *http.Response, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(resp.Body, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d, %v", n, len(want), err)
	}
}

// TestServedWhileItGrows has readers come before, while and after an object comes: each
// has what is there at once, and there is one fetch.
func TestServedWhileItGrows(t *testing.T) {
	d := newDripping()
	d.verdicts[1] = public
	p := newPool()
	s := serve(t, d.world, Options{Origin: d, alloc: p})
	k := keyOf(1, "large")
	data := content(k, 300_000)
	a := s.begin(t, d, k)
	takes(t, a, data[:100_000])
	b := s.ask(t, k.Path())
	takes(t, b, data[:100_000])
	r := s.ask(t, k.Path(), "Range", "bytes=150000-249999")
	if r.StatusCode != http.StatusPartialContent || a.ContentLength != 300_000 {
		t.Errorf("%d, %d bytes", r.StatusCode, a.ContentLength)
	}
	parts := s.ask(t, k.Path(), "Range", "bytes=0-9,150000-150009")
	d.drops <- 100_000
	takes(t, a, data[100_000:200_000])
	if b, err := io.ReadAll(parts.Body); err != nil || !bytes.Contains(b, data[:10]) || !bytes.Contains(b, data[150_000:150_010]) || parts.ContentLength != int64(len(b)) {
		t.Errorf("parts: %d bytes of %d, %v", len(b), parts.ContentLength, err)
	}
	takes(t, r, data[150_000:200_000])
	if d.fetched(k) != 1 {
		t.Errorf("%d fetches", d.fetched(k))
	}
	in, _ := s.c.internal(k)
	sh := s.c.shardOf(k.Blob)
	found := func() bool {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		return sh.find(in) != nil
	}
	if found() {
		t.Error("found as a whole object before it is one")
	}
	d.drops <- 100_000
	takes(t, a, data[200_000:])
	takes(t, b, data[100_000:])
	takes(t, r, data[200_000:250_000])
	for _, resp := range []*http.Response{a, b, r} {
		if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %d, %v", n, err)
		}
	}
	if got := s.do(t, "GET", k.Path()); !bytes.Equal(got.body, data) || got.header.Get("Cache-Status") != "hayloft; hit" || !found() {
		t.Errorf("afterwards: %d bytes, %v", len(got.body), got.header)
	}
	audit(t, s.c)
	d.ends(t, 1, 1)
}

// TestBrokenOffIsNotKept: who reads what breaks off sees that, nobody is given a part for
// the whole, and the memory comes back.
func TestBrokenOffIsNotKept(t *testing.T) {
	d := newDripping()
	d.verdicts[1] = public
	p := newPool()
	s := serve(t, d.world, Options{Origin: d, alloc: p})
	k := keyOf(1, "large")
	data := content(k, 300_000)
	for range 2 {
		a := s.begin(t, d, k)
		takes(t, a, data[:100_000])
		d.drops <- -1
		if n, err := io.ReadAll(a.Body); err == nil || len(n) > 0 {
			t.Errorf("%d bytes more, %v: a broken answer looks whole", len(n), err)
		}
		a.Body.Close()
	}
	d.ends(t, 2, 0)
	if d.fetched(k) != 2 {
		t.Errorf("%d fetches", d.fetched(k))
	}
	st := s.c.Stats()
	if st.Entries != 0 || st.FillErrors != 2 {
		t.Errorf("%+v", st)
	}
	audit(t, s.c)
	s.http.CloseIdleConnections()
	for s.c.Stats().LeavingBytes != 0 || p.held() != 0 { // until the server has seen the end of both
		<-time.After(time.Millisecond)
	}
}

// TestPurgedWhileItGrows: an answer that has begun is finished, and nobody else gets it.
func TestPurgedWhileItGrows(t *testing.T) {
	d := newDripping()
	d.verdicts[1] = public
	p := newPool()
	s := serve(t, d.world, Options{Origin: d, alloc: p})
	k := keyOf(1, "large")
	data := content(k, 300_000)
	a := s.begin(t, d, k)
	takes(t, a, data[:100_000])
	d.with(func() { d.verdicts[1] = Verdict{} })
	d.purge(1)
	d.settle(s.c)
	if got := s.do(t, "GET", k.Path()); got.status != http.StatusNotFound {
		t.Errorf("deleted: %d", got.status)
	}
	d.drops <- 200_000
	takes(t, a, data[100_000:])
	if st := s.c.Stats(); st.Entries != 0 {
		t.Errorf("%+v", st)
	}
	audit(t, s.c)
}

// TestNobodyReadsWhatIsNotKept: what finds no room is fetched for its readers alone.
func TestNobodyReadsWhatIsNotKept(t *testing.T) {
	d := newDripping()
	d.verdicts[1] = public
	d.size = func(Key) int { return 900_000 } // more than a third of the budget
	s := serve(t, d.world, Options{Origin: d, Budget: 1 << 20, alloc: newPool()})
	k := keyOf(1, "large")
	in, _ := s.c.internal(k)
	got := make(chan *entry)
	go func() {
		e, _, err := s.c.get(in, nil)
		if err != nil {
			t.Error(err)
		}
		got <- e
	}()
	e := <-got
	if e.loose == nil || s.c.Stats().LooseBytes == 0 {
		t.Fatal("it is kept: the test shows nothing")
	}
	d.drops <- 100_000
	e.unpin() // the one reader leaves
	for s.c.Stats().LooseBytes != 0 {
		select {
		case d.drops <- 1000:
		case <-time.After(time.Millisecond):
		}
	}
	d.ends(t, 1, 0)
	audit(t, s.c)
}

// TestStressGrow has objects come, break off, be purged and evicted while many read
// them. Freed memory is overwritten: every byte that is read is right, and in the end all
// memory is back.
func TestStressGrow(t *testing.T) {
	seed := seeds(t, 1)[0]
	t.Logf("repeat with: go test ./cache -run TestStressGrow -seed %d", seed)
	eachMemory(t, func(t *testing.T, m memory) {
		d := newDripping()
		d.size = func(k Key) int { return 2_000 + int(k.Blob)*9_000 }
		for blob := range 12 {
			d.verdicts[id.ID(blob+1)] = public
		}
		c := open(t, d.world, Options{Origin: d, Budget: 1 << 20, MaxLoose: 1 << 20, alloc: m, shards: 2})
		stop := make(chan struct{})
		var feeder, readers sync.WaitGroup
		feeder.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for {
				n := 1 + r.IntN(20_000)
				if r.IntN(40) == 0 {
					n = -1
				}
				select {
				case d.drops <- n:
				case <-stop:
					return
				}
			}
		})
		whole, broken := make([]int, 8), make([]int, 8)
		for g := range 8 {
			readers.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(g)+2))
				for range 250 {
					k := keyOf(id.ID(1+r.IntN(12)), []string{"small", "large"}[r.IntN(2)])
					if r.IntN(20) == 0 {
						d.purge(k.Blob)
					}
					in, _ := c.internal(k)
					e, _, err := c.get(in, nil)
					if err != nil {
						continue
					}
					b := growingBody{body{entry: e}, 0, len(e.data)}
					want := content(k, d.size(k))
					if e.growth == nil {
						t.Error("everything grows here")
					}
					got, err := io.ReadAll(&b)
					if !bytes.HasPrefix(want, got) || err == nil && len(got) != len(want) {
						t.Errorf("%+v: wrong bytes: %d, %v", k, len(got), err)
					}
					if err == nil {
						whole[g]++
					} else {
						broken[g]++
					}
					if err := b.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		readers.Wait()
		close(stop)
		feeder.Wait()
		c.Close()
		audit(t, c)
		for _, s := range c.shards {
			s.purgeAll()
		}
		if m.held() != 0 || len(m.faults()) > 0 || c.Stats().LooseBytes != 0 {
			t.Errorf("%d bytes leaked, %v, %+v", m.held(), m.faults(), c.Stats())
		}
		sum := func(list []int) (n int) {
			for _, x := range list {
				n += x
			}
			return n
		}
		if sum(whole) < 200 || sum(broken) < 20 {
			t.Errorf("%d whole, %d broken: it shows little", sum(whole), sum(broken))
		}
	})
}
