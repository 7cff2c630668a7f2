package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"hayloft/volume"
	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

// change is one of the commands that change volumes.
type change struct {
	verb, doing, done string // seal, sealing, sealed
	// look finds out what the rows do not tell, before anything is planned; nil:
	// nothing. keeper is nil for the files of a stopped server.
	look func(ctx context.Context, keeper tools.Keeper) error
	// more is what a plan says of a volume besides, or nil.
	more func(changed) string
	// skip says why an asked-for volume needs nothing, or "". An error is that
	// it cannot be done.
	skip func(r tools.Row, all bool) (string, error)
	do   func(ctx context.Context, k tools.Keeper, v volume.ID, report func(tools.Progress)) (string, error)
}

var sealing = change{
	verb: "seal", doing: "sealing", done: "sealed",
	skip: func(r tools.Row, _ bool) (string, error) {
		switch {
		case !r.Readable():
			return "", fmt.Errorf("it cannot be opened: %s", r.Error)
		case r.Sealed():
			return "it is sealed", nil
		}
		return "", nil
	},
	do: func(ctx context.Context, k tools.Keeper, v volume.ID, report func(tools.Progress)) (string, error) {
		return "sealed", k.Seal(ctx, v, report)
	},
}

var compacting = change{
	verb: "compact", doing: "compacting", done: "compacted",
	skip: func(r tools.Row, all bool) (string, error) {
		switch {
		case !r.Readable():
			return "", fmt.Errorf("it cannot be opened: %s", r.Error)
		case !r.Sealed() && all:
			return "it is not sealed", nil
		case !r.Sealed():
			return "", fmt.Errorf("it is %s: seal it first", r.State)
		case r.State == tools.StateCoding || r.InGrace():
			why := "it is being coded"
			if r.InGrace() {
				why = "its source is kept yet beside its shards: it can be compacted when that is released"
			}
			if all {
				return why, nil
			}
			return "", errors.New(why)
		case r.Garbage() == 0:
			return "it holds nothing but live needles", nil
		}
		return "", nil
	},
	more: func(p changed) string { return roughly(p.Garbage) + " to give back" },
	do: func(ctx context.Context, k tools.Keeper, v volume.ID, report func(tools.Progress)) (string, error) {
		c, err := k.Compact(ctx, v, report)
		return fmt.Sprintf("compacted from %s to %s, %d needles, generation %d", roughly(c.Before), roughly(c.After), c.Needles, c.Generation), err
	},
}

func newVolumeSeal(f *volumeFlags) *cobra.Command {
	return newVolumeChange(f, sealing, &cobra.Command{
		Use:   "seal VOLUME...|--all",
		Short: "Fix the contents of volumes: nothing is appended to them any more",
		Long: `Seals volumes: what writes to one goes on with a new one, every byte is read
back from the device, and the digest of its needles is kept in the directory. A
sealed volume is served as before, takes deletes, and can be compacted. The
server seals full and old volumes by itself. Of a volume that is poisoned by a
failed write or sync, what was acknowledged is made its next generation, sealed.`,
	})
}

func newVolumeCompact(f *volumeFlags) *cobra.Command {
	share, c := 0.0, compacting
	c.skip = func(r tools.Row, all bool) (string, error) {
		why, err := compacting.skip(r, all)
		if err == nil && why == "" && all && float64(r.Garbage()) < share*float64(*r.FileBytes) {
			why = "it has less garbage than that"
		}
		return why, err
	}
	cmd := newVolumeChange(f, c, &cobra.Command{
		Use:   "compact VOLUME...|--all",
		Short: "Rewrite sealed volumes without what was deleted from them",
		Long: `Writes the next generation of sealed volumes, without deleted needles, verifies
it from the device, puts it into service and removes the former one. Photos are
served meanwhile. A disk needs room for one volume more. The server compacts
volumes with much garbage by itself.`,
	})
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if !(share >= 0 && share <= 1) {
			return usagef("--garbage %v: a share from 0 to 1", share)
		}
		return nil
	}
	cmd.Flags().Float64Var(&share, "garbage", 0, "with --all, only volumes of which at least this share is garbage")
	return cmd
}

// changed is what became of one volume, as JSON.
type changed struct {
	ID      volume.ID `json:"id"`
	Class   *string   `json:"class"`
	State   string    `json:"state"` // before
	Needles *int64    `json:"needles"`
	Garbage int64     `json:"garbage_bytes"`
	Applied bool      `json:"applied"`
	Note    string    `json:"note,omitempty"`
	Error   string    `json:"error,omitempty"`
}

func newVolumeChange(f *volumeFlags, c change, cmd *cobra.Command) *cobra.Command {
	var all, apply, asJSON bool
	cmd.Long += `

Prints what it would do, and does it with --apply; then it returns when all is
done. Interrupted, a running server goes on, and the same command waits for it
again. Volumes that need nothing are left alone, so that it can be repeated.
Offline (--data) it opens the directories as the server does, all of which must
be named, the one with the metadata first.`
	cmd.Args = wantArgs(0, -1, "numbers of volumes, or --all")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) > 0) {
			return usagef("%s wants numbers of volumes, or --all (see %s --help)", c.verb, cmd.CommandPath())
		}
		return c.run(cmd, f, args, apply, asJSON)
	}
	cmd.Flags().BoolVar(&all, "all", false, "every volume that needs it")
	cmd.Flags().BoolVar(&apply, "apply", false, "do it, rather than to say what would be done")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func (c *change) run(cmd *cobra.Command, f *volumeFlags, args []string, apply, asJSON bool) error {
	open := func() (*opened, error) { return f.open(cmd, true) }
	if apply && !f.online(cmd) {
		open = func() (*opened, error) { return f.openStopped(cmd) }
	}
	o, err := open()
	if err != nil {
		return err
	}
	if c.look != nil {
		err = c.look(cmd.Context(), o.keeper)
	}
	var plan []changed
	if err == nil {
		plan, err = c.plan(cmd.Context(), o, args)
	}
	switch {
	case err != nil:
	case apply:
		err = c.apply(cmd, o.keeper, plan, asJSON)
	default:
		err = c.print(cmd, plan, asJSON)
	}
	return o.close(f, err)
}

// plan lists what is to be done. A volume that was asked for and cannot be
// changed ends it before anything is.
func (c *change) plan(ctx context.Context, o *opened, args []string) ([]changed, error) {
	ids, err := o.wanted(ctx, args)
	if err != nil {
		return nil, err
	}
	rows, err := o.List(ctx)
	if err != nil {
		return nil, err
	}
	plan := []changed{}
	for _, v := range ids {
		i := slices.IndexFunc(rows, func(r tools.Row) bool { return r.ID == v })
		if i < 0 {
			continue // gone since
		}
		r := rows[i]
		why, err := c.skip(r, len(args) == 0)
		p := changed{ID: v, Class: r.Class, State: r.State, Needles: r.Needles, Garbage: r.Garbage(), Note: why}
		if err != nil && len(args) > 0 {
			return nil, fmt.Errorf("volume %d: %w", v, err)
		}
		if err != nil {
			p.Error = err.Error()
		}
		if why == "" || len(args) > 0 {
			plan = append(plan, p)
		}
	}
	return plan, nil
}

// print shows a plan.
func (c *change) print(cmd *cobra.Command, plan []changed, asJSON bool) error {
	out, todo := cmd.OutOrStdout(), 0
	for _, p := range plan {
		if p.Note == "" && p.Error == "" {
			todo++
		}
	}
	if asJSON {
		if err := printJSON(out, plan); err != nil {
			return err
		}
	} else {
		for _, p := range plan {
			if err := c.printPlanned(out, p); err != nil {
				return err
			}
		}
	}
	if todo == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "hayloft: nothing to %s\n", c.verb)
	} else {
		fmt.Fprintf(cmd.ErrOrStderr(), "hayloft: nothing was changed: --apply does it\n")
	}
	return nil
}

func (c *change) printPlanned(out io.Writer, p changed) error {
	what := fmt.Sprintf("would be %s: %s, %s, %s needles", c.done, orUnknown(p.Class, plain), p.State, orUnknown(p.Needles, plain))
	switch {
	case p.Error != "":
		what = "is left alone: " + p.Error
	case p.Note != "":
		what = "is left alone: " + p.Note
	case c.more != nil:
		what += ", " + c.more(p)
	}
	_, err := fmt.Fprintf(out, "volume %d %s\n", p.ID, what)
	return err
}

// apply does what is planned, one volume after another. One that fails does
// not keep the others from it.
func (c *change) apply(cmd *cobra.Command, k tools.Keeper, plan []changed, asJSON bool) error {
	s := &steps{verb: c.done, total: len(plan)}
	p := startProgress(cmd, s.tell)
	var failed int
	var err error
	for i := range plan {
		if err = c.applyOne(cmd, k, &plan[i], s.report, asJSON); err != nil {
			break
		}
		s.next()
		if plan[i].Error != "" {
			failed++
		}
	}
	p.end()
	switch {
	case err != nil:
		return err
	case asJSON:
		err = printJSON(cmd.OutOrStdout(), plan)
	case len(plan) == 0:
		fmt.Fprintf(cmd.ErrOrStderr(), "hayloft: nothing to %s\n", c.verb)
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d volumes could not be %s", failed, len(plan), c.done)
	}
	return err
}

// applyOne changes one volume. The error is one that ends the command: the
// server is gone, or nobody wants it any more.
func (c *change) applyOne(cmd *cobra.Command, k tools.Keeper, p *changed, report func(tools.Progress), asJSON bool) error {
	out := cmd.OutOrStdout()
	if p.Error == "" && p.Note == "" {
		note, err := c.do(cmd.Context(), k, p.ID, report)
		switch {
		case err == nil:
			p.Applied, p.Note = true, note
		case cmd.Context().Err() != nil:
			return fmt.Errorf("interrupted while %s volume %d: a running server goes on with it, and the same command takes it up again", c.doing, p.ID)
		case !tools.OfVolume(err) && !errors.As(err, new(unfinished)):
			return fmt.Errorf("%s volume %d: %w", c.doing, p.ID, err)
		default:
			p.Error = tools.OneLine(err)
		}
	}
	if asJSON {
		return nil
	}
	if p.Error != "" {
		_, err := fmt.Fprintf(cmd.ErrOrStderr(), "hayloft: volume %d: %s\n", p.ID, p.Error)
		return err
	}
	_, err := fmt.Fprintf(out, "volume %d: %s\n", p.ID, p.Note)
	return err
}
