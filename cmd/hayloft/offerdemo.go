package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
)

// demoFile, in every data directory, says that they have the demo: one line with how far it
// has come and the secret from which its passwords are made. It is written
// before the first account, so that a start that was cut short is gone on with.
const demoFile = "demo-login"

const (
	demoBegun  = "begun"
	demoLoaded = "loaded"
)

// demoNote is the file in every data directory. Of two copies that differ only in
// how far the demo has come, a start or a disk was cut short between them.
var demoNote = kept{
	name:  demoFile,
	valid: func(file string, text []byte) error { _, _, err := parseDemo(file, text); return err },
	merge: func(a, b []byte) ([]byte, bool) {
		state, secret, _ := parseDemo(demoFile, a)
		_, other, _ := parseDemo(demoFile, b)
		if state == demoLoaded {
			return a, secret == other
		}
		return b, secret == other
	},
}

func parseDemo(file string, text []byte) (state, secret string, err error) {
	if _, err := fmt.Sscan(string(text), &state, &secret); err != nil {
		return "", "", fmt.Errorf("%s can't be read: %w", file, err)
	}
	return state, secret, nil
}

// beginDemo notes that the demo belongs to new data directories.
func beginDemo(dirs []string) error { return noteDemo(dirs, demoBegun, rand.Text()[:12]) }

func noteDemo(dirs []string, state, secret string) error {
	_, err := demoNote.spread(dirs, []byte(state+" "+secret+"\n"))
	return err
}

// offerDemo loads what the demo still lacks and prints its login; directories that
// are not the demo's are left alone.
func offerDemo(ctx context.Context, dirs []string, base string, stdout io.Writer, log *slog.Logger) {
	text, lack, err := demoNote.read(dirs)
	if err == nil && text == nil {
		log.Info("the data directory is not new: no demo is loaded", "url", base)
		return
	}
	if err != nil {
		log.Error("the demo's login can't be read", "err", err)
		return
	}
	state, secret, _ := parseDemo(demoFile, text) // read has tried
	if state != demoLoaded {
		if err := loadDemo(ctx, base, secret, stdout); err != nil {
			log.Error("the demo could not be loaded; the next start goes on", "err", err)
			return
		}
		lack = dirs
	}
	if err := noteDemo(lack, demoLoaded, secret); err != nil {
		log.Error("the demo's state could not be noted", "err", err)
	}
	fmt.Fprintf(stdout, "\n  open      %s\n  sign in   %s\n  password  %s\n\n", base, demoHandle, demoPassword(demoHandle, secret))
}
