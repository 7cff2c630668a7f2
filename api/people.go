package api

import (
	"context"

	"hayloft/feed"
	"hayloft/internal/id"
)

// What people are to one another.

func peopleRoutes() []route {
	return []route{
		{method: "POST", pattern: v1 + "/users/{user}/follow", access: signedIn, handle: (*request).follow},
		{method: "DELETE", pattern: v1 + "/users/{user}/follow", access: signedIn, handle: (*request).unfollow},
		{method: "POST", pattern: v1 + "/follow/{user}", access: signedIn, handle: (*request).follow},
		{method: "DELETE", pattern: v1 + "/follow/{user}", access: signedIn, handle: (*request).unfollow},
		{method: "DELETE", pattern: v1 + "/followers/{user}", access: signedIn, handle: (*request).removeFollower},

		{method: "GET", pattern: v1 + "/follow-requests", access: signedIn, handle: (*request).followRequests},
		{method: "POST", pattern: v1 + "/follow-requests/{user}/approve", access: signedIn, handle: (*request).approveFollow},
		{method: "POST", pattern: v1 + "/follow-requests/{user}/decline", access: signedIn, handle: (*request).declineFollow},

		{method: "POST", pattern: v1 + "/users/{user}/block", access: signedIn, handle: (*request).block},
		{method: "DELETE", pattern: v1 + "/users/{user}/block", access: signedIn, handle: (*request).unblock},
		{method: "POST", pattern: v1 + "/users/{user}/mute", access: signedIn, handle: (*request).mute},
		{method: "DELETE", pattern: v1 + "/users/{user}/mute", access: signedIn, handle: (*request).unmute},
		{method: "GET", pattern: v1 + "/blocks", access: signedIn, handle: (*request).blocks},
		{method: "GET", pattern: v1 + "/mutes", access: signedIn, handle: (*request).mutes},
	}
}

// other finds the user in the path, who must not be the viewer.
func (r *request) other() (id.ID, error) {
	u, err := r.pathUser(0)
	if err == nil && u.ID == r.viewer {
		err = pInvalid.because("that is yourself")
	}
	return u.ID, err
}

// onOther does something to the user in the path. undoing says that for the viewer
// themselves there is nothing to do.
func (r *request) onOther(undoing bool, do func(context.Context, id.ID, id.ID) error) error {
	u, err := r.pathUser(0)
	if err != nil {
		return err
	}
	switch {
	case u.ID != r.viewer:
		if err := do(r.ctx, r.viewer, u.ID); err != nil {
			return err
		}
	case !undoing:
		return pInvalid.because("that is yourself")
	}
	return r.noContent()
}

// follow is POST /follow/{user}: 202 when the user must agree first.
func (r *request) follow() error {
	other, err := r.other()
	if err != nil {
		return err
	}
	asked, err := r.a.opt.Feed.FollowOrAsk(r.ctx, r.viewer, other)
	if err != nil {
		return err
	}
	if asked {
		r.rc.SetStatusCode(202)
		return nil
	}
	return r.noContent()
}

// unfollow is DELETE /follow/{user}. It takes a request back, too.
func (r *request) unfollow() error { return r.onOther(true, r.a.opt.Feed.Unfollow) }

// removeFollower is DELETE /followers/{user}.
func (r *request) removeFollower() error { return r.onOther(true, r.a.opt.Feed.RemoveFollower) }

// approveFollow is POST /follow-requests/{user}/approve.
func (r *request) approveFollow() error { return r.answerRequest(r.a.opt.Feed.ApproveFollow) }

// declineFollow is POST /follow-requests/{user}/decline.
func (r *request) declineFollow() error { return r.answerRequest(r.a.opt.Feed.DeclineFollow) }

// answerRequest answers a request of the user in the path; 404 when there is none.
func (r *request) answerRequest(do func(context.Context, id.ID, id.ID) error) error {
	u, err := r.pathUser(0)
	if err != nil {
		return err
	}
	if u.ID == r.viewer { // nobody asks themselves
		return pNotFound.because("")
	}
	if err := do(r.ctx, r.viewer, u.ID); err != nil {
		return err
	}
	return r.noContent()
}

// block is POST /users/{user}/block.
func (r *request) block() error { return r.onOther(false, r.a.opt.Feed.Block) }

// unblock is DELETE /users/{user}/block.
func (r *request) unblock() error { return r.onOther(true, r.a.opt.Feed.Unblock) }

// mute is POST /users/{user}/mute.
func (r *request) mute() error { return r.onOther(false, r.a.opt.Feed.Mute) }

// unmute is DELETE /users/{user}/mute.
func (r *request) unmute() error { return r.onOther(true, r.a.opt.Feed.Unmute) }

// ownUsers answers with one of the viewer's own lists of users.
func (r *request) ownUsers(name string, rows func(context.Context, id.ID, Page) ([]feed.UserView, id.ID, error)) error {
	return sendPage(r, listing{name: name}, func(p Page) ([]feed.UserView, id.ID, error) {
		return rows(r.ctx, r.viewer, p)
	}, r.user)
}

// followRequests is GET /follow-requests.
func (r *request) followRequests() error {
	return r.ownUsers("requests", r.a.opt.Feed.FollowRequests)
}

// blocks is GET /blocks.
func (r *request) blocks() error { return r.ownUsers("blocks", r.a.opt.Feed.Blocks) }

// mutes is GET /mutes.
func (r *request) mutes() error { return r.ownUsers("mutes", r.a.opt.Feed.Mutes) }
