package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"hayloft/volume"
	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

func newEC() *cobra.Command {
	var f volumeFlags
	cmd := &cobra.Command{
		Use:   "ec",
		Short: "Code volumes into shards, and look after the shards",
		Long: `A server that is started with --ec K+M cuts each sealed volume into K data shards,
computes M parity shards from them, and spreads them over its disks: any K of the
K+M give everything back, so M shards may be lost. A disk never has more than M
shards of a volume. That takes (K+M)/K times the room of the photos, where a copy of
everything takes twice.

  hayloft ec status                   is everything redundant? exit code 1 if not
  hayloft ec encode --all             what would be coded; --apply does it
  hayloft ec rebuild --all --apply    make lost shards again now
  hayloft ec decode 7 -o DIR          take a volume out of its shards, into files

The server does all that by itself: it codes originals that are older than
--ec-after, makes shards again that are lost, and lets the file that was coded go
--ec-grace later. These commands look, and do it now.

They ask a running server at its admin listener, --admin URL. With --data alone,
which must name all data directories of a stopped server, that of the metadata first,
they open these as the server does; its --config or HAYLOFT_EC says how to code.`,
		Args: wantArgs(0, 0, "one of its commands"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.define(cmd.PersistentFlags())
	for _, c := range []*cobra.Command{newECStatus(&f), newECEncode(&f), newECRebuild(&f), newECDecode(&f)} {
		c.ValidArgsFunction = f.complete
		cmd.AddCommand(c)
	}
	return cmd
}

func newECStatus(f *volumeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [VOLUME...]",
		Short: "Say how coded volumes and their shards are; exit code 1 unless all are redundant",
		Long: `Prints one line for each volume that is coded or is being coded, one for each that
lacks something, with the shards that are away or damaged, and a summary. Of volumes
that are named it prints every shard, and where it lies.

endangered   it is served, and has less than its policy promises. That mends itself,
             after --repair-delay when a disk may come back; ec rebuild does it now
lost         more shards are away than it can do without: nothing of it is served. Bring
             the disks back that have them; nothing is removed meanwhile

survives is how many more disks may be lost, whichever they are. Exit codes: 0 every
coded volume is redundant, 1 one is not, 2 wrong usage.`,
		Args: wantArgs(0, -1, "numbers of volumes"),
		RunE: func(cmd *cobra.Command, args []string) error {
			wanted, err := parseVolumes(args)
			if err != nil {
				return err
			}
			o, err := f.openKeeper(cmd)
			if err != nil {
				return err
			}
			return o.close(f, codedStatus(cmd, o.keeper, wanted, asJSON))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print everything as JSON")
	return cmd
}

func parseVolumes(args []string) (out []volume.ID, err error) {
	for _, a := range args {
		v, err := parseVolume(a)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func codedStatus(cmd *cobra.Command, k tools.Keeper, wanted []volume.ID, asJSON bool) error {
	list, err := k.Coded(cmd.Context())
	if err == nil {
		err = list.Only(wanted)
	}
	switch {
	case err != nil:
		return err
	case asJSON:
		err = printJSON(cmd.OutOrStdout(), list)
	default:
		err = printCoded(cmd.OutOrStdout(), cmd.ErrOrStderr(), &list, len(wanted) > 0)
	}
	if err == nil && !list.Whole() {
		err = fmt.Errorf("%d of %d coded volumes are not redundant, %d of them lost", list.Coded-list.Redundant, list.Coded, len(list.Lost))
	}
	return err
}

func printCoded(out, notes io.Writer, l *tools.CodedList, shards bool) error {
	if len(l.Volumes) > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "volume\tclass\tpolicy\tepoch\tstate\tsize\tlive\tshards\tsurvives\t  health")
		for _, c := range l.Volumes {
			whole, survives := "-", "-"
			if len(c.Shards) > 0 {
				whole, survives = fmt.Sprintf("%d/%d", c.Whole(), len(c.Shards)), fmt.Sprint(c.Survives)
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t  %s\n", c.ID, c.Class, c.Policy, c.Epoch, c.State,
				roughly(c.Bytes), roughly(c.LiveBytes), whole, survives, c.Health+working(c.Work))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	for _, c := range l.Volumes {
		if shards {
			for _, s := range c.Shards {
				fmt.Fprintf(out, "volume %d: %v\n", c.ID, &s)
			}
		}
		if text := c.Trouble(); text != "" {
			fmt.Fprintf(out, "volume %d is %s: %s\n", c.ID, c.Health, text)
		}
		if c.Retry != "" {
			fmt.Fprintf(notes, "hayloft: note: volume %d: to be tried again: %s\n", c.ID, c.Retry)
		}
	}
	_, err := fmt.Fprintln(out, codedSummary(l))
	return err
}

// working tells what is under way, and how long it will take.
func working(w *tools.Work) string {
	if w == nil {
		return ""
	}
	text := ", " + w.Step
	if w.Total > 0 {
		text += fmt.Sprintf(" %s of %s", roughly(w.Done), roughly(w.Total))
	}
	if w.ETA != nil {
		text += fmt.Sprintf(", %v left", time.Duration(*w.ETA)*time.Second)
	}
	return text
}

// codedSummary is one line.
func codedSummary(l *tools.CodedList) string {
	var parts []string
	switch {
	case l.Coded == 0 && l.Policy == "":
		parts = append(parts, "no volume is coded, and the server codes none: start it with --ec K+M")
	case l.Coded == 0:
		parts = append(parts, "no volume is coded yet; the policy is "+l.Policy)
	case l.Whole():
		parts = append(parts, fmt.Sprintf("%s, all redundant: any %s may be lost", codedVolumes(l.Coded), disks(*l.Survives)))
	default:
		parts = append(parts, fmt.Sprintf("%s, %d redundant", codedVolumes(l.Coded), l.Redundant))
	}
	if n := len(l.Endangered); n > 0 {
		parts = append(parts, fmt.Sprintf("ENDANGERED: %d (%s)", n, numbers(l.Endangered)))
	}
	if n := len(l.Lost); n > 0 {
		parts = append(parts, fmt.Sprintf("LOST: %d (%s)", n, numbers(l.Lost)))
	}
	if l.Coding > 0 {
		parts = append(parts, fmt.Sprintf("%d being coded", l.Coding))
	}
	return strings.Join(parts, "; ")
}

func codedVolumes(n int) string {
	if n == 1 {
		return "1 coded volume"
	}
	return fmt.Sprintf("%d coded volumes", n)
}
