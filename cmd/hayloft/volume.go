package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hayloft/internal/units"
	"hayloft/internal/vfs"
	"hayloft/internal/vfs/overlay"
	"hayloft/volume"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// volumesDirName and diskIDName are the names in a data directory; see
// docs/data-directory.md.
const (
	volumesDirName = "volumes"
	diskIDName     = "disk.id"
)

func newVolume() *cobra.Command {
	var f volumeFlags
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "Look into volume files: list, dump, verify, export",
		Long: `These commands work offline, on the files of the data directories that --data
names, and never change them. ls, show and dump take no lock: beside a running
server they show a snapshot. verify and export want the directory for
themselves and refuse it while a server uses it.`,
		Args: wantArgs(0, 0, "one of its commands"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringSliceVar(&f.data, "data", nil, "data directories with the files, one for each disk")
	cmd.AddCommand(newVolumeLs(&f), newVolumeShow(&f), newVolumeDump(&f), newVolumeVerify(&f), newVolumeExport(&f))
	return cmd
}

type volumeFlags struct{ data []string }

// offlineVolume is one volume in one data directory.
type offlineVolume struct {
	data    string // data directory
	id      volume.ID
	entries []volume.Entry // its files, by generation
}

func (o *offlineVolume) dir() string { return filepath.Join(o.data, volumesDirName) }

// path returns the file of a generation.
func (o *offlineVolume) path(generation uint32) string {
	return filepath.Join(o.dir(), volume.FileName(o.id, generation))
}

// newest returns the file of the highest generation.
func (o *offlineVolume) newest() string {
	return filepath.Join(o.dir(), o.entries[len(o.entries)-1].Name)
}

// marked reports whether a failed write or sync left its marker.
func (o *offlineVolume) marked() bool {
	_, err := os.Stat(strings.TrimSuffix(o.newest(), ".vol") + ".poisoned")
	return err == nil
}

// dirs checks the data directories.
func (f *volumeFlags) dirs() ([]string, error) {
	if len(f.data) == 0 || slices.Contains(f.data, "") {
		return nil, usagef("name the data directories: --data DIR[,DIR…]")
	}
	var out []string
	for _, d := range f.data {
		d = filepath.Clean(d)
		if slices.Contains(out, d) {
			return nil, usagef("--data names %s twice", d)
		}
		st, err := os.Stat(d)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no directory %s", d)
		}
		if err != nil {
			return nil, err
		}
		if !st.IsDir() {
			return nil, fmt.Errorf("%s is not a directory", d)
		}
		if _, err := os.Stat(filepath.Join(d, volumesDirName)); errors.Is(err, fs.ErrNotExist) {
			hint := ""
			if here, err := volume.List(nil, d); err == nil && len(here) > 0 {
				hint = fmt.Sprintf("; it holds volumes itself: name the directory above it, %s", filepath.Dir(d))
			}
			return nil, fmt.Errorf("%s is not a data directory: it has no directory %q%s", d, volumesDirName, hint)
		} else if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// volumes returns the volumes that args name, or all when there are none.
func (f *volumeFlags) volumes(args []string) ([]*offlineVolume, error) {
	wanted := map[volume.ID]bool{}
	for _, a := range args {
		id, err := parseVolume(a)
		if err != nil {
			return nil, err
		}
		wanted[id] = false
	}
	dirs, err := f.dirs()
	if err != nil {
		return nil, err
	}
	var out []*offlineVolume
	for _, d := range dirs {
		entries, err := volume.List(nil, filepath.Join(d, volumesDirName))
		if err != nil {
			return nil, err
		}
		var last *offlineVolume
		for _, e := range entries {
			if _, ok := wanted[e.Volume]; len(args) > 0 && !ok {
				continue
			}
			wanted[e.Volume] = true
			if last == nil || last.id != e.Volume {
				last = &offlineVolume{data: d, id: e.Volume}
				out = append(out, last)
			}
			last.entries = append(last.entries, e)
		}
	}
	for id, found := range wanted {
		if !found {
			return nil, fmt.Errorf("there is no volume %d in %s", id, strings.Join(dirs, ", "))
		}
	}
	slices.SortStableFunc(out, func(a, b *offlineVolume) int { return cmp.Compare(a.id, b.id) })
	return out, nil
}

func parseVolume(s string) (volume.ID, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, usagef("%q is not the number of a volume", s)
	}
	return volume.ID(n), nil
}

// claimOffline keeps servers away from the directories of the volumes until
// the overlay is closed, and fails when one is there.
func claimOffline(o *overlay.FS, all []*offlineVolume) error {
	var done []string
	for _, v := range all {
		if slices.Contains(done, v.data) {
			continue
		}
		done = append(done, v.data)
		err := o.Lock(filepath.Join(v.data, diskIDName))
		if errors.Is(err, vfs.ErrLocked) {
			return fmt.Errorf("%s is in use by a running server: stop it first", v.data)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // bare volumes will do
			return err
		}
	}
	return nil
}

// opened is a volume that was opened over an overlay: the engine recovers it in
// memory, as the next start of the server would on the disk.
type opened struct {
	*volume.Volume
	fs     *overlay.FS
	events []volume.Event
}

func openOffline(o *offlineVolume, share bool) (*opened, error) {
	v := &opened{fs: &overlay.FS{Share: share}}
	var err error
	v.Volume, err = volume.Open(o.dir(), o.id, volume.Options{FS: v.fs, Events: func(e volume.Event) { v.events = append(v.events, e) }})
	if errors.Is(err, vfs.ErrLocked) {
		err = fmt.Errorf("volume %d in %s is in use by a running server: stop it first", o.id, o.data)
	}
	if err != nil {
		return nil, errors.Join(err, v.fs.Close())
	}
	return v, nil
}

func (v *opened) close() error { return errors.Join(v.Close(), v.fs.Close()) }

// openFailed names what keeps a volume from being opened.
func openFailed(err error) string {
	switch {
	case errors.Is(err, volume.ErrUnsupported):
		return "unsupported"
	case errors.Is(err, volume.ErrCorrupt):
		return "corrupt"
	}
	return "unreadable"
}

// usedDirs tells which data directories are in use, from the kernel's table
// of locks: trying a lock could keep a server from starting.
func usedDirs(dirs []string) []string {
	held := map[string]bool{}
	table, err := os.Open("/proc/locks")
	if err != nil {
		return nil // then nobody knows
	}
	defer table.Close()
	for lines := bufio.NewScanner(table); lines.Scan(); {
		if w := strings.Fields(lines.Text()); len(w) >= 6 && w[1] == "FLOCK" && w[3] == "WRITE" {
			held[w[5]] = true
		}
	}
	var out []string
	for _, d := range dirs {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(d, diskIDName), &st); err != nil {
			continue
		}
		if held[fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)] {
			out = append(out, d)
		}
	}
	return out
}

// warnUsed says on standard error that figures may change while they are read.
func (f *volumeFlags) warnUsed(cmd *cobra.Command) {
	for _, d := range usedDirs(f.data) {
		fmt.Fprintf(cmd.ErrOrStderr(), "hayloft: note: %s is in use by a running server; this is a snapshot taken without a lock\n", d)
	}
}

// progress tells on standard error how far long work is: a line that is
// written over on a terminal, a line every ten seconds elsewhere.
type progress struct {
	stop chan struct{}
	done chan struct{}
}

func startProgress(cmd *cobra.Command, tell func() string) *progress {
	p := &progress{stop: make(chan struct{}), done: make(chan struct{})}
	out := cmd.ErrOrStderr()
	every, form := 10*time.Second, "hayloft: %s\n"
	file, ok := out.(*os.File)
	st, err := fileMode(file, ok)
	terminal := err == nil && st&os.ModeCharDevice != 0
	if terminal {
		every, form = time.Second/5, "\r\x1b[K%s"
	}
	go func() {
		defer close(p.done)
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-p.stop:
				if terminal {
					fmt.Fprint(out, "\r\x1b[K")
				}
				return
			case <-t.C:
				fmt.Fprintf(out, form, tell())
			}
		}
	}()
	return p
}

func fileMode(f *os.File, ok bool) (os.FileMode, error) {
	if !ok {
		return 0, fs.ErrInvalid
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Mode(), nil
}

func (p *progress) end() {
	close(p.stop)
	<-p.done
}

// roughly writes a size for people.
func roughly(n int64) string {
	f := float64(n)
	for _, u := range []string{"B", "KiB", "MiB", "GiB"} {
		if f < 1024 {
			if u == "B" {
				return units.Size(n).String()
			}
			return fmt.Sprintf("%.1f%s", f, u)
		}
		f /= 1024
	}
	return fmt.Sprintf("%.1fTiB", f)
}
