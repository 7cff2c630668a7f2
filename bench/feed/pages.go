package feed

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/api"
	"hayloft/bench"
	"hayloft/bench/contest"
	service "hayloft/feed"
	"hayloft/internal/id"
	"hayloft/internal/sign"
)

const pageRows = 20

// page reads one page and wants it full.
func (w *world) page(ctx context.Context, reader int, after id.ID) (next id.ID, err error) {
	rows, next, err := w.feed.FeedPage(ctx, userID(reader), service.Page{After: after, Limit: pageRows})
	if err == nil && len(rows) != pageRows && next != 0 {
		err = fmt.Errorf("a page of %d photos, %d are wanted", len(rows), pageRows)
	}
	return next, err
}

// visitor is the i-th of those whose pages are asked for: as many in the larger world as in
// the smaller, all over it, so that their pages are as often their first.
func (w *world) visitor(i int) int { return i * (w.n / w.visitors()) }

func (w *world) visitors() int { return min(w.n, w.o.Readers) }

// pages reads newest pages of random visitors on every processor for d. They are
// closed-loop: the figure is how many there were.
func (w *world) pages(ctx context.Context, d time.Duration) pageCost {
	return w.readPages(ctx, d, w.anybody, w.newest)
}

// served is pages as clients get them: the API's whole answer to a request, without a network.
func (w *world) served(ctx context.Context, s *site, d time.Duration) pageCost {
	return w.readPages(ctx, d, w.anybody, s.answer)
}

func (w *world) newest(ctx context.Context, reader int) error {
	_, err := w.page(ctx, reader, 0)
	return err
}

// anybody picks random visitors.
func (w *world) anybody(proc int) func() (int, bool) {
	rng := rand.New(rand.NewPCG(w.o.Seed, uint64(100+proc)))
	return func() (int, bool) { return w.visitor(rng.IntN(w.visitors())), true }
}

// firstPages reads a page of each visitor once, in random order, or as many as d allows.
func (w *world) firstPages(ctx context.Context, d time.Duration) pageCost {
	order := rand.New(rand.NewPCG(w.o.Seed, 99)).Perm(w.visitors())
	var next atomic.Int64
	return w.readPages(ctx, d, func(int) func() (int, bool) {
		return func() (int, bool) {
			i := int(next.Add(1)) - 1
			if i >= len(order) {
				return 0, false
			}
			return w.visitor(order[i]), true
		}
	}, w.newest)
}

// pageCost is what pages that were read on every processor took.
type pageCost struct {
	n         int
	took, cpu float64 // seconds
	latency   *bench.Latency
}

func (c pageCost) rate() float64 { return float64(c.n) / c.took }
func (c pageCost) each() float64 { return c.cpu / float64(c.n) }

// readPages reads pages of the readers that pick says, for d or until it has no more.
func (w *world) readPages(ctx context.Context, d time.Duration, pick func(proc int) func() (int, bool), read func(context.Context, int) error) pageCost {
	c := pageCost{latency: new(bench.Latency)}
	some, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var count atomic.Int64
	var wg sync.WaitGroup
	begin, used := time.Now(), cpuSeconds()
	for p := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			next := pick(p)
			for reader, ok := next(); ok && some.Err() == nil; reader, ok = next() {
				start := time.Now()
				err := read(ctx, reader)
				c.latency.Add(time.Since(start), err)
				count.Add(1)
			}
		})
	}
	wg.Wait()
	c.n, c.took, c.cpu = int(count.Load()), time.Since(begin).Seconds(), cpuSeconds()-used
	return c
}

// scroll reads a reader's feed from the top, again and again until d is over, and
// hands each page's time to add with the number of the row at which it began.
func (w *world) scroll(ctx context.Context, reader, rows int, d time.Duration, add func(row int, took time.Duration, err error)) {
	for begin := time.Now(); time.Since(begin) < d && ctx.Err() == nil; {
		var after id.ID
		for row := 0; row < rows; row += pageRows {
			start := time.Now()
			next, err := w.page(ctx, reader, after)
			add(row, time.Since(start), err)
			if after = next; next == 0 {
				break
			}
		}
	}
}

// site is the API in front of the world's feed, and its clients.
type site struct {
	w       *world
	api     *api.API
	handler fasthttp.RequestHandler
	ended   chan error
	client  *fasthttp.HostClient
	url     string
}

const siteClients = 64

func (w *world) openSite() (*site, error) {
	key := sign.Key{Version: 1}
	copy(key.Secret[:], "benchmark benchmark benchmark!!!")
	ring, err := sign.NewRing(key)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &site{w: w, ended: make(chan error, 1), url: "http://" + ln.Addr().String()}
	many := api.Rate{PerSecond: 1e6, Burst: 1e6} // all calls come from one address
	s.api, err = api.New(api.Options{
		Feed: w.feed, Blobs: noBlobs{}, Ring: ring, PublicURL: s.url,
		Limits: api.Limits{Rates: api.Rates{Address: many}},
	})
	if err != nil {
		return nil, err
	}
	s.handler = s.api.Handler()
	s.client = &fasthttp.HostClient{Addr: ln.Addr().String(), MaxConns: siteClients, ReadTimeout: 30 * time.Second}
	go func() { s.ended <- s.api.Serve(ln) }()
	return s, nil
}

// noBlobs is in place of the store: nothing here asks for bytes.
type noBlobs struct{ api.Blobs }

func (s *site) get(reader int) error {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	s.ask(req, reader)
	if err := s.client.Do(req, resp); err != nil {
		return err
	}
	return good(resp)
}

// answer has the API answer what get asks for, on the caller's goroutine.
func (s *site) answer(_ context.Context, reader int) error {
	req := fasthttp.AcquireRequest()
	defer fasthttp.ReleaseRequest(req)
	s.ask(req, reader)
	var rc fasthttp.RequestCtx
	rc.Init(req, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
	s.handler(&rc)
	return good(&rc.Response)
}

func (s *site) ask(req *fasthttp.Request, reader int) {
	req.SetRequestURI(s.url + "/api/v1/feed?limit=20")
	req.Header.Set("Authorization", "Bearer "+token(reader))
}

func good(resp *fasthttp.Response) error {
	if resp.StatusCode() != fasthttp.StatusOK || len(resp.Body()) < 1000 {
		return fmt.Errorf("GET /feed: %d, %d bytes", resp.StatusCode(), len(resp.Body()))
	}
	return nil
}

// open asks for newest pages of random readers, rate in a second whatever the
// answers take, for d.
func (s *site) open(ctx context.Context, rate float64, d time.Duration) *bench.Latency {
	l := new(bench.Latency)
	var next atomic.Int64
	begin := time.Now()
	var wg sync.WaitGroup
	for c := range siteClients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(s.w.o.Seed, uint64(200+c)))
			for ctx.Err() == nil {
				after := time.Duration(float64(next.Add(1)) / rate * float64(time.Second))
				if after > d || !contest.SleepUntil(ctx, begin.Add(after)) {
					return
				}
				err := s.get(s.w.visitor(rng.IntN(s.w.visitors())))
				l.Add(time.Since(begin.Add(after)), err)
			}
		})
	}
	wg.Wait()
	return l
}

func (s *site) close(ctx context.Context) error {
	err := s.api.Shutdown(ctx)
	if e := <-s.ended; err == nil {
		err = e
	}
	s.client.CloseIdleConnections()
	return err
}
