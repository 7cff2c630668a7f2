package tools

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/server"
)

// Blobs is what the tools need of a blob server; *server.Server has it.
type Blobs interface {
	Volumes() ([]server.VolumeInfo, error)
	Use(v volume.ID, disk uint32, fn func(*volume.Volume) error) error
	Verify(ctx context.Context, v volume.ID, disk uint32, found func(volume.Finding), report func(server.Progress)) (volume.Report, error)
	Seal(ctx context.Context, v volume.ID, report func(server.Progress)) error
	Compact(ctx context.Context, v volume.ID, report func(server.Progress)) (volume.SealRecord, error)
	Coded() []server.CodedInfo
	Encode(ctx context.Context, v volume.ID, report func(server.Progress)) error
	Rebuild(ctx context.Context, v volume.ID, report func(server.Progress)) error
	Probe(ctx context.Context, blob id.ID) (server.Probed, error)
	Stats() server.Stats
	Throttle(ctx context.Context, disk uint32, n int64) error
}

var _ Blobs = (*server.Server)(nil)

// LocalOptions configure a Local. Blobs must be given.
type LocalOptions struct {
	Blobs    Blobs
	FS       vfs.FS                // nil: the machine's
	Clock    clock.Clock           // nil: the machine's
	Replicas func(v volume.ID) int // how many the directory names; nil: not known
	Policy   coding.Policy         // how volumes are coded; the zero policy: not
	// Directory is what Why and Cluster ask; nil: they know nothing of it.
	Directory Directory
	// Photo finds the blobs of a photo, and Access says who a blob is served to; nil:
	// photos are not known here.
	Photo  func(ctx context.Context, photo id.ID) (Photo, bool, error)
	Access func(ctx context.Context, blob id.ID) (string, error)
	// Metadata says what the metadata survives; nil: it is on one disk.
	Metadata func() Metadata
}

// Metadata says how much may be lost, whichever it is, and accounts, posts and the
// directory are still there.
type Metadata struct {
	Disks, Hosts int
	Where        string
}

// Local are the volumes of a blob server in this process.
type Local struct{ o LocalOptions }

var _ Keeper = (*Local)(nil)

// NewLocal returns a Keeper of the volumes of o.Blobs.
func NewLocal(o LocalOptions) *Local {
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	return &Local{o}
}

// replicas returns the local replicas of a volume, or of all with 0. Shards come
// before the source that they were made of, as its disk 0.
func (l *Local) replicas(v volume.ID) ([]server.VolumeInfo, error) {
	all, err := l.o.Blobs.Volumes()
	if err != nil || v == 0 {
		return all, err
	}
	all = slices.DeleteFunc(all, func(i server.VolumeInfo) bool { return i.Volume != v })
	if len(all) == 0 {
		return nil, fmt.Errorf("%w on this node: %d", volume.ErrNoVolume, v)
	}
	return all, nil
}

// serving returns those of a volume's replicas that are served: when shards are, the
// source is not, and does not know the newest deletes.
func (l *Local) serving(v volume.ID) ([]server.VolumeInfo, error) {
	all, err := l.replicas(v)
	if err == nil && all[0].Disk == 0 {
		all = all[:1]
	}
	return all, err
}

// List implements Source. A coded volume is one row, in the grace of its source too.
func (l *Local) List(ctx context.Context) ([]Row, error) {
	all, err := l.replicas(0)
	if err != nil {
		return nil, err
	}
	rows, looking := []Row{}, l.looking()
	shards := -1 // row of the last volume that has some
	for _, i := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if i.Disk != 0 && shards >= 0 && rows[shards].ID == i.Volume {
			rows[shards].SizeBytes += looking.size(i)
			continue
		}
		if i.Disk == 0 {
			shards = len(rows)
		}
		rows = append(rows, l.look(i, looking).Row)
	}
	return rows, nil
}

// looking is what one call has found out.
type looking struct {
	files listing
	coded map[volume.ID]*Coded
}

func (l *Local) looking() *looking { return &looking{listing{fs: l.o.FS}, l.codedByVolume()} }

// size is that of a replica's files.
func (k *looking) size(i server.VolumeInfo) (n int64) {
	entries, _ := k.files.of(i) // what cannot be listed is said elsewhere
	for _, e := range entries {
		n += e.Bytes
	}
	return n
}

// Show implements Source.
func (l *Local) Show(_ context.Context, v volume.ID) ([]Detail, error) {
	all, err := l.replicas(v)
	if err != nil {
		return nil, err
	}
	details, looking := []Detail{}, l.looking()
	for _, i := range all {
		details = append(details, l.look(i, looking))
	}
	return details, nil
}

// look describes a volume in service, or one that cannot be.
func (l *Local) look(i server.VolumeInfo, k *looking) Detail {
	none, noEpoch := 0, int64(0)
	d := Detail{Row: Row{ID: i.Volume, Data: k.place(i), Work: workOf(i), Epoch: &noEpoch, Shards: &none}, Events: []string{}}
	if l.o.Replicas != nil {
		n := l.o.Replicas(i.Volume)
		d.Replicas = &n
	}
	if i.Retry != nil {
		d.Retry = OneLine(i.Retry)
	}
	entries, err := k.files.of(i)
	for _, e := range entries {
		d.SizeBytes += e.Bytes
	}
	c := k.coded[i.Volume]
	if i.Disk == 0 && c != nil {
		d.Coding = c
		c.fill(&d.Row)
	}
	if i.Sick == nil && err == nil {
		err = l.o.Blobs.Use(i.Volume, i.Disk, func(v *volume.Volume) error { d.describe(v); return nil })
	}
	if i.Sick != nil {
		err = i.Sick
	}
	if err != nil {
		d.failed(err)
		return d
	}
	if d.State != StatePoisoned {
		d.State = i.State // the file may be behind or ahead of what was decided
	}
	if i.Disk == 0 {
		return d // of no file
	}
	if c != nil && c.Health == HealthCoding && d.State == StateSealed {
		d.State, d.Coding = StateCoding, c
		if c.Work != nil {
			d.Work = c.Work.Step
		}
	}
	d.File = l.path(i, *d.Generation)
	return d
}

// workOf is what is under way on a volume, and what that waits for.
func workOf(i server.VolumeInfo) string {
	if i.Waits == "" {
		return i.Work
	}
	return i.Work + ", " + i.Waits
}

// listing remembers what lies in directories, for one call.
type listing struct {
	fs   vfs.FS
	seen map[string]map[volume.ID][]volume.Entry
}

// of returns the files of a volume, every generation that is there.
func (l *listing) of(i server.VolumeInfo) ([]volume.Entry, error) {
	if i.Dir == "" {
		return nil, nil // the disk is missing
	}
	if found, ok := l.seen[i.Dir]; ok {
		return found[i.Volume], nil
	}
	all, err := volume.List(l.fs, filepath.Join(i.Dir, volumesDirName))
	if err != nil {
		return nil, err
	}
	found := map[volume.ID][]volume.Entry{}
	for _, e := range all {
		found[e.Volume] = append(found[e.Volume], e)
	}
	if l.seen == nil {
		l.seen = map[string]map[volume.ID][]volume.Entry{}
	}
	l.seen[i.Dir] = found
	return found[i.Volume], nil
}

// slowly holds who reads a whole replica to the rate of its disk's upkeep.
func (l *Local) slowly(i server.VolumeInfo) pace {
	return func(ctx context.Context, n int64) error { return l.o.Blobs.Throttle(ctx, i.Disk, n) }
}

// place is where a replica is: the data directory, or a disk that is in none; of
// shards all of them.
func (k *looking) place(i server.VolumeInfo) string {
	if c := k.coded[i.Volume]; i.Disk == 0 && c != nil {
		return c.places()
	}
	if i.Dir == "" {
		return "disk " + i.UUID
	}
	return i.Dir
}

func (l *Local) path(i server.VolumeInfo, generation uint32) string {
	return filepath.Join(i.Dir, volumesDirName, volume.FileName(i.Volume, generation))
}

// Dump implements Source: the generation that serves, up to what is synced, also out
// of shards; of a volume that cannot be opened, every file.
func (l *Local) Dump(ctx context.Context, v volume.ID, q Query, s DumpSink) error {
	all, err := l.replicas(v)
	if err != nil {
		return err
	}
	if all[0].Disk == 0 && (all[0].Sick == nil || len(all) == 1) {
		all = all[:1] // the source is the same, byte for byte
	}
	k := l.looking()
	for _, i := range all {
		if i.Disk == 0 && i.Sick != nil && len(all) > 1 {
			continue // its source can be read
		}
		if i.Sick == nil {
			err = l.o.Blobs.Use(v, i.Disk, func(vol *volume.Volume) error {
				name := k.place(i)
				if i.Disk != 0 {
					name = l.path(i, vol.Identity().Generation)
				}
				return dumpVolume(ctx, vol, name, l.slowly(i), q, s)
			})
		} else {
			err = l.dumpSick(ctx, i, q, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Local) dumpSick(ctx context.Context, i server.VolumeInfo, q Query, s DumpSink) error {
	if i.Dir == "" {
		return fmt.Errorf("volume %d: %w", i.Volume, i.Sick)
	}
	files := listing{fs: l.o.FS}
	entries, err := files.of(i)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := dumpPath(ctx, l.o.FS, l.path(i, e.Generation), l.slowly(i), q, s); err != nil {
			return err
		}
	}
	return nil
}

// Verify implements Source.
func (l *Local) Verify(ctx context.Context, v volume.ID, report func(Progress)) ([]Verified, error) {
	all, err := l.replicas(v)
	if err != nil {
		return nil, err
	}
	rows, k := []Verified{}, l.looking()
	for _, i := range all {
		row := Verified{ID: v, Data: k.place(i), Shards: i.Shards, Findings: []Finding{}, Notes: []string{}}
		if i.Sick != nil {
			row.add(Finding{Kind: "open", Error: OneLine(i.Sick)})
			rows = append(rows, row)
			continue
		}
		r, err := l.o.Blobs.Verify(ctx, v, i.Disk, row.found, l.progress(report))
		if err != nil {
			return nil, err
		}
		row.Needles, row.Bytes = r.Needles, r.Bytes
		if i.Stats.Poisoned != nil {
			row.Notes = append(row.Notes, "poisoned: a write or sync failed; it is read-only, and verified up to its last good sync")
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Export implements Source.
func (l *Local) Export(ctx context.Context, v volume.ID, s ExportSink) error {
	all, err := l.serving(v)
	if err != nil {
		return err
	}
	k := l.looking()
	for _, i := range all {
		if i.Sick != nil {
			err = s.Damaged(unexported(i.Volume, k.place(i), i.Sick))
		} else {
			err = l.o.Blobs.Use(v, i.Disk, func(vol *volume.Volume) error { return export(ctx, vol, k.place(i), l.slowly(i), s) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}
