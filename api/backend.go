package api

import (
	"context"
	"errors"

	"hayloft/feed"
	"hayloft/internal/id"
)

// Page is where a list goes on: After is the last row's key as the feed gave
// it (0: from the start), Limit how many are wanted.
type Page = feed.Page

// Feed is what the API needs of the feed. Every method may be called from many
// goroutines; those that change something return when the change is durable.
// viewer 0 is the anonymous viewer.
type Feed interface {
	CreateAccount(ctx context.Context, a feed.NewAccount) (feed.User, feed.Session, error)
	// Credentials returns the account and its password hash for a login.
	Credentials(ctx context.Context, handle string) (id.ID, string, error)
	CreateSession(ctx context.Context, user id.ID, s feed.NewSession) (feed.Session, error)
	// SessionByToken returns the live session of a token's SHA-256.
	SessionByToken(ctx context.Context, hash [32]byte) (feed.Session, error)
	Sessions(ctx context.Context, user id.ID) ([]feed.Session, error)
	DeleteSession(ctx context.Context, user, session id.ID) error
	DeleteSessions(ctx context.Context, user id.ID) error

	UserByID(ctx context.Context, viewer, user id.ID) (feed.UserView, error)
	UserByHandle(ctx context.Context, viewer id.ID, handle string) (feed.UserView, error)
	UpdateProfile(ctx context.Context, user id.ID, c feed.ProfileChange) (feed.User, error)
	People
	Personal
	Search
	Telling
	Exports

	// BeginUpload reserves a photo id and records what its upload URL binds.
	BeginUpload(ctx context.Context, owner id.ID, spec feed.UploadSpec) (id.ID, error)
	Upload(ctx context.Context, photo id.ID) (feed.Upload, error)
	// Intend commits the intent to write blob for photo, before any byte is
	// appended: what is never attached is tombstoned by the sweeper.
	Intend(ctx context.Context, photo, blob id.ID) error
	// Stored attaches the durable master. With details it finalizes in the same
	// command (Pending), else the photo is Stored.
	Stored(ctx context.Context, photo id.ID, m feed.Master, details *feed.Details) error
	// Finalize makes a stored photo pending; the same call again returns the photo.
	Finalize(ctx context.Context, owner, photo id.ID, d feed.Details) (feed.PhotoView, error)

	// Photo returns a photo that viewer may see; the author sees it from Pending on.
	Photo(ctx context.Context, viewer, photo id.ID) (feed.PhotoView, error)
	// WaitReady returns when the photo is no longer Pending, or ctx's error.
	WaitReady(ctx context.Context, viewer, photo id.ID) (feed.PhotoView, error)
	UpdatePhoto(ctx context.Context, owner, photo id.ID, c feed.PhotoChange) (feed.PhotoView, error)
	DeletePhoto(ctx context.Context, owner, photo id.ID, purge bool) error // idempotent
	RestorePhoto(ctx context.Context, owner, photo id.ID) (feed.PhotoView, error)
	DeletedPhotos(ctx context.Context, owner id.ID, p Page) (rows []feed.PhotoView, next id.ID, err error)
	PhotosBy(ctx context.Context, viewer, author id.ID, p Page) (rows []feed.PhotoView, next id.ID, err error)
	FeedPage(ctx context.Context, viewer id.ID, p Page) (rows []feed.PhotoView, next id.ID, err error)

	Like(ctx context.Context, user, photo id.ID) error   // idempotent
	Unlike(ctx context.Context, user, photo id.ID) error // idempotent
	Likes(ctx context.Context, viewer, photo id.ID, p Page) (rows []feed.UserView, next id.ID, err error)
	AddComment(ctx context.Context, user, photo id.ID, text string, parent id.ID) (feed.Comment, error)
	DeleteComment(ctx context.Context, user, comment id.ID) error
	LikeComment(ctx context.Context, user, comment id.ID) error   // idempotent
	UnlikeComment(ctx context.Context, user, comment id.ID) error // idempotent
	Comments(ctx context.Context, viewer, photo id.ID, p Page) (rows []feed.Comment, next id.ID, err error)
	Replies(ctx context.Context, viewer, comment id.ID, p Page) (rows []feed.Comment, next id.ID, err error)

	// Repeated returns the id that an earlier call with the same idempotency key
	// made, if there was one.
	Repeated(ctx context.Context, i feed.Idempotency) (earlier id.ID, found bool, err error)
	// AppliedIndex is the Raft index this replica has applied (Hayloft-Index).
	AppliedIndex() uint64
	// Fresh returns when what is read here from now on shows every change that was
	// acknowledged anywhere before the call (Hayloft-Index: fresh).
	Fresh(ctx context.Context) error
	// Ready returns nil when the feed can serve and accept writes.
	Ready() error
}

// People is what users are to one another. All changes but the answers to a request
// are idempotent.
type People interface {
	FollowOrAsk(ctx context.Context, reader, author id.ID) (asked bool, err error)
	Unfollow(ctx context.Context, reader, author id.ID) error
	RemoveFollower(ctx context.Context, author, reader id.ID) error
	ApproveFollow(ctx context.Context, author, reader id.ID) error
	DeclineFollow(ctx context.Context, author, reader id.ID) error
	Block(ctx context.Context, user, other id.ID) error
	Unblock(ctx context.Context, user, other id.ID) error
	Mute(ctx context.Context, user, other id.ID) error
	Unmute(ctx context.Context, user, other id.ID) error
	Followers(ctx context.Context, viewer, user id.ID, p Page) (rows []feed.UserView, next id.ID, err error)
	Following(ctx context.Context, viewer, user id.ID, p Page) (rows []feed.UserView, next id.ID, err error)
	FollowRequests(ctx context.Context, user id.ID, p Page) (rows []feed.UserView, next id.ID, err error)
	Blocks(ctx context.Context, user id.ID, p Page) (rows []feed.UserView, next id.ID, err error)
	Mutes(ctx context.Context, user id.ID, p Page) (rows []feed.UserView, next id.ID, err error)
}

// Errors of Blobs that the API distinguishes. Each may come wrapped.
var (
	// ErrMoved: the reserved id's tile has closed; nothing was written, reserve
	// another.
	ErrMoved = errors.New("api: blob id is outside every open tile")
	// ErrFull: no disk has room.
	ErrFull = errors.New("api: storage is full")
	// ErrUnavailable: the store cannot say for now.
	ErrUnavailable = errors.New("api: storage is not available")
)

// Blobs is what the API needs of the blob store.
type Blobs interface {
	// Reserve mints a blob id and a cookie for one write of class originals.
	Reserve(ctx context.Context) (id.ID, id.Cookie, error)
	// WriteMaster appends the verbatim upload and returns when it is durable.
	// data is the caller's again afterwards. ErrMoved: reserve again.
	WriteMaster(ctx context.Context, blob id.ID, cookie id.Cookie, m MasterNeedle) error
	// ReadMaster fills to with the verified bytes of a master from off on. It
	// returns fewer only at the master's end.
	ReadMaster(ctx context.Context, blob id.ID, cookie id.Cookie, off int64, to []byte) (int, error)
}

// MasterNeedle is a master with what the needle itself says of it, so that
// originals can be rescued from bare volumes.
type MasterNeedle struct {
	Photo, Owner id.ID
	ContentType  string
	Data         []byte
}
