package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/vfs"

	"github.com/spf13/pflag"
)

// tlsSettings are those of TLS on the public listener.
type tlsSettings struct {
	cert, key string // files; "": there is none
}

func (s *tlsSettings) define(f *pflag.FlagSet) {
	f.StringVar(&s.cert, "tls-cert", "", "certificate of the public listener, with those between it and a known CA, in PEM: it speaks HTTPS then")
	f.StringVar(&s.key, "tls-key", "", "the key of tls-cert, in PEM, readable by nobody else")
}

func (s *tlsSettings) validate() error {
	if (s.cert == "") != (s.key == "") {
		return errors.New("--tls-cert and --tls-key belong together")
	}
	return nil
}

// scheme begins the URLs of the public listener.
func (s *tlsSettings) scheme() string {
	if s.cert != "" {
		return "https://"
	}
	return "http://"
}

const (
	maxTLSFile = 1 << 20
	tlsLook    = 30 * time.Second // how often the files are read again
)

// publicTLS is the certificate that the public listener shows.
type publicTLS struct {
	s         tlsSettings
	now       atomic.Pointer[tls.Certificate]
	cert, key []byte // what now was made of; of whoever loads
}

// load reads the files, and reports whether they are others than before. With an error
// those from before stay in use.
func (p *publicTLS) load() (fresh bool, err error) {
	if err := keyModeFault(p.s.key); err != nil {
		return false, fmt.Errorf("--tls-key: %w", err)
	}
	cert, err := vfs.ReadFile(vfs.OS{}, p.s.cert, maxTLSFile)
	if err != nil {
		return false, fmt.Errorf("--tls-cert: %w", err)
	}
	key, err := vfs.ReadFile(vfs.OS{}, p.s.key, maxTLSFile)
	if err != nil {
		return false, fmt.Errorf("--tls-key: %w", err)
	}
	if bytes.Equal(cert, p.cert) && bytes.Equal(key, p.key) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	p.cert, p.key = cert, key
	p.now.Store(&pair)
	return true, nil
}

// follow takes new files into use, until ctx ends.
func (p *publicTLS) follow(ctx context.Context, clk clock.Clock, log *slog.Logger) {
	for failing := false; ; {
		select {
		case <-clk.After(tlsLook):
		case <-ctx.Done():
			return
		}
		fresh, err := p.load()
		switch {
		case err != nil && !failing:
			log.Error("the public certificate can't be read: the one from before stays in use", "err", err)
		case fresh:
			log.Info("a new public certificate is in use", "until", p.until())
		}
		failing = err != nil
	}
}

// until is when the certificate ends.
func (p *publicTLS) until() time.Time { return p.now.Load().Leaf.NotAfter }

// config has no version below 1.2 and no protocol but HTTP/1.1, which is what is behind
// it.
func (p *publicTLS) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.now.Load(), nil },
	}
}

// tlsListener is a TCP listener whose connections speak TLS. The handshake is made by
// whoever reads first, under that one's deadlines.
type tlsListener struct {
	*net.TCPListener
	config *tls.Config
}

// Accept implements net.Listener.
func (l tlsListener) Accept() (net.Conn, error) {
	c, err := l.TCPListener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(c, l.config), nil
}

// secure puts TLS on the public listener, if that is wanted.
func (s *settings) secure(ctx context.Context, public net.Listener, log *slog.Logger) (net.Listener, error) {
	if s.tls.cert == "" || public == nil {
		return public, nil
	}
	p := &publicTLS{s: s.tls}
	if _, err := p.load(); err != nil {
		return nil, err
	}
	tcp, ok := public.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("--tls-cert: TLS is for TCP, not for %T", public)
	}
	log.Info("public certificate", "names", p.now.Load().Leaf.DNSNames, "until", p.until())
	go p.follow(ctx, clock.Real{}, log)
	return tlsListener{tcp, p.config()}, nil
}
