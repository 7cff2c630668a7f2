package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"

	"hayloft/internal/vfs"
)

// demoFile says that a data directory has the demo: one line with how far it
// has come and the secret from which its passwords are made. It is written
// before the first account, so that a start that was cut short is gone on with.
const demoFile = "demo-login"

const (
	demoBegun  = "begun"
	demoLoaded = "loaded"
)

// beginDemo notes that the demo belongs to a new data directory.
func beginDemo(dir string) error { return noteDemo(dir, demoBegun, rand.Text()[:12]) }

func noteDemo(dir, state, secret string) error {
	return vfs.WriteFile(vfs.OS{}, filepath.Join(dir, demoFile), []byte(state+" "+secret+"\n"))
}

// offerDemo loads what the demo still lacks and prints its login; a directory
// that is not the demo's is left alone.
func offerDemo(ctx context.Context, dir, base string, stdout io.Writer, log *slog.Logger) {
	name := filepath.Join(dir, demoFile)
	text, err := vfs.ReadFile(vfs.OS{}, name, 256)
	if errors.Is(err, fs.ErrNotExist) {
		log.Info("the data directory is not new: no demo is loaded", "url", base)
		return
	}
	var state, secret string
	if _, serr := fmt.Sscan(string(text), &state, &secret); err != nil || serr != nil {
		log.Error("the demo's login can't be read", "file", name, "err", errors.Join(err, serr))
		return
	}
	if state != demoLoaded {
		if err := loadDemo(ctx, base, secret, stdout); err != nil {
			log.Error("the demo could not be loaded; the next start goes on", "err", err)
			return
		}
		if err := noteDemo(dir, demoLoaded, secret); err != nil {
			log.Error("the demo's state could not be noted", "err", err)
		}
	}
	fmt.Fprintf(stdout, "\n  open      %s\n  sign in   %s\n  password  %s\n\n", base, demoHandle, demoPassword(demoHandle, secret))
}
