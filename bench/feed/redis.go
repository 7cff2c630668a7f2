package feed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/bench/contest"
	"hayloft/internal/id"
)

const (
	// redisReaders bounds how many timelines Redis holds: fewer than the feed, for
	// they are in memory. That is to its advantage.
	redisReaders = 20_000
	redisConns   = 2
)

// redis is a Redis server of our own.
type redis struct {
	cmd   *exec.Cmd
	conns []*redisConn
	n     int // timelines
}

// startRedis starts a server on loopback that keeps nothing on disk.
func startRedis(ctx context.Context, program, dir string) (r *redis, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	if err := ln.Close(); err != nil {
		return nil, err
	}
	r = &redis{cmd: exec.CommandContext(ctx, program, "--bind", "127.0.0.1", "--port", port, "--dir", dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no")}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s (scripts/install redis-server): %w", program, err)
	}
	for len(r.conns) < redisConns {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			r.conns = append(r.conns, &redisConn{c: c, r: bufio.NewReaderSize(c, 64<<10), w: bufio.NewWriterSize(c, 256<<10)})
			continue
		}
		if !contest.SleepUntil(ctx, time.Now().Add(20*time.Millisecond)) || r.cmd.ProcessState != nil {
			return nil, errors.Join(err, r.stop())
		}
	}
	return r, nil
}

func (r *redis) stop() error {
	for _, c := range r.conns {
		_ = c.c.Close() // the server goes
	}
	err := r.cmd.Process.Kill()
	_ = r.cmd.Wait() // killed
	return err
}

// redisConn is one connection. Commands are pipelined.
type redisConn struct {
	c   net.Conn
	r   *bufio.Reader
	w   *bufio.Writer
	buf []byte
	due int // replies that are owed
}

// send queues a command.
func (c *redisConn) send(args ...[]byte) error {
	b := append(c.buf[:0], '*')
	b = strconv.AppendInt(b, int64(len(args)), 10)
	b = append(b, "\r\n"...)
	for _, a := range args {
		b = append(b, '$')
		b = strconv.AppendInt(b, int64(len(a)), 10)
		b = append(b, "\r\n"...)
		b = append(b, a...)
		b = append(b, "\r\n"...)
	}
	c.buf = b
	c.due++
	_, err := c.w.Write(b)
	return err
}

// receive reads what is owed.
func (c *redisConn) receive() error {
	if err := c.w.Flush(); err != nil {
		return err
	}
	for ; c.due > 0; c.due-- {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line[0] != ':' {
			return fmt.Errorf("redis: %q", line)
		}
	}
	return nil
}

var (
	zadd = []byte("ZADD")
	trim = []byte("ZREMRANGEBYRANK")
	zero = []byte("0")
)

// entry writes key, score and member of a delivery: a timeline, the time of the
// post, its id.
func entry(reader int, pos id.ID) (key, score, member []byte) {
	key = strconv.AppendInt([]byte("timeline:"), int64(reader), 10)
	score = strconv.AppendUint(nil, uint64(pos.Millis()), 10)
	return key, score, []byte(pos.String())
}

// prefill fills the timelines as the feed's are.
func (r *redis) prefill(w *world) error {
	r.n = min(w.n, redisReaders)
	c := r.conns[0]
	var err error
	w.g.timelines(func(reader int, posts []uint32) bool {
		if reader >= r.n {
			return false
		}
		args := [][]byte{zadd, nil}
		for _, p := range posts {
			key, score, member := entry(reader, w.pos(int(p), 0))
			args[1] = key
			args = append(args, score, member)
		}
		if len(posts) > 0 {
			err = errors.Join(c.send(args...), c.receive())
		}
		return err == nil
	})
	return err
}

// fanOut delivers posts of the same authors to the same followers, each with a trim,
// for d: a post's commands go out in one pipeline.
func (r *redis) fanOut(ctx context.Context, w *world, d time.Duration) (deliveries int64, took float64, err error) {
	some, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var n, posts atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, len(r.conns))
	keep := strconv.AppendInt(nil, int64(-w.o.Cap-1), 10)
	now := id.MillisOf(time.Now())
	begin := time.Now()
	for i, c := range r.conns {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(w.o.Seed, uint64(300+i)))
			for some.Err() == nil && errs[i] == nil {
				pos := id.Make(now+id.Millis(posts.Add(1)), 2, 0)
				followers := w.g.followers[w.g.author(rng)]
				for _, reader := range followers {
					key, score, member := entry(int(reader)%r.n, pos)
					errs[i] = errors.Join(errs[i], c.send(zadd, key, score, member), c.send(trim, key, zero, keep))
				}
				errs[i] = errors.Join(errs[i], c.receive())
				n.Add(int64(len(followers)))
			}
		})
	}
	wg.Wait()
	return n.Load(), time.Since(begin).Seconds(), errors.Join(append(errs, ctx.Err())...)
}

// memory is the bytes that the server holds.
func (r *redis) memory() (int64, error) {
	c := r.conns[0]
	if err := errors.Join(c.send([]byte("INFO"), []byte("memory")), c.w.Flush()); err != nil {
		return 0, err
	}
	c.due = 0
	head, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	size, err := strconv.Atoi(string(head[1 : len(head)-2]))
	if err != nil {
		return 0, err
	}
	text := make([]byte, size+2)
	if _, err := io.ReadFull(c.r, text); err != nil {
		return 0, err
	}
	var used int64
	for line := range strings.Lines(string(text)) {
		if n, _ := fmt.Sscanf(line, "used_memory:%d", &used); n == 1 {
			return used, nil
		}
	}
	return 0, errors.New("redis: no used_memory")
}
