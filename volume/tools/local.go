package tools

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// Blobs is what the tools need of a blob server; *server.Server has it.
type Blobs interface {
	Volumes() ([]server.VolumeInfo, error)
	Use(v volume.ID, disk uint32, fn func(*volume.Volume) error) error
	Verify(ctx context.Context, v volume.ID, disk uint32, found func(volume.Finding), report func(server.Progress)) (volume.Report, error)
	Seal(ctx context.Context, v volume.ID, report func(server.Progress)) error
	Compact(ctx context.Context, v volume.ID, report func(server.Progress)) (volume.SealRecord, error)
	Throttle(ctx context.Context, disk uint32, n int64) error
}

var _ Blobs = (*server.Server)(nil)

// LocalOptions configure a Local. Blobs must be given.
type LocalOptions struct {
	Blobs    Blobs
	FS       vfs.FS                // nil: the machine's
	Replicas func(v volume.ID) int // how many the directory names; nil: not known
}

// Local are the volumes of a blob server in this process.
type Local struct{ o LocalOptions }

var _ Keeper = (*Local)(nil)

// NewLocal returns a Keeper of the volumes of o.Blobs.
func NewLocal(o LocalOptions) *Local {
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	return &Local{o}
}

// replicas returns the local replicas of a volume, or of all with 0.
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

// List implements Source.
func (l *Local) List(ctx context.Context) ([]Row, error) {
	all, err := l.replicas(0)
	if err != nil {
		return nil, err
	}
	rows, files := []Row{}, listing{fs: l.o.FS}
	for _, i := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rows = append(rows, l.look(i, &files).Row)
	}
	return rows, nil
}

// Show implements Source.
func (l *Local) Show(_ context.Context, v volume.ID) ([]Detail, error) {
	all, err := l.replicas(v)
	if err != nil {
		return nil, err
	}
	details, files := []Detail{}, listing{fs: l.o.FS}
	for _, i := range all {
		details = append(details, l.look(i, &files))
	}
	return details, nil
}

// look describes a volume in service, or one that cannot be.
func (l *Local) look(i server.VolumeInfo, files *listing) Detail {
	none, noEpoch := 0, int64(0)
	d := Detail{Row: Row{ID: i.Volume, Data: place(i), Work: i.Work, Epoch: &noEpoch, Shards: &none}, Events: []string{}}
	if l.o.Replicas != nil {
		n := l.o.Replicas(i.Volume)
		d.Replicas = &n
	}
	if i.Retry != nil {
		d.Retry = OneLine(i.Retry)
	}
	entries, err := files.of(i)
	for _, e := range entries {
		d.SizeBytes += e.Bytes
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
	d.File = l.path(i, *d.Generation)
	return d
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

// place is where a replica is: the data directory, or a disk that is in none.
func place(i server.VolumeInfo) string {
	if i.Dir == "" {
		return "disk " + i.UUID
	}
	return i.Dir
}

func (l *Local) path(i server.VolumeInfo, generation uint32) string {
	return filepath.Join(i.Dir, volumesDirName, volume.FileName(i.Volume, generation))
}

// Dump implements Source: the generation that serves, up to what is synced; of a
// volume that cannot be opened, every file.
func (l *Local) Dump(ctx context.Context, v volume.ID, q Query, s DumpSink) error {
	all, err := l.replicas(v)
	if err != nil {
		return err
	}
	for _, i := range all {
		if i.Sick == nil {
			err = l.o.Blobs.Use(v, i.Disk, func(vol *volume.Volume) error {
				return dumpPath(ctx, l.o.FS, l.path(i, vol.Identity().Generation), vol.Stats().FileBytes, l.slowly(i), q, s)
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
		if err := dumpPath(ctx, l.o.FS, l.path(i, e.Generation), 0, l.slowly(i), q, s); err != nil {
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
	rows := []Verified{}
	for _, i := range all {
		row := Verified{ID: v, Data: place(i), Findings: []Finding{}, Notes: []string{}}
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
	all, err := l.replicas(v)
	if err != nil {
		return err
	}
	for _, i := range all {
		if i.Sick != nil {
			err = s.Damaged(unexported(i.Volume, place(i), i.Sick))
		} else {
			err = l.o.Blobs.Use(v, i.Disk, func(vol *volume.Volume) error { return export(ctx, vol, i.Dir, l.slowly(i), s) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Seal implements Keeper.
func (l *Local) Seal(ctx context.Context, v volume.ID, report func(Progress)) error {
	if _, err := l.replicas(v); err != nil {
		return err
	}
	return l.o.Blobs.Seal(ctx, v, l.progress(report))
}

// Compact implements Keeper.
func (l *Local) Compact(ctx context.Context, v volume.ID, report func(Progress)) (Compacted, error) {
	before, err := l.replicas(v)
	if err != nil {
		return Compacted{}, err
	}
	r, err := l.o.Blobs.Compact(ctx, v, l.progress(report))
	if err != nil {
		return Compacted{}, err
	}
	c := Compacted{Needles: r.Needles, Before: before[0].Stats.FileBytes, After: r.End}
	after, err := l.replicas(v)
	if err != nil {
		return Compacted{}, err
	}
	c.Generation = after[0].Generation
	return c, nil
}

func (l *Local) progress(report func(Progress)) func(server.Progress) {
	return func(p server.Progress) { report(Progress{p.Volume, p.Step, p.Done, p.Total}) }
}
