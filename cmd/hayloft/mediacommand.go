package main

import (
	"fmt"
	"os"
	"path/filepath"

	"hayloft/media"

	"github.com/spf13/cobra"
)

// mediaWorkerCommand is the pure Go decoding child, played by this binary.
const mediaWorkerCommand = "media-worker"

func newMediaWorker() *cobra.Command {
	return &cobra.Command{
		Use:    mediaWorkerCommand,
		Short:  "The decoding child process in pure Go; started by the server",
		Hidden: true,
		Args:   wantArgs(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			return media.RunWorker(os.Stdin, os.Stdout, media.Limits{})
		},
	}
}

// mediaCommands are the decoding children to try in turn: the one that was
// named, and no other; else hayloft-media beside this binary, when it is there,
// and then this binary as a pure Go worker.
func mediaCommands(named string) ([][]string, error) {
	if named != "" {
		abs, err := filepath.Abs(named)
		if err == nil {
			err = executable(abs)
		}
		if err != nil {
			return nil, usagef("--media-command: %v", err)
		}
		return [][]string{{abs}}, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	commands := [][]string{{self, mediaWorkerCommand}}
	beside := filepath.Join(filepath.Dir(self), "hayloft-media")
	if executable(beside) == nil {
		commands = append([][]string{{beside}}, commands...)
	}
	return commands, nil
}

func executable(name string) error {
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	if st.IsDir() || st.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not executable", name)
	}
	return nil
}
