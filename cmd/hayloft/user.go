package main

import (
	"crypto/rand"
	"fmt"

	"hayloft/api"

	"github.com/spf13/cobra"
)

func newUser() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Make accounts, suspend them and give them new passwords; make keys for programs",
		Long: `Accounts are those of a running server, which is asked at its admin listener. --data
only says where the admin token is.`,
		Args: wantArgs(0, 0, "one of its commands"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var f volumeFlags
	for _, c := range []*cobra.Command{newUserCreate(&f), newUserLs(&f), newUserSuspend(&f), newResetPassword(&f)} {
		f.define(c.Flags())
		c.Flags().Lookup("data").Usage = "data directories of the server: the token is in the first one"
		cmd.AddCommand(c)
	}
	cmd.AddCommand(newBlobKey())
	return cmd
}

func newBlobKey() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "blob-key NAME",
		Short: "Make a key of scope blob: storage without accounts",
		Long: `Draws a key for the blob API (docs/api.md), prints it, and the text to add to
--blob-keys of every server that is to take it. The key itself is kept nowhere: who
loses it makes another one. Taking the text out of --blob-keys ends the key.`,
		Args: wantArgs(1, 1, "the name of the key, as in backup-job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var random [32]byte
			if _, err := rand.Read(random[:]); err != nil {
				return err
			}
			key, row := api.NewBlobKey(args[0], random)
			if _, err := api.ParseBlobKey(row.String()); err != nil {
				return usageError{err}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]string{"key": key, "setting": row.String()})
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "key      %s\nsetting  --blob-keys %s\n", key, row)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}
