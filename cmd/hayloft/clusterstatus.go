package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"hayloft/directory"
	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

func newClusterStatus() *cobra.Command {
	cmd := newClusterLook("status", "Say how nodes, disks and volumes are, and what may be lost",
		`Asks a running server how everything is: its nodes, which one leads, every disk,
volumes by state, how many replicas are in sync, how many volumes have fewer copies or
shards than they should, and how many disks, or nodes, may be lost at once, whichever
they are, without anything that was acknowledged: survives. That is the smaller of two numbers, one for the photos (an open volume with
one file survives no loss; a coded one as many as ec status says) and one for the
metadata, and the lines below it say what would be lost first. Volumes that hold
nothing do not count.`, printCluster)
	return cmd
}

func newClusterNodes() *cobra.Command {
	return newClusterLook("nodes", "List the nodes", `Lists the machines that the directory knows.`, printNodes)
}

// newClusterLook is a command that asks a running server and prints the answer.
func newClusterLook(use, short, long string, show func(io.Writer, *tools.Cluster) error) *cobra.Command {
	var f volumeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.running(cmd)
			if err != nil {
				return err
			}
			c, err := o.keeper.Cluster(cmd.Context())
			switch {
			case err != nil:
			case asJSON && use == "nodes":
				err = printJSON(cmd.OutOrStdout(), c.Nodes)
			case asJSON:
				err = printJSON(cmd.OutOrStdout(), c)
			default:
				err = show(cmd.OutOrStdout(), &c)
			}
			return o.close(&f, err)
		},
	}
	f.define(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func printNodes(out io.Writer, c *tools.Cluster) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "node\tname\tstate\tduty\tdisks\tleads\taddress\troles")
	for _, n := range c.Nodes {
		leads := "-"
		if n.Leads {
			leads = "yes"
		}
		state := "up"
		if !n.Up {
			state = fmt.Sprintf("away %s", time.Duration(n.Away*float64(time.Second)).Round(time.Second))
		}
		roles := "all"
		if len(n.Roles) < len(everyRole) {
			roles = strings.Join(n.Roles, ",")
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", n.ID, n.Name, state, n.Duty, n.Disks, leads, cmp.Or(n.Addr, "-"), roles)
	}
	return w.Flush()
}

func printCluster(out io.Writer, c *tools.Cluster) error {
	if err := printNodes(out, c); err != nil {
		return err
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "disk\tstate\tfree\tsize\tvolumes\tshards\tdata")
	for _, d := range c.Disks {
		where, state := d.Data, d.State
		if where == "" {
			where = "uuid " + d.UUID
		}
		if d.Full {
			state += ",full"
		}
		if d.Duty == directory.Draining.String() || d.Duty == directory.Gone.String() {
			state += "," + d.Duty
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%d\t%s\n", d.Disk, state, roughly(d.Free), roughly(d.Capacity), d.Volumes, d.Shards, where)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, d := range c.Disks {
		if d.Why != "" {
			fmt.Fprintf(out, "disk %d is %s: %s\n", d.Disk, d.State, d.Why)
		}
	}
	leader := c.Leader
	if leader == "" {
		leader = "NONE: nothing can be written"
	}
	fmt.Fprintf(out, "\nleader            %s\nvolumes           %s\nreplicas          %d in sync, %d listed, %d wanted\nunder-replicated  %d\nsurvives          the loss of any %s, or of any %s\n",
		leader, byState(c.Volumes), c.Replicas.InSync, c.Replicas.Listed, c.Replicas.Target, c.UnderReplicated,
		disks(c.Survives.Disk), counted(c.Survives.Host, "node"))
	for _, b := range c.Survives.Because {
		fmt.Fprintf(out, "                  %s\n", b)
	}
	for _, n := range c.Nodes {
		if !n.Up && n.Duty != directory.Gone.String() {
			fmt.Fprintf(out, "                  counting what %s holds, which is away: should that be lost, one less\n", n.Name)
		}
	}
	return nil
}

func disks(n int) string { return counted(n, "disk") }

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// byState lists how many volumes there are in each state.
func byState(n map[string]int) string {
	var parts []string
	known := []string{tools.StateOpen, tools.StateClosing, tools.StateSealed, tools.StateCoding, tools.StateCoded}
	for _, s := range slices.Sorted(maps.Keys(n)) {
		if !slices.Contains(known, s) {
			known = append(known, s)
		}
	}
	for _, s := range known {
		if n[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[s], s))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
