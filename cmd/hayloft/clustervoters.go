package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newClusterVoters() *cobra.Command {
	var f volumeFlags
	var asJSON bool
	var group string
	cmd := &cobra.Command{
		Use:   "voters",
		Short: "Say who votes in the groups that decide, and how far each member is",
		Long: `The directory and the feed are each held by a group of nodes. A change counts when
most of the voters have it; the other members follow, have everything and no vote.
Who votes is seen to by itself: 1, 3 or 5 nodes with the role, at most --voters, those
that are up; a voter that is away for longer than --repair-delay loses its vote to one
that is up. applied is the entry of the group's log that a member has come to.`,
		Args: wantArgs(0, 0, "no arguments, or replace"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.running(cmd)
			if err != nil {
				return err
			}
			path := clusterCalls + "/voters"
			if group != "" {
				path += "?" + url.Values{"group": {group}}.Encode()
			}
			var all []votersOf
			err = o.remote.client.Get(cmd.Context(), path, &all)
			switch {
			case err != nil:
			case asJSON:
				err = printJSON(cmd.OutOrStdout(), all)
			default:
				err = printVoters(cmd.OutOrStdout(), all...)
			}
			return o.close(&f, err)
		},
	}
	f.define(cmd.PersistentFlags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	cmd.Flags().StringVar(&group, "group", "", "directory or feed (default both)")
	cmd.AddCommand(newReplaceVoter(&f))
	return cmd
}

func newReplaceVoter(f *volumeFlags) *cobra.Command {
	var apply, asJSON bool
	group := "directory"
	cmd := &cobra.Command{
		Use:   "replace OLD NEW",
		Short: "Let a node vote in place of another",
		Long: `NEW, which follows, gets a vote as soon as it has everything, and OLD loses its own.
OLD may be away; most of the voters must be there. The number of voters stays, and
so does the replacement, until a voter leaves or is away for long. Without --apply it
prints who votes now and changes nothing.`,
		Args: wantArgs(2, 2, "the names of two nodes"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.running(cmd)
			if err != nil {
				return err
			}
			q := url.Values{"group": {group}}
			if !apply {
				var all []votersOf
				if err := o.remote.client.Get(cmd.Context(), clusterCalls+"/voters?"+q.Encode(), &all); err != nil {
					return o.close(f, err)
				}
				err := printVoters(cmd.OutOrStdout(), all...)
				fmt.Fprintln(cmd.ErrOrStderr(), "hayloft: nothing was changed: --apply does it")
				return o.close(f, err)
			}
			q.Set("old", args[0])
			q.Set("new", args[1])
			var then votersOf
			err = o.remote.client.Stream(cmd.Context(), http.MethodPost, clusterCalls+"/voters?"+q.Encode(), &then, func(string, json.RawMessage, []byte) error { return nil })
			switch {
			case err != nil:
			case asJSON:
				err = printJSON(cmd.OutOrStdout(), then)
			default:
				err = printVoters(cmd.OutOrStdout(), then)
			}
			return o.close(f, err)
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "have it done")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print who votes then as JSON")
	cmd.Flags().StringVar(&group, "group", group, "directory or feed")
	return cmd
}

func printVoters(out io.Writer, all ...votersOf) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "group\tnode\tvote\tleads\tstate\tapplied")
	for _, g := range all {
		for _, m := range g.Members {
			applied := "-"
			if m.Applied > 0 {
				applied = fmt.Sprint(m.Applied)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", g.Group, m.Node, yes(m.Voter, "follows"), yes(m.Leads, "-"), map[bool]string{true: "up", false: "away"}[m.Up], applied)
		}
		if g.Leader == "" {
			fmt.Fprintf(w, "%s\tNOBODY LEADS: nothing can be decided\t\t\t\t\n", g.Group)
		}
	}
	return w.Flush()
}

func yes(is bool, otherwise string) string {
	if is {
		return "yes"
	}
	return otherwise
}
