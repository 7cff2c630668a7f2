package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"hayloft/feed"
	"hayloft/feed/derived"
	"hayloft/internal/admin"
	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

// searchCalls is where the admin listener answers about the index for search.
const searchCalls = "/admin/search"

// searchState is the index of one node.
type searchState struct {
	Bytes  uint64  `json:"bytes"`
	Lag    uint64  `json:"lag"`    // changes that it has not processed
	Cursor uint64  `json:"cursor"` // the last one that it has
	Took   float64 `json:"took_s"` // the rebuild, seconds
}

// serveSearch answers about this node's index, and has it made anew.
func (n *node) serveSearch(d *admin.Door) {
	d.Guard(http.MethodPost, searchCalls+"/rebuild", func(c *admin.Call) error {
		if _, err := c.Query(); err != nil {
			return err
		}
		if n.feed == nil {
			return admin.NewProblem("no-index", http.StatusConflict, "There is no index here", "this node has not the role feed: ask one that has")
		}
		began := n.clock.Elapsed()
		to := c.Stream() // it tells the client that the call lives
		err := n.feed.RebuildSearch(c.Context())
		if errors.Is(err, feed.ErrUnavailable) {
			return admin.NewProblem("unavailable", http.StatusServiceUnavailable, "Not now", "%s", tools.OneLine(err))
		}
		if err != nil {
			return err
		}
		s := n.feed.SearchStats()
		return to.Send(admin.KindResult, searchState{Bytes: s.DiskBytes, Lag: s.Lag, Cursor: s.Cursor, Took: (n.clock.Elapsed() - began).Seconds()})
	})
}

// searchMetrics tells of the index.
func (n *node) searchMetrics(c *collector) {
	s := n.feed.SearchStats
	c.add(levels, "search_lag", "Changes that the index for search has not processed.", func() float64 { return float64(s().Lag) })
	c.add(levels, "search_bytes", "Room that the index for search takes on disk.", func() float64 { return float64(s().DiskBytes) })
	c.add(counts, "search_processed_total", "Changes that the index for search has processed.", func() float64 { return float64(s().Processed) })
	c.add(counts, "search_rebuilds_total", "Rebuilds of the index for search that were asked for.", func() float64 { return float64(s().Rebuilds) })
	c.add(counts, "search_wipes_total", "Times that the index for search began anew.", func() float64 { return float64(s().Wipes) })
}

func (n *node) searchNotice(e derived.Notice) {
	switch e.Kind {
	case derived.Wiped:
		n.log.Warn("the index for search starts empty and is derived again", "err", e.Err)
	case derived.StorageFailed:
		n.log.Error("the index for search: a background write failed and is tried again", "err", e.Err)
	case derived.Homeless:
		n.log.Error("the index for search: no directory is left, this node answers no searches", "err", e.Err)
	}
}

func newSearch() *cobra.Command {
	var f volumeFlags
	cmd := &cobra.Command{
		Use:   "search",
		Short: "Look after the index that search is answered from",
		Args:  wantArgs(0, 0, "one of its commands"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.define(cmd.PersistentFlags())
	var asJSON bool
	rebuild := &cobra.Command{
		Use:   "rebuild",
		Short: "Derive a node's index for search anew, and wait for it",
		Long: `Every node with the role feed keeps an index of its own, which follows by itself
and begins anew when it is lost or damaged. This derives it from the beginning on the
node that --admin names. The old index answers until the new one takes its place;
nothing is written anywhere else.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.running(cmd)
			if err != nil {
				return err
			}
			var s searchState
			err = o.remote.client.Stream(cmd.Context(), http.MethodPost, searchCalls+"/rebuild", &s, func(string, json.RawMessage, []byte) error { return nil })
			switch {
			case err != nil:
			case asJSON:
				err = printJSON(cmd.OutOrStdout(), s)
			default:
				took := time.Duration(s.Took * float64(time.Second)).Round(time.Millisecond)
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "rebuilt in %v: %s\n", took, roughly(int64(s.Bytes)))
			}
			return o.close(&f, err)
		},
	}
	rebuild.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	cmd.AddCommand(rebuild)
	return cmd
}
