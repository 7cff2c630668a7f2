package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

// quarantineName is the folder of a data directory that foreign files are moved to.
const quarantineName = "quarantine"

// readDisk reads disk.id, looks for volumes without a file, and at every name in the
// folders that are Hayloft's.
func (x *scrubbing) readDisk(ctx context.Context) error {
	d := x.s.d
	if err := x.readIdentity(ctx); err != nil {
		return err
	}
	for _, row := range d.s.o.Directory.Rows(d.number) {
		v := row.Volume.Volume
		if row.empty() || row.coded() || d.s.handle(d.number, v) != nil {
			continue
		}
		now, ok := d.s.o.Directory.Row(v)
		if !ok || now.empty() || now.coded() || d.s.handle(d.number, v) != nil {
			continue
		}
		x.hopeless(ScrubFinding{Kind: ScrubMissing, Volume: v, File: filepath.Join(volumesName, volume.FileName(v, row.Volume.Generation)), Err: ErrMissing}, errNoCopy)
	}
	before := x.s.leftover
	x.s.leftover = make(map[string]vfs.FileID)
	if err := x.readNames(ctx, volumesName, volumeNames, before); err != nil {
		return err
	}
	if err := x.readNames(ctx, shardsName, nil, before); err != nil && !missing(err) {
		return err
	}
	epochs, err := d.epochs()
	for v, all := range epochs {
		for _, epoch := range all {
			if err := x.readNames(ctx, filepath.Join(shardsName, epochName(v, epoch)), shardNames, before); err != nil && !missing(err) {
				return err
			}
		}
	}
	return err
}

// readIdentity compares disk.id with what was read at the start. It is not written
// again: who finds it damaged takes the disk out.
func (x *scrubbing) readIdentity(ctx context.Context) error {
	d := x.s.d
	b, err := readPast(d.fs, filepath.Join(d.dir, identityName))
	f := ScrubFinding{Kind: ScrubIdentity, File: identityName, Err: err}
	switch {
	case missing(err):
		f.Kind = ScrubMissing
	case err == nil && string(b) != string(d.ident.encode()):
		f.Err = fmt.Errorf("%w: it is not what this process read at its start", volume.ErrCorrupt)
	case err == nil:
		return x.throttle(ctx, int64(len(b)))
	}
	x.hopeless(f, errLeftAlone)
	return nil
}

// The names that this program gives, but for unfinished files.
var (
	volumeNames = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{8}(\.(vol|ckpt|idx|poisoned)|\.q[0-9a-f]{4}\.(vol|poisoned))$|^[0-9a-f]{8}\.deletes(\.poisoned)?$`)
	shardNames  = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{8}){2}-[0-9a-f]{2}\.shard$|^[0-9a-f]{8}\.deletes(\.poisoned)?$`)
	epochNames  = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{8}$`)
)

// anyVersion are names that a program of another version may have given: all of them
// begin with the number of a volume.
var anyVersion = regexp.MustCompile(`^[0-9a-f]{8}([-.]|$)`)

const unfinished = ".tmp"

// readNames looks at the names in a folder. ours are those that belong there; nil: those
// of epochs.
func (x *scrubbing) readNames(ctx context.Context, folder string, ours *regexp.Regexp, before map[string]vfs.FileID) error {
	d := x.s.d
	names, err := d.fs.ReadDir(filepath.Join(d.dir, folder))
	if err != nil {
		return err
	}
	if ours == nil {
		ours = epochNames
	}
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		base, part := strings.CutSuffix(n, unfinished)
		file := filepath.Join(folder, n)
		switch {
		case !ours.MatchString(base):
			x.stranger(folder, n)
		case part:
			x.unfinished(file, before)
		}
	}
	return nil
}

// unfinished tells of a file that was there, the same, at the last look: nobody is at
// work on it. Who makes it again replaces it.
func (x *scrubbing) unfinished(file string, before map[string]vfs.FileID) {
	d := x.s.d
	st, err := d.fs.Stat(filepath.Join(d.dir, file))
	if err != nil || st.Dir {
		return
	}
	x.s.leftover[file] = st.ID
	if id, ok := before[file]; ok && id == st.ID {
		x.found(ScrubFinding{Kind: ScrubLeftover, File: file, Err: fmt.Errorf("an unfinished file of %d bytes that nobody goes on with", st.Size)})
	}
}

// stranger moves a file to the quarantine that is certainly nobody's of Hayloft. What
// a program of another version may want stays, and folders do, which may be anything.
func (x *scrubbing) stranger(folder, name string) {
	d := x.s.d
	file := filepath.Join(folder, name)
	st, err := d.fs.Stat(filepath.Join(d.dir, file))
	switch {
	case missing(err), name == "lost+found":
		return // removed meanwhile, a link that leads nowhere, or every ext4's own
	case err != nil:
	case st.Dir:
		err = errors.New("a folder")
	case anyVersion.MatchString(name), strings.HasPrefix(name, "."):
		err = errors.New("it may be a newer program's, or a copy under way")
	default:
		err = d.mayBeOurs(file)
	}
	if err == nil {
		err = d.readOnlyNow()
	}
	if err == nil {
		var to string
		if to, err = d.quarantine(file, name); err == nil {
			x.found(ScrubFinding{Kind: ScrubForeign, File: file, Length: st.Size, Err: fmt.Errorf("it is not Hayloft's, and is %s now", to)})
			return
		}
	}
	x.found(ScrubFinding{Kind: ScrubUnknown, File: file, Err: fmt.Errorf("it is left alone: %w", err)})
}

func (d *disk) readOnlyNow() error {
	if why := d.readOnly.Load(); why != nil {
		return *why
	}
	return nil
}

// ourMagics begin every file of Hayloft, of any version.
var ourMagics = []string{"HAY", "hayloft "}

// mayBeOurs returns why a file may be one of ours under another name, or nil.
func (d *disk) mayBeOurs(file string) error {
	f, err := d.fs.Open(filepath.Join(d.dir, file))
	if err != nil {
		return err
	}
	b := make([]byte, 16)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	for _, m := range ourMagics {
		if strings.HasPrefix(string(b[:n]), m) {
			err = errors.Join(err, errors.New("it begins as files of Hayloft do"))
		}
	}
	return errors.Join(err, f.Close())
}

// quarantine moves a file, and returns where it is now, below the data directory.
func (d *disk) quarantine(file, name string) (to string, err error) {
	if err := d.fs.MkdirAll(filepath.Join(d.dir, quarantineName)); err != nil {
		return "", err
	}
	stamp := d.s.o.Clock.Now().UTC().Format("20060102T150405Z")
	for n := 1; ; n++ {
		to = filepath.Join(quarantineName, stamp+"-"+name)
		if n > 1 {
			to = filepath.Join(quarantineName, fmt.Sprintf("%s.%d-%s", stamp, n, name))
		}
		if _, err = d.fs.Stat(filepath.Join(d.dir, to)); missing(err) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	from := filepath.Join(d.dir, file)
	if err := d.fs.Rename(from, filepath.Join(d.dir, to)); err != nil {
		return "", err
	}
	return to, errors.Join(d.fs.SyncDir(filepath.Join(d.dir, quarantineName)), d.fs.SyncDir(filepath.Dir(from)))
}
