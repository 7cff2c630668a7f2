package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// readyPrefix begins the one line on standard output that says where the server
// serves; scripts and tests wait for it.
const readyPrefix = "hayloft: serving on "

// drainTimeout bounds a clean stop: requests in flight may take that long.
const drainTimeout = 15 * time.Second

func newServer() *cobra.Command {
	s := &settings{}
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run Hayloft: every role in one process",
		Args:  wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := resolve(cmd.Flags(), os.LookupEnv)
			if err != nil {
				return usageError{err}
			}
			if err := s.validate(); err != nil {
				return err
			}
			if s.printConfig {
				return printSettings(cmd.OutOrStdout(), cmd.Flags(), from)
			}
			return serve(cmd.Context(), s, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	s.define(cmd.Flags())
	return cmd
}

// serve runs until ctx ends (a signal) or a part fails, then drains and stops.
func serve(ctx context.Context, s *settings, stdout, stderr io.Writer) (err error) {
	log := newLogger(s.logFormat, stderr)
	public, err := listen("listen", s.listen)
	if err != nil {
		return err
	}
	defer public.Close()
	adminL, err := listen("admin-listen", s.adminListen)
	if err != nil {
		return err
	}
	defer adminL.Close()
	if s.demo && !loopbackListener(public) {
		return usagef("--demo is for loopback only, not for %s", s.listen)
	}
	base := "http://" + public.Addr().String()
	if s.publicURL == "" {
		s.publicURL = base
	}
	if s.mediaURL == "" {
		s.mediaURL = s.publicURL
	}
	s.publicURL, s.mediaURL = strings.TrimRight(s.publicURL, "/"), strings.TrimRight(s.mediaURL, "/")

	began := time.Now()
	n, err := startNode(ctx, s, log)
	if err != nil {
		return err
	}
	failed := make(chan error, 3)
	adm := newAdmin(n.ready, log)
	if err := errors.Join(n.register(adm.registry), n.startWork(failed)); err != nil {
		return errors.Join(err, n.stop(ctx))
	}
	go func() { failed <- adm.serve(adminL) }()
	go func() { failed <- n.api.Serve(public) }()
	log.Info("ready", "url", base, "admin", "http://"+adminL.Addr().String(), "after", time.Since(began).Round(time.Millisecond))
	fmt.Fprintf(stdout, "%s%s\n", readyPrefix, base)
	if s.demo {
		go offerDemo(ctx, s, n.who.fresh, base, stdout, log)
	}

	select {
	case <-ctx.Done():
		log.Info("stopping", "drain_at_most", drainTimeout)
	case err = <-failed:
		log.Error("a part failed: stopping", "err", err)
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	return errors.Join(err, n.stop(stopCtx), adm.stop(stopCtx))
}

func listen(flag, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return l, nil
}

func loopbackListener(l net.Listener) bool {
	a, ok := l.Addr().(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

func newLogger(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// demoFile keeps the demo's login, so that every start can print it.
const demoFile = "demo-login"

// offerDemo loads the demo into a fresh server and prints its login; later
// starts print it again.
func offerDemo(ctx context.Context, s *settings, fresh bool, base string, stdout io.Writer, log *slog.Logger) {
	name := filepath.Join(s.data[0], demoFile)
	if fresh {
		login, err := loadDemo(ctx, base, stdout)
		if err != nil {
			log.Error("the demo could not be loaded", "err", err)
			return
		}
		if err := os.WriteFile(name, []byte(login.handle+" "+login.password+"\n"), 0o600); err != nil {
			log.Error("the demo's login could not be kept", "err", err)
		}
		printLogin(stdout, base, login)
		return
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		log.Info("the data directory is not new: no demo is loaded", "url", base)
		return
	}
	var login demoLogin
	if _, serr := fmt.Sscan(string(text), &login.handle, &login.password); err != nil || serr != nil {
		log.Error("the demo's login can't be read", "file", name, "err", errors.Join(err, serr))
		return
	}
	printLogin(stdout, base, login)
}

func printLogin(w io.Writer, base string, l demoLogin) {
	fmt.Fprintf(w, "\n  open      %s\n  sign in   %s\n  password  %s\n\n", base, l.handle, l.password)
}
