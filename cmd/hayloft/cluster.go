package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hayloft/directory"
	"hayloft/internal/clock"
	"hayloft/internal/vfs"
	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

// rebuildingName is a file in every data directory that is there while a
// directory is made from the disks: what a crash left of it is not whole.
const rebuildingName = "directory-rebuilding"

func newCluster() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Look at nodes and disks, move what they hold, and mend what the servers share",
		Args:  wantArgs(0, 0, "one of its commands"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newClusterStatus(), newClusterNodes(), newClusterWork(), newClusterVoters(), newClusterDrain(), newClusterDecommission(),
		newClusterBalance(), newClusterRepair(), newClusterKeys(), newRebuildDirectory())
	return cmd
}

func newRebuildDirectory() *cobra.Command {
	r := &rebuild{}
	cmd := &cobra.Command{
		Use:   "rebuild-directory --data DIR[,DIR...]",
		Short: "Make a new directory of volumes from what the disks say",
		Long: `For when every copy of raft/directory is lost and the disks with the photos are
there. Superblocks of volumes and heads of shards say which volumes there are, where
they lie, and which ids they hold. Name all data directories of the server, that of
the metadata first, and do not start the server before: it would begin a new
directory that knows nothing.

Without --apply it prints what the directory would say. What cannot be taken in is
named; --apply wants --partial then. The feed (accounts, posts, likes) is not made
again: it is in raft/feed, or lost. Keys that sign links are new.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&r.f.data, "data", nil, "all data directories of the server, that of the metadata first")
	flags.StringVar(&r.f.config, "config", "", "TOML file of the server")
	flags.BoolVar(&r.apply, "apply", false, "make the directory")
	flags.BoolVar(&r.partial, "partial", false, "make it without the volumes that cannot be taken in")
	flags.BoolVar(&r.asJSON, "json", false, "print the plan as JSON")
	return cmd
}

// rebuild is one run of rebuild-directory.
type rebuild struct {
	f                      volumeFlags
	apply, partial, asJSON bool
}

func (r *rebuild) run(cmd *cobra.Command) error {
	if len(r.f.data) == 0 {
		return usagef("name all data directories of the server: --data DIR[,DIR...]")
	}
	dirs, err := r.f.dirs()
	if err != nil {
		return err
	}
	s, err := r.f.settings()
	if err != nil {
		return err
	}
	if err := nothingLeft(dirs); err != nil {
		return err
	}
	from, err := tools.OpenRescue(dirs, tools.RescueOptions{})
	if err != nil {
		return err
	}
	if err := from.Claim(); err != nil {
		return errors.Join(err, from.Close())
	}
	return errors.Join(r.work(cmd, s, from), from.Close())
}

// work surveys the disks, and makes the directory.
func (r *rebuild) work(cmd *cobra.Command, s *settings, from *tools.Rescue) error {
	p := startProgress(cmd, func() string {
		now, done, total := from.Progress()
		return fmt.Sprintf("%d of %d volumes, volume %d", done, total, now)
	})
	survey, err := from.SurveyDisks(cmd.Context())
	p.end()
	if err != nil {
		return err
	}
	if r.asJSON {
		err = printJSON(cmd.OutOrStdout(), survey)
	} else {
		err = tellSurvey(cmd.OutOrStdout(), survey)
	}
	for _, l := range survey.Left {
		fmt.Fprintf(cmd.ErrOrStderr(), "volume %d is not taken in: %s\n", l.ID, l.Why)
	}
	if err != nil {
		return err
	}
	if len(survey.Left) > 0 && !(r.apply && r.partial) {
		return fmt.Errorf("%d volumes cannot be taken in: mend that, or make the directory without them by --apply --partial", len(survey.Left))
	}
	if err := numbersTaken(survey); err != nil {
		return err
	}
	if !r.apply {
		fmt.Fprintln(cmd.ErrOrStderr(), "hayloft: nothing was changed: --apply does it")
		return nil
	}
	n := &node{s: s, log: warnings(cmd.ErrOrStderr()), clock: clock.Real{}, metrics: newMetrics(), onRequest: true, rebuilding: true}
	n.work, n.stopWork = context.WithCancel(context.WithoutCancel(cmd.Context()))
	if err := errors.Join(n.rebuildDirectory(cmd.Context(), survey), n.stop()); err != nil {
		return err
	}
	// Only a directory that was closed without an error is whole.
	disk := vfs.OS{}
	for _, dir := range s.data {
		if err := errors.Join(disk.Remove(filepath.Join(dir, rebuildingName)), disk.SyncDir(dir)); err != nil {
			return err
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "the directory has %d volumes on %d disks: start the server\n", len(survey.Volumes), len(survey.Disks))
	return nil
}

// groupLog is the file of a group without which there is none.
const groupLog = "raft.db"

// nothingLeft refuses directories that a server can still be started from, and such
// as have a feed without its node's name.
func nothingLeft(dirs []string) error {
	going := wholeDirectory(dirs) != nil // a rebuild that was cut short goes on
	feed, name := "", false
	for _, d := range dirs {
		group := filepath.Join(append([]string{d}, directoryGroup...)...)
		switch _, err := os.Stat(filepath.Join(group, groupLog)); {
		case err == nil && !going:
			return fmt.Errorf("there is still a directory in %s: start the server, or, if it cannot be, move that away and keep it", group)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if _, err := os.Stat(filepath.Join(append(append([]string{d}, feedGroup...), groupLog)...)); err == nil {
			feed = d
		}
		if _, err := os.Stat(filepath.Join(d, nodeFile)); err == nil {
			name = true
		}
	}
	if feed != "" && !name {
		return fmt.Errorf("%s has a feed, and no directory has the file %q: restore that first", feed, nodeFile)
	}
	return nil
}

// setAside renames what is left of a lost directory, such as the record of where it
// was, so that a new one can begin.
func setAside(dirs []string, now time.Time) error {
	disk := vfs.OS{}
	for _, d := range dirs {
		group := filepath.Join(append([]string{d}, directoryGroup...)...)
		if _, err := disk.Stat(group); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		aside := fmt.Sprintf("%s.lost-%s", group, now.UTC().Format("20060102-150405"))
		if err := errors.Join(disk.Rename(group, aside), disk.SyncDir(filepath.Dir(group))); err != nil {
			return err
		}
	}
	return nil
}

// wholeDirectory refuses a directory that was not made to its end.
func wholeDirectory(dirs []string) error {
	for _, dir := range dirs {
		_, err := os.Stat(filepath.Join(dir, rebuildingName))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		return fmt.Errorf("the directory in %s was not made to its end: run hayloft cluster rebuild-directory --apply again", dir)
	}
	return nil
}

// numbersTaken refuses to leave out a volume whose number would be given out again.
func numbersTaken(s *tools.Survey) error {
	for _, l := range s.Left {
		if n := len(s.Volumes); n == 0 || l.ID > s.Volumes[n-1].ID {
			return fmt.Errorf("volume %d is not taken in and has the highest number, which a new volume would be given: move its files out of the data directories and keep them", l.ID)
		}
	}
	return nil
}

// tellSurvey prints the plan.
func tellSurvey(w io.Writer, s *tools.Survey) error {
	for i, d := range s.Disks {
		if _, err := fmt.Fprintf(w, "disk %d in %s: %x\n", i+1, d.Data, d.UUID); err != nil {
			return err
		}
	}
	for _, v := range s.Volumes {
		text := fmt.Sprintf("volume %d: %v, ", v.ID, v.Class)
		switch {
		case v.Seal == nil:
			text += "closing"
		case v.Released():
			text += "coded"
		default:
			text += "sealed"
		}
		text += fmt.Sprintf(", generation %d, slot %d from %s to %s", v.Generation, v.Slot, idTime(v.From), idTime(v.To))
		for i, d := range v.Disks {
			text += fmt.Sprintf("%s%d", []string{", disk ", " and "}[min(i, 1)], d+1)
			if !slices.Contains(v.InSync, d) {
				text += " (to be filled)"
			}
		}
		if e := v.Epoch; e != nil {
			text += fmt.Sprintf(", epoch %d (%s)", e.Epoch, e.Policy)
		}
		for _, note := range v.Notes {
			text += "; " + note
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}

func idTime(t interface{ Time() time.Time }) string {
	return t.Time().UTC().Format("2006-01-02T15:04:05.000Z")
}

// leaseMargin is how far past everything on the disks an id may have been minted: to
// the end of a lease.
const leaseMargin = directory.DefaultLease
