package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// asks runs fn on the running server that the flags name.
func (f *volumeFlags) asks(fn func(*remoteServer) error) error {
	r, err := f.connect()
	if err != nil {
		return err
	}
	defer r.client.Close()
	return f.explain(fn(r), r)
}

// silent takes the lines of an answer that has only a last one.
func silent(string, json.RawMessage, []byte) error { return nil }

func userURL(handle, call string) string {
	return userPath + "/" + url.PathEscape(strings.TrimPrefix(handle, "@")) + "/" + call
}

func newUserCreate(f *volumeFlags) *cobra.Command {
	var name string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create HANDLE",
		Short: "Make an account, whatever the setting signup says",
		Long: `Makes an account with a password that the server draws, and prints it once. Its owner
can change it.`,
		Args: wantArgs(1, 1, "the handle of the new account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"handle": {strings.TrimPrefix(args[0], "@")}}
			if name != "" {
				q.Set("name", name)
			}
			return f.secret(cmd, userPath+"?"+q.Encode(), asJSON)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the name to show")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func newResetPassword(f *volumeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "reset-password HANDLE",
		Short: "Give an account a new password; its sessions and API keys end",
		Long: `For people who have lost their password, or whose account somebody else is in: the
server draws a new one, prints it once, and ends all sessions and API keys.`,
		Args: wantArgs(1, 1, "the handle of the account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.secret(cmd, userURL(args[0], "password"), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

// secret makes a call that answers with a password, and prints it.
func (f *volumeFlags) secret(cmd *cobra.Command, path string, asJSON bool) error {
	return f.asks(func(r *remoteServer) error {
		var s userSecret
		if err := r.client.Stream(cmd.Context(), http.MethodPost, path, &s, silent); err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), s)
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "handle    %s\npassword  %s\n", s.User.Handle, s.Password)
		return err
	})
}

func newUserSuspend(f *volumeFlags) *cobra.Command {
	var undo, asJSON bool
	cmd := &cobra.Command{
		Use:   "suspend HANDLE",
		Short: "Hide an account with all that it has, and sign it out; --undo shows it again",
		Args:  wantArgs(1, 1, "the handle of the account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.asks(func(r *remoteServer) error {
				var row userRow
				path := fmt.Sprintf("%s?on=%v", userURL(args[0], "suspend"), !undo)
				if err := r.client.Stream(cmd.Context(), http.MethodPost, path, &row, silent); err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), row)
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", row.Handle, row.State)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "show it again, with all that it has")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the account as JSON")
	return cmd
}

func newUserLs(f *volumeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List accounts, by handle",
		Args:  wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.asks(func(r *remoteServer) error {
				rows := []userRow{}
				for after := ""; ; {
					var page userPage
					path := userPath + "?" + url.Values{"after": {after}}.Encode()
					if err := r.client.Stream(cmd.Context(), http.MethodGet, path, &page, silent); err != nil {
						return err
					}
					rows = append(rows, page.Users...)
					if after = page.Next; after == "" {
						break
					}
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), rows)
				}
				return printUsers(cmd.OutOrStdout(), rows)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	return cmd
}

func printUsers(w io.Writer, rows []userRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "HANDLE\tID\tSTATE\tPHOTOS\tFOLLOWERS\tFOLLOWING\tSINCE\tNAME")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", r.Handle, r.ID, r.State, r.Photos, r.Followers, r.Following,
			r.CreatedAt.UTC().Format(time.DateOnly), r.Name)
	}
	return t.Flush()
}
