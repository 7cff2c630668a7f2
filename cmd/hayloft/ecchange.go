package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hayloft/volume"
	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

var errNoPolicy = errors.New("the server has no policy for coding: start it with --ec K+M")

// encoding is what ec encode does.
func encoding() change {
	policy := ""
	return change{
		verb: "encode", doing: "encoding", done: "coded",
		look: func(ctx context.Context, k tools.Keeper) error {
			if k == nil {
				return nil // the plan for files of a stopped server
			}
			list, err := k.Coded(ctx)
			if err == nil && list.Policy == "" {
				err = errNoPolicy
			}
			policy = list.Policy
			return err
		},
		skip: func(r tools.Row, all bool) (string, error) {
			switch {
			case !r.Readable():
				return "", fmt.Errorf("it cannot be opened: %s", r.Error)
			case r.State == tools.StateCoded:
				return "it is coded", nil
			case r.Empty() && (all || r.State == tools.StateOpen):
				return "it holds nothing", nil
			}
			return "", nil
		},
		more: func(changed) string {
			if policy == "" {
				return "as the server's --ec says"
			}
			return "as " + policy
		},
		do: func(ctx context.Context, k tools.Keeper, v volume.ID, report func(tools.Progress)) (string, error) {
			if err := k.Encode(ctx, v, report); err != nil {
				return "", err
			}
			c, err := oneCoded(ctx, k, v)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("coded as %s, epoch %d, %s; any %s may be lost", c.Policy, c.Epoch, roughly(c.Bytes), disks(c.Survives)), nil
		},
	}
}

func newECEncode(f *volumeFlags) *cobra.Command {
	return newVolumeChange(f, encoding(), &cobra.Command{
		Use:   "encode VOLUME...|--all",
		Short: "Cut volumes into shards now, whatever their age",
		Long: `Codes volumes as the server's --ec says: open ones are sealed first (what writes to
one goes on with a new one), dead needles are left out, all shards are written and
read back from their disks, and then they serve. The file that was coded is kept for
--ec-grace longer. Photos are served all the while. --all takes originals and
variants, and leaves volumes alone that hold nothing. It takes enough disks that none
has more than M shards of a volume: (K+M)/M of them, rounded up.`,
	})
}

// rebuilding is what ec rebuild does.
func rebuilding() change {
	var coded map[volume.ID]tools.Coded // nil: nobody to ask
	return change{
		verb: "rebuild", doing: "rebuilding", done: "rebuilt",
		look: func(ctx context.Context, k tools.Keeper) error {
			if k == nil {
				return nil
			}
			list, err := k.Coded(ctx)
			coded = make(map[volume.ID]tools.Coded)
			for _, c := range list.Volumes {
				coded[c.ID] = c
			}
			return err
		},
		skip: func(r tools.Row, all bool) (string, error) {
			c, known := coded[r.ID]
			switch {
			case r.ShardsOf == nil && all:
				return "it is not coded", nil
			case r.ShardsOf == nil:
				return "", errors.New("it is not coded")
			case known && c.Health == tools.HealthLost:
				return "", fmt.Errorf("it cannot be made again: %s", c.Trouble())
			case !r.Readable():
				return "", fmt.Errorf("it cannot be opened: %s", r.Error)
			case known && c.Health == tools.HealthRedundant, !known && *r.Shards == *r.ShardsOf:
				return "all its shards are there", nil
			}
			return "", nil
		},
		more: func(p changed) string {
			if c, ok := coded[p.ID]; ok {
				return c.Trouble()
			}
			return "shards are missing"
		},
		do: func(ctx context.Context, k tools.Keeper, v volume.ID, report func(tools.Progress)) (string, error) {
			if err := k.Rebuild(ctx, v, report); err != nil {
				return "", err
			}
			c, err := oneCoded(ctx, k, v)
			if err == nil && c.Health != tools.HealthRedundant {
				err = unfinished{fmt.Errorf("it is %s still, %s", c.Health, c.Trouble())}
			}
			return fmt.Sprintf("rebuilt: %d of %d shards whole; any %s may be lost", c.Whole(), len(c.Shards), disks(c.Survives)), err
		},
	}
}

// unfinished is an error that says something of one volume alone.
type unfinished struct{ error }

func newECRebuild(f *volumeFlags) *cobra.Command {
	return newVolumeChange(f, rebuilding(), &cobra.Command{
		Use:   "rebuild VOLUME...|--all",
		Short: "Make lost and damaged shards again now",
		Long: `Makes shards again that are away or damaged, out of any K others, on the disk that
had them if that is there and else on another one, and reads them back from there.
The server does so by itself, after --repair-delay when a disk may come back; this
does not wait. K shards of a volume are read however many are made. A volume of
which fewer than K are left cannot be rebuilt: see ec status.`,
	})
}

// oneCoded is how a coded volume is.
func oneCoded(ctx context.Context, k tools.Keeper, v volume.ID) (tools.Coded, error) {
	list, err := k.Coded(ctx)
	if err != nil {
		return tools.Coded{}, err
	}
	i := slices.IndexFunc(list.Volumes, func(c tools.Coded) bool { return c.ID == v })
	if i < 0 {
		return tools.Coded{}, fmt.Errorf("%w: %d", tools.ErrNotCoded, v)
	}
	return list.Volumes[i], nil
}
