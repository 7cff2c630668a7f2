package main

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"hayloft/api"
)

// awayConns bounds the connections that are answered while a node starts.
const awayConns = 1024

// awayDesk answers on the public listener until there is somebody behind it: 503 at
// once, so that clients and balancers go to another node instead of waiting. One without
// a listener does nothing. One goroutine uses it.
type awayDesk struct {
	l     *lentListener // nil: none
	srv   *http.Server
	ended chan error // what serving has ended with; nil before open
}

func newAwayDesk(public net.Listener, log *slog.Logger) *awayDesk {
	if public == nil {
		return &awayDesk{}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"status":"ok"}`) //nolint:errcheck // who asked has gone
	})
	mux.HandleFunc("/", awayAnswer)
	srv := adminServer(mux, log)
	srv.WriteTimeout = srv.ReadTimeout
	srv.SetKeepAlivesEnabled(false) // the next request may find the API
	var open atomic.Int64
	srv.ConnState = func(c net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			if open.Add(1) > awayConns {
				c.Close()
			}
		case http.StateClosed:
			open.Add(-1)
		}
	}
	return &awayDesk{l: &lentListener{Listener: public}, srv: srv}
}

func awayAnswer(w http.ResponseWriter, _ *http.Request) {
	contentType, body := api.Starting()
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Retry-After", "1")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusServiceUnavailable)
	w.Write(body) //nolint:errcheck // who asked has gone
}

// open begins to answer.
func (d *awayDesk) open() {
	if d.l == nil {
		return
	}
	d.ended = make(chan error, 1)
	go func() { d.ended <- d.srv.Serve(d.l) }()
}

// leave gives the listener to another server: connections from here on are its own.
// Those that are there are answered as before, and end within seconds by their timeouts.
// The error is that of the listener.
func (d *awayDesk) leave() error {
	if d.l == nil {
		return nil
	}
	if err := d.l.wantBack(); err != nil {
		return err
	}
	if err := <-d.ended; !errors.Is(err, errWantedBack) {
		return err
	}
	return d.l.setDeadline(time.Time{})
}

// close ends what is there.
func (d *awayDesk) close() {
	if d.l != nil {
		d.srv.Close()
	}
}

var errWantedBack = errors.New("the listener is wanted back")

// lentListener is a listener whose server does not close it, and can be made to let
// go of it.
type lentListener struct {
	net.Listener
	back atomic.Bool
}

// Accept implements net.Listener.
func (l *lentListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if l.back.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, errWantedBack
	}
	return c, err
}

// Close implements net.Listener: who accepts is told, and the listener stays open.
func (l *lentListener) Close() error { return l.wantBack() }

func (l *lentListener) wantBack() error {
	if l.back.Swap(true) {
		return nil // another server may have it already
	}
	return l.setDeadline(time.Unix(1, 0))
}

func (l *lentListener) setDeadline(t time.Time) error {
	return l.Listener.(interface{ SetDeadline(time.Time) error }).SetDeadline(t)
}
