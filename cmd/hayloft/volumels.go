package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"

	"github.com/spf13/cobra"
)

// volumeRow is one volume of a listing. What the files alone cannot say is nil.
type volumeRow struct {
	ID         volume.ID `json:"id"`
	Class      *string   `json:"class"`
	State      string    `json:"state"` // open, fenced, sealed, poisoned, or why it cannot be opened: corrupt, unsupported, unreadable
	Replicas   *int      `json:"replicas"`
	Needles    *int64    `json:"needles"`
	LiveBytes  *int64    `json:"live_bytes"`
	FileBytes  *int64    `json:"file_bytes"` // up to the end of the last record
	Epoch      *int64    `json:"epoch"`
	Shards     *int      `json:"shards"`
	Generation *uint32   `json:"generation"`
	SizeBytes  int64     `json:"size_bytes"` // of its files, preallocated space included
	Deleted    *int64    `json:"deleted_keys"`
	Rot        *int      `json:"damaged_parts"`
	VoidBytes  *int64    `json:"void_bytes"` // what the next opening would drop as never acknowledged
	Data       string    `json:"data"`
	Error      string    `json:"error,omitempty"`
}

// volumeDetail is what show tells besides.
type volumeDetail struct {
	volumeRow
	File   string   `json:"file,omitempty"`
	Seal   *sealRow `json:"seal"`   // of a sealed volume
	Events []string `json:"events"` // what opening reports
}

// sealRow is what the superblock of a sealed volume says.
type sealRow struct {
	Slot    id.Slot   `json:"slot"` // of its tile
	From    time.Time `json:"from"` // first and last id time of its tile
	To      time.Time `json:"to"`
	Sealed  time.Time `json:"sealed"`
	Needles int64     `json:"needles"` // when it was sealed
	Digest  string    `json:"digest"`  // of the set of them
	Deletes uint32    `json:"deletes"` // number in the delete log up to which they are applied
	Source  uint32    `json:"source"`  // generation it was compacted from, or 0
}

func sealOf(r volume.SealRecord) *sealRow {
	return &sealRow{r.Slot, r.From.Time(), r.To.Time(), r.Sealed, r.Needles, fmt.Sprintf("%x", r.Digest[:]), r.Deletes, r.Source}
}

func newVolumeLs(f *volumeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List volumes",
		Args:  wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := f.volumes(nil)
			if err != nil {
				return err
			}
			f.warnUsed(cmd)
			rows, bad := []volumeRow{}, 0
			for _, o := range all {
				if err := cmd.Context().Err(); err != nil {
					return err
				}
				d := look(o)
				if d.Error != "" {
					bad++
				}
				rows = append(rows, d.volumeRow)
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), rows)
			} else {
				err = listVolumes(cmd.OutOrStdout(), cmd.ErrOrStderr(), rows)
			}
			if err == nil && bad > 0 {
				err = fmt.Errorf("%d of %d volumes cannot be opened", bad, len(rows))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	return cmd
}

func newVolumeShow(f *volumeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show VOLUME",
		Short: "Print what there is to know of a volume",
		Args:  wantArgs(1, 1, "the number of one volume"),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := f.volumes(args)
			if err != nil {
				return err
			}
			f.warnUsed(cmd)
			details := []volumeDetail{}
			for _, o := range all {
				details = append(details, look(o))
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), details)
			} else {
				err = showVolumes(cmd.OutOrStdout(), details)
			}
			for _, d := range details {
				if err == nil && d.Error != "" {
					err = fmt.Errorf("volume %d in %s: %s", d.ID, d.Data, d.Error)
				}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON: one object for each data directory that has the volume")
	return cmd
}

// look opens a volume in memory, without a lock, and describes it.
func look(o *offlineVolume) volumeDetail {
	d := volumeDetail{volumeRow: volumeRow{ID: o.id, Data: o.data}, Events: []string{}}
	for _, e := range o.entries {
		d.SizeBytes += e.Bytes
	}
	v, err := openOffline(o, false)
	if err != nil {
		d.State, d.Error = openFailed(err), oneLine(err)
		return d
	}
	s := v.Stats()
	class := s.Class.String()
	d.Class, d.Generation = &class, &s.Generation
	d.Needles, d.LiveBytes, d.FileBytes = &s.Needles, &s.LiveBytes, &s.FileBytes
	d.Deleted, d.Rot, d.VoidBytes = &s.Tombstones, &s.Rot, &s.VoidBytes
	d.File = o.path(s.Generation)
	d.State = "open"
	record, sealed := v.Sealed()
	switch {
	case s.Poisoned != nil:
		d.State = "poisoned"
	case sealed:
		d.State, d.Seal = "sealed", sealOf(record)
	case v.Fenced():
		d.State = "fenced"
	}
	for _, e := range v.events {
		d.Events = append(d.Events, eventText(e))
	}
	if err := v.close(); err != nil {
		d.Error = oneLine(err)
	}
	return d
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
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// orUnknown writes what the files do not say as a dash.
func orUnknown[T any](p *T, show func(T) string) string {
	if p == nil {
		return "-"
	}
	return show(*p)
}

func plain[T any](v T) string { return fmt.Sprint(v) }

func listVolumes(out, notes io.Writer, rows []volumeRow) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "volume\tgen\tclass\tstate\treplicas\tneedles\tlive\tfile\tdeleted\tdamaged\t  data")
	for _, r := range rows {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t  %s\n", r.ID, orUnknown(r.Generation, plain), orUnknown(r.Class, plain), r.State,
			orUnknown(r.Replicas, plain), orUnknown(r.Needles, plain), orUnknown(r.LiveBytes, roughly), orUnknown(r.FileBytes, roughly),
			orUnknown(r.Deleted, plain), orUnknown(r.Rot, plain), r.Data)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if r.Error != "" {
			fmt.Fprintf(notes, "volume %d in %s: %s\n", r.ID, r.Data, r.Error)
		}
	}
	return nil
}

func showVolumes(w io.Writer, all []volumeDetail) error {
	for i, d := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		garbage := "-"
		if d.FileBytes != nil {
			garbage = roughly(max(0, *d.FileBytes-*d.LiveBytes))
		}
		for _, l := range [][2]string{
			{"volume", plain(d.ID)}, {"generation", orUnknown(d.Generation, plain)}, {"class", orUnknown(d.Class, plain)}, {"state", d.State},
			{"data", d.Data}, {"file", d.File}, {"needles", orUnknown(d.Needles, plain)}, {"live", orUnknown(d.LiveBytes, roughly)},
			{"file bytes", orUnknown(d.FileBytes, plain)}, {"size", plain(d.SizeBytes)}, {"other", garbage},
			{"deleted keys", orUnknown(d.Deleted, plain)}, {"damaged", orUnknown(d.Rot, plain)}, {"void bytes", orUnknown(d.VoidBytes, plain)},
			{"replicas", orUnknown(d.Replicas, plain)}, {"epoch", orUnknown(d.Epoch, plain)}, {"shards", orUnknown(d.Shards, plain)},
		} {
			if _, err := fmt.Fprintf(w, "%-13s %s\n", l[0], l[1]); err != nil {
				return err
			}
		}
		if err := showSeal(w, d.Seal); err != nil {
			return err
		}
		for _, e := range d.Events {
			fmt.Fprintf(w, "%-13s %s\n", "event", e)
		}
	}
	return nil
}

func showSeal(w io.Writer, s *sealRow) error {
	if s == nil {
		return nil
	}
	const when = "2006-01-02T15:04:05.000Z"
	_, err := fmt.Fprintf(w, "%-13s %s, %d needles, digest %s\n%-13s slot %d, %s to %s\n%-13s %d applied, compacted from generation %d\n",
		"sealed", s.Sealed.UTC().Format(when), s.Needles, s.Digest, "tile", s.Slot, s.From.UTC().Format(when), s.To.UTC().Format(when),
		"deletes", s.Deletes, s.Source)
	return err
}
