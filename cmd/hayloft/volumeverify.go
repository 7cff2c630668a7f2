package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"hayloft/internal/id"
	"hayloft/internal/vfs/overlay"
	"hayloft/volume"

	"github.com/spf13/cobra"
)

// verifyRow is what verify says of one volume as JSON.
type verifyRow struct {
	ID       volume.ID       `json:"id"`
	Data     string          `json:"data"`
	Needles  int64           `json:"needles"` // whole, deleted ones too
	Bytes    int64           `json:"bytes"`   // verified
	Findings []verifyFinding `json:"findings"`
	Notes    []string        `json:"notes"` // no damage, but worth knowing
}

type verifyFinding struct {
	Kind   string `json:"kind"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Key    *id.ID `json:"key,omitempty"`
	Alt    *uint8 `json:"alt,omitempty"`
	Error  string `json:"error"`
}

func (f verifyFinding) String() string {
	s := f.Kind
	if f.Length > 0 {
		s += fmt.Sprintf(" at %d, %d bytes", f.Offset, f.Length)
	}
	if f.Key != nil {
		s += " key " + f.Key.String()
	}
	if f.Alt != nil {
		s += fmt.Sprintf(" alt %d", *f.Alt)
	}
	return s + ": " + f.Error
}

func newVolumeVerify(f *volumeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [VOLUME…]",
		Short: "Read volumes from the device and check every byte; exit code 1 when something is wrong",
		Long: `Opens each volume as the server would (what that repairs is repaired in memory
only), reads it from the device, verifies every record and compares with the
index. Prints one line for each thing that is wrong, and one for each volume.
Without numbers it takes every volume of the data directories.`,
		Args: wantArgs(0, -1, "numbers of volumes"),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := f.volumes(args)
			if err != nil {
				return err
			}
			var claim overlay.FS
			if err := claimOffline(&claim, all); err != nil {
				return errors.Join(err, claim.Close())
			}
			err = verifyVolumes(cmd, all, asJSON)
			return errors.Join(err, claim.Close())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func verifyVolumes(cmd *cobra.Command, all []*offlineVolume, asJSON bool) error {
	var done, read atomic.Int64
	var now atomic.Pointer[overlay.FS]
	p := startProgress(cmd, func() string {
		n := read.Load()
		if o := now.Load(); o != nil {
			n += o.BytesRead()
		}
		return fmt.Sprintf("%d of %d volumes, %s read", done.Load(), len(all), roughly(n))
	})
	rows, bad := []verifyRow{}, 0
	var err error
	for _, o := range all {
		var row verifyRow
		if row, err = verifyVolume(cmd.Context(), o, &now); err != nil {
			break
		}
		done.Add(1)
		read.Add(row.Bytes)
		if rows = append(rows, row); len(row.Findings) > 0 {
			bad++
		}
		if !asJSON {
			if err = row.print(cmd.OutOrStdout(), cmd.ErrOrStderr()); err != nil {
				break
			}
		}
	}
	p.end()
	switch {
	case err != nil:
		return err
	case asJSON:
		err = printJSON(cmd.OutOrStdout(), rows)
	}
	if err == nil && bad > 0 {
		err = fmt.Errorf("%d of %d volumes are damaged", bad, len(all))
	}
	return err
}

// verifyVolume checks one volume. The error is one of the check itself, not of
// what it checked.
func verifyVolume(ctx context.Context, o *offlineVolume, now *atomic.Pointer[overlay.FS]) (verifyRow, error) {
	row := verifyRow{ID: o.id, Data: o.data, Findings: []verifyFinding{}, Notes: []string{}}
	if err := ctx.Err(); err != nil {
		return row, err
	}
	v, err := openOffline(o, true)
	if errors.Is(err, volume.ErrCorrupt) {
		row.Findings = append(row.Findings, verifyFinding{Kind: "open", Error: oneLine(err)})
		return row, nil
	}
	if err != nil {
		return row, err
	}
	now.Store(v.fs)
	defer now.Store(nil)
	report, err := v.Check(ctx, func(f volume.Finding) {
		g := verifyFinding{Kind: f.Kind.String(), Offset: f.Offset, Length: f.Length, Error: "?"}
		if f.Key != 0 {
			g.Key, g.Alt = &f.Key, &f.Alt
		}
		if f.Err != nil {
			g.Error = oneLine(f.Err)
		}
		row.Findings = append(row.Findings, g)
	})
	row.Needles, row.Bytes = report.Needles, report.Bytes
	row.fromEvents(v.events, o.marked())
	return row, errors.Join(err, v.close())
}

// fromEvents adds what opening reported and the check does not.
func (row *verifyRow) fromEvents(events []volume.Event, marked bool) {
	for _, e := range events {
		switch e.Kind {
		case volume.EventRot, volume.EventSuperblock, volume.EventCorruptRead: // the check finds them
		case volume.EventScanning: // progress
		case volume.EventPoisoned:
			if marked {
				row.Notes = append(row.Notes, "poisoned: a write or sync failed earlier; it is read-only, and verified up to its last good sync")
				continue
			}
			row.Findings = append(row.Findings, verifyFinding{Kind: "open", Offset: e.Offset, Error: oneLine(e.Err)})
		case volume.EventVoid:
			row.Notes = append(row.Notes, fmt.Sprintf("%d bytes at %d were never acknowledged: the next start drops them", e.Length, e.Offset))
		case volume.EventRecovered:
			row.Notes = append(row.Notes, fmt.Sprintf("it was not closed: the next start keeps %d bytes from %d on", e.Length, e.Offset))
		default:
			row.Notes = append(row.Notes, eventText(e))
		}
	}
}

func (row *verifyRow) print(out, notes io.Writer) error {
	for _, n := range row.Notes {
		fmt.Fprintf(notes, "hayloft: note: volume %d in %s: %s\n", row.ID, row.Data, n)
	}
	for _, f := range row.Findings {
		if _, err := fmt.Fprintf(out, "volume %d in %s: %v\n", row.ID, row.Data, f); err != nil {
			return err
		}
	}
	if len(row.Findings) > 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "volume %d in %s: sound, %d needles, %s verified\n", row.ID, row.Data, row.Needles, roughly(row.Bytes))
	return err
}
