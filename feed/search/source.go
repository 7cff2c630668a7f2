package search

import "hayloft/internal/id"

// Kind is what a Change is about.
type Kind uint8

// The kinds of changes.
const (
	AccountChanged Kind = 1
	PhotoChanged   Kind = 2
)

// Change says that a photo or an account is to be looked at again.
type Change struct {
	Seq  uint64 // ascending, not without gaps: each subject has its latest change alone
	Kind Kind
	ID   id.ID
	Pos  id.ID // of a photo; never changes
}

// Source gives the index the committed state it derives from. It is implemented by
// package feed. Methods are called from many goroutines.
type Source interface {
	// Snapshot is a consistent view of everything committed so far.
	Snapshot() (Snapshot, error)
	// Changed returns a channel that is closed at the next change. Take it, then look.
	Changed() <-chan struct{}
}

// Snapshot is a consistent view of the committed state, for one goroutine. Close must
// be called.
type Snapshot interface {
	// Changes returns up to limit changes with Seq > after, in order.
	Changes(after uint64, limit int) ([]Change, error)
	// LastChange is the Seq of the newest change (0: none). whole says that the changes
	// tell of everything there is.
	LastChange() (seq uint64, whole bool, err error)
	// Photo returns a photo that is ready; nil when there is none such.
	Photo(photo id.ID) (*Photo, error)
	// Name returns the name of an account, "" when there is none.
	Name(user id.ID) (string, error)
	Close() error
}
