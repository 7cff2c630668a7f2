package cache

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	photos "hayloft/cache"
	"hayloft/internal/id"
)

// NodeOptions are those of ServeCache.
type NodeOptions struct {
	Budget int64         // bytes of the cache
	Delay  time.Duration // until the origin answers
	Out    io.Writer     // is told where it serves
}

// fetchesPath answers how many objects the origin was asked for.
const fetchesPath = "/fetches"

// ServeCache is a photo cache of its own over an origin that makes every object up,
// served by fasthttp until ctx ends. An object has as many bytes as its cookie says
// and begins with the number of its blob; all are public.
func ServeCache(ctx context.Context, o NodeOptions) error {
	origin := &invented{delay: o.Delay}
	c, err := photos.New(photos.Options{Origin: origin, Access: origin, Purges: origin, Budget: o.Budget})
	if err != nil {
		return err
	}
	defer c.Close()
	return serve(ctx, o.Out, func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) == fetchesPath {
			fmt.Fprint(ctx, origin.fetches.Load())
			return
		}
		c.Handle(ctx)
	})
}

// key names the invented object of that number and size.
func key(number uint64, size int64) photos.Key {
	return photos.Key{Variant: "large", Blob: id.ID(number), Cookie: id.Cookie(size), Ext: "jpg"}
}

// invented is an origin without anything behind it.
type invented struct {
	delay   time.Duration
	fetches atomic.Int64
}

func (o *invented) Fetch(ctx context.Context, k photos.Key) (photos.Object, error) {
	o.fetches.Add(1)
	if o.delay > 0 {
		select {
		case <-time.After(o.delay):
		case <-ctx.Done():
			return photos.Object{}, ctx.Err()
		}
	}
	data := make([]byte, max(8, int(k.Cookie)))
	binary.LittleEndian.PutUint64(data, uint64(k.Blob))
	return photos.Object{Data: data, ContentType: "image/jpeg", ETag: k.Blob.String()}, nil
}

func (o *invented) Access(context.Context, id.ID) (photos.Verdict, error) {
	return photos.Verdict{Audience: photos.Public}, nil
}

// Purges has none and says so once a second.
func (o *invented) Purges(ctx context.Context, after uint64, limit int) ([]photos.Purge, time.Duration, error) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	return nil, 0, ctx.Err()
}
