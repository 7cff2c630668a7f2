package coded

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"hayloft/internal/clock"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// ErrDeletesUnsure: more copies of the delete log cannot be read than may be lost.
// A delete may be missing, so nothing of the volume is served.
var ErrDeletesUnsure = errors.New("deletes may be missing")

// LogCopy is the place of a copy of the delete log.
type LogCopy struct {
	Home coding.Home
	Disk uint32 // names it in reports
}

// String returns for example "disk 3 (/srv/a/shards)".
func (l LogCopy) String() string { return fmt.Sprintf("disk %d (%s)", l.Disk, l.Home.Dir) }

func (l LogCopy) path(v volume.ID) string {
	return filepath.Join(l.Home.Dir, volume.DeleteLogName(v))
}

// LogState is what there is to say about a place.
type LogState struct {
	LogCopy
	InSet bool  // its copy holds every delete that was acknowledged
	Err   error // why it is not in the set
}

// EventKind says what an Event reports.
type EventKind uint8

// What a coded volume reports besides what the engine does.
const (
	EventLogLeft    EventKind = iota + 1 // a copy of the delete log left the set
	EventLogJoined                       // a copy was made and is in the set from now on
	EventLogsUnited                      // Open found copies that differ and made new ones, with so many Deletes
)

var eventNames = [...]string{"", "log-left", "log-joined", "logs-united"}

// String returns the name used in logs and metrics.
func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return fmt.Sprintf("event-%d", uint8(k))
}

// Event is something an operator should know.
type Event struct {
	Kind    EventKind
	Volume  volume.ID
	Log     LogCopy // of EventLogLeft and EventLogJoined
	Deletes int     // of EventLogsUnited
	Err     error   // the cause
}

// Options of Open. The zero value works.
type Options struct {
	// Engine is given to the engine. Its FS and PageCache are ignored, its Clock
	// is also that of LogTimeout.
	Engine volume.Options
	Reader coding.ReaderOptions
	// Tolerance is f: how many places of the delete log may be lost. Deletes and
	// the loss of f of n places go together when n is at least 2f+1.
	Tolerance int
	// LogTimeout is how long a write or sync of one copy may take, and how long the
	// last places are waited for at Open once enough have answered. 0 means 1 s.
	LogTimeout time.Duration
	// Events is called from any goroutine, must return soon and must not call the
	// volume.
	Events func(Event)
	// Unused is told of each shard that is in use no more, once: it may be closed.
	// It is called from any goroutine.
	Unused func(coding.Shard)
}

// Validate lists what cannot be.
func (o Options) Validate() error {
	err := o.Engine.Validate()
	if o.Tolerance < 0 || o.LogTimeout < 0 {
		err = errors.Join(err, fmt.Errorf("%w: tolerance %d, log timeout %v", volume.ErrInvalid, o.Tolerance, o.LogTimeout))
	}
	return err
}

func (o Options) withDefaults() Options {
	if o.LogTimeout == 0 {
		o.LogTimeout = time.Second
	}
	if o.Engine.Clock == nil {
		o.Engine.Clock = clock.Real{}
	}
	if o.Reader.Clock == nil {
		o.Reader.Clock = o.Engine.Clock
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.Unused == nil {
		o.Unused = func(coding.Shard) {}
	}
	return o
}

// validLogs refuses places that cannot be meant.
func validLogs(logs []LogCopy, tolerance int) error {
	if tolerance < 0 || len(logs) <= tolerance {
		return fmt.Errorf("%w: %d places of the delete log, of which %d may be lost", volume.ErrInvalid, len(logs), tolerance)
	}
	seen := make(map[LogCopy]bool)
	for _, l := range logs {
		if l.Home.FS == nil || seen[LogCopy{Home: l.Home}] {
			return fmt.Errorf("%w: place of the delete log named twice, or without a file system: %v", volume.ErrInvalid, l)
		}
		seen[LogCopy{Home: l.Home}] = true
	}
	return nil
}
