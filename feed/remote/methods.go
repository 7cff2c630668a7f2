package remote

import (
	"context"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
)

// The methods of feed.Feed, by the same contracts. Those that may be repeated
// without a second effect are tried at another node when it is not known what became
// of them.

// CreateAccount is that of feed.Feed.
func (c *Client) CreateAccount(ctx context.Context, a feed.NewAccount) (feed.User, feed.Session, error) {
	return two[feed.User, feed.Session](ctx, c, "CreateAccount", false, a)
}

// Credentials is that of feed.Feed.
func (c *Client) Credentials(ctx context.Context, handle string) (id.ID, string, error) {
	return two[id.ID, string](ctx, c, "Credentials", true, handle)
}

// CreateSession is that of feed.Feed.
func (c *Client) CreateSession(ctx context.Context, user id.ID, s feed.NewSession) (feed.Session, error) {
	return one[feed.Session](ctx, c, "CreateSession", false, user, s)
}

// SessionByToken is that of feed.Feed.
func (c *Client) SessionByToken(ctx context.Context, hash [32]byte) (feed.Session, error) {
	return one[feed.Session](ctx, c, "SessionByToken", true, hash)
}

// Sessions is that of feed.Feed.
func (c *Client) Sessions(ctx context.Context, user id.ID) ([]feed.Session, error) {
	return one[[]feed.Session](ctx, c, "Sessions", true, user)
}

// DeleteSession is that of feed.Feed.
func (c *Client) DeleteSession(ctx context.Context, user, session id.ID) error {
	return gone(c.call(ctx, "DeleteSession", true, []any{user, session}))
}

// DeleteSessions is that of feed.Feed.
func (c *Client) DeleteSessions(ctx context.Context, user id.ID) error {
	return c.call(ctx, "DeleteSessions", true, []any{user})
}

// UserByID is that of feed.Feed.
func (c *Client) UserByID(ctx context.Context, viewer, user id.ID) (feed.UserView, error) {
	return one[feed.UserView](ctx, c, "UserByID", true, viewer, user)
}

// UserByHandle is that of feed.Feed.
func (c *Client) UserByHandle(ctx context.Context, viewer id.ID, handle string) (feed.UserView, error) {
	return one[feed.UserView](ctx, c, "UserByHandle", true, viewer, handle)
}

// UpdateProfile is that of feed.Feed.
func (c *Client) UpdateProfile(ctx context.Context, user id.ID, p feed.ProfileChange) (feed.User, error) {
	return one[feed.User](ctx, c, "UpdateProfile", true, user, p)
}

// BeginUpload is that of feed.Feed.
func (c *Client) BeginUpload(ctx context.Context, owner id.ID, spec feed.UploadSpec) (id.ID, error) {
	return one[id.ID](ctx, c, "BeginUpload", false, owner, spec)
}

// Upload is that of feed.Feed.
func (c *Client) Upload(ctx context.Context, photo id.ID) (feed.Upload, error) {
	return one[feed.Upload](ctx, c, "Upload", true, photo)
}

// Intend is that of feed.Feed.
func (c *Client) Intend(ctx context.Context, photo, blob id.ID) error {
	return c.call(ctx, "Intend", true, []any{photo, blob})
}

// Stored is that of feed.Feed.
func (c *Client) Stored(ctx context.Context, photo id.ID, m feed.Master, details *feed.Details) error {
	return c.call(ctx, "Stored", true, []any{photo, m, details})
}

// Finalize is that of feed.Feed.
func (c *Client) Finalize(ctx context.Context, owner, photo id.ID, d feed.Details) (feed.PhotoView, error) {
	return one[feed.PhotoView](ctx, c, "Finalize", true, owner, photo, d)
}

// Photo is that of feed.Feed.
func (c *Client) Photo(ctx context.Context, viewer, photo id.ID) (feed.PhotoView, error) {
	return one[feed.PhotoView](ctx, c, "Photo", true, viewer, photo)
}

// WaitReady is that of feed.Feed.
func (c *Client) WaitReady(ctx context.Context, viewer, photo id.ID) (feed.PhotoView, error) {
	return one[feed.PhotoView](ctx, c, "WaitReady", true, viewer, photo)
}

// DeletePhoto is that of feed.Feed.
func (c *Client) DeletePhoto(ctx context.Context, owner, photo id.ID, purge bool) error {
	return gone(c.call(ctx, "DeletePhoto", true, []any{owner, photo, purge}))
}

// RestorePhoto is that of feed.Feed.
func (c *Client) RestorePhoto(ctx context.Context, owner, photo id.ID) (feed.PhotoView, error) {
	return one[feed.PhotoView](ctx, c, "RestorePhoto", true, owner, photo)
}

// DeletedPhotos is that of feed.Feed.
func (c *Client) DeletedPhotos(ctx context.Context, owner id.ID, p feed.Page) ([]feed.PhotoView, id.ID, error) {
	return two[[]feed.PhotoView, id.ID](ctx, c, "DeletedPhotos", true, owner, p)
}

// PhotosBy is that of feed.Feed.
func (c *Client) PhotosBy(ctx context.Context, viewer, author id.ID, p feed.Page) ([]feed.PhotoView, id.ID, error) {
	return two[[]feed.PhotoView, id.ID](ctx, c, "PhotosBy", true, viewer, author, p)
}

// Like is that of feed.Feed.
func (c *Client) Like(ctx context.Context, user, photo id.ID) error {
	return c.call(ctx, "Like", true, []any{user, photo})
}

// Unlike is that of feed.Feed.
func (c *Client) Unlike(ctx context.Context, user, photo id.ID) error {
	return c.call(ctx, "Unlike", true, []any{user, photo})
}

// Likes is that of feed.Feed.
func (c *Client) Likes(ctx context.Context, viewer, photo id.ID, p feed.Page) ([]feed.UserView, id.ID, error) {
	return two[[]feed.UserView, id.ID](ctx, c, "Likes", true, viewer, photo, p)
}

// AddComment is that of feed.Feed.
func (c *Client) AddComment(ctx context.Context, user, photo id.ID, text string, parent id.ID) (feed.Comment, error) {
	return one[feed.Comment](ctx, c, "AddComment", false, user, photo, text, parent)
}

// DeleteComment is that of feed.Feed.
func (c *Client) DeleteComment(ctx context.Context, user, comment id.ID) error {
	return gone(c.call(ctx, "DeleteComment", true, []any{user, comment}))
}

// Comments is that of feed.Feed.
func (c *Client) Comments(ctx context.Context, viewer, photo id.ID, p feed.Page) ([]feed.Comment, id.ID, error) {
	return two[[]feed.Comment, id.ID](ctx, c, "Comments", true, viewer, photo, p)
}

// Replies is that of feed.Feed.
func (c *Client) Replies(ctx context.Context, viewer, comment id.ID, p feed.Page) ([]feed.Comment, id.ID, error) {
	return two[[]feed.Comment, id.ID](ctx, c, "Replies", true, viewer, comment, p)
}

// Access is that of feed.Feed.
func (c *Client) Access(ctx context.Context, blob id.ID) (feed.Verdict, error) {
	return one[feed.Verdict](ctx, c, "Access", true, blob)
}

// Purges is that of feed.Feed.
func (c *Client) Purges(ctx context.Context, after uint64, limit int) ([]feed.Purge, time.Duration, error) {
	return two[[]feed.Purge, time.Duration](ctx, c, "PurgesAged", true, after, limit)
}

// Master is that of feed.Feed.
func (c *Client) Master(ctx context.Context, photo id.ID) (feed.Photo, error) {
	return one[feed.Photo](ctx, c, "Master", true, photo)
}

// PhotoRow is that of feed.Feed.
func (c *Client) PhotoRow(ctx context.Context, photo id.ID) (feed.Photo, error) {
	return one[feed.Photo](ctx, c, "PhotoRow", true, photo)
}

// MarkReady is that of feed.Feed.
func (c *Client) MarkReady(ctx context.Context, photo id.ID, r feed.Rendition) error {
	return c.call(ctx, "MarkReady", true, []any{photo, r})
}

// MarkFailed is that of feed.Feed.
func (c *Client) MarkFailed(ctx context.Context, photo id.ID, why feed.Failure) error {
	return c.call(ctx, "MarkFailed", true, []any{photo, why})
}

// Lend is that of feed.Feed.
func (c *Client) Lend(ctx context.Context, kind feed.EffectKind, holder string) (*feed.Effect, error) {
	return one[*feed.Effect](ctx, c, "Lend", false, kind, holder)
}

// Keep is that of feed.Feed.
func (c *Client) Keep(ctx context.Context, seq uint64, holder string) error {
	return c.call(ctx, "Keep", true, []any{seq, holder})
}

// Return is that of feed.Feed.
func (c *Client) Return(ctx context.Context, seq uint64, holder string) error {
	return c.call(ctx, "Return", true, []any{seq, holder})
}

// Finish is that of feed.Feed.
func (c *Client) Finish(ctx context.Context, e feed.Effect, why *feed.EffectFailure) error {
	return c.call(ctx, "Finish", true, []any{e, why})
}

// UpdatePhoto is that of feed.Feed.
func (c *Client) UpdatePhoto(ctx context.Context, owner, photo id.ID, change feed.PhotoChange) (feed.PhotoView, error) {
	return one[feed.PhotoView](ctx, c, "UpdatePhoto", true, owner, photo, changeOf(change))
}

// Repeated is that of feed.Feed.
func (c *Client) Repeated(ctx context.Context, i feed.Idempotency) (id.ID, bool, error) {
	return two[id.ID, bool](ctx, c, "Repeated", true, idempotency{i.Account, i.Route, i.Key, i.Fingerprint})
}

// change is a feed.PhotoChange on the wire, where what is set to nothing and what is
// not set must not look the same.
type change struct {
	Title, Caption, Alt *string
	Tags                []string
	SetTags             bool
	People              []id.ID
	SetPeople           bool
	Location            *feed.Location
	SetLocation         bool
	Visibility          *feed.Visibility
}

func changeOf(p feed.PhotoChange) change {
	c := change{Title: p.Title, Caption: p.Caption, Alt: p.Alt, Visibility: p.Visibility}
	if c.SetTags = p.Tags != nil; c.SetTags {
		c.Tags = *p.Tags
	}
	if c.SetPeople = p.People != nil; c.SetPeople {
		c.People = *p.People
	}
	if c.SetLocation = p.Location != nil; c.SetLocation {
		c.Location = *p.Location
	}
	return c
}

func (c change) photoChange() feed.PhotoChange {
	p := feed.PhotoChange{Title: c.Title, Caption: c.Caption, Alt: c.Alt, Visibility: c.Visibility}
	if c.SetTags {
		p.Tags = &c.Tags
	}
	if c.SetPeople {
		p.People = &c.People
	}
	if c.SetLocation {
		p.Location = &c.Location
	}
	return p
}

// Owned is that of feed.Feed.
func (c *Client) Owned(ctx context.Context, owner id.ID, p feed.Page) ([]feed.PhotoView, id.ID, error) {
	return two[[]feed.PhotoView, id.ID](ctx, c, "Owned", true, owner, p)
}

// Said is that of feed.Feed.
func (c *Client) Said(ctx context.Context, user id.ID, p feed.Page) ([]feed.Remark, id.ID, error) {
	return two[[]feed.Remark, id.ID](ctx, c, "Said", true, user, p)
}

// Liked is that of feed.Feed.
func (c *Client) Liked(ctx context.Context, user id.ID, p feed.Page) ([]feed.Liking, id.ID, error) {
	return two[[]feed.Liking, id.ID](ctx, c, "Liked", true, user, p)
}
