package feed

import (
	"errors"
	"time"

	"hayloft/internal/id"
)

// Errors that callers distinguish. Each may come wrapped.
var (
	ErrNotFound     = errors.New("feed: not found")             // missing, deleted or not visible to the viewer: all the same
	ErrHandleTaken  = errors.New("feed: handle is taken")       //
	ErrConflict     = errors.New("feed: conflicting state")     // e.g. restore after the grace
	ErrBytesMissing = errors.New("feed: photo bytes missing")   // finalize before PUT
	ErrStored       = errors.New("feed: upload already stored") // second PUT
	ErrExpired      = errors.New("feed: upload expired")
	ErrForbidden    = errors.New("feed: forbidden") // shown as not found outside
	ErrInvalid      = errors.New("feed: invalid")   // e.g. following oneself
	ErrUnavailable  = errors.New("feed: unavailable, try again")
)

// Status is the state of a photo: reserved → stored → pending → ready | failed,
// and from pending on → deleted.
type Status uint8

// The states of a photo.
const (
	Reserved Status = iota + 1 // an upload URL was given out
	Stored                     // the master is durable, nothing was said about it
	Pending                    // finalized, variants not made yet
	Ready                      // in feeds
	Failed                     // its variants cannot be made
	Deleted                    // invisible; restorable by its owner within the grace
)

// Visibility is a photo's audience.
type Visibility uint8

// The audiences.
const (
	Public    Visibility = iota
	Followers            // accepted followers and the author
	OnlyMe
)

// Pos is a photo's position in every list: minted by the command that makes
// the photo ready, greater than every earlier one (design: order). It has the
// shape of an id.ID, so its time is the time of publication.
type Pos = id.ID

// User is an account as stored, with its counters.
type User struct {
	ID        id.ID
	Handle    string
	Name      string
	Bio       string
	IsPrivate bool
	Celebrity bool   // above the threshold: new posts are delivered by pull
	Photos    uint64 // that the viewer may see
	Followers uint64
	Following uint64
	CreatedAt time.Time
	Epoch     uint32 // of private media URLs; raised when the account's audience changes or shrinks
}

// Relation is how a viewer stands to a user.
type Relation struct {
	Follows, FollowedBy, Requested, Blocked, Muted bool

	Listens bool // the viewer is told when the user publishes
}

// UserView is a user as one viewer sees it.
type UserView struct {
	User
	Viewer Relation
	Avatar Avatar
}

// Avatar says where the bytes of a user's face are: the thumbnail of one of their
// photos. The zero Avatar is none.
type Avatar struct {
	Blob   id.ID
	Cookie id.Cookie
	Signed bool   // its URL must be
	Epoch  uint32 // over this
}

// Session is a login. Only the hash of its token is stored.
type Session struct {
	ID        id.ID
	User      id.ID
	CreatedAt time.Time
	ExpiresAt time.Time
	Cookie    bool // made for the web page
}

// NewAccount is what CreateAccount needs. PasswordHash is the encoded argon2id
// hash; hashing is the caller's work.
type NewAccount struct {
	Handle, Name, PasswordHash string
	Session                    NewSession // the first login, made in the same command
}

// NewSession is a login to be made. TokenHash is SHA-256 of the token.
type NewSession struct {
	TokenHash [32]byte
	ExpiresAt time.Time
	Cookie    bool
}

// UploadSpec is what an upload URL binds.
type UploadSpec struct {
	Size        int64 // bytes
	ContentType string
	Digest      *[32]byte // SHA-256 of the body, when the client announced it
	ExpiresAt   time.Time
}

// Upload is a reserved photo before it is finalized.
type Upload struct {
	Photo  id.ID
	Owner  id.ID
	Spec   UploadSpec
	Status Status
}

// Master is the verbatim upload: where its bytes lie and what they are.
type Master struct {
	Blob          id.ID
	Cookie        id.Cookie
	Size          int64 // bytes
	ContentType   string
	Digest        [32]byte // SHA-256
	Width, Height int      // pixels, orientation applied
}

// Variant is one rendition within a group.
type Variant struct {
	Alt           uint8 // the needle's alternate key, see package media
	Width, Height int   // pixels
	Size          int64 // bytes
}

// Rendition is what transcoding made: one group of needles under one blob id.
type Rendition struct {
	Blob        id.ID
	Cookie      id.Cookie
	Variants    []Variant
	Placeholder string // BlurHash
	Colour      string // dominant, "#rrggbb"
}

// Location is where the author says that the photo was taken.
type Location struct {
	Lat, Lng float64
	Name     string
}

// Details are what the author says about a photo.
type Details struct {
	Title, Caption, Alt string
	Tags                []string
	People              []id.ID
	Location            *Location
	Visibility          Visibility
}

// Failure says why a photo has no variants. Type is a stable problem type.
type Failure struct{ Type, Title string }

// Photo is a photo's row.
type Photo struct {
	ID          id.ID
	Author      id.ID
	Status      Status
	Details     Details
	Master      Master
	Rendition   Rendition // zero until Ready
	Failure     *Failure
	Pos         Pos // zero until Ready
	Pull        bool
	CreatedAt   time.Time
	PublishedAt time.Time // zero until Ready
	DeletedAt   time.Time
	Likes       uint64
	Comments    uint64
}

// PhotoView is a photo as one viewer sees it.
type PhotoView struct {
	Photo
	AuthorHandle string
	AuthorName   string
	// AuthorEpoch is what media URLs of this photo are signed over: the author's
	// epoch, and what narrowing the photo's own audience has added.
	AuthorEpoch uint32
	// Signed says that media URLs must be signed: the photo is not public.
	Signed bool
	Liked  bool
	Avatar Avatar // of the author
}

// Comment is a comment's row.
type Comment struct {
	ID        id.ID
	Photo     id.ID
	Author    id.ID
	Handle    string // of the author, when read
	Avatar    Avatar // of the author, when read
	Liked     bool   // by the viewer, when read
	Text      string
	Parent    id.ID // zero: top level
	Replies   uint64
	Likes     uint64
	CreatedAt time.Time
}

// Access is the verdict on serving a blob (design section 6).
type Access uint8

// The verdicts.
const (
	AccessGone   Access = iota // unknown, deleted, or not attached to a photo
	AccessPublic               //
	AccessSigned               // only with a signature over the Verdict's Epoch
)

// Verdict is the answer to "may this blob be served?".
type Verdict struct {
	Access Access
	Epoch  uint32 // with AccessSigned: PhotoView.AuthorEpoch
	// Age is how long before the call it held for certain: the replica that answers
	// may be so far behind.
	Age time.Duration
}

// Purge is one entry of the durable, numbered purge log: what caches must
// forget.
type Purge struct {
	Seq  uint64
	Blob id.ID
}

// EffectKind is a kind of external effect in the outbox.
type EffectKind uint8

// The kinds of effects.
const (
	EffectTranscode EffectKind = iota + 1 // make the variants of Photo
	EffectReclaim                         // tombstone Blob in its volume
)

// Effect is work owed to the world outside the feed: leased in memory by the
// leader, retried with back-off for as long as it takes, parked when its handler
// says that it is poisonous, completed by a command.
type Effect struct {
	Seq      uint64
	Kind     EffectKind
	Photo    id.ID
	Blob     id.ID
	Attempts int
}

// Page is where a list goes on.
type Page struct {
	After id.ID // the last row's key as given by next; 0: from the start
	Limit int   // rows wanted, 1–100
}

// ProfileChange is what a user says about themselves; nil fields stay.
type ProfileChange struct {
	Name, Bio *string
	Private   *bool
}

// PhotoChange is an edit; nil fields stay.
type PhotoChange struct {
	Title, Caption, Alt *string
	Tags                *[]string
	People              *[]id.ID
	Location            **Location
	Visibility          *Visibility
}
