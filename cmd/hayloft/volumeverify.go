package main

import (
	"fmt"
	"io"

	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

func newVolumeVerify(f *volumeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [VOLUME...]",
		Short: "Read volumes from the device and check every byte; exit code 1 when something is wrong",
		Long: `Reads each volume from the device, verifies every record and compares with the
index. A running server goes on with it meanwhile. Offline each volume is opened
as the server would; what that repairs is repaired in memory only. Prints one
line for each thing that is wrong, and one for each volume. Without numbers it
takes every volume.`,
		Args: wantArgs(0, -1, "numbers of volumes"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.open(cmd, true)
			if err != nil {
				return err
			}
			return o.close(f, verifyVolumes(cmd, o, args, asJSON))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func verifyVolumes(cmd *cobra.Command, o *opened, args []string, asJSON bool) error {
	all, err := o.wanted(cmd.Context(), args)
	if err != nil {
		return err
	}
	s := &steps{verb: "verified", total: len(all)}
	p := startProgress(cmd, s.tell)
	rows, bad := []tools.Verified{}, 0
	for _, v := range all {
		var found []tools.Verified
		if found, err = o.Verify(cmd.Context(), v, s.report); err != nil {
			break
		}
		s.next()
		for _, row := range found {
			if rows = append(rows, row); len(row.Findings) > 0 {
				bad++
			}
			if !asJSON && err == nil {
				err = printVerified(row, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
		}
		if err != nil {
			break
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
		err = fmt.Errorf("%d of %d volumes are damaged", bad, len(rows))
	}
	return err
}

func printVerified(row tools.Verified, out, notes io.Writer) error {
	for _, n := range row.Notes {
		fmt.Fprintf(notes, "hayloft: note: volume %d in %s: %s\n", row.ID, row.Place(), n)
	}
	for _, f := range row.Findings {
		if _, err := fmt.Fprintf(out, "volume %d in %s: %v\n", row.ID, row.Place(), f); err != nil {
			return err
		}
	}
	if row.Omitted > 0 {
		fmt.Fprintf(notes, "hayloft: note: volume %d in %s: %d findings more\n", row.ID, row.Place(), row.Omitted)
	}
	if len(row.Findings) > 0 {
		return nil
	}
	needles := fmt.Sprintf("%d needles, ", row.Needles)
	if row.Needles == 0 && row.Shards > 0 {
		needles = "" // each was checked by its own sums
	}
	_, err := fmt.Fprintf(out, "volume %d in %s: sound, %s%s verified\n", row.ID, row.Place(), needles, roughly(row.Bytes))
	return err
}
