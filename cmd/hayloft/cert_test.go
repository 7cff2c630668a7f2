package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/mesh"
	"hayloft/internal/mesh/certs"
	"hayloft/internal/mesh/meshtest"
	"hayloft/internal/vfs"
)

// runLine runs a command line to its end.
func runLine(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := newRoot()
	var out bytes.Buffer
	root.SetArgs(args)
	root.SetOut(&out)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// certWorld is a directory in which a test makes certificates.
type certWorld struct {
	t   *testing.T
	dir string
}

// do runs hayloft cert; names that begin with @ lie in the world's directory. want
// is in the error, "" is none.
func (w certWorld) do(want string, args ...string) string {
	w.t.Helper()
	for i, a := range args {
		if name, ok := strings.CutPrefix(a, "@"); ok {
			args[i] = filepath.Join(w.dir, name)
		}
	}
	out, err := runLine(w.t, append([]string{"cert"}, args...)...)
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		w.t.Errorf("cert %s: %v, want %q", strings.Join(args, " "), err, want)
	}
	return out
}

func (w certWorld) show(dir string) (s shownCert) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.do("", "show", "--json", dir)), &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestCertCommands(t *testing.T) {
	w := certWorld{t, t.TempDir()}
	w.do("", "ca", "--out", "@ca")
	w.do("nothing is overwritten", "ca", "--out", "@ca")
	w.do("--out", "ca")
	w.do("", "node", "--ca", "@ca", "--name", "node-1", "--host", "one.example,10.0.0.1", "--out", "@n1")
	w.do("nothing is overwritten", "node", "--ca", "@ca", "--name", "node-2", "--host", "x", "--out", "@n1")
	w.do("--name", "node", "--ca", "@ca", "--name", "Node 1", "--host", "x", "--out", "@n2")
	w.do("--host", "node", "--ca", "@ca", "--name", "n", "--out", "@n2")
	w.do("--days", "node", "--ca", "@ca", "--name", "n", "--host", "x", "--days", "0", "--out", "@n2")
	w.do("ca.pem", "node", "--ca", "@nowhere", "--name", "n", "--host", "x", "--out", "@n2")
	if _, err := os.Stat(filepath.Join(w.dir, "n2")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was refused has left something: %v", err)
	}
	w.do("", "client", "--ca", "@ca", "--name", "ops", "--days", "7", "--out", "@c1")
	// A node that has run alone keeps the name that it drew.
	w.do("", "node", "--ca", "@ca", "--name", "ABCDEFGHIJKLMN27", "--host", "x", "--out", "@old")

	n1 := w.show("@n1")
	if n1.Role != "node" || n1.Name != "node-1" || strings.Join(n1.Hosts, " ") != "one.example 10.0.0.1" || !n1.Valid || !n1.Key || len(n1.Trusted) != 1 || n1.CA != n1.Trusted[0].Name {
		t.Errorf("n1: %+v", n1)
	}
	if left := time.Until(n1.Until); left < 364*day || left > 366*day {
		t.Errorf("a node's certificate is valid for %v", left)
	}
	if c1 := w.show("@c1"); c1.Role != "client" || !c1.Valid || time.Until(c1.Until) > 8*day {
		t.Errorf("c1: %+v", c1)
	}
	if out := w.do("", "show", "@n1"); !strings.Contains(out, "node node-1, until ") || !strings.Contains(out, "has issued it") {
		t.Errorf("show: %q", out)
	}
	for _, file := range []string{"ca/ca.key", "n1/node.key", "c1/client.key"} {
		if st, err := os.Stat(filepath.Join(w.dir, file)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, st.Mode(), err)
		}
	}
	if _, err := mesh.OpenIdentity(mesh.IdentityOptions{FS: vfs.OS{}, Dir: filepath.Join(w.dir, "c1"), Role: certs.Client, Clock: clock.Real{}}); err != nil {
		t.Error(err)
	}
}

// The whole replacement of a CA by commands: at every step the certificates work.
func TestCertRotation(t *testing.T) {
	w := certWorld{t, t.TempDir()}
	w.do("", "ca", "--out", "@ca")
	w.do("", "ca", "--out", "@next")
	w.do("", "node", "--ca", "@ca", "--name", "a", "--host", "x", "--out", "@a")
	works := func() {
		t.Helper()
		if s := w.show("@a"); !s.Valid {
			t.Errorf("%+v", s)
		}
		if _, err := mesh.OpenIdentity(mesh.IdentityOptions{FS: vfs.OS{}, Dir: filepath.Join(w.dir, "a"), Clock: clock.Real{}}); err != nil {
			t.Error(err)
		}
	}
	key := func() string {
		text, err := os.ReadFile(filepath.Join(w.dir, "a", "node.key"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := key()
	w.do("hayloft cert trust", "renew", "@a", "--ca", "@next")
	w.do("is not trusted", "trust", "--remove", "@a", "@next/ca.pem")
	w.do("has issued", "trust", "--remove", "@a", "@ca/ca.pem")
	w.do("not that of a CA", "trust", "@a", "@a/node.pem")
	works()
	w.do("", "trust", "@a", "@next/ca.pem")
	w.do("", "trust", "@a", "@next/ca.pem") // again changes nothing
	works()
	if s := w.show("@a"); len(s.Trusted) != 2 {
		t.Errorf("%+v", s)
	}
	w.do("", "renew", "@a", "--ca", "@next", "--days", "30")
	works()
	if key() != first {
		t.Error("renew has changed the key without being told to")
	}
	w.do("", "trust", "--remove", "@a", "@ca/ca.pem")
	works()
	w.do("", "renew", "@a", "--ca", "@next", "--new-key", "--host", "y")
	works()
	if s := w.show("@a"); len(s.Trusted) != 1 || s.Trusted[0].Name != s.CA || strings.Join(s.Hosts, "") != "y" || time.Until(s.Until) < 300*day {
		t.Errorf("%+v", s)
	}
	if k := key(); k == first || strings.Count(k, "BEGIN") != 1 {
		t.Errorf("the key file holds %d keys, changed %t", strings.Count(k, "BEGIN"), k != first)
	}
}

// A file that is replaced keeps the group that may read it, and never gets wider.
func TestReplacedSecretsKeepTheirReaders(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "node.pem")
	for before, want := range map[fs.FileMode]fs.FileMode{0o640: 0o640, 0o600: 0o600, 0o644: 0o640, 0o666: 0o640} {
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Chmod(name, before), writeSecret(dir, "node.pem", []byte("x"), keyMode)); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != want {
			t.Errorf("%o became %o, %v", before, st.Mode().Perm(), err)
		}
	}
}

func TestNodeListenerSettings(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string // "" is none
	}{
		{"--node-listen 127.0.0.1:9443", "hayloft cert node --ca ca"},
		{"--certs x", "--node-listen"},
		{"--node-listen :9443 --certs x", "--node-advertise"},
		{"--node-listen 0.0.0.0:9443 --certs x", "--node-advertise"},
		{"--node-listen 9443 --certs x", "is not host:port"},
		{"--node-listen :9443 --certs x --node-advertise :9443", "is not host:port"},
		{"--node-listen :9443 --certs x --node-advertise n1.example", "is not host:port"},
		{"--node-listen :9443 --certs x --node-advertise n1.example:9443", ""},
		{"--node-listen n1.example:9443 --certs x", ""},
		{"", ""},
	} {
		s, _, _, err := parse(t, nil, strings.Fields(tt.args)...)
		if err != nil {
			t.Fatal(err)
		}
		err = s.validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.args, err, tt.want)
		}
	}
}

// The name in the certificate is the node's: a new data directory takes it, and one
// of another node is refused.
func TestCertificateNamesTheNode(t *testing.T) {
	ca := meshtest.CA(t)
	data := t.TempDir()
	claim := func(certified string) error {
		who, err := claimNode([]string{data}, certified)
		if err == nil && certified != "" && who.name != certified {
			t.Errorf("the node is called %q, want %q", who.name, certified)
		}
		return errors.Join(err, who.close())
	}
	if err := claim("node-1"); err != nil {
		t.Fatal(err)
	}
	if err := claim("node-1"); err != nil {
		t.Error(err)
	}
	if err := claim(""); err != nil { // without certificates it is who it was
		t.Error(err)
	}
	if err := claim("node-2"); err == nil || !strings.Contains(err.Error(), "node-1") || !strings.Contains(err.Error(), "node-2") {
		t.Errorf("another node's certificate: %v", err)
	}

	n := openMember(t, ca, "node-1", data)
	addr, _ := n.mesh.Addr("node-1")
	other := meshtest.Node(t, ca, "node-2")
	if name, advertised, err := other.Hello(t.Context(), addr); err != nil || name != "node-1" || advertised != addr {
		t.Errorf("at the node listener: %q at %q, %v, want node-1 at %s", name, advertised, err, addr)
	}
}

// openMember opens a node with a node listener.
func openMember(t *testing.T, ca *certs.Authority, name, data string) *node {
	t.Helper()
	n := openNodeWith(t, func(n *node) {
		n.meshLog.n = n
		n.s.nodeListen, n.s.certs = "127.0.0.1:0", meshtest.Dir(t, ca, name)
		if err := n.openIdentity(t.Context()); err != nil {
			t.Fatal(err)
		}
	}, data)
	if err := n.openMesh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestKeyThatOthersCanRead(t *testing.T) {
	dir := meshtest.Dir(t, meshtest.CA(t), "node-1")
	key := filepath.Join(dir, "node.key")
	for mode, fine := range map[fs.FileMode]bool{0o600: true, 0o400: true, 0o640: true, 0o644: false, 0o604: false, 0o660: false} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		n := &node{s: &settings{certs: dir}, clock: clock.Real{}}
		if err := n.openIdentity(t.Context()); (err == nil) != fine {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

// Who is refused comes again and again, and is one line a minute.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	var out bytes.Buffer
	clk := clock.NewFake(time.Now())
	l := &meshLog{n: &node{log: slog.New(slog.NewTextHandler(&out, nil)), clock: clk}}
	refused := func(port, peer string) {
		l.event(mesh.Event{Kind: mesh.EventRefused, Addr: "10.0.0.1:" + port, Peer: mesh.Peer{Role: certs.Node, Name: peer}, Err: errors.New("expired")})
	}
	lines := func(want int) {
		t.Helper()
		if got := strings.Count(out.String(), "\n"); got != want {
			t.Errorf("%d lines, want %d:\n%s", got, want, out.String())
		}
	}
	refused("1", "a")
	refused("2", "a")
	lines(1)
	refused("3", "b")
	lines(2)
	clk.Advance(time.Minute)
	refused("4", "a")
	lines(3)
	for range 2 {
		l.event(mesh.Event{Kind: mesh.EventBadFiles, Err: errors.New("torn")})
	}
	lines(5)
	if s := out.String(); !strings.Contains(s, "peer=\"node a\"") || !strings.Contains(s, "address=10.0.0.1:1") || !strings.Contains(s, "err=expired") {
		t.Errorf("the log lacks something:\n%s", s)
	}
}

// TestNoAlarmWhileStarting: others ask a node for what it has not opened yet. That is
// no warning until it has opened everything; who may not come in is one from the start.
func TestNoAlarmWhileStarting(t *testing.T) {
	var out bytes.Buffer
	l := &meshLog{n: &node{log: slog.New(slog.NewTextHandler(&out, nil)), clock: clock.NewFake(time.Now())}}
	early := errors.New(`tls: client requested unsupported application protocols (["hayloft/1/raft-feed"])`)
	refused := func(err error) string {
		out.Reset()
		l.event(mesh.Event{Kind: mesh.EventRefused, Addr: "10.0.0.1:1", Err: err})
		return out.String()
	}
	if s := refused(early); s != "" {
		t.Errorf("while starting: %s", s)
	}
	l.ready.Store(true)
	if s := refused(early); !strings.Contains(s, "level=WARN") {
		t.Errorf("afterwards: %q", s)
	}
	l = &meshLog{n: l.n}
	if s := refused(errors.New("expired")); !strings.Contains(s, "level=WARN") {
		t.Errorf("somebody who may not come in: %q", s)
	}
}
