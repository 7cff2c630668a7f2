package cache

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hayloft/bench"
)

// kvConns ask a key-value server at the same time, as many as wrk's.
const kvConns = 64

// protocol is how a key-value server is spoken to. Its answers end in so many
// bytes after the value, and their first line ends in the value's length.
type protocol struct {
	get, set func(w *bufio.Writer, key string, value []byte)
	stored   string // the first line of the answer to set
	value    string // how the first line of the answer to get begins
	tail     int
}

var memcachedText = protocol{
	get:    func(w *bufio.Writer, key string, _ []byte) { fmt.Fprintf(w, "get %s\r\n", key) },
	set:    func(w *bufio.Writer, key string, v []byte) { fmt.Fprintf(w, "set %s 0 0 %d\r\n%s\r\n", key, len(v), v) },
	stored: "STORED", value: "VALUE ", tail: len("\r\nEND\r\n"),
}

var redisText = protocol{
	get: func(w *bufio.Writer, key string, _ []byte) {
		fmt.Fprintf(w, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key)
	},
	set: func(w *bufio.Writer, key string, v []byte) {
		fmt.Fprintf(w, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, len(v), v)
	},
	stored: "+OK", value: "$", tail: len("\r\n"),
}

// kvConn is a connection to a key-value server.
type kvConn struct {
	p protocol
	c net.Conn
	r *bufio.Reader
	w *bufio.Writer
}

func (p protocol) dial(addr string) (*kvConn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &kvConn{p, c, bufio.NewReaderSize(c, 256<<10), bufio.NewWriter(c)}, nil
}

// call sends a command and returns the first line of the answer.
func (k *kvConn) call(command func(*bufio.Writer, string, []byte), key string, value []byte) (string, error) {
	command(k.w, key, value)
	if err := k.w.Flush(); err != nil {
		return "", err
	}
	line, err := k.r.ReadSlice('\n')
	return strings.TrimRight(string(line), "\r\n"), err
}

func (k *kvConn) set(key string, value []byte) error {
	line, err := k.call(k.p.set, key, value)
	if err == nil && line != k.p.stored {
		err = fmt.Errorf("%w: %q", errWrongBody, line)
	}
	return err
}

// get reads a value and returns its length.
func (k *kvConn) get(key string) (int, error) {
	line, err := k.call(k.p.get, key, nil)
	if err != nil {
		return 0, err
	}
	length := strings.TrimPrefix(line[strings.LastIndexByte(line, ' ')+1:], "$")
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 || !strings.HasPrefix(line, k.p.value) {
		return 0, fmt.Errorf("%w: %q", errWrongBody, line)
	}
	_, err = k.r.Discard(n + k.p.tail)
	return n, err
}

// store puts the files below www into a key-value server, under their paths.
func (p protocol) store(addr, www string, paths []string) error {
	k, err := p.dial(addr)
	if err != nil {
		return err
	}
	defer k.c.Close()
	for _, path := range paths {
		data, err := os.ReadFile(filepath.Join(www, filepath.FromSlash(path)))
		if err != nil {
			return err
		}
		if err := k.set(path, data); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// drive asks for the paths in turn for d, each connection again when it was
// answered.
func (p protocol) drive(ctx context.Context, addr string, paths []string, d time.Duration) (load, error) {
	ctx, cancel := context.WithTimeout(ctx, d+time.Minute)
	defer cancel()
	conns := make([]*kvConn, kvConns)
	for i := range conns {
		k, err := p.dial(addr)
		if err != nil {
			return load{}, err
		}
		defer k.c.Close()
		defer context.AfterFunc(ctx, func() { k.c.Close() })()
		conns[i] = k
	}
	var took bench.Latency
	var bytes [kvConns]float64
	var wg sync.WaitGroup
	began := time.Now()
	for i, k := range conns {
		wg.Go(func() {
			var own bench.Latency
			for n := i; time.Since(began) < d; n++ {
				asked := time.Now()
				size, err := k.get(paths[n%len(paths)])
				own.Add(time.Since(asked), err)
				if err != nil {
					break
				}
				bytes[i] += float64(size)
			}
			took.Merge(&own)
		})
	}
	wg.Wait()
	res := took.Result("", 0.5)
	l := load{requests: float64(res.N), errors: float64(res.Errors), took: time.Since(began), p50: res.P50, p99: res.P99}
	for _, n := range bytes {
		l.bytes += n
	}
	return l, took.Err()
}

// startKV starts a key-value server that keeps nothing on disk, and gives it the
// bytes.
func startKV(ctx context.Context, name, www string, paths [][]string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p, binary := memcachedText, "memcached"
	args := []string{"-l", "127.0.0.1", "-p", strconv.Itoa(port), "-m", "1024"}
	if os.Geteuid() == 0 {
		args = append(args, "-u", "root")
	}
	if name == "redis" {
		p, binary = redisText, "redis-server"
		args = []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--save", "", "--appendonly", "no", "--daemonize", "no"}
	}
	s, err := startForeign(ctx, name, port, program(binary), args...)
	if err != nil {
		return nil, err
	}
	addr := strings.TrimPrefix(s.base, "http://")
	if err := p.store(addr, www, slices.Concat(paths...)); err != nil {
		s.stop()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s.drive = func(ctx context.Context, w int, d time.Duration) (load, error) {
		return p.drive(ctx, addr, paths[w], d)
	}
	return s, nil
}
