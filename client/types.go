package client

import "time"

// The states of a photo, as in Photo.Status.
const (
	StatusPending = "pending" // its variants are being made
	StatusReady   = "ready"   // in feeds
	StatusFailed  = "failed"  // see Photo.Failure
	StatusDeleted = "deleted" // restorable by its owner within the grace
)

// The audiences of a photo, as in Details.Visibility. Empty means public.
const (
	VisibilityPublic    = "public"
	VisibilityFollowers = "followers"
	VisibilityOnlyMe    = "only_me"
)

// The names of a photo's renditions, for Client.Variant. Original is the
// upload without its private metadata; the verbatim upload is Client.Master.
const (
	VariantThumbnail = "thumbnail" // 150 by 150 pixels, cropped
	VariantSmall     = "small"     // 320 pixels wide
	VariantMedium    = "medium"    // 640 pixels wide
	VariantLarge     = "large"     // 1080 pixels wide
	VariantOriginal  = "original"
)

// NewAccount is the body of POST /accounts.
type NewAccount struct {
	Handle   string `json:"handle"`
	Password string `json:"password"`
	Name     string `json:"name,omitempty"`
}

// Login is the answer to a sign-up or sign-in. Token is shown only here.
type Login struct {
	User  User   `json:"user"`
	Token string `json:"token"`
}

// User is an account as the caller sees it.
type User struct {
	ID             string    `json:"id"`
	Handle         string    `json:"handle"`
	Name           string    `json:"name"`
	Bio            string    `json:"bio"`
	AvatarURL      string    `json:"avatar_url"`
	IsPrivate      bool      `json:"is_private"`
	PhotoCount     uint64    `json:"photo_count"`
	FollowerCount  uint64    `json:"follower_count"`
	FollowingCount uint64    `json:"following_count"`
	CreatedAt      time.Time `json:"created_at"`
	Viewer         *Relation `json:"viewer,omitempty"` // nil for an anonymous caller
}

// Relation is how the caller stands to a user.
type Relation struct {
	Follows    bool `json:"follows"`
	FollowedBy bool `json:"followed_by"`
	Requested  bool `json:"requested"`
	Blocked    bool `json:"blocked"`
	Muted      bool `json:"muted"`
	Listens    bool `json:"listens"` // the caller is told when the user publishes
}

// Author is the part of a user that photos and comments carry.
type Author struct {
	ID        string `json:"id"`
	Handle    string `json:"handle"`
	AvatarURL string `json:"avatar_url"`
}

// Photo is a photo as the caller sees it.
type Photo struct {
	ID           string     `json:"photo_id"`
	Author       Author     `json:"author"`
	Title        string     `json:"title"`
	Caption      string     `json:"caption"`
	Alt          string     `json:"alt"`
	Tags         []string   `json:"tags"`
	People       []string   `json:"people"` // user ids
	Location     *Location  `json:"location"`
	Visibility   string     `json:"visibility"`
	Status       string     `json:"status"`
	Failure      *Failure   `json:"failure,omitempty"` // with StatusFailed
	URLs         URLs       `json:"urls"`
	Media        []Media    `json:"media"`
	LikeCount    uint64     `json:"like_count"`
	CommentCount uint64     `json:"comment_count"`
	Liked        bool       `json:"liked"`
	Saved        bool       `json:"saved"`
	CreatedAt    time.Time  `json:"created_at"`
	PublishedAt  *time.Time `json:"published_at"` // nil until ready
}

// URLs are absolute; empty until the photo is ready.
type URLs struct {
	Thumbnail string `json:"thumbnail,omitempty"`
	Small     string `json:"small,omitempty"`
	Medium    string `json:"medium,omitempty"`
	Large     string `json:"large,omitempty"`
	Original  string `json:"original,omitempty"`
}

// Media is one image of a photo.
type Media struct {
	Width       int                  `json:"width"`       // pixels, orientation applied
	Height      int                  `json:"height"`      // pixels, orientation applied
	Placeholder string               `json:"placeholder"` // BlurHash
	Colour      string               `json:"colour"`      // dominant, "#rrggbb"
	URLs        map[string]Rendition `json:"urls"`        // by variant name
}

// Rendition is one size of an image.
type Rendition struct {
	URL     string            `json:"url"`
	Width   int               `json:"width"`             // pixels
	Height  int               `json:"height"`            // pixels
	Formats map[string]string `json:"formats,omitempty"` // URL by format: jpeg, webp, avif
}

// Location is where the author says that a photo was taken, in degrees.
type Location struct {
	Lat  float64 `json:"lat"`
	Lng  float64 `json:"lng"`
	Name string  `json:"name,omitempty"`
	// PlaceID, in answers, names the place for PlacePhotos; empty without a name.
	PlaceID string `json:"place_id,omitempty"`
}

// Failure says why a photo could not be made ready.
type Failure struct {
	Type  string `json:"type"`
	Title string `json:"title"`
}

// Details are what an author says about a photo. Every field may be empty.
type Details struct {
	Title      string    `json:"title,omitempty"`
	Caption    string    `json:"caption,omitempty"`
	Alt        string    `json:"alt,omitempty"`
	Tags       []string  `json:"tags,omitempty"`
	People     []string  `json:"people,omitempty"` // user ids
	Location   *Location `json:"location,omitempty"`
	Visibility string    `json:"visibility,omitempty"`
}

// Comment is one comment; ParentID is empty at the top level.
type Comment struct {
	ID         string    `json:"id"`
	PhotoID    string    `json:"photo_id"`
	Author     Author    `json:"author"`
	Text       string    `json:"text"`
	ParentID   string    `json:"parent_id,omitempty"`
	ReplyCount uint64    `json:"reply_count"`
	LikeCount  uint64    `json:"like_count"`
	Liked      bool      `json:"liked"`
	CreatedAt  time.Time `json:"created_at"`
}

// Page is one page of a list. It may hold fewer rows than asked for while
// NextCursor is set; the last page has none.
type Page[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// PageOptions says which page. The zero value is the first page at the
// server's usual length.
type PageOptions struct {
	Cursor string // Page.NextCursor of the page before
	Limit  int    // rows, 1 to 100; 0: the server's default (20)
}
