package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/client"
)

// attemptTime bounds one attempt: a node that does not answer is left for another.
const attemptTime = 2 * time.Second

// store is the blob API of several nodes, as a client without a balancer uses it: any
// node answers any call, one that fails is left for the next, and asked again after
// badTime.
type store struct {
	nodes []*client.Client
	turn  atomic.Uint64
	bad   []atomic.Int64 // until when each node is not asked first, in Unix nanoseconds
}

const badTime = time.Second

func newStore(key string, urls ...string) (*store, error) {
	s := &store{}
	for _, u := range urls {
		t := &http.Transport{MaxIdleConnsPerHost: 64, ResponseHeaderTimeout: attemptTime}
		c, err := client.New(u, client.Options{Token: key, Retries: -1, HTTPClient: &http.Client{Transport: t}})
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, c)
	}
	s.bad = make([]atomic.Int64, len(s.nodes))
	return s, nil
}

func (s *store) close() {
	for _, c := range s.nodes {
		c.CloseIdle()
	}
}

// next is the node to ask first: in turn, but for those that failed just now.
func (s *store) next() int {
	first := int(s.turn.Add(1))
	for i := range s.nodes {
		if at := first + i; time.Now().UnixNano() >= s.bad[at%len(s.nodes)].Load() {
			return at
		}
	}
	return first
}

// try calls f with one node after the other until it succeeds or ctx ends.
func (s *store) try(ctx context.Context, f func(ctx context.Context, c *client.Client) error) (attempts int, err error) {
	next := s.next()
	var errs []error
	for {
		attempts++
		one, cancel := context.WithTimeout(ctx, attemptTime)
		err = f(one, s.nodes[next%len(s.nodes)])
		cancel()
		if err != nil {
			s.bad[next%len(s.nodes)].Store(time.Now().Add(badTime).UnixNano())
		}
		if err == nil {
			return attempts, nil
		}
		if ctx.Err() != nil {
			return attempts, errors.Join(append(errs, err)...)
		}
		if len(errs) < 8 {
			errs = append(errs, err)
		}
		next++
		if attempts%len(s.nodes) == 0 { // all were asked
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return attempts, errors.Join(errs...)
			}
		}
	}
}

// blob is one that was acknowledged.
type blob struct {
	ref client.Blob
	sum [32]byte
}

func (s *store) put(ctx context.Context, data []byte) (b blob, attempts int, err error) {
	f := client.File{At: bytes.NewReader(data), Size: int64(len(data)), ContentType: "application/octet-stream"}
	attempts, err = s.try(ctx, func(ctx context.Context, c *client.Client) (err error) {
		b.ref, err = c.PutBlob(ctx, client.ClassOriginals, f)
		return err
	})
	b.sum = sha256.Sum256(data)
	return b, attempts, err
}

// errWrong is bytes that are not those that were stored: no retry makes that good.
var errWrong = errors.New("the bytes are not those that were stored")

func (s *store) get(ctx context.Context, b blob) (attempts int, err error) {
	var wrong error
	attempts, err = s.try(ctx, func(ctx context.Context, c *client.Client) error {
		o, err := c.GetBlob(ctx, b.ref, "")
		if err != nil {
			return err
		}
		defer o.Body.Close()
		h := sha256.New()
		if _, err := io.Copy(h, o.Body); err != nil {
			return err
		}
		if [32]byte(h.Sum(nil)) != b.sum {
			wrong = fmt.Errorf("%w: blob %s", errWrong, b.ref.ID)
		}
		return nil
	})
	return attempts, errors.Join(err, wrong)
}

// library is the blobs that were acknowledged so far.
type library struct {
	mu   sync.Mutex // guards all
	list []blob
}

func (l *library) add(b blob) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, b)
}

func (l *library) all() []blob {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.list[:len(l.list):len(l.list)]
}
