package feed

import (
	"time"

	"hayloft/internal/id"
)

// The rows of docs/feed-format.md, section 4. Field numbers are never reused.

type accountRow struct {
	User
	PasswordHash string
	ForFollowers uint64 // of Photos, those shown to followers
	ForOnlyMe    uint64 // of Photos, those shown to nobody else
	PullPosts    bool   // once a post was published in pull mode; never falls back
	Suspended    bool   // by an operator
	Gone         bool   // deleted by its owner; a chore removes what it has
	Avatar       id.ID  // the photo that is shown as the account's face
}

// hidden says that nobody, the account's owner included, sees the account or
// anything of it.
func (r *accountRow) hidden() bool { return r.Suspended || r.Gone }

func (r *accountRow) fields(c *codec) {
	c.id(1, &r.ID)
	c.str(2, &r.Handle)
	c.str(3, &r.Name)
	c.str(4, &r.Bio)
	c.bool(5, &r.IsPrivate)
	c.bool(6, &r.Celebrity)
	num(c, 7, &r.Photos)
	num(c, 8, &r.Followers)
	num(c, 9, &r.Following)
	c.time(10, &r.CreatedAt)
	num(c, 11, &r.Epoch)
	c.str(12, &r.PasswordHash)
	c.bool(13, &r.PullPosts)
	num(c, 14, &r.ForFollowers)
	num(c, 15, &r.ForOnlyMe)
	c.bool(16, &r.Suspended)
	c.bool(17, &r.Gone)
	c.id(18, &r.Avatar)
}

// count adds (or takes) one published photo of a visibility.
func (r *accountRow) count(v Visibility, by uint64) {
	r.Photos += by
	switch v {
	case Followers:
		r.ForFollowers += by
	case OnlyMe:
		r.ForOnlyMe += by
	}
}

const oneLess = ^uint64(0) // by, for count

// weigh moves the celebrity flag with hysteresis: up at the threshold, down
// only below 80 % of it, so that an author at the edge does not flap.
func (r *accountRow) weigh(threshold uint64) {
	switch {
	case r.Followers >= threshold:
		r.Celebrity = true
	case r.Followers < threshold-threshold/5:
		r.Celebrity = false
	}
}

type sessionRow struct{ Session }

func (r *sessionRow) fields(c *codec) {
	c.id(1, &r.ID)
	c.id(2, &r.User)
	c.time(3, &r.CreatedAt)
	c.time(4, &r.ExpiresAt)
	c.bool(5, &r.Cookie)
}

type photoRow struct {
	Photo
	Upload  *UploadSpec // while Reserved; then its expiry alone
	Due     time.Time   // its key in the due index; zero: none
	Effect  uint64      // seq of its transcode effect, while Pending
	Before  Status      // before the delete
	Mark    id.ID       // its key in the owner's list of deleted photos
	Purging bool        // past the grace: gone for everybody
	Epoch   uint32      // how often its audience was narrowed
}

func (r *photoRow) fields(c *codec) {
	c.id(1, &r.ID)
	c.id(2, &r.Author)
	num(c, 3, &r.Status)
	c.sub(4, &r.Details)
	c.sub(5, &r.Master)
	c.sub(6, &r.Rendition)
	opt(c, 7, &r.Failure)
	c.id(8, &r.Pos)
	c.bool(9, &r.Pull)
	c.time(10, &r.CreatedAt)
	c.time(11, &r.PublishedAt)
	c.time(12, &r.DeletedAt)
	num(c, 13, &r.Likes)
	num(c, 14, &r.Comments)
	opt(c, 15, &r.Upload)
	c.time(16, &r.Due)
	num(c, 17, &r.Effect)
	num(c, 18, &r.Before)
	c.id(19, &r.Mark)
	c.bool(20, &r.Purging)
	num(c, 21, &r.Epoch)
}

func (r *Details) fields(c *codec) {
	c.str(1, &r.Title)
	c.str(2, &r.Caption)
	c.str(3, &r.Alt)
	c.strs(4, &r.Tags)
	c.ids(5, &r.People)
	opt(c, 6, &r.Location)
	num(c, 7, &r.Visibility)
}

func (r *Location) fields(c *codec) {
	c.float(1, &r.Lat)
	c.float(2, &r.Lng)
	c.str(3, &r.Name)
}

func (r *Master) fields(c *codec) {
	c.id(1, &r.Blob)
	c.fixed(2, (*uint64)(&r.Cookie))
	num(c, 3, &r.Size)
	c.str(4, &r.ContentType)
	c.hash(5, &r.Digest)
	num(c, 6, &r.Width)
	num(c, 7, &r.Height)
}

func (r *Rendition) fields(c *codec) {
	c.id(1, &r.Blob)
	c.fixed(2, (*uint64)(&r.Cookie))
	list(c, 3, &r.Variants)
	c.str(4, &r.Placeholder)
	c.str(5, &r.Colour)
}

func (r *Variant) fields(c *codec) {
	num(c, 1, &r.Alt)
	num(c, 2, &r.Width)
	num(c, 3, &r.Height)
	num(c, 4, &r.Size)
}

func (r *Failure) fields(c *codec) {
	c.str(1, &r.Type)
	c.str(2, &r.Title)
}

func (r *UploadSpec) fields(c *codec) {
	num(c, 1, &r.Size)
	c.str(2, &r.ContentType)
	var digest [32]byte
	if r.Digest != nil {
		digest = *r.Digest
	}
	c.hash(3, &digest)
	if c.decoding && digest != [32]byte{} {
		r.Digest = &digest
	}
	c.time(4, &r.ExpiresAt)
}

// role says what a blob is to its photo.
type role uint8

const (
	roleIntent role = iota + 1 // may have been written, not attached yet
	roleMaster
	roleRendition
)

type blobRow struct {
	Photo id.ID
	Role  role
	Due   time.Time // roleIntent: when it is void
}

func (r *blobRow) fields(c *codec) {
	c.id(1, &r.Photo)
	num(c, 2, &r.Role)
	c.time(3, &r.Due)
}

type commentRow struct{ Comment }

func (r *commentRow) fields(c *codec) {
	c.id(1, &r.ID)
	c.id(2, &r.Photo)
	c.id(3, &r.Author)
	c.str(4, &r.Text)
	c.id(5, &r.Parent)
	num(c, 6, &r.Replies)
	num(c, 7, &r.Likes)
	c.time(8, &r.CreatedAt)
}

type eventRow struct {
	Kind   uint8 // a timeline.EventKind
	Pos    Pos
	Photo  id.ID
	Author id.ID
	Reader id.ID
	Pull   bool
	Again  bool
}

func (r *eventRow) fields(c *codec) {
	num(c, 1, &r.Kind)
	c.id(2, &r.Pos)
	c.id(3, &r.Photo)
	c.id(4, &r.Author)
	c.id(5, &r.Reader)
	c.bool(6, &r.Pull)
	c.bool(7, &r.Again)
}

type effectRow struct {
	Kind      EffectKind
	Photo     id.ID
	Blob      id.ID
	Attempts  int
	NotBefore time.Time
	Reason    string    // of the last failure
	Owed      time.Time // when it was written first
}

func (r *effectRow) fields(c *codec) {
	num(c, 1, &r.Kind)
	c.id(2, &r.Photo)
	c.id(3, &r.Blob)
	num(c, 4, &r.Attempts)
	c.time(5, &r.NotBefore)
	c.str(6, &r.Reason)
	c.time(7, &r.Owed)
}

type purgeRow struct {
	Blob id.ID
	At   time.Time
}

func (r *purgeRow) fields(c *codec) {
	c.id(1, &r.Blob)
	c.time(2, &r.At)
}

type choreKind uint8

const (
	chorePhoto    choreKind = iota + 1 // likes and comments of a purged photo, then its row
	choreReplies                       // replies of a deleted comment
	chorePrivacy                       // purge entries for all posts, after a privacy flip
	choreAudience                      // purge entries for posts whose URLs are signed, after an epoch was raised
	choreAccount                       // everything of a deleted account, then its row
)

type choreRow struct {
	Kind      choreKind
	Subject   id.ID
	After     id.ID     // chorePrivacy, choreAudience: position reached; choreAccount: what its step has reached
	Threshold uint64    // choreAccount: of celebrities, whose followers become fewer
	Due       time.Time // choreAccount: until then nobody gets the handle
	Step      uint64    // choreAccount: how many kinds of rows are removed
}

func (r *choreRow) fields(c *codec) {
	num(c, 1, &r.Kind)
	c.id(2, &r.Subject)
	c.id(3, &r.After)
	num(c, 4, &r.Threshold)
	c.time(5, &r.Due)
	num(c, 6, &r.Step)
}

// retiredRow keeps the handle of one who is gone from those who come.
type retiredRow struct {
	Due time.Time
}

func (r *retiredRow) fields(c *codec) { c.time(1, &r.Due) }

type idempotencyRow struct {
	Fingerprint [32]byte
	Result      id.ID
	Due         time.Time
}

func (r *idempotencyRow) fields(c *codec) {
	c.hash(1, &r.Fingerprint)
	c.id(2, &r.Result)
	c.time(3, &r.Due)
}
