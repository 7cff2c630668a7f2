package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func newOutbox() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "outbox",
		Short: "Show what the feed owes to the world outside, and take up what failed",
		Args:  wantArgs(0, 0, "one of its commands"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newOutboxList(), newOutboxRetry())
	return cmd
}

func newOutboxList() *cobra.Command {
	var f volumeFlags
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List what is parked, and count what waits; --all lists that too",
		Long: `Asks a running server with the role feed what is owed: variants of photos
(transcode) and blobs to reclaim. What failed for a reason that may pass is tried again by
itself; what is poisonous is parked, with its reason, until it is retried.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.asks(func(r *remoteServer) error {
				list, err := outboxOf(cmd.Context(), r, all)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), list)
				}
				return printOutbox(cmd.OutOrStdout(), list)
			})
		},
	}
	defineOutbox(cmd, &f)
	cmd.Flags().BoolVar(&all, "all", false, "list what waits, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	return cmd
}

func newOutboxRetry() *cobra.Command {
	var f volumeFlags
	var all bool
	cmd := &cobra.Command{
		Use:   "retry SEQ…",
		Short: "Take parked work up again; --all takes all",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usagef("outbox retry wants numbers of parked effects, or --all")
			}
			var seqs []uint64
			for _, text := range args {
				seq, err := strconv.ParseUint(text, 10, 64)
				if err != nil {
					return usagef("%q is not the number of an effect", text)
				}
				seqs = append(seqs, seq)
			}
			return f.asks(func(r *remoteServer) error { return retryEffects(cmd, r, seqs, all) })
		},
	}
	defineOutbox(cmd, &f)
	cmd.Flags().BoolVar(&all, "all", false, "take up all that is parked")
	return cmd
}

func defineOutbox(cmd *cobra.Command, f *volumeFlags) {
	f.define(cmd.Flags())
	cmd.Flags().Lookup("data").Usage = "data directories of the server: the token is in the first one"
}

// outboxOf asks for the whole list: what is parked, then what waits.
func outboxOf(ctx context.Context, r *remoteServer, all bool) (outboxList, error) {
	var list outboxList
	paths := []string{outboxPath + "?"}
	if all {
		paths = append(paths, outboxPath+"?all&")
	}
	rows := []outboxRow{}
	for _, path := range paths {
		for after := uint64(0); ; after = list.Next {
			var page outboxList
			if err := r.client.Stream(ctx, http.MethodGet, path+"after="+strconv.FormatUint(after, 10), &page, silent); err != nil {
				return list, err
			}
			rows = append(rows, page.Effects...)
			if list = page; list.Next == 0 {
				break
			}
		}
	}
	list.Effects = rows
	return list, nil
}

func retryEffects(cmd *cobra.Command, r *remoteServer, seqs []uint64, all bool) error {
	if all {
		list, err := outboxOf(cmd.Context(), r, false)
		if err != nil {
			return err
		}
		for _, e := range list.Effects {
			seqs = append(seqs, e.Seq)
		}
		if len(seqs) == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "nothing is parked")
		}
	}
	for _, seq := range seqs {
		var got retried
		path := outboxPath + "/" + strconv.FormatUint(seq, 10) + "/retry"
		if err := r.client.Stream(cmd.Context(), http.MethodPost, path, &got, silent); err != nil {
			return fmt.Errorf("effect %d: %w", seq, err)
		}
		fmt.Fprintln(cmd.OutOrStdout(), got.Seq)
	}
	return nil
}

func printOutbox(w io.Writer, l outboxList) error {
	for _, e := range l.Effects {
		subject := e.Photo
		if subject == "" {
			subject = e.Blob
		}
		fmt.Fprintf(w, "%d  %s  %s  %s  owed since %s, %d attempts", e.Seq, e.State, e.Kind, subject, e.Owed.Format(time.RFC3339), e.Attempts)
		if e.Next != nil {
			fmt.Fprintf(w, ", next at %s", e.Next.Format(time.RFC3339))
		}
		if e.Reason != "" {
			fmt.Fprintf(w, ": %s", e.Reason)
		}
		fmt.Fprintln(w)
	}
	_, err := fmt.Fprintf(w, "%d parked; %d to transcode and %d to reclaim, the oldest owed for %v; timelines are %d events behind; listeners of %d photos to be told; %d chores\n",
		l.Parked, l.Transcode, l.Reclaim, time.Duration(l.Oldest*float64(time.Second)).Round(time.Second), l.Events, l.Tell, l.Chores)
	return err
}
