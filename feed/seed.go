package feed

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/feed/timeline"
	"hayloft/internal/id"
)

// Seed writes a world into an empty state: what as many commands would have left
// behind, without running them. It is for benchmarks, which need millions of rows
// before they can begin. One goroutine uses it, before the group has applied
// anything, as in raftgroup.Machine's Restored. What is seeded is durable with the
// next flush only; no event tells of it, and search does not find it.
//
// The caller gives each account its counters, and they must be right: Check finds
// those that are not.
type Seed struct {
	db  *pebble.DB
	b   *pebble.Batch
	now time.Time
	pos Pos // largest given out
}

// seedBatch is how many bytes are committed at once.
const seedBatch = 4 << 20

// NewSeed begins to write into db, which must be without rows of the feed. now is the
// time of what has no other.
func NewSeed(db *pebble.DB, now time.Time) (*Seed, error) {
	v, err := store{db}.meta(metaFormat)
	if err != nil {
		return nil, err
	}
	if v != 0 {
		return nil, errors.New("feed: only an empty state can be seeded")
	}
	return &Seed{db: db, b: db.NewBatch(), now: now.UTC().Truncate(time.Millisecond)}, nil
}

func (s *Seed) set(key, value []byte) error {
	if err := s.b.Set(key, value, nil); err != nil {
		return err
	}
	if s.b.Len() < seedBatch {
		return nil
	}
	return s.commit()
}

func (s *Seed) commit() error {
	err := errors.Join(s.b.Commit(pebble.NoSync), s.b.Close())
	s.b = s.db.NewBatch()
	return err
}

// Account writes an account that cannot sign in with a password. pulled says that
// some of its posts are in pull mode.
func (s *Seed) Account(u User, pulled bool) error {
	if u.CreatedAt.IsZero() {
		u.CreatedAt = s.now
	}
	row := accountRow{User: u, PasswordHash: "none", PullPosts: pulled}
	return errors.Join(
		s.set(key1(tabAccount, u.ID), encodeRow(&row)),
		s.set(handleKey(u.Handle), be(nil, uint64(u.ID))))
}

// Login writes a login; login is an id of its own.
func (s *Seed) Login(user, login id.ID, n NewSession) error {
	row := sessionRow{Session{ID: login, User: user, CreatedAt: s.now, ExpiresAt: n.ExpiresAt, Cookie: n.Cookie}}
	return errors.Join(
		s.set(sessionKey(n.TokenHash), encodeRow(&row)),
		s.set(keyDesc(tabUserSession, user, login), n.TokenHash[:]),
		s.set(dueKey(millis(n.ExpiresAt), dueSession, n.TokenHash[:]), nil))
}

// Follow writes that reader follows author; edge is an id of its own. Both
// accounts count it.
func (s *Seed) Follow(reader, author, edge id.ID) error {
	e := be(nil, uint64(edge))
	return errors.Join(
		s.set(key2(tabFollow, reader, author), e),
		s.set(keyDesc(tabFollowing, reader, edge), be(nil, uint64(author))),
		s.set(key2(tabFollowedBy, author, reader), e),
		s.set(keyDesc(tabFollowers, author, edge), be(nil, uint64(reader))))
}

// Post writes a ready photo with all that belongs to it. Its author counts it.
func (s *Seed) Post(p Photo) error {
	if p.Status != Ready || p.Pos == 0 {
		return fmt.Errorf("%w: a photo that is not ready cannot be seeded", ErrInvalid)
	}
	s.pos = max(s.pos, p.Pos)
	return errors.Join(
		s.set(key1(tabPhoto, p.ID), encodeRow(&photoRow{Photo: p})),
		s.set(key2(tabOwned, p.Author, p.ID), nil),
		s.set(key1(tabBlob, p.Master.Blob), encodeRow(&blobRow{Photo: p.ID, Role: roleMaster})),
		s.set(key1(tabBlob, p.Rendition.Blob), encodeRow(&blobRow{Photo: p.ID, Role: roleRendition})),
		s.set(keyDesc(tabPosts, p.Author, p.Pos), postValue(p.ID, p.Pull)))
}

// Close writes the rest.
func (s *Seed) Close() error {
	err := errors.Join(
		s.set(metaKey(metaFormat), be(nil, formatVersion)),
		s.set(metaKey(metaPos), be(nil, uint64(s.pos))),
		s.set(metaKey(metaSwept), be(nil, millis(s.now))),
		s.set(changeMetaKey(changeFilled), []byte{changesEnd}), // else it would be filled while a benchmark runs
		s.b.Commit(pebble.NoSync), s.b.Close())
	return errors.Join(err, s.db.Flush())
}

// Timelines are the derived timelines, for benchmarks that seed or compact them.
func (f *Feed) Timelines() *timeline.Store { return f.timeline }
