package tools

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// Query chooses records. Its zero value, but for Alt, is all of them; AllAlts is
// that one's.
type Query struct {
	Kinds    []string // names of kinds; none: all
	Key      id.ID    // 0: all
	Alt      int      // of needles; AllAlts: all records
	From, To int64    // bytes of the file: records that overlap [From, To); To 0: the end
	Damaged  bool     // only gaps and damaged records
	Cookies  bool     // fill in cookies: with one, anybody can fetch the photo
}

// AllAlts chooses every alternate key.
const AllAlts = -1

// kinds are the names of records; a gap is where no record was found.
var kinds = map[volume.Kind]string{
	0: "gap", volume.KindNeedle: "needle", volume.KindTombstone: "tombstone", volume.KindVoid: "void", volume.KindMark: "mark", volume.KindPadding: "padding",
}

func kindName(k volume.Kind) string {
	if name, ok := kinds[k]; ok {
		return name
	}
	return fmt.Sprintf("kind-%d", k)
}

// KindNames lists the kinds of records.
func KindNames() string {
	return strings.Join(slices.Sorted(maps.Values(kinds)), ", ")
}

// Validate names the first thing in the query that makes no sense.
func (q *Query) Validate() error {
	for _, k := range q.Kinds {
		if !slices.Contains(slices.Collect(maps.Values(kinds)), k) {
			return fmt.Errorf("kind %q: there are %s", k, KindNames())
		}
	}
	if q.Alt < AllAlts || q.Alt > volume.MaxAlt {
		return fmt.Errorf("alt %d: 0 to %d", q.Alt, volume.MaxAlt)
	}
	if q.From < 0 || q.To < 0 || q.To != 0 && q.To <= q.From {
		return fmt.Errorf("from %d to %d: no such range", q.From, q.To)
	}
	return nil
}

func (q *Query) wants(r volume.Record) bool {
	switch {
	case len(q.Kinds) > 0 && !slices.Contains(q.Kinds, kindName(r.Kind)),
		q.Key != 0 && r.Key != q.Key,
		q.Alt >= 0 && (r.Kind != volume.KindNeedle || int(r.Alt) != q.Alt),
		r.Offset+r.Size <= q.From,
		q.Damaged && r.Kind != 0 && r.Err == nil:
		return false
	}
	return true
}

// DumpSink takes what a dump finds.
type DumpSink struct {
	File   func(DumpFile) error // before the records of each file
	Record func(DumpRecord) error
}

// DumpFile says which file is read.
type DumpFile struct {
	ID         volume.ID `json:"id"`
	Generation uint32    `json:"generation"`
	Class      string    `json:"class"`
	File       string    `json:"file"`
}

// DumpRecord is one record as it lies on the disk.
type DumpRecord struct {
	Offset   int64   `json:"offset"`
	Size     int64   `json:"size"`
	Kind     string  `json:"kind"`
	Key      *id.ID  `json:"key,omitempty"`
	Alt      *uint8  `json:"alt,omitempty"`
	Cookie   string  `json:"cookie,omitempty"`
	Length   *int    `json:"length,omitempty"`
	SyncedTo *int64  `json:"synced_to,omitempty"`
	ETag     string  `json:"etag,omitempty"`
	Master   *Master `json:"master,omitempty"`
	Damage   string  `json:"damage,omitempty"`
}

func (q *Query) recordOf(r volume.Record) DumpRecord {
	j := DumpRecord{Offset: r.Offset, Size: r.Size, Kind: kindName(r.Kind), Master: masterOf(r.Master)}
	if r.Key != 0 {
		j.Key = &r.Key
	}
	if r.Kind == volume.KindNeedle {
		n := len(r.Data)
		j.Alt, j.Length, j.ETag = &r.Alt, &n, fmt.Sprintf("%08x", r.ETag)
		if q.Cookies {
			j.Cookie = r.Cookie.String()
		}
	}
	if r.Kind != 0 {
		j.SyncedTo = &r.SyncedTo
	}
	if r.Err != nil {
		j.Damage = OneLine(r.Err)
	}
	return j
}

var errEnough = errors.New("enough")

// DumpPath dumps one file as it lies there: nothing is recovered and no lock is
// taken. A nil fsys is the machine's.
func DumpPath(ctx context.Context, fsys vfs.FS, name string, q Query, s DumpSink) error {
	return dumpPath(ctx, fsys, name, nil, q, s)
}

func dumpPath(ctx context.Context, fsys vfs.FS, name string, p pace, q Query, s DumpSink) error {
	ident, err := volume.Scan(fsys, name, func(volume.Record) error { return errEnough })
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return dump(ctx, ident, name, p, q, s, func(fn func(volume.Record) error) error {
		_, err := volume.Scan(fsys, name, fn)
		return err
	})
}

// dumpVolume dumps a volume in service, as far as it is synced.
func dumpVolume(ctx context.Context, v *volume.Volume, name string, p pace, q Query, s DumpSink) error {
	return dump(ctx, v.Identity(), name, p, q, s, func(fn func(volume.Record) error) error { return v.Scan(ctx, fn) })
}

// dump gives what scan finds to s.
func dump(ctx context.Context, ident volume.Identity, name string, p pace, q Query, s DumpSink, scan func(func(volume.Record) error) error) error {
	if err := s.File(DumpFile{ident.Volume, ident.Generation, ident.Class.String(), name}); err != nil {
		return err
	}
	err := scan(func(r volume.Record) error {
		if q.To != 0 && r.Offset >= q.To {
			return errEnough
		}
		if p != nil { // what was read just now is paid for before more is
			if err := p(ctx, r.Size); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil || !q.wants(r) {
			return err
		}
		return s.Record(q.recordOf(r))
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
