package feed

import (
	"context"

	"hayloft/internal/id"
)

// compareOwnLists wants what only a user sees of what others are to them to equal the
// model.
func (h *history) compareOwnLists(user id.ID) {
	ctx := context.Background()
	type relation struct {
		name  string
		edges map[[2]id.ID]bool
		own   int // which end of an edge the user is
		rows  func(context.Context, id.ID, Page) ([]UserView, id.ID, error)
	}
	hides := func(other id.ID) bool {
		return h.m.hidden[other] || h.m.blocks[[2]id.ID{other, user}] && !h.m.blocks[[2]id.ID{user, other}]
	}
	for _, r := range []relation{
		{"requests", h.m.requests, 1, h.feed.FollowRequests},
		{"blocks", h.m.blocks, 0, h.feed.Blocks},
		{"mutes", h.m.mutes, 0, h.feed.Mutes},
	} {
		want := map[id.ID]bool{}
		for e := range r.edges {
			if other := e[1-r.own]; e[r.own] == user && !hides(other) {
				want[other] = true
			}
		}
		got, err := h.pages(r.name, func(p Page) ([]id.ID, id.ID, error) {
			rows, next, err := r.rows(ctx, user, p)
			return userIDs(rows), next, err
		})
		if err != nil || !sameSet(got, want) {
			h.t.Errorf("%s of %v: %v %v, want %v", r.name, user, got, err, want)
		}
	}
}
