package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hayloft/internal/mesh/certs"
)

// webCert writes a certificate and its key, of the authority, into a directory.
func webCert(t *testing.T, a *certs.Authority, dir, name string) tlsSettings {
	t.Helper()
	key, err := certs.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Issue(certs.Subject{Role: certs.Node, Name: name}, []string{"127.0.0.1"}, key.Public(), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	text, err := certs.KeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	s := tlsSettings{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	for file, b := range map[string][]byte{s.cert: certs.CertPEM(c), s.key: text} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// The public listener shows the certificate that is in the files: a new one when there
// is one, the one from before when they can't be read.
func TestPublicCertificate(t *testing.T) {
	a, err := certs.NewAuthority(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := webCert(t, a, dir, "first")
	p := &publicTLS{s: s}
	if fresh, err := p.load(); err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := tlsListener{tcp.(*net.TCPListener), p.config()}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c) //nolint:errcheck // the other end looks
				c.Close()
			}()
		}
	}()
	roots := x509.NewCertPool()
	roots.AddCert(a.Cert)
	shown := func(version uint16) (string, error) {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, MaxVersion: version, MinVersion: tls.VersionTLS10, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			return "", err
		}
		defer c.Close()
		if _, err := c.Write([]byte("echo")); err != nil {
			return "", err
		}
		b := make([]byte, 4)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "echo" || c.ConnectionState().NegotiatedProtocol != "http/1.1" {
			t.Errorf("%q, %v, %+v", b, err, c.ConnectionState())
		}
		return c.ConnectionState().PeerCertificates[0].URIs[0].String(), nil
	}
	wants := func(name string) {
		t.Helper()
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if got, err := shown(version); err != nil || !strings.HasSuffix(got, "/"+name) {
				t.Errorf("%s is shown, want %s: %v", got, name, err)
			}
		}
	}
	wants("first")
	if _, err := shown(tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if fresh, err := p.load(); err != nil || fresh {
		t.Errorf("the same again: %t, %v", fresh, err)
	}
	webCert(t, a, dir, "second")
	if fresh, err := p.load(); err != nil || !fresh {
		t.Errorf("another: %t, %v", fresh, err)
	}
	wants("second")
	for what, spoil := range map[string]func() error{
		"half a certificate": func() error { return os.WriteFile(s.cert, []byte("-----BEGIN"), 0o600) },
		"no key":             func() error { return os.Remove(s.key) },
		"another's key":      func() error { return os.WriteFile(s.key, mustKey(t), 0o600) },
		"everybody's key":    func() error { return os.Chmod(s.key, 0o644) },
	} {
		webCert(t, a, dir, "third")
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if fresh, err := p.load(); err == nil || fresh {
			t.Errorf("%s: %t, %v", what, fresh, err)
		}
		wants("second")
		if err := os.Chmod(s.key, 0o600); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}

	// Where it begins, a certificate that can't be read is an end.
	var log bytes.Buffer
	set := settings{tls: tlsSettings{cert: filepath.Join(dir, "none"), key: s.key}}
	if _, err := set.secure(t.Context(), tcp, slog.New(slog.NewTextHandler(&log, nil))); err == nil {
		t.Error("it listens without a certificate")
	}
	if err := (&tlsSettings{cert: "a"}).validate(); err == nil {
		t.Error("a certificate without a key is taken")
	}
}

func mustKey(t *testing.T) []byte {
	t.Helper()
	key, err := certs.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := certs.KeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
