package remote

import (
	"context"

	"hayloft/feed"
)

// Leader is the member of the feed's group that leads, as the others borrow effects
// from it: its Caller reaches that node and no other, and what is asked is not passed
// on.
type Leader struct{ c *Client }

var _ feed.Lender = Leader{}

// NewLeader returns a Leader over a Caller.
func NewLeader(to Caller) Leader { return Leader{New(to)} }

// Lend implements feed.Lender.
func (l Leader) Lend(ctx context.Context, kind feed.EffectKind, holder string) (*feed.Effect, error) {
	return one[*feed.Effect](ctx, l.c, "LendHere", false, kind, holder)
}

// Keep implements feed.Lender.
func (l Leader) Keep(ctx context.Context, seq uint64, holder string) error {
	return l.c.call(ctx, "KeepHere", true, []any{seq, holder})
}

// Return implements feed.Lender.
func (l Leader) Return(ctx context.Context, seq uint64, holder string) error {
	return l.c.call(ctx, "ReturnHere", true, []any{seq, holder})
}
