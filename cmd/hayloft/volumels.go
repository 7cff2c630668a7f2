package main

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"

	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

func newVolumeLs(f *volumeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List volumes",
		Args:  wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.open(cmd, false)
			if err != nil {
				return err
			}
			return o.close(f, listVolumes(cmd, o, asJSON))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	return cmd
}

func listVolumes(cmd *cobra.Command, o *opened, asJSON bool) error {
	rows, err := o.List(cmd.Context())
	if err != nil {
		return err
	}
	if asJSON {
		err = printJSON(cmd.OutOrStdout(), rows)
	} else {
		err = printRows(cmd.OutOrStdout(), cmd.ErrOrStderr(), rows)
	}
	bad := 0
	for _, r := range rows {
		if !r.Readable() {
			bad++
		}
	}
	if err == nil && bad > 0 {
		err = fmt.Errorf("%d of %d volumes cannot be opened", bad, len(rows))
	}
	return err
}

func newVolumeShow(f *volumeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show VOLUME",
		Short: "Print what there is to know of a volume",
		Args:  wantArgs(1, 1, "the number of one volume"),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := parseVolume(args[0])
			if err != nil {
				return err
			}
			o, err := f.open(cmd, false)
			if err != nil {
				return err
			}
			details, err := o.Show(cmd.Context(), v)
			switch {
			case err != nil:
			case asJSON:
				err = printJSON(cmd.OutOrStdout(), details)
			default:
				err = showVolumes(cmd.OutOrStdout(), details)
			}
			for _, d := range details {
				if err == nil && !d.Readable() {
					err = fmt.Errorf("volume %d in %s: %s", d.ID, d.Place(), d.Error)
				}
			}
			return o.close(f, err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON: one object for each data directory that has the volume")
	return cmd
}

// orUnknown writes what is not known as a dash.
func orUnknown[T any](p *T, show func(T) string) string {
	if p == nil {
		return "-"
	}
	return show(*p)
}

func plain[T any](v T) string { return fmt.Sprint(v) }

func printRows(out, notes io.Writer, rows []tools.Row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "volume\tgen\tclass\tstate\treplicas\tneedles\tlive\tfile\tdeleted\tdamaged\t  data")
	for _, r := range rows {
		state := r.State
		if r.Work != "" {
			state += "," + r.Work
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t  %s\n", r.ID, orUnknown(r.Generation, plain), orUnknown(r.Class, plain), state,
			orUnknown(r.Replicas, plain), orUnknown(r.Needles, plain), orUnknown(r.LiveBytes, roughly), orUnknown(r.FileBytes, roughly),
			orUnknown(r.Deleted, plain), orUnknown(r.Rot, plain), r.Place())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if !r.Readable() {
			fmt.Fprintf(notes, "volume %d in %s: %s\n", r.ID, r.Place(), r.Error)
		}
		if r.Retry != "" {
			fmt.Fprintf(notes, "hayloft: note: volume %d in %s: to be tried again: %s\n", r.ID, r.Place(), r.Retry)
		}
	}
	return nil
}

func showVolumes(w io.Writer, all []tools.Detail) error {
	for i, d := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		garbage := "-"
		if d.FileBytes != nil {
			garbage = roughly(d.Garbage())
		}
		for _, l := range [][2]string{
			{"volume", plain(d.ID)}, {"generation", orUnknown(d.Generation, plain)}, {"class", orUnknown(d.Class, plain)}, {"state", d.State},
			{"data", d.Data}, {"file", cmp.Or(d.File, "-")}, {"needles", orUnknown(d.Needles, plain)}, {"live", orUnknown(d.LiveBytes, roughly)},
			{"file bytes", orUnknown(d.FileBytes, plain)}, {"size", plain(d.SizeBytes)}, {"garbage", garbage},
			{"deleted keys", orUnknown(d.Deleted, plain)}, {"damaged", orUnknown(d.Rot, plain)}, {"void bytes", orUnknown(d.VoidBytes, plain)},
			{"replicas", orUnknown(d.Replicas, plain)}, {"epoch", orUnknown(d.Epoch, plain)}, {"shards", orUnknown(d.Shards, plain)},
		} {
			if _, err := fmt.Fprintf(w, "%-13s %s\n", l[0], l[1]); err != nil {
				return err
			}
		}
		if d.Work != "" {
			fmt.Fprintf(w, "%-13s %s\n", "work", d.Work)
		}
		if d.Retry != "" {
			fmt.Fprintf(w, "%-13s %s\n", "tried again", d.Retry)
		}
		if err := showSeal(w, d.Seal); err != nil {
			return err
		}
		showShards(w, d.Coding)
		for _, e := range d.Events {
			fmt.Fprintf(w, "%-13s %s\n", "event", e)
		}
	}
	return nil
}

// showShards prints how a volume is coded, and every shard.
func showShards(w io.Writer, c *tools.Coded) {
	if c == nil {
		return
	}
	fmt.Fprintf(w, "%-13s %s, %s, survives the loss of any %s%s\n", "coding", c.Policy, c.Health, disks(c.Survives), working(c.Work))
	for _, s := range c.Shards {
		fmt.Fprintf(w, "%-13s %v\n", "shard", &s)
	}
}

func showSeal(w io.Writer, s *tools.Seal) error {
	if s == nil {
		return nil
	}
	const when = "2006-01-02T15:04:05.000Z"
	_, err := fmt.Fprintf(w, "%-13s %s, %d needles, digest %s\n%-13s slot %d, %s to %s\n%-13s %d applied, compacted from generation %d\n",
		"sealed", s.Sealed.UTC().Format(when), s.Needles, s.Digest, "tile", s.Slot, s.From.UTC().Format(when), s.To.UTC().Format(when),
		"deletes", s.Deletes, s.Source)
	return err
}
