package api

import (
	"errors"
	"strings"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
)

// authorBody is a user as part of something else.
type authorBody struct {
	ID        id.ID   `json:"id"`
	Handle    string  `json:"handle"`
	AvatarURL *string `json:"avatar_url"`
}

// userBody is the user object.
type userBody struct {
	ID             id.ID        `json:"id"`
	Handle         string       `json:"handle"`
	Name           string       `json:"name"`
	Bio            string       `json:"bio"`
	AvatarURL      *string      `json:"avatar_url"`
	IsPrivate      bool         `json:"is_private"`
	PhotoCount     uint64       `json:"photo_count"`
	FollowerCount  uint64       `json:"follower_count"`
	FollowingCount uint64       `json:"following_count"`
	CreatedAt      time.Time    `json:"created_at"`
	Viewer         relationBody `json:"viewer"`
}

type relationBody struct {
	Follows    bool `json:"follows"`
	FollowedBy bool `json:"followed_by"`
	Requested  bool `json:"requested"`
	Blocked    bool `json:"blocked"`
	Muted      bool `json:"muted"`
	Listens    bool `json:"listens"`
}

func (r *request) user(u feed.UserView) userBody {
	return userBody{
		ID: u.ID, Handle: u.Handle, Name: u.Name, Bio: u.Bio, AvatarURL: r.avatarURL(u.Avatar), IsPrivate: u.IsPrivate,
		PhotoCount: u.Photos, FollowerCount: u.Followers, FollowingCount: u.Following,
		CreatedAt: utc(u.CreatedAt),
		Viewer: relationBody{Follows: u.Viewer.Follows, FollowedBy: u.Viewer.FollowedBy, Requested: u.Viewer.Requested,
			Blocked: u.Viewer.Blocked, Muted: u.Viewer.Muted, Listens: u.Viewer.Listens},
	}
}

// pathUser finds the user that the i-th parameter names: an id, @handle, a bare
// handle, or me. A handle cannot be parsed as an id, so no text is two users.
func (r *request) pathUser(i int) (feed.UserView, error) {
	text := r.values[i]
	if text == "me" {
		if r.viewer == 0 {
			return feed.UserView{}, pUnauthorized.because("")
		}
		return r.a.opt.Feed.UserByID(r.ctx, r.viewer, r.viewer)
	}
	if u, err := id.Parse(text); err == nil {
		return r.a.opt.Feed.UserByID(r.ctx, r.viewer, u)
	}
	handle := strings.TrimPrefix(text, "@")
	if handleFault(handle) != "" {
		return feed.UserView{}, pNotFound.because("")
	}
	return r.a.opt.Feed.UserByHandle(r.ctx, r.viewer, handle)
}

// me is GET /users/me.
func (r *request) me() error {
	u, err := r.a.opt.Feed.UserByID(r.ctx, r.viewer, r.viewer)
	if err != nil {
		return err
	}
	return r.json(200, r.user(u))
}

// patchMe is PATCH /users/me {name?, bio?, is_private?}.
func (r *request) patchMe() error {
	f, err := r.jsonBody()
	if err != nil {
		return err
	}
	c := feed.ProfileChange{Name: f.text("name", maxName, false), Bio: f.text("bio", maxBio, true)}
	if f.has("is_private") {
		private := f.boolean("is_private")
		c.Private = &private
	}
	if err := f.done(); err != nil {
		return err
	}
	if c != (feed.ProfileChange{}) {
		if _, err := r.a.opt.Feed.UpdateProfile(r.ctx, r.viewer, c); err != nil {
			return err
		}
	}
	return r.me()
}

// getUser is GET /users/{user}.
func (r *request) getUser() error {
	u, err := r.pathUser(0)
	if err != nil {
		return err
	}
	return r.json(200, r.user(u))
}

// userPhotos is GET /users/{user}/photos.
func (r *request) userPhotos() error {
	u, err := r.pathUser(0)
	if err != nil {
		return err
	}
	return r.sendPhotos(listing{name: "photos", subject: u.ID}, func(p Page) ([]feed.PhotoView, id.ID, error) {
		return r.a.opt.Feed.PhotosBy(r.ctx, r.viewer, u.ID, p)
	})
}

// followers is GET /users/{user}/followers.
func (r *request) followers() error {
	u, err := r.pathUser(0)
	if err != nil {
		return err
	}
	return sendPage(r, listing{name: "followers", subject: u.ID}, func(p Page) ([]feed.UserView, id.ID, error) {
		return r.a.opt.Feed.Followers(r.ctx, r.viewer, u.ID, p)
	}, r.user)
}

// following is GET /users/{user}/following.
func (r *request) following() error {
	u, err := r.pathUser(0)
	if err != nil {
		return err
	}
	return sendPage(r, listing{name: "following", subject: u.ID}, func(p Page) ([]feed.UserView, id.ID, error) {
		return r.a.opt.Feed.Following(r.ctx, r.viewer, u.ID, p)
	}, r.user)
}

// checkPeople makes sure that everybody named in a photo is somebody the
// viewer may see.
func (r *request) checkPeople(f *fields, people []id.ID) error {
	for i, p := range people {
		_, err := r.a.opt.Feed.UserByID(r.ctx, r.viewer, p)
		switch {
		case errors.Is(err, feed.ErrNotFound):
			f.fault("people/"+itoa(i), "is no user")
		case err != nil:
			return err
		}
	}
	return nil
}
