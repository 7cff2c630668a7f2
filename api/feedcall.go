package api

import "context"

func withIdempotency(ctx context.Context, route, key string, print [32]byte) context.Context {
	return ctx
}
