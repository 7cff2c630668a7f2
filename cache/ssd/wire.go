package ssd

import (
	"context"
	"slices"
	"time"

	"hayloft/cache"
)

// Before returns o with the tier in front of it: what the tier has is not fetched,
// and what is fetched is offered to the tier.
func (t *Tier) Before(o cache.Origin) cache.Origin { return before{t, o} }

type before struct {
	tier   *Tier
	origin cache.Origin
}

// Fetch implements cache.Origin.
func (b before) Fetch(ctx context.Context, k cache.Key) (cache.Object, error) {
	if slices.Contains(b.tier.o.Except, k.Variant) {
		return b.origin.Fetch(ctx, k)
	}
	if o, ok := b.tier.Get(ctx, k); ok {
		return o, nil
	}
	o, err := b.origin.Fetch(ctx, k)
	switch {
	case err != nil:
	case o.Rest != nil:
		o.Rest = offering{o.Rest, b.tier, k, o}
	default:
		b.tier.Offer(k, o)
	}
	return o, err
}

// offering is the rest of an object that is offered when it has become whole.
type offering struct {
	cache.Rest
	tier *Tier
	k    cache.Key
	o    cache.Object
}

// Done implements cache.Rest.
func (r offering) Done(whole []byte) {
	if whole != nil {
		o := r.o
		o.Rest, o.Data = nil, whole
		r.tier.Offer(r.k, o)
	}
	r.Rest.Done(whole)
}

// Following returns p, whose entries the tier hears before its caller does. A gap of
// the log is nothing to it: what it keeps nevertheless, nobody is given.
func (t *Tier) Following(p cache.Purger) cache.Purger { return following{t, p} }

type following struct {
	tier *Tier
	log  cache.Purger
}

// Purges implements cache.Purger.
func (f following) Purges(ctx context.Context, after uint64, limit int) ([]cache.Purge, time.Duration, error) {
	list, age, err := f.log.Purges(ctx, after, limit)
	for _, p := range list {
		f.tier.Purge(p.Blob)
	}
	return list, age, err
}
