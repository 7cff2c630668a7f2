package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"hayloft/directory/steward"

	"github.com/spf13/cobra"
)

func newClusterWork() *cobra.Command {
	var f volumeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "work",
		Short: "Say which replicas are being made, what is left, and what may be lost",
		Long: `Prints the replicas that fill themselves, what is ahead by cause, the nodes and disks
that are being emptied, the volumes that lack something which cannot be had as things
are, and how many disks, nodes, hosts, racks and zones may be lost, whichever they
are, with every photo still readable. Bytes are those of whole volumes.

repair   replicas are lost: their disk is gone, or away for longer than --repair-delay
raise    there are fewer replicas than there should be, or two beside each other
drain    a node or a disk is to be emptied
balance  disks are to be equally full
return   a replica came back that was being replaced: the new one is taken back
surplus  there is one more than there should be`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.running(cmd)
			if err != nil {
				return err
			}
			var s steward.Status
			err = o.remote.client.Get(cmd.Context(), clusterCalls+"/work", &s)
			switch {
			case err != nil:
			case asJSON:
				err = printJSON(cmd.OutOrStdout(), s)
			default:
				err = printWork(cmd.OutOrStdout(), &s)
			}
			return o.close(&f, err)
		},
	}
	f.define(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func printWork(out io.Writer, s *steward.Status) error {
	if len(s.Fills) > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "volume\tdisk\tnode\tsize\tfor\tsince")
		for _, f := range s.Fills {
			cause, since := string(f.Cause), time.Duration(f.Seconds)*time.Second
			if cause == "" {
				cause = "-"
			}
			note := since.String()
			switch {
			case !f.Up:
				note = "waits: the disk, or all copies, are away"
			case f.Slow:
				note += ", takes long"
			case f.Cause == "":
				note = "-"
			}
			fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%s\n", f.Volume, f.Disk, f.Node, roughly(f.Bytes), cause, note)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if more := s.Filling.Steps - len(s.Fills); more > 0 {
			fmt.Fprintf(out, "and %d more\n", more)
		}
		fmt.Fprintln(out)
	}
	list(out, s.Lacks)
	if more := s.Lacking - len(s.Lacks); more > 0 {
		fmt.Fprintf(out, "and %d more volumes that lack something\n", more)
	}
	for _, l := range s.Leaving {
		name := "node " + l.Name
		if l.Disk != 0 {
			name = fmt.Sprintf("disk %d of %s", l.Disk, l.Name)
		}
		what := "is draining"
		if l.Then == "gone" {
			what = "is draining, to be gone then"
		}
		fmt.Fprintf(out, "%s %s: %d replicas (%s) and %d shards are left, %d of volumes that are not sealed\n",
			name, what, l.Left.Replicas, roughly(l.Left.Bytes), l.Left.Shards, l.Left.Unsealed)
	}
	if s.Failure != "" {
		fmt.Fprintf(out, "the last attempt ended early: %s\n", s.Failure)
	}
	fmt.Fprintf(out, "under way  %d replicas, %s\n", s.Filling.Steps, roughly(s.Filling.Bytes))
	fmt.Fprintf(out, "ahead      %s\n", aheadText(s.Ahead))
	_, err := fmt.Fprintf(out, "survives   %s\n", survivesText(s))
	return err
}

func aheadText(ahead map[string]steward.Ahead) string {
	var parts []string
	for _, cause := range slices.Sorted(maps.Keys(ahead)) {
		a := ahead[cause]
		parts = append(parts, fmt.Sprintf("%s: %d steps, %s to copy", cause, a.Steps, roughly(a.Bytes)))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, "; ")
}

func survivesText(s *steward.Status) string {
	var parts []string
	for _, l := range s.Survives {
		switch {
		case l.May < 0:
			return fmt.Sprintf("%d volumes CANNOT be read now (%v)", l.Limits, l.Limiting)
		case l.May == 1:
			parts = append(parts, "any 1 "+l.Level)
		default:
			parts = append(parts, fmt.Sprintf("any %d %ss", l.May, l.Level))
		}
	}
	return "the loss of " + strings.Join(parts, ", or of ")
}
