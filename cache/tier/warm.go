package tier

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"hayloft/cache"
)

// warmers is how many fills Warm has under way: readers are to notice nothing.
const warmers = 4

// Warm fills an empty cache over this Chain with what its upstreams are asked for, of
// each upstream what has its home there, until the cache holds so many bytes, or ctx
// ends. It returns how many objects came. Upstreams that do not answer are left out; the
// error says why when none did.
func (c *Chain) Warm(ctx context.Context, to *cache.Cache, bytes int64) (filled int, err error) {
	lists := make([][]cache.Key, len(c.ups))
	errs := []error{}
	for i, u := range c.ups {
		var err error
		if lists[i], err = c.hot(ctx, u, to); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", u.name, err))
		}
	}
	if len(errs) == len(c.ups) {
		return 0, errors.Join(errs...)
	}
	keys := make(chan cache.Key)
	var work sync.WaitGroup
	var n atomic.Int64
	for range warmers {
		work.Go(func() {
			for k := range keys {
				if to.Warm(k) == nil {
					n.Add(1)
				}
			}
		})
	}
	for i, more := 0, true; more; i++ {
		more = false
		for _, list := range lists {
			if i >= len(list) || ctx.Err() != nil || to.Stats().Bytes >= bytes {
				continue
			}
			more = true
			select {
			case keys <- list[i]:
			case <-ctx.Done():
			}
		}
	}
	close(keys)
	work.Wait()
	return int(n.Load()), nil
}

// hot are the keys that one upstream names and that have their home there.
func (c *Chain) hot(ctx context.Context, u *upstream, to *cache.Cache) (keys []cache.Key, err error) {
	if !u.begin() {
		return nil, ErrDown
	}
	var paths []string
	err = c.ask(ctx, u, c.o.Poll, pathHot, nil, 0, &paths)
	c.ended(ctx, u, err)
	if err != nil {
		return nil, err
	}
	for _, p := range paths[:min(len(paths), maxHot)] {
		if k, ok := to.Key(p); ok && c.order(hashKey(k))[0] == u {
			keys = append(keys, k)
		}
	}
	return keys, nil
}
