package api

import (
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
)

const maxComment = 2200 // characters

// commentBody is the comment object.
type commentBody struct {
	ID         id.ID      `json:"id"`
	PhotoID    id.ID      `json:"photo_id"`
	Author     authorBody `json:"author"`
	Text       string     `json:"text"`
	ParentID   *id.ID     `json:"parent_id,omitempty"`
	ReplyCount uint64     `json:"reply_count"`
	LikeCount  uint64     `json:"like_count"`
	Liked      bool       `json:"liked"`
	CreatedAt  time.Time  `json:"created_at"`
}

func (r *request) comment(c feed.Comment) commentBody {
	b := commentBody{ID: c.ID, PhotoID: c.Photo, Author: authorBody{c.Author, c.Handle, r.avatarURL(c.Avatar)}, Text: c.Text,
		ReplyCount: c.Replies, LikeCount: c.Likes, Liked: c.Liked, CreatedAt: utc(c.CreatedAt)}
	if c.Parent != 0 {
		b.ParentID = &c.Parent
	}
	return b
}

// like is POST /photos/{id}/like.
func (r *request) like() error {
	photo, err := r.pathID(0)
	if err != nil {
		return err
	}
	if err := r.a.opt.Feed.Like(r.ctx, r.viewer, photo); err != nil {
		return err
	}
	return r.noContent()
}

// unlike is DELETE /photos/{id}/like.
func (r *request) unlike() error {
	photo, err := r.pathID(0)
	if err != nil {
		return err
	}
	if err := r.a.opt.Feed.Unlike(r.ctx, r.viewer, photo); err != nil {
		return err
	}
	return r.noContent()
}

// likes is GET /photos/{id}/likes.
func (r *request) likes() error {
	photo, err := r.pathID(0)
	if err != nil {
		return err
	}
	return sendPage(r, listing{name: "likes", subject: photo}, func(p Page) ([]feed.UserView, id.ID, error) {
		return r.a.opt.Feed.Likes(r.ctx, r.viewer, photo, p)
	}, r.user)
}

// addComment is POST /photos/{id}/comments {text, parent_id?}.
func (r *request) addComment() error {
	photo, err := r.pathID(0)
	if err != nil {
		return err
	}
	f, err := r.jsonBody()
	if err != nil {
		return err
	}
	text, parent := f.text("text", maxComment, true), f.ident("parent_id")
	if text == nil || *text == "" {
		f.fault("text", "is needed")
	}
	if err := f.done(); err != nil {
		return err
	}
	key, err := r.idempotent(photo.String(), parent.String(), *text)
	if err != nil {
		return err
	}
	c, err := r.a.opt.Feed.AddComment(key.tie(r.ctx), r.viewer, photo, *text, parent)
	if err != nil {
		return err
	}
	return r.json(201, r.comment(c))
}

// comments is GET /photos/{id}/comments.
func (r *request) comments() error {
	photo, err := r.pathID(0)
	if err != nil {
		return err
	}
	return sendPage(r, listing{name: "comments", subject: photo}, func(p Page) ([]feed.Comment, id.ID, error) {
		return r.a.opt.Feed.Comments(r.ctx, r.viewer, photo, p)
	}, r.comment)
}

// replies is GET /comments/{id}/replies.
func (r *request) replies() error {
	comment, err := r.pathID(0)
	if err != nil {
		return err
	}
	return sendPage(r, listing{name: "replies", subject: comment}, func(p Page) ([]feed.Comment, id.ID, error) {
		return r.a.opt.Feed.Replies(r.ctx, r.viewer, comment, p)
	}, r.comment)
}

// deleteComment is DELETE /comments/{id}.
func (r *request) deleteComment() error {
	comment, err := r.pathID(0)
	if err != nil {
		return err
	}
	if err := r.a.opt.Feed.DeleteComment(r.ctx, r.viewer, comment); err != nil {
		return err
	}
	return r.noContent()
}

// likeComment is POST /comments/{id}/like.
func (r *request) likeComment() error {
	comment, err := r.pathID(0)
	if err != nil {
		return err
	}
	if err := r.a.opt.Feed.LikeComment(r.ctx, r.viewer, comment); err != nil {
		return err
	}
	return r.noContent()
}

// unlikeComment is DELETE /comments/{id}/like.
func (r *request) unlikeComment() error {
	comment, err := r.pathID(0)
	if err != nil {
		return err
	}
	if err := r.a.opt.Feed.UnlikeComment(r.ctx, r.viewer, comment); err != nil {
		return err
	}
	return r.noContent()
}
