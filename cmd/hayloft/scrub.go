package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"hayloft/volume/server"
	"hayloft/volume/tools"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

func newScrub() *cobra.Command {
	var f volumeFlags
	cmd := &cobra.Command{
		Use:   "scrub",
		Short: "Have everything on the disks read and repaired, and see how that stands",
		Long: `A server reads everything on its disks by itself, once in --scrub-every, and
repairs what it can. These commands ask a running server at its admin listener to
do so now, and how it stands. --data only says where the admin token is.`,
		Args: wantArgs(0, 0, "one of its commands"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := cmd.PersistentFlags()
	flags.StringSliceVar(&f.data, "data", nil, "data directories of the server: the token is in the first one")
	flags.StringVar(&f.admin, "admin", "http://127.0.0.1:9090", "admin listener of a running server")
	flags.StringVar(&f.tokenFile, "admin-token-file", "", "file with the admin token of the running server")
	flags.StringVar(&f.config, "config", "", "TOML file of the server, which names its data directory")
	cmd.AddCommand(newScrubRun(&f), newScrubStatus(&f))
	return cmd
}

// scrubber runs fn on the server that the flags name.
func (f *volumeFlags) scrubber(fn func(tools.Scrubber) error) error {
	r, err := f.connect()
	if err != nil {
		return err
	}
	defer r.client.Close()
	return f.explain(fn(r.volumes), r)
}

func newScrubRun(f *volumeFlags) *cobra.Command {
	var wait, asJSON bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Have everything read now; with --wait, exit code 1 when something cannot be repaired",
		Args:  wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.scrubber(func(s tools.Scrubber) error {
				if wait {
					return scrubAndWait(cmd, s, asJSON)
				}
				if err := s.ScrubStart(cmd.Context()); err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), map[string]bool{"running": true})
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "the scrub is under way: hayloft scrub status tells how far it is")
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "return when everything was read, and repaired if it can be")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// scrubResult is what scrub run --wait --json prints.
type scrubResult struct {
	Checked      int64 `json:"checked"`
	Corrupt      int64 `json:"corrupt"`
	Repaired     int64 `json:"repaired"`
	Unrepairable int64 `json:"unrepairable"`
}

func scrubAndWait(cmd *cobra.Command, s tools.Scrubber, asJSON bool) error {
	var now atomic.Pointer[tools.ScrubProgress]
	p := startProgress(cmd, func() string { return scrubLine(now.Load()) })
	r, err := s.ScrubRun(cmd.Context(), func(p tools.ScrubProgress) { now.Store(&p) })
	p.end()
	switch {
	case cmd.Context().Err() != nil:
		return fmt.Errorf("interrupted: the server goes on, and the same command waits for it: %w", cmd.Context().Err())
	case err != nil:
		return err
	case asJSON:
		err = printJSON(cmd.OutOrStdout(), scrubResult{r.Checked, r.Corrupt, r.Repaired, r.Unrepairable})
	default:
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d items of %s read: %d damaged, %d repaired, %d beyond repair\n",
			r.Checked, roughly(r.Bytes), r.Corrupt, r.Repaired, r.Unrepairable)
	}
	if notes := cmd.ErrOrStderr(); r.Quarantined > 0 || r.Notes > 0 {
		fmt.Fprintf(notes, "hayloft: note: %d foreign files were moved to the quarantine, %d others were left alone: the log names them\n", r.Quarantined, r.Notes)
	}
	switch {
	case err != nil:
	case r.Unrepairable > 0:
		err = fmt.Errorf("%d of %d findings cannot be repaired: the server's log names them", r.Unrepairable, r.Corrupt)
	case r.Left != "":
		err = fmt.Errorf("not everything was read: %s", r.Left)
	}
	return err
}

// scrubLine is one line of progress.
func scrubLine(p *tools.ScrubProgress) string {
	if p == nil {
		return "scrub: beginning"
	}
	const width = 20
	bar := make([]byte, width)
	for i := range bar {
		bar[i] = '-'
		if p.Total > 0 && int64(i)*p.Total < p.Done*width {
			bar[i] = '#'
		}
	}
	return fmt.Sprintf("scrub: [%s] %s of %s, %d damaged, %d repaired", bar, roughly(p.Done), roughly(p.Total), p.Corrupt, p.Repaired)
}

func newScrubStatus(f *volumeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print how the scrub of each disk stands",
		Args:  wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.scrubber(func(s tools.Scrubber) error {
				st, err := s.ScrubStatus(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), st)
				}
				return printScrub(cmd.OutOrStdout(), st)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func printScrub(w io.Writer, st tools.ScrubStatus) error {
	switch {
	case st.Running:
		fmt.Fprintln(w, scrubLine(&st.ScrubProgress))
	case st.Began != nil:
		fmt.Fprintf(w, "the scrub begun at %s has ended: %d items read, %d damaged, %d repaired, %d beyond repair\n",
			st.Began.Format(time.RFC3339), st.Checked, st.Corrupt, st.Repaired, st.Unrepairable)
	}
	for _, d := range st.Disks {
		fmt.Fprintf(w, "%s: %d items, %s", d.Data, d.Items, roughly(d.Bytes))
		if d.Oldest != nil {
			fmt.Fprintf(w, ", oldest reading %s", d.Oldest.Format(time.RFC3339))
		}
		if d.DueItems > 0 {
			fmt.Fprintf(w, ", %d to be read now", d.DueItems)
		}
		if d.Reading != "" {
			fmt.Fprintf(w, ", reading %s", d.Reading)
		}
		fmt.Fprintf(w, "\n  since the start: %s read, %d repaired, %d beyond repair", roughly(int64(d.ReadBytes)), d.Repaired, d.Unrepairable)
		for _, kind := range sortedKeys(d.Found) {
			fmt.Fprintf(w, ", %d %s", d.Found[kind], kind)
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys(m map[string]uint64) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// scrubEvent logs what a scrub found, and what became of it.
func scrubEvent(log *slog.Logger, e server.Event) {
	level, text := slog.LevelError, "scrub: found"
	switch {
	case e.Kind == server.EventScrubRepaired:
		level, text = slog.LevelInfo, "scrub: repaired"
	case e.Kind == server.EventScrubUnrepairable:
		text = "scrub: cannot be repaired now"
	case e.Scrub.Kind == server.ScrubForeign, e.Scrub.Kind == server.ScrubUnknown, e.Scrub.Kind == server.ScrubLeftover:
		level = slog.LevelWarn
	}
	f := e.Scrub
	args := []any{"kind", string(f.Kind), "file", f.File, "offset", f.Offset, "length", f.Length, "err", f.Err}
	if f.Key != 0 {
		args = append(args, "key", f.Key)
	}
	log.Log(context.Background(), level, text, args...)
}

// scrubMetrics shows the scrub of each disk.
type scrubMetrics struct {
	stats func() server.ScrubStatus
	now   func() time.Time
	disks []figure[*server.ScrubDisk]
	found *prometheus.Desc // labels disk, kind
}

func newScrubMetrics(stats func() server.ScrubStatus, now func() time.Time) *scrubMetrics {
	disk := []string{"disk"}
	gauge := func(name, help string, read func(*server.ScrubDisk) float64) figure[*server.ScrubDisk] {
		return newFigure(prometheus.GaugeValue, name, help, disk, read)
	}
	counter := func(name, help string, read func(*server.ScrubDisk) float64) figure[*server.ScrubDisk] {
		return newFigure(prometheus.CounterValue, name, help, disk, read)
	}
	return &scrubMetrics{stats: stats, now: now, disks: []figure[*server.ScrubDisk]{
		gauge("scrub_oldest_seconds", "Time since the item was read whole, or first seen, for which that is longest ago.", func(d *server.ScrubDisk) float64 {
			if d.Oldest.IsZero() {
				return 0
			}
			return max(0, now().Sub(d.Oldest).Seconds())
		}),
		gauge("scrub_bytes", "Bytes on the disk that scrubs read.", func(d *server.ScrubDisk) float64 { return float64(d.Bytes) }),
		gauge("scrub_due_bytes", "Bytes of them that are to be read at once.", func(d *server.ScrubDisk) float64 { return float64(d.DueBytes) }),
		counter("scrub_read_bytes_total", "Bytes that scrubs read.", func(d *server.ScrubDisk) float64 { return float64(d.ReadBytes) }),
		counter("scrub_repaired_total", "Findings that were repaired, and read back.", func(d *server.ScrubDisk) float64 { return float64(d.Repaired) }),
		counter("scrub_unrepairable_total", "Findings that could not be repaired.", func(d *server.ScrubDisk) float64 { return float64(d.Unrepairable) }),
	}, found: prometheus.NewDesc("hayloft_scrub_findings_total", "What scrubs found, by kind.", []string{"disk", "kind"}, nil)}
}

// Describe implements prometheus.Collector.
func (m *scrubMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range m.disks {
		ch <- f.desc
	}
	ch <- m.found
}

// Collect implements prometheus.Collector.
func (m *scrubMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, d := range m.stats().Disks {
		for _, f := range m.disks {
			ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.read(&d), d.Dir)
		}
		for kind, n := range d.Found {
			ch <- prometheus.MustNewConstMetric(m.found, prometheus.CounterValue, float64(n), d.Dir, string(kind))
		}
	}
}
