package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"hayloft/directory/plan"
	"hayloft/directory/steward"

	"github.com/spf13/cobra"
)

// placing is a command about where replicas are: it shows a plan, has the steward
// carry it out, and waits for that.
type placing struct {
	f                   volumeFlags
	disk                uint32
	apply, wait, asJSON bool
	undo                bool
}

// placingNote ends the help of each.
const placingNote = `

Without --apply it prints what would be done and changes nothing. With it the wish is
recorded and the command returns: the work goes on by itself, a few volumes at a time,
survives restarts, and shows in hayloft cluster work. --wait stays until it is done.`

func (p *placing) define(cmd *cobra.Command) *cobra.Command {
	p.f.define(cmd.Flags())
	cmd.Long += placingNote
	flags := cmd.Flags()
	flags.BoolVar(&p.apply, "apply", false, "have it done")
	flags.BoolVar(&p.wait, "wait", false, "with --apply, return when it is done")
	flags.BoolVar(&p.asJSON, "json", false, "print everything as JSON")
	return cmd
}

// target is the node or disk that the arguments name.
func (p *placing) target(cmd *cobra.Command, args []string) (q url.Values, name string, err error) {
	if (len(args) == 1) == (p.disk != 0) {
		return nil, "", usagef("%s wants the name of a node, or --disk D (see %s --help)", cmd.Name(), cmd.CommandPath())
	}
	if p.disk != 0 {
		return url.Values{"disk": {strconv.Itoa(int(p.disk))}}, fmt.Sprintf("disk %d", p.disk), nil
	}
	return url.Values{"node": {args[0]}}, "node " + args[0], nil
}

func newClusterDrain() *cobra.Command {
	p := &placing{}
	cmd := p.define(&cobra.Command{
		Use:   "drain NODE | --disk D",
		Short: "Move everything away from a node or a disk",
		Long: `Nothing new is put on the node or disk, and each volume there gets a replica
elsewhere; only when that is in sync the one there goes. Photos are served all the
while. What is written there at the moment is closed, and moves when it is sealed. A volume for which no
other disk can be found stays, and is named. --undo ends it: what has not moved stays.`,
		Args: wantArgs(0, 1, "the name of a node, or --disk D"),
		RunE: func(cmd *cobra.Command, args []string) error { return p.leave(cmd, args, false) },
	})
	cmd.Flags().Uint32Var(&p.disk, "disk", 0, "the number of a disk, in place of a node")
	cmd.Flags().BoolVar(&p.undo, "undo", false, "take it back: replicas may be put there again")
	return cmd
}

func newClusterDecommission() *cobra.Command {
	p := &placing{}
	cmd := p.define(&cobra.Command{
		Use:     "decommission NODE | --disk D",
		Aliases: []string{"leave"},
		Short:   "Move everything away from a node or a disk, and then declare it gone",
		Long: `As hayloft cluster drain does; when nothing is left there the node or disk is
declared gone, loses its votes, and may be switched off for good. Until then
hayloft cluster drain --undo takes it back.`,
		Args: wantArgs(0, 1, "the name of a node, or --disk D"),
		RunE: func(cmd *cobra.Command, args []string) error { return p.leave(cmd, args, true) },
	})
	cmd.Flags().Uint32Var(&p.disk, "disk", 0, "the number of a disk, in place of a node")
	return cmd
}

// leave is drain, decommission and their end.
func (p *placing) leave(cmd *cobra.Command, args []string, gone bool) error {
	q, name, err := p.target(cmd, args)
	if err != nil {
		return err
	}
	if p.undo {
		if p.wait {
			return usagef("--undo is done at once: there is nothing to --wait for")
		}
		return p.with(cmd, func(r *remoteServer) error { return p.tellDone(cmd, r, "keep", q, name+" is not draining any more") })
	}
	call, done := "drain", name+" is draining"
	if gone {
		done += ", to be gone when it is empty"
	}
	return p.with(cmd, func(r *remoteServer) error {
		if !p.apply {
			return p.show(cmd, r, q)
		}
		set := url.Values{}
		for k, v := range q {
			set[k] = v
		}
		if gone {
			set.Set("then", "gone")
		}
		if err := p.tellDone(cmd, r, call, set, done); err != nil || !p.wait {
			return err
		}
		var plan steward.Foreseen // names the number of the node
		if err := r.client.Get(cmd.Context(), clusterCalls+"/plan?"+q.Encode(), &plan); err != nil {
			return err
		}
		return p.await(cmd, r, name, func(s *steward.Status) (bool, error) {
			for _, l := range s.Leaving {
				if l.Disk == plan.Disk && (l.Disk != 0 || l.Node == plan.Node) {
					return !gone && l.Left.Empty(), nil
				}
			}
			if !gone {
				return false, fmt.Errorf("%s is not draining any more", name)
			}
			return true, nil
		})
	})
}

func newClusterBalance() *cobra.Command {
	p := &placing{}
	tolerance := 0.05
	cmd := p.define(&cobra.Command{
		Use:   "balance",
		Short: "Move volumes until disks are equally full",
		Long: `Moves volumes from fuller disks to emptier ones, by the room that is really free,
until none differ by more than --tolerance; and replicas that could be farther apart,
on different zones, racks or hosts. No volume comes to be less well spread by it.
--undo ends it.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !(tolerance > 0 && tolerance < 1) {
				return usagef("--tolerance %v: a part from 0 to 1", tolerance)
			}
			q := url.Values{"balance": {strconv.FormatFloat(tolerance, 'g', -1, 64)}}
			return p.with(cmd, func(r *remoteServer) error {
				switch {
				case p.undo:
					return p.tellDone(cmd, r, "balance", url.Values{"balance": {"0"}}, "no more volumes begin to move")
				case !p.apply:
					return p.show(cmd, r, q)
				}
				if err := p.tellDone(cmd, r, "balance", q, "balancing"); err != nil || !p.wait {
					return err
				}
				return p.await(cmd, r, "balance", func(s *steward.Status) (bool, error) { return s.Intent.Balance == 0, nil })
			})
		},
	})
	cmd.Flags().Float64Var(&tolerance, "tolerance", tolerance, "the difference of fullness that may be left, a part from 0 to 1")
	cmd.Flags().BoolVar(&p.undo, "undo", false, "end it")
	return cmd
}

func newClusterRepair() *cobra.Command {
	p := &placing{}
	return p.define(&cobra.Command{
		Use:   "repair",
		Short: "Make what is away again elsewhere now",
		Long: `Volumes with fewer copies than they should have get others by themselves, after
--repair-delay when a node or a disk is only away. This does not wait for those that
are away now: their replicas are made elsewhere until they are back.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.with(cmd, func(r *remoteServer) error {
				if !p.apply {
					return p.show(cmd, r, url.Values{"now": {"1"}})
				}
				if err := p.tellDone(cmd, r, "repair", nil, "what is away is made again elsewhere"); err != nil || !p.wait {
					return err
				}
				return p.await(cmd, r, "repair", func(s *steward.Status) (bool, error) {
					left := s.Filling.Steps + s.Ahead[string(plan.Repair)].Steps + s.Ahead[string(plan.Raise)].Steps
					if left == 0 && s.Lacking > 0 {
						return true, fmt.Errorf("%d volumes cannot be helped as things are: %v", s.Lacking, s.Lacks[0])
					}
					return left == 0, nil
				})
			})
		},
	})
}

// with runs fn with the server that is meant.
func (p *placing) with(cmd *cobra.Command, fn func(*remoteServer) error) error {
	if p.wait && !p.apply {
		return usagef("--wait goes with --apply")
	}
	o, err := p.f.running(cmd)
	if err != nil {
		return err
	}
	return o.close(&p.f, fn(o.remote))
}

// show prints a plan.
func (p *placing) show(cmd *cobra.Command, r *remoteServer, q url.Values) error {
	var f steward.Foreseen
	if err := r.client.Get(cmd.Context(), clusterCalls+"/plan?"+q.Encode(), &f); err != nil {
		return err
	}
	if p.asJSON {
		return printJSON(cmd.OutOrStdout(), f)
	}
	if err := printForeseen(cmd.OutOrStdout(), &f); err != nil {
		return err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "hayloft: nothing was changed: --apply does it")
	return nil
}

// maxShown is how many steps and lacks are printed.
const maxShown = 20

func printForeseen(out io.Writer, f *steward.Foreseen) error {
	list(out, f.Steps)
	list(out, f.Lacks)
	adds := 0
	for _, s := range f.Steps {
		if s.Op == plan.Add {
			adds++
		}
	}
	text := fmt.Sprintf("%d replicas to make, %s to copy", adds, roughly(f.Bytes))
	if f.Left.Disks > 0 {
		text += fmt.Sprintf("; there are %d replicas now, %s", f.Left.Replicas, roughly(f.Left.Bytes))
		if f.Left.Unsealed > 0 {
			text += fmt.Sprintf(", %d of them not sealed yet", f.Left.Unsealed)
		}
		if f.Left.Shards > 0 {
			text += fmt.Sprintf(", and %d shards", f.Left.Shards)
		}
	}
	if n := f.Lacking; n > 0 {
		text += fmt.Sprintf("; %d volumes CANNOT be helped as things are", n)
	}
	_, err := fmt.Fprintln(out, text)
	return err
}

// list prints some of what there is.
func list[T fmt.Stringer](out io.Writer, all []T) {
	for i, s := range all {
		if i == maxShown {
			fmt.Fprintf(out, "and %d more: --json has all\n", len(all)-i)
			return
		}
		fmt.Fprintln(out, s)
	}
}

// tellDone makes a call that changes something, and says so.
func (p *placing) tellDone(cmd *cobra.Command, r *remoteServer, call string, q url.Values, done string) error {
	var i steward.Intent
	path := clusterCalls + "/" + call
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	if err := r.client.Stream(cmd.Context(), http.MethodPost, path, &i, func(string, json.RawMessage, []byte) error { return nil }); err != nil {
		return err
	}
	if p.asJSON {
		if p.wait {
			return nil // what is printed is how it ended
		}
		return printJSON(cmd.OutOrStdout(), i)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), done)
	return err
}

// pollEvery is how often a command that waits asks.
const pollEvery = 2 * time.Second

// await asks until done.
func (p *placing) await(cmd *cobra.Command, r *remoteServer, what string, done func(*steward.Status) (bool, error)) error {
	var last atomic.Pointer[steward.Status]
	bar := startProgress(cmd, func() string { return what + ": " + tellWork(last.Load()) })
	defer bar.end()
	ctx := cmd.Context()
	silent := 0
	for {
		s := &steward.Status{}
		err := r.client.Get(ctx, clusterCalls+"/work", s)
		switch {
		case err == nil:
			silent = 0
			last.Store(s)
			ready, err := done(s)
			if err != nil || ready {
				if p.asJSON {
					return errors.Join(printJSON(cmd.OutOrStdout(), s), err)
				}
				if err == nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: done\n", what)
				}
				return err
			}
		case ctx.Err() != nil:
			return ctx.Err()
		default: // a server that starts again is waited for
			if silent++; silent > 30 {
				return fmt.Errorf("the work goes on, and cannot be followed: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollEvery):
		}
	}
}

// tellWork is one line.
func tellWork(s *steward.Status) string {
	if s == nil {
		return "no answer yet"
	}
	steps, bytes := 0, int64(0)
	for _, a := range s.Ahead {
		steps += a.Steps
		bytes += a.Bytes
	}
	text := fmt.Sprintf("%d replicas under way (%s), %d steps ahead (%s)", s.Filling.Steps, roughly(s.Filling.Bytes), steps, roughly(bytes))
	if s.Lacking > 0 {
		text += fmt.Sprintf("; %d volumes wait: %v", s.Lacking, s.Lacks[0])
	}
	return text
}
