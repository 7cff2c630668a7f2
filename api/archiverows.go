package api

import (
	"encoding/hex"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
)

// The rows of docs/export-format.md.

type archivedAccount struct {
	Format        string          `json:"format"`
	MadeAt        time.Time       `json:"made_at"`
	Server        string          `json:"server"`
	ID            id.ID           `json:"id"`
	Handle        string          `json:"handle"`
	Name          string          `json:"name"`
	Bio           string          `json:"bio"`
	IsPrivate     bool            `json:"is_private"`
	CreatedAt     time.Time       `json:"created_at"`
	Notifications map[string]bool `json:"notification_preferences"`
}

type archivedPerson struct {
	ID     id.ID  `json:"id"`
	Handle string `json:"handle"`
	Name   string `json:"name"`
}

type archivedPhoto struct {
	ID          id.ID             `json:"photo_id"`
	File        string            `json:"file"`
	SHA256      string            `json:"sha256"`
	Size        int64             `json:"size"`
	ContentType string            `json:"content_type"`
	Width       int               `json:"width"`
	Height      int               `json:"height"`
	Title       string            `json:"title"`
	Caption     string            `json:"caption"`
	Alt         string            `json:"alt"`
	Tags        []string          `json:"tags"`
	People      []id.ID           `json:"people"`
	Location    *archivedLocation `json:"location"`
	Visibility  string            `json:"visibility"`
	Status      string            `json:"status"`
	Likes       uint64            `json:"like_count"`
	Comments    uint64            `json:"comment_count"`
	CreatedAt   time.Time         `json:"created_at"`
	PublishedAt *time.Time        `json:"published_at"`
	DeletedAt   *time.Time        `json:"deleted_at"`
}

type archivedLocation struct {
	Lat  float64 `json:"lat"`
	Lng  float64 `json:"lng"`
	Name string  `json:"name"`
}

func archivePhoto(p feed.PhotoView) archivedPhoto {
	m, d := p.Master, p.Details
	row := archivedPhoto{
		ID: p.ID, File: originalName(p), SHA256: hex.EncodeToString(m.Digest[:]), Size: m.Size, ContentType: m.ContentType, Width: m.Width, Height: m.Height,
		Title: d.Title, Caption: d.Caption, Alt: d.Alt, Tags: append([]string{}, d.Tags...), People: append([]id.ID{}, d.People...),
		Visibility: visibilityNames[d.Visibility], Status: statusName(p.Status), Likes: p.Likes, Comments: p.Comments,
		CreatedAt: utc(p.CreatedAt), PublishedAt: moment(p.PublishedAt), DeletedAt: moment(p.DeletedAt),
	}
	if l := d.Location; l != nil {
		row.Location = &archivedLocation{l.Lat, l.Lng, l.Name}
	}
	return row
}

// moment is a time that may not have come.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = utc(t)
	return &t
}

type archivedRemark struct {
	ID          id.ID     `json:"id"`
	Text        string    `json:"text"`
	CreatedAt   time.Time `json:"created_at"`
	Photo       id.ID     `json:"photo_id,omitempty"`
	PhotoAuthor string    `json:"photo_author,omitempty"`
	Parent      id.ID     `json:"parent_id,omitempty"`
}

// archiveRemark says where a comment stands only to one who may see it there.
func archiveRemark(c feed.Remark) any {
	row := archivedRemark{ID: c.ID, Text: c.Text, CreatedAt: utc(c.CreatedAt)}
	if c.Seen {
		row.Photo, row.PhotoAuthor, row.Parent = c.Photo, c.At, c.Parent
	}
	return row
}

type archivedLiking struct {
	Photo   id.ID     `json:"photo_id"`
	Comment id.ID     `json:"comment_id,omitempty"`
	Author  string    `json:"author"`
	LikedAt time.Time `json:"liked_at"`
}

func archiveLiking(l feed.Liking) any {
	return archivedLiking{l.Photo, l.Comment, l.Author, utc(l.LikedAt)}
}

type missingPhoto struct {
	ID     id.ID  `json:"photo_id"`
	File   string `json:"file"`
	Reason string `json:"reason"`
}
