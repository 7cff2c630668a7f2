package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	spreadReads()
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newRoot().ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "hayloft: %v\n", err)
		return exitUsage
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))):
		fmt.Fprintln(os.Stderr, "hayloft: interrupted")
		return exitFailed
	default:
		fmt.Fprintf(os.Stderr, "hayloft: %s\n", tools.OneLine(err))
		return exitFailed
	}
}

// usageError is a mistake in how the command was called: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "hayloft",
		Short:         "A self-hosted photo platform with a storage engine of its own",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q (see hayloft --help)", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v (see %s --help)", err, cmd.CommandPath())
	})
	root.AddCommand(newServer(), newDemo(), newPhoto(), newUser(), newFeed(), newOutbox(), newSearch(), newCert(), newBench(), newMediaWorker(), newVersion(),
		newVolume(), newEC(), newScrub(), newRescue(), newCluster(), newTorture(), newTortureWriter(), newBenchWriter(),
		newBenchBytes(), newBenchCacheNode())
	return root
}

// wantArgs refuses a wrong number of arguments as wrong usage.
func wantArgs(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 && cmd.HasSubCommands() {
			return usagef("%s has no command %q (see %s --help)", cmd.Name(), args[0], cmd.CommandPath())
		}
		if len(args) < least || most >= 0 && len(args) > most {
			return usagef("%s wants %s (see %s --help)", cmd.Name(), what, cmd.CommandPath())
		}
		return nil
	}
}
