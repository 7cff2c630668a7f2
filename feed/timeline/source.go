package timeline

import "hayloft/internal/id"

// Post is one published photo as timelines see it.
type Post struct {
	Pos    id.ID // position, see feed.Pos
	Photo  id.ID
	Author id.ID
	Pull   bool // delivered by pull: never written to timelines
}

// EventKind says what happened.
type EventKind uint8

// The events that timelines derive from.
const (
	Published  EventKind = iota + 1 // Post became ready (or was restored)
	Followed                        // Reader follows Post.Author
	Unfollowed                      // Reader no longer follows Post.Author
)

// Event is one entry of the feed's outbox, numbered without gaps in commit
// order.
type Event struct {
	Seq    uint64
	Kind   EventKind
	Post   Post  // Published; for the others only Author is set
	Reader id.ID // Followed, Unfollowed
	Again  bool  // Published: Post was published before, at the same position
}

// Source gives timelines the committed state they derive from. It is
// implemented by package feed. Methods are called from many goroutines.
type Source interface {
	// Snapshot is a consistent view of everything committed so far.
	Snapshot() Snapshot
	// Wait returns when an event after seq is committed or done is closed. One
	// goroutine of Run's calls it, once at a time. Returns without need are
	// allowed; an error ends Run.
	Wait(done <-chan struct{}, seq uint64) error
}

// Snapshot is a consistent view of the committed state. One goroutine uses it
// at a time; Close must be called.
type Snapshot interface {
	// Events returns up to limit events with Seq > after, in order. first is
	// the lowest Seq that is still kept (later ones have been trimmed); when
	// after+1 < first the caller has missed events and must start afresh.
	Events(after uint64, limit int) (events []Event, first uint64, err error)
	// LastSeq is the Seq of the newest committed event (0: none).
	LastSeq() (uint64, error)
	// Followers appends to dst up to limit readers who follow author, with
	// ids > after, ascending.
	Followers(dst []id.ID, author, after id.ID, limit int) ([]id.ID, error)
	// Followees returns all whom reader follows (not reader itself), ascending. The
	// list may be shared: it is not changed.
	Followees(reader id.ID) ([]id.ID, error)
	// Posts appends to dst up to limit posts of author with Pos < before,
	// descending by Pos. before == 0 means from the newest. Deleted posts may
	// be left out.
	Posts(dst []Post, author, before id.ID, limit int) ([]Post, error)
	// HasPull reports whether author may have posts in pull mode. A page asks
	// it for every followee. It may say yes without need, never no.
	HasPull(author id.ID) (bool, error)
	Close() error
}
