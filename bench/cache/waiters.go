package cache

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/bench"
)

const (
	originDelay = 500 * time.Millisecond
	coldBytes   = 64 << 10
	coldRounds  = 5
)

var errWrongBody = errors.New("an answer is not what was asked for")

// waiters lets many clients ask for one cold object whose origin is slow.
func (b *run) waiters(ctx context.Context) error {
	b.Progress("many clients on one cold key")
	node, err := b.startOwn("cache", "bench-cache-node", "--delay", originDelay.String())
	if err != nil {
		return err
	}
	defer node.stop()
	b.report.Settings["cold waiters"] = fmt.Sprintf("%d connections that are open already ask for one object of %d KiB at the same time, whose origin answers after %v; the photo cache in a process of its own, over an origin that makes objects up; from the request to the last byte; %d times",
		b.Waiters, coldBytes>>10, originDelay, coldRounds)
	clients, err := dialAll(strings.TrimPrefix(node.base, "http://"), b.Waiters)
	defer func() {
		for _, c := range clients {
			c.conn.Close()
		}
	}()
	if err != nil {
		return err
	}
	var all bench.Latency
	for round := range coldRounds {
		if err := wait(ctx, clients, uint64(1+round), &all); err != nil {
			return err
		}
	}
	_, body, err := fasthttp.Get(nil, node.base+fetchesPath)
	if err != nil {
		return err
	}
	fetches, err := strconv.Atoi(string(body))
	if err != nil {
		return err
	}
	b.add(all.Result("cold_waiters_p99", 0.99), bench.Result{Name: "cold_waiters_upstream_reads", Unit: "1", Value: float64(fetches) / coldRounds, N: coldRounds})
	return all.Err()
}

// waiter is a client with room for what it asks for: a thousand of them that make
// room at the same moment would be what is measured.
type waiter struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte
}

// dialAll returns what it has dialled with an error too.
func dialAll(addr string, n int) (list []*waiter, err error) {
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return list, err
		}
		w := &waiter{c, bufio.NewReaderSize(c, 4<<10), make([]byte, coldBytes)}
		for i := 0; i < len(w.body); i += 4 << 10 {
			w.body[i] = 1 // the kernel gives memory when it is touched
		}
		list = append(list, w)
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return list, err
		}
	}
	return list, nil
}

// wait lets all ask for one object at the same time.
func wait(ctx context.Context, clients []*waiter, number uint64, all *bench.Latency) error {
	start := make(chan struct{})
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			<-start
			began := time.Now()
			err := c.ask(number)
			all.Add(time.Since(began), err)
		})
	}
	close(start)
	wg.Wait()
	return ctx.Err()
}

// ask asks for one object and checks what comes.
func (w *waiter) ask(number uint64) error {
	if _, err := fmt.Fprintf(w.conn, "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n", key(number, coldBytes).Path()); err != nil {
		return err
	}
	var h fasthttp.ResponseHeader
	if err := h.Read(w.in); err != nil {
		return err
	}
	if h.ContentLength() != coldBytes {
		return fmt.Errorf("%w: status %d, %d bytes", errWrongBody, h.StatusCode(), h.ContentLength())
	}
	if _, err := io.ReadFull(w.in, w.body); err != nil {
		return err
	}
	return checkBody(h.StatusCode(), w.body, number, coldBytes)
}

func checkBody(status int, body []byte, number uint64, size int64) error {
	if status != fasthttp.StatusOK || int64(len(body)) != max(8, size) || binary.LittleEndian.Uint64(body) != number {
		return fmt.Errorf("%w: status %d, %d bytes", errWrongBody, status, len(body))
	}
	return nil
}
