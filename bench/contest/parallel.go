package contest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// InParallel calls do(client, i) for every i below n, from several goroutines,
// until one returns an error or ctx ends.
func InParallel(ctx context.Context, clients, n int, do func(client, i int) error) error {
	var next atomic.Int64
	errs := make([]error, clients)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1) - 1)
				if i >= n {
					return
				}
				if errs[c] = do(c, i); errs[c] != nil {
					next.Store(int64(n))
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(ctx.Err(), errors.Join(errs...))
}
