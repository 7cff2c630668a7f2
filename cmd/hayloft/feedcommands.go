package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"hayloft/internal/admin"

	"github.com/spf13/cobra"
)

func newFeed() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "feed",
		Short: "Prove that the counters of accounts and photos are right",
		Args:  wantArgs(0, 0, "one of its commands"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newReconcile())
	return cmd
}

func newReconcile() *cobra.Command {
	var f volumeFlags
	var apply, asJSON bool
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Count everything that is counted, and compare; --apply corrects",
		Long: `Asks a running server with the role feed to count photos, followers, likes, comments
and replies from the lists themselves, in one snapshot, and to compare with the
numbers that are shown; and whether every edge stands in both of its tables, which in
a directory from before accounts could be deleted they do not. What people do meanwhile
is not held up. Exit code 1 when something is wrong and --apply was not given.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.asks(func(r *remoteServer) error { return reconcile(cmd, r, apply, asJSON) })
		},
	}
	f.define(cmd.Flags())
	cmd.Flags().Lookup("data").Usage = "data directories of the server: the token is in the first one"
	cmd.Flags().BoolVar(&apply, "apply", false, "correct what is wrong")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func reconcile(cmd *cobra.Command, r *remoteServer, apply, asJSON bool) error {
	path := reconcilePath
	if apply {
		path += "?apply"
	}
	var far atomic.Pointer[reconciled]
	p := startProgress(cmd, func() string {
		if r := far.Load(); r != nil {
			return fmt.Sprintf("reconcile: %d counters and %d edges looked at, %d wrong", r.Counters, r.Edges, r.Drifted+r.Missing)
		}
		return "reconcile: beginning"
	})
	var got reconciled
	err := r.client.Stream(cmd.Context(), http.MethodPost, path, &got, func(kind string, value json.RawMessage, _ []byte) error {
		var now reconciled
		if kind != admin.KindProgress || json.Unmarshal(value, &now) != nil {
			return nil
		}
		far.Store(&now)
		return nil
	})
	p.end()
	if err != nil {
		return err
	}
	if asJSON {
		err = printJSON(cmd.OutOrStdout(), got)
	} else {
		err = printReconciled(cmd.OutOrStdout(), got)
	}
	if wrong := got.Drifted + got.Missing; err == nil && wrong > got.Fixed && !apply {
		return fmt.Errorf("%d things are wrong: --apply corrects them", wrong)
	}
	return err
}

func printReconciled(w io.Writer, r reconciled) error {
	for _, d := range r.First {
		fmt.Fprintf(w, "%s  %s: %d, the list has %d\n", d.ID, d.Counter, d.Stored, d.Counted)
	}
	_, err := fmt.Fprintf(w, "%d counters looked at, %d wrong; %d edges looked at, %d in one table only; %d corrected\n",
		r.Counters, r.Drifted, r.Edges, r.Missing, r.Fixed)
	return err
}
