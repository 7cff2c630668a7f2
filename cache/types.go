package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hayloft/internal/id"
)

// Key names one representation of one image.
type Key struct {
	Variant string // one of Options.Variants
	Blob    id.ID
	Cookie  id.Cookie
	Ext     string // one of Options.Formats, without a dot
}

// Object is the bytes of a Key.
type Object struct {
	Data        []byte
	ContentType string // must be the type of the key's extension
	ETag        string // strong, without quotes: characters '!' and '#' to '~'
	// Age is for how long caches had it that it comes from.
	Age time.Duration
	// Rest, when not nil, brings the bytes: Data is nil, and there will be Size of them.
	Rest Rest
	Size int
	// Release, when not nil, says that Data is lent: the cache calls it once, on
	// the goroutine of the fill, and has copied by then what it keeps.
	Release func()
}

// done ends the use of an object that the cache was given.
func (o *Object) done() {
	if o.Release != nil {
		o.Release()
	}
	if o.Rest != nil { // it was not used
		o.Rest.Done(nil)
	}
}

// size is how many bytes the object has.
func (o *Object) size() int {
	if o.Rest != nil {
		return o.Size
	}
	return len(o.Data)
}

// ErrNotFound is returned by an Origin that knows that there is no such object:
// no such blob, another cookie, deleted, or not available in that format.
var ErrNotFound = errors.New("cache: no such object")

// Origin is where fills come from. Fetch is called by the fill's goroutine and
// must end when ctx does. It returns the object, whole or with what brings the rest, or
// an error: ErrNotFound only when it is sure, anything else when it is not. With an
// error nothing is lent.
type Origin interface {
	Fetch(ctx context.Context, k Key) (Object, error)
}

// Audience is who may be served a blob.
type Audience uint8

// The audiences. The zero value serves nobody.
const (
	Gone   Audience = iota // deleted, unknown, or not attached to anything
	Public                 // everybody
	Signed                 // whoever presents a signature over Verdict.Epoch
)

// Verdict is the answer to "may this blob be served?".
type Verdict struct {
	Audience Audience
	Epoch    uint32 // of the owner, with Signed
	// Age is how long before the question it held for certain.
	Age time.Duration
}

// Access decides on serving. It must answer from a state that includes every
// purge which this node's Purger has returned: otherwise a purge could be
// answered by a fill from before it.
type Access interface {
	Access(ctx context.Context, blob id.ID) (Verdict, error)
}

// Purge is one entry of the purge log.
type Purge struct {
	Seq  uint64 // rises by any step
	Blob id.ID
}

// Purger is the durable, numbered log of what caches must forget. Purges
// returns up to limit entries with a sequence number above after, in order. It
// waits until there are some, and returns none as a heartbeat when there were
// none for a while (well under Options.PurgeSilence, or every entry is asked
// about again and again). Fewer than limit are all that there were age before the
// call; a negative age is a moment after it. A *GapError says that entries after
// after are lost. It is called by one goroutine.
type Purger interface {
	Purges(ctx context.Context, after uint64, limit int) (list []Purge, age time.Duration, err error)
}

// GapError is returned by a Purger whose log does not go back to what was asked
// for, or does not reach it (a log that was restored from a backup). The cache
// then drops everything and goes on after Head, the log's last number.
type GapError struct{ Head uint64 }

func (e *GapError) Error() string {
	return fmt.Sprintf("cache: the purge log has a gap, its head is %d", e.Head)
}

// EventKind is what an Event tells.
type EventKind uint8

// The events.
const (
	FillFailed     EventKind = iota + 1 // Origin or Access failed or answered nonsense; clients got 503
	AccessFailed                        // Access failed when asked again; clients got 503
	PurgeLogFailed                      // the purge log did not answer; it is asked again after a pause
	PurgeLogGap                         // the purge log has a gap; everything was dropped
)

// Event is something an operator may want to know. Key is zero where it does
// not apply; it contains a cookie, which logs should not.
type Event struct {
	Kind EventKind
	Key  Key
	Err  error
}

// Stats are counters since New, and gauges where noted.
type Stats struct {
	Hits          uint64 // served from memory
	Misses        uint64 // began a fill
	Collapsed     uint64 // waited for a fill that somebody else had begun
	Fills         uint64 // fills that brought bytes, kept or not
	FillErrors    uint64 // fills that failed
	FillNotFound  uint64 // fills that ended in "gone", "signed" or ErrNotFound
	FillsPurged   uint64 // fills thrown away because a purge overtook them
	FillsRefused  uint64 // not begun: too many under way
	LooseRefused  uint64 // fills thrown away: not kept, and too much is being read that is not kept
	Unkept        uint64 // fills served but not kept: too large or no room
	Pushes        uint64 // objects pushed in and kept
	Evictions     uint64
	Purges        uint64 // purge log entries followed
	PurgeGaps     uint64
	PurgedEntries uint64
	Revalidations uint64 // Access asked again for something in memory
	NotFound      uint64 // responses with 404
	Unavailable   uint64 // responses with 503
	BytesServed   uint64 // handed to connections

	Entries      int64 // gauge
	Bytes        int64 // gauge: everything that counts against the budget
	GhostBytes   int64 // gauge: of those, memory of what was evicted
	LeavingBytes int64 // gauge: of those, evicted or purged but still being sent
	LooseBytes   int64 // gauge: unkept objects still being sent, each once; beside Bytes
	TotalBytes   int64 // gauge: Bytes and LooseBytes
	PurgeSeq     uint64
	PurgeHeard   time.Time // when the purge log was last known to be followed to its head
}
