package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func newClusterKeys() *cobra.Command {
	var f volumeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "List the keys that sign URLs, or draw another one",
		Long: `The nodes share two keys: media signs the URLs of private photos, sign those of
uploads, and cursors. Each has versions. A new one is on standby for two minutes, in
which every node and every edge hears of it: it is believed and does not sign. Then it
signs, and the one before is believed for 26 hours more, so that nothing that was handed
out breaks. Secrets are never printed.`,
		Args: wantArgs(0, 0, "no arguments, or rotate"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.running(cmd)
			if err != nil {
				return err
			}
			var all []keyState
			if err = o.remote.client.Get(cmd.Context(), clusterCalls+"/keys", &all); err == nil {
				err = tellKeys(cmd, all, asJSON)
			}
			return o.close(&f, err)
		},
	}
	f.define(cmd.PersistentFlags())
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print it as JSON")
	cmd.AddCommand(newRotateKey(&f, &asJSON))
	return cmd
}

func newRotateKey(f *volumeFlags, asJSON *bool) *cobra.Command {
	var apply bool
	cmd := &cobra.Command{
		Use:   "rotate media|sign",
		Short: "Draw another version of a key",
		Long: `The new version signs two minutes later, and the one before is believed for 26 hours
after that: until then, whoever has it can go on signing. Without --apply it prints the
versions there are and changes nothing.`,
		Args: wantArgs(1, 1, "media or sign"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != keyMedia && args[0] != keySign {
				return usagef("%q is neither %s nor %s", args[0], keyMedia, keySign)
			}
			o, err := f.running(cmd)
			if err != nil {
				return err
			}
			var all []keyState
			if !apply {
				if err = o.remote.client.Get(cmd.Context(), clusterCalls+"/keys", &all); err == nil {
					err = tellKeys(cmd, all, *asJSON)
				}
				fmt.Fprintln(cmd.ErrOrStderr(), "hayloft: nothing was changed: --apply does it")
				return o.close(f, err)
			}
			path := clusterCalls + "/rotate-key?" + url.Values{"purpose": {args[0]}}.Encode()
			err = o.remote.client.Stream(cmd.Context(), http.MethodPost, path, &all, func(string, json.RawMessage, []byte) error { return nil })
			if err == nil {
				err = tellKeys(cmd, all, *asJSON)
			}
			return o.close(f, err)
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "have it done")
	return cmd
}

func tellKeys(cmd *cobra.Command, all []keyState, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), all)
	}
	return printKeys(cmd.OutOrStdout(), all)
}

func printKeys(out io.Writer, all []keyState) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "key\tversion\tstate\tuntil\tcreated")
	for _, k := range all {
		until := "-"
		if !k.Until.IsZero() {
			until = k.Until.UTC().Format(time.DateTime)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", k.Purpose, k.Version, k.State, until, k.Created.UTC().Format(time.DateTime))
	}
	return w.Flush()
}
