package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"

	"hayloft/internal/clock"
	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

// openStopped opens the directories of a stopped server as the server does, but
// without its listeners and its feed: numbers of generations are the directory's
// to give, and what is decided here the next start of the server knows.
func (f *volumeFlags) openStopped(cmd *cobra.Command) (*opened, error) {
	dirs, err := f.dirs()
	if err != nil {
		return nil, err
	}
	files, err := tools.OpenFiles(dirs)
	if err != nil {
		return nil, err
	}
	if used := files.Used(); len(used) > 0 {
		return nil, f.explain(fmt.Errorf("%s is %w", used[0], tools.ErrInUse), nil)
	}
	s, err := f.settings()
	if err != nil {
		return nil, err
	}
	n := &node{s: s, log: warnings(cmd.ErrOrStderr()), clock: clock.Real{}, metrics: newMetrics(), onRequest: true}
	n.work, n.stopWork = context.WithCancel(context.WithoutCancel(cmd.Context()))
	for _, part := range [][]string{{nodeFile}, directoryGroup} {
		if found := in(s.data, part...); !slices.ContainsFunc(found, exists) {
			return nil, fmt.Errorf("%s has no directory of volumes (%s is missing): name all data directories of the server", strings.Join(s.data, ", "), strings.Join(found, ", "))
		}
	}
	for _, step := range []func(context.Context) error{n.openData, n.openDirectoryAlone, n.openBlobs, n.allDisks} {
		if err := step(cmd.Context()); err != nil {
			return nil, errors.Join(err, n.stop())
		}
	}
	k := n.keeper()
	return &opened{Source: k, keeper: k, stop: n.stop}, nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// allDisks refuses to go on when some of the node's volumes lie elsewhere: what is
// done to all of them would leave those out.
func (n *node) allDisks(context.Context) error {
	missing := n.blobs.Stats().Missing
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("name all data directories of the server: disk %s, with %d volumes, is in none of %s", missing[0].UUID, missing[0].Volumes, strings.Join(n.s.data, ", "))
}

// warnings logs what an operator at a terminal must know.
func warnings(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
