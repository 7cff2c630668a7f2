package tools

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
)

// The states of a row besides those of a volume that cannot be opened.
const (
	StateOpen     = "open"     // takes appends
	StateClosing  = "closing"  // takes no more, and is not sealed yet
	StateSealed   = "sealed"   // never changes again
	StatePoisoned = "poisoned" // a write or sync failed: read-only

	stateUnreadable = "unreadable"
)

// Row is one replica of a volume in a listing. What is not known is nil.
type Row struct {
	ID         volume.ID `json:"id"`
	Class      *string   `json:"class"`
	State      string    `json:"state"` // open, closing, sealed, coding, coded, poisoned, or why it cannot be opened: corrupt, unsupported, unreadable
	Replicas   *int      `json:"replicas"`
	Needles    *int64    `json:"needles"`
	LiveBytes  *int64    `json:"live_bytes"`
	FileBytes  *int64    `json:"file_bytes"`          // up to the end of the last record
	Epoch      *int64    `json:"epoch"`               // whose shards serve; 0: none's
	Shards     *int      `json:"shards"`              // that can be read
	ShardsOf   *int      `json:"shards_of,omitempty"` // how many there should be
	Generation *uint32   `json:"generation"`
	SizeBytes  int64     `json:"size_bytes"` // of its files, preallocated space included
	Deleted    *int64    `json:"deleted_keys"`
	Rot        *int      `json:"damaged_parts"`
	VoidBytes  *int64    `json:"void_bytes"`      // what the next opening would drop as never acknowledged
	Work       string    `json:"work,omitempty"`  // what is done with it now: sealing, compacting, verifying
	Retry      string    `json:"retry,omitempty"` // why the last sealing or compaction failed, which will be tried again
	Data       string    `json:"data"`            // data directory; of shards those that have one, with commas between
	Error      string    `json:"error,omitempty"`
}

// Garbage is how many bytes of the file a compaction would give back, as far as
// the row tells.
func (r *Row) Garbage() int64 {
	if r.FileBytes == nil || r.LiveBytes == nil {
		return 0
	}
	return max(0, *r.FileBytes-*r.LiveBytes-volume.HeadBytes)
}

// Sealed reports whether its contents are fixed.
func (r *Row) Sealed() bool {
	return r.State == StateSealed || r.State == StateCoding || r.State == StateCoded
}

// InGrace reports whether a coded volume has its source yet.
func (r *Row) InGrace() bool { return r.State == StateCoded && r.Replicas != nil && *r.Replicas > 0 }

// Empty reports whether nothing can be read from it.
func (r *Row) Empty() bool { return r.Needles != nil && *r.Needles == 0 }

// Place is where it is, for people.
func (r *Row) Place() string {
	if r.ShardsOf == nil {
		return r.Data
	}
	return fmt.Sprintf("%d of %d shards", *r.Shards, *r.ShardsOf)
}

// Readable reports whether the volume could be opened.
func (r *Row) Readable() bool { return r.Error == "" }

// Detail is what there is to know of one replica.
type Detail struct {
	Row
	File   string   `json:"file,omitempty"`
	Seal   *Seal    `json:"seal"`   // of a sealed volume
	Coding *Coded   `json:"coding"` // of one that is coded or is being coded
	Events []string `json:"events"` // what opening reported
}

// Seal is what the superblock of a sealed volume says.
type Seal struct {
	Slot    id.Slot   `json:"slot"` // of its tile
	From    time.Time `json:"from"` // first and last id time of its tile
	To      time.Time `json:"to"`
	Sealed  time.Time `json:"sealed"`
	Needles int64     `json:"needles"` // when it was sealed
	Digest  string    `json:"digest"`  // of the set of them
	Deletes uint32    `json:"deletes"` // number in the delete log up to which they are applied
	Source  uint32    `json:"source"`  // generation it was compacted from, or 0
}

func sealOf(r volume.SealRecord) *Seal {
	return &Seal{r.Slot, r.From.Time(), r.To.Time(), r.Sealed, r.Needles, fmt.Sprintf("%x", r.Digest[:]), r.Deletes, r.Source}
}

// describe fills in what an open volume says of itself.
func (d *Detail) describe(v *volume.Volume) {
	s := v.Stats()
	class := s.Class.String()
	d.Class, d.Generation = &class, &s.Generation
	d.Needles, d.LiveBytes, d.FileBytes = &s.Needles, &s.LiveBytes, &s.FileBytes
	d.Deleted, d.Rot, d.VoidBytes = &s.Tombstones, &s.Rot, &s.VoidBytes
	d.State = StateOpen
	record, sealed := v.Sealed()
	switch {
	case s.Poisoned != nil:
		d.State = StatePoisoned
	case sealed:
		d.State = StateSealed
	case v.Fenced():
		d.State = StateClosing
	}
	if sealed {
		d.Seal = sealOf(record)
	}
}

// failed notes why a volume cannot be opened.
func (r *Row) failed(err error) {
	r.Error = OneLine(err)
	switch {
	case errors.Is(err, volume.ErrUnsupported):
		r.State = "unsupported"
	case errors.Is(err, volume.ErrCorrupt):
		r.State = "corrupt"
	default:
		r.State = stateUnreadable
	}
}

// eventText is one line for what the engine reported.
func eventText(e volume.Event) string {
	s := e.Kind.String()
	if e.Length > 0 {
		s += fmt.Sprintf(" at %d, %d bytes", e.Offset, e.Length)
	}
	if e.Key != 0 {
		s += " key " + e.Key.String()
	}
	switch {
	case e.Err != nil:
		s += ": " + e.Err.Error()
	case e.Kind == volume.EventRemoved:
		s += ": a leftover of a seal or compaction that was cut off"
	}
	return s
}

// OneLine joins the lines of an error.
func OneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// Master is what a master's needle says of itself.
type Master struct {
	Photo       id.ID  `json:"photo"`
	Owner       id.ID  `json:"owner"`
	ContentType string `json:"content_type"`
	Time        string `json:"time"`
}

func masterOf(m *volume.MasterInfo) *Master {
	if m == nil {
		return nil
	}
	return &Master{m.Photo, m.Owner, m.ContentType, m.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00")}
}

// Progress tells how far long work is, in bytes. Total is 0 while it is unknown.
type Progress struct {
	Volume volume.ID `json:"volume"`
	Step   string    `json:"step"`
	Done   int64     `json:"done"`
	Total  int64     `json:"total"`
}
