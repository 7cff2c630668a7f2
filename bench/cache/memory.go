package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/bench"
	"hayloft/bench/trace"
	"hayloft/internal/units"
)

// dayClients ask at the same time.
const dayClients = 16

// memory sends a day of a generated trace through a cache and watches the memory
// of its process.
func (b *run) memory(ctx context.Context) error {
	b.Progress("a day of requests through a cache")
	g, err := trace.Generate(model, int(float64(b.Day)*model.Days), b.Seed)
	if err != nil {
		return err
	}
	node, err := b.startOwn("cache", "bench-cache-node", "--memory", units.Size(b.Budget).String())
	if err != nil {
		return err
	}
	defer node.stop()
	idle, err := statusBytes(node.pid, "VmRSS")
	if err != nil {
		return err
	}
	day, err := b.replayDay(ctx, g.Open(), strings.TrimPrefix(node.base, "http://"))
	if err != nil {
		return err
	}
	peak, err := statusBytes(node.pid, "VmHWM")
	if err != nil {
		return err
	}
	end, err := statusBytes(node.pid, "VmRSS")
	if err != nil {
		return err
	}
	cpu, err := cpuOf(node.pid)
	if err != nil {
		return err
	}
	_, body, err := fasthttp.Get(nil, node.base+fetchesPath)
	if err != nil {
		return err
	}
	b.report.Settings["memory"] = fmt.Sprintf("the middle day of a generated trace (%d requests, %.1f GB) as fast as %d clients get it through a cache of %d MiB in a process of its own, over an origin that makes objects up (%s of them); the process had %.0f MB when it started and used %.1f s of processor",
		day.requests.Load(), float64(day.bytes.Load())/1e9, dayClients, b.Budget>>20, body, float64(idle)/1e6, cpu)
	b.report.Ratios["rss_peak_over_budget"] = float64(peak) / float64(b.Budget)
	b.report.Ratios["rss_end_over_budget"] = float64(end) / float64(b.Budget)
	b.add(bench.Result{Name: "rss_peak", Unit: "B", Value: float64(peak), N: int(day.requests.Load()), Errors: int(day.failed.Load())})
	return nil
}

// traffic is what clients got.
type traffic struct{ requests, bytes, failed atomic.Int64 }

// replayDay asks for everything that the middle day of the trace asks for.
func (b *run) replayDay(ctx context.Context, src trace.Source, addr string) (*traffic, error) {
	from := time.Duration(model.Days/2) * 24 * time.Hour
	work := make(chan trace.Request, 4*dayClients)
	var done traffic
	var wg sync.WaitGroup
	client := &fasthttp.HostClient{Addr: addr, MaxConns: dayClients, ReadTimeout: time.Minute}
	defer client.CloseIdleConnections()
	for range dayClients {
		wg.Go(func() {
			req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			for q := range work {
				// The cache knows numbers above 0.
				req.SetRequestURI("http://" + addr + key(q.ID+1, q.Size).Path())
				err := client.Do(req, res)
				if err == nil {
					err = checkBody(res.StatusCode(), res.Body(), q.ID+1, q.Size)
				}
				if err != nil {
					done.failed.Add(1)
				}
				done.requests.Add(1)
				done.bytes.Add(q.Size)
			}
		})
	}
	defer wg.Wait()
	defer close(work)
	for {
		q, err := src.Next()
		if errors.Is(err, io.EOF) || err == nil && q.At > from+24*time.Hour {
			return &done, nil
		}
		if err != nil {
			return nil, err
		}
		if q.At < from {
			continue
		}
		select {
		case work <- q:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
