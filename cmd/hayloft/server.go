package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// readyPrefix begins the one line on standard output that says where the server
// serves; scripts and tests wait for it.
const readyPrefix = "hayloft: serving on "

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
	public, adminL, err := s.openListeners()
	if err != nil {
		return err
	}
	defer adminL.Close()
	if public != nil {
		defer public.Close()
	}
	if public, err = s.secure(ctx, public, log); err != nil {
		return err
	}
	away := newAwayDesk(public, log)
	defer away.close()
	base := s.settleURLs(public, adminL)
	away.open()

	began := time.Now()
	failed := make(chan error, 2)
	var front hatch
	srv := adminServer(&front, log)
	n, err := startNode(ctx, s, log, func(n *node) {
		front.set(starting(s.adminHosts(), n.waiting.Load))
		go func() { failed <- serveAdmin(srv, adminL) }()
	})
	if err != nil {
		srv.Close()
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // asked to stop before it was ready
	}
	if err != nil {
		return err
	}
	if s.adminOpen && !loopbackListener(adminL) {
		log.Warn("--admin-open: whoever reaches the admin listener can export photos and change volumes", "admin", adminL.Addr())
	}
	adm := newAdmin(n, log)
	if err := errors.Join(n.register(adm.registry), n.startWork()); err != nil {
		srv.Close()
		return errors.Join(err, n.stop())
	}
	n.meshLog.ready.Store(true)
	if n.fleet != nil {
		n.awaitFleet(ctx)
	}
	front.set(adm.srv.Handler)
	adm.srv = srv
	if n.api != nil {
		if err := away.leave(); err != nil {
			srv.Close()
			return errors.Join(err, n.stop())
		}
		go func() { failed <- n.api.Serve(public) }()
	}
	log.Info("ready", "url", base, "admin", "http://"+adminL.Addr().String(), "after", time.Since(began).Round(time.Millisecond))
	fmt.Fprintf(stdout, "%s%s\n", readyPrefix, base)
	if s.demo {
		go offerDemo(ctx, s.data, base, stdout, log)
	}

	return n.untilEnd(ctx, adm, failed)
}

// untilEnd waits for a signal or for a listener that fails, then drains and stops.
func (n *node) untilEnd(ctx context.Context, adm *adminListener, failed <-chan error) (err error) {
	select {
	case <-ctx.Done():
		n.log.Info("stopping", "at_most", n.s.drainTimeout)
	case err = <-failed:
		n.log.Error("a listener failed: stopping", "err", err)
	}
	if adm.door != nil {
		adm.door.Close() // a list of the volumes that are left would look like a list
	}
	began := time.Now()
	err = errors.Join(err, n.stop())
	adm.stop()
	if err == nil { // else it is the last line of the process
		n.log.Info("stopped", "after", time.Since(began).Round(time.Millisecond))
	}
	return err
}

// openListeners opens the listeners but that for nodes. public is nil when this node
// answers nobody else.
func (s *settings) openListeners() (public, adminL net.Listener, err error) {
	if s.serves() {
		if public, err = listen("listen", s.listen); err != nil {
			return nil, nil, err
		}
	}
	if adminL, err = listen("admin-listen", s.adminListen); err == nil {
		if !s.demo || public != nil && loopbackListener(public) {
			return public, adminL, nil
		}
		err = usagef("--demo is for loopback only, not for %s", s.listen)
		adminL.Close()
	}
	if public != nil {
		public.Close()
	}
	return nil, nil, err
}

// settleURLs fills in the bases of URLs that were not given, and returns where this node
// itself serves.
func (s *settings) settleURLs(public, adminL net.Listener) string {
	base := "http://" + adminL.Addr().String() // of a node that serves only others
	if public != nil {
		base = s.tls.scheme() + public.Addr().String()
	}
	if s.publicURL == "" {
		s.publicURL = base
	}
	if s.mediaURL == "" {
		s.mediaURL = s.publicURL
	}
	s.publicURL, s.mediaURL = strings.TrimRight(s.publicURL, "/"), strings.TrimRight(s.mediaURL, "/")
	return base
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
