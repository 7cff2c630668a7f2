package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"hayloft/api"
	"hayloft/directory"
	"hayloft/feed"
	feedremote "hayloft/feed/remote"
	"hayloft/internal/id"
	"hayloft/internal/mesh"
)

// feedOf is the feed as the other parts of this node use it: a replica of its own, or
// one at another node.
type feedOf interface {
	api.Feed
	Access(ctx context.Context, blob id.ID) (feed.Verdict, error)
	Purges(ctx context.Context, after uint64, limit int) ([]feed.Purge, time.Duration, error)
	Master(ctx context.Context, photo id.ID) (feed.Photo, error)
	PhotoRow(ctx context.Context, photo id.ID) (feed.Photo, error)
	Accounts(ctx context.Context, after string, limit int) (rows []feed.Account, next string, err error)
	Account(ctx context.Context, handle string) (feed.Account, error)
	Suspend(ctx context.Context, user id.ID, suspended bool) error
	MarkReady(ctx context.Context, photo id.ID, r feed.Rendition) error
	MarkFailed(ctx context.Context, photo id.ID, why feed.Failure) error
}

var (
	_ feedOf = (*feed.Feed)(nil)
	_ feedOf = (*feedremote.Client)(nil)
)

// effects is where a node handles what the feed owes to the world.
type effects interface {
	RunEffects(ctx context.Context, kind feed.EffectKind, workers int, handle func(context.Context, feed.Effect) error) error
}

// lender is the member of the feed's group that leads.
func (n *node) lender() feed.Lender {
	if n.wire == nil {
		return nil
	}
	return feedremote.NewLeader(feedLeader{n})
}

// feedLeader carries calls to the node that leads the feed's group.
type feedLeader struct{ n *node }

// Call implements remote.Caller.
func (l feedLeader) Call(ctx context.Context, _ bool, req []byte) (answer []byte, repeated bool, err error) {
	leader, ok := l.n.group.Leader()
	if !ok || leader == l.n.who.name {
		return nil, false, errors.New("nobody else leads the feed")
	}
	answer, err = at{l.n.wire, pathFeed}.Call(ctx, leader, req)
	return answer, false, err
}

// feedNodes carries calls to any node with the role feed: the one that answered last,
// as long as it does.
type feedNodes struct {
	n    *node
	last atomic.Pointer[string]
}

// perNode bounds an attempt at one node where there are others.
const perNode = 3 * time.Second

// Call implements remote.Caller.
func (f *feedNodes) Call(ctx context.Context, again bool, req []byte) (answer []byte, repeated bool, err error) {
	nodes := f.order()
	answer, by, repeated, err := askInTurn(ctx, nodes, again, func(i int) ([]byte, error) {
		return f.one(ctx, nodes[i], req, again && i+1 < len(nodes))
	})
	if err == nil {
		f.last.Store(&nodes[by])
	}
	return answer, repeated, err
}

// askInTurn asks node after node until one answers, which is number by. again: also when
// it is not known what became of an attempt, and then repeated is set.
func askInTurn(ctx context.Context, nodes []string, again bool, ask func(i int) ([]byte, error)) (answer []byte, by int, repeated bool, err error) {
	var errs []error
	for i := range nodes {
		answer, err := ask(i)
		if err == nil {
			return answer, i, repeated, nil
		}
		errs = append(errs, err)
		sure := nothingDone(err)
		if ctx.Err() != nil || !again && !sure {
			break
		}
		repeated = repeated || !sure
	}
	if len(errs) == 0 {
		return nil, 0, false, errors.New("no node has the role feed")
	}
	return nil, 0, repeated, errors.Join(errs...)
}

// nothingDone reports whether a call that failed certainly has done nothing: it did not
// arrive, or was refused before it began.
func nothingDone(err error) bool {
	var gone *mesh.UnreachableError
	if errors.As(err, &gone) {
		return !gone.Sent
	}
	var refused *mesh.RefusedError
	return errors.As(err, &refused) && (refused.Code == codeNotHere || refused.Code == codeNotReady)
}

// answerFeed answers calls with the feed of this node while that works. Otherwise the
// caller goes to another node, which it would not for an error of the feed.
func answerFeed(ready func() error, serve func(context.Context, []byte) ([]byte, error)) mesh.Answer {
	return func(ctx context.Context, _ mesh.Peer, body []byte) ([]byte, error) {
		if err := ready(); err != nil {
			return nil, refuse(http.StatusServiceUnavailable, codeNotReady, "%v", err)
		}
		return serve(ctx, body)
	}
}

func (f *feedNodes) one(ctx context.Context, node string, req []byte, others bool) ([]byte, error) {
	if others {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(perNode, waitsAtMost))
		defer cancel()
	}
	return at{f.n.wire, pathFeed}.Call(ctx, node, req)
}

// waitsAtMost is the longest that a call which waits for something takes.
const waitsAtMost = 12 * time.Second

// order is the nodes with the role, the one that answered last first, those that are
// away last.
func (f *feedNodes) order() (out []string) {
	last := f.last.Load()
	var away []string
	for _, name := range f.n.playing(directory.RoleFeed) {
		switch {
		case f.n.awayOf(name) > 0:
			away = append(away, name)
		case last != nil && *last == name:
			out = append([]string{name}, out...)
		default:
			out = append(out, name)
		}
	}
	return append(out, away...)
}

// pingFeed keeps telling whether a node with the role feed answers, until ctx ends.
func (n *node) pingFeed(ctx context.Context, c *feedremote.Client) error {
	for {
		one, cancel := context.WithTimeout(ctx, perNode)
		err := c.Ping(one)
		cancel()
		if err != nil && ctx.Err() == nil {
			n.log.Debug("no feed", "err", fmt.Sprint(err))
		}
		select {
		case <-n.clock.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
