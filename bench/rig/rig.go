package rig

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Options say what a Rig is. Binary and Dir must be given.
type Options struct {
	Binary string // hayloft
	Dir    string // of everything; made when missing
	Nodes  int    // 0: 3
	Disks  int    // data directories of each node; 0: 1
	// Hosts are the addresses of the nodes; nil: 127.0.0.1 for all.
	Hosts []string
	// Port is the first of three for each node, one after the other: public, admin,
	// node. 0: ports that are free now.
	Port  int
	Flags []string // of every node, after those that the rig gives
	// Wrap is what stands in front of the command of node i, as in ip netns exec.
	Wrap func(i int) []string
	// Admin asks the admin listeners; nil: http.DefaultClient. Who puts nodes behind
	// Wrap into a network of their own has to reach them there.
	Admin *http.Client
}

// Rig is a cluster on this machine.
type Rig struct {
	o     Options
	Nodes []*Node
}

// New makes directories and certificates. Nothing runs yet. What a former Rig left
// in Dir is used again.
func New(ctx context.Context, o Options) (*Rig, error) {
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Disks == 0 {
		o.Disks = 1
	}
	if o.Admin == nil {
		o.Admin = http.DefaultClient
	}
	if o.Hosts == nil {
		for range o.Nodes {
			o.Hosts = append(o.Hosts, "127.0.0.1")
		}
	}
	r := &Rig{o: o}
	for i := range o.Nodes {
		n := &Node{rig: r, index: i, Name: fmt.Sprintf("n%d", i+1), Dir: filepath.Join(o.Dir, fmt.Sprintf("n%d", i+1))}
		for d := range o.Disks {
			n.Data = append(n.Data, filepath.Join(n.Dir, fmt.Sprintf("disk%d", d+1)))
		}
		r.Nodes = append(r.Nodes, n)
	}
	if err := r.addresses(); err != nil {
		return nil, err
	}
	return r, r.certify(ctx)
}

// addresses gives every node its three.
func (r *Rig) addresses() error {
	for i, n := range r.Nodes {
		for k, at := range []*string{&n.listen, &n.admin, &n.node} {
			port := r.o.Port + 3*i + k
			if r.o.Port == 0 {
				l, err := listenSomewhere()
				if err != nil {
					return err
				}
				defer l.Close() // when all are chosen: none twice
				port = l.Addr().(*net.TCPAddr).Port
			}
			*at = net.JoinHostPort(r.o.Hosts[i], fmt.Sprint(port))
		}
		n.URL, n.Admin = "http://"+n.listen, "http://"+n.admin
	}
	return nil
}

// Ports of nodes are below those that the system gives to outgoing connections: one of these
// could take a port before its node does, or while the node is down.
const firstPort, lastPort = 10_000, 32_000

// listenSomewhere takes a port that is free.
func listenSomewhere() (l net.Listener, err error) {
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(port))); err == nil {
			return l, nil
		}
	}
	return nil, err
}

// certify makes the certificates that are not there.
func (r *Rig) certify(ctx context.Context) error {
	ca := filepath.Join(r.o.Dir, "ca")
	if err := os.MkdirAll(r.o.Dir, 0o755); err != nil {
		return err
	}
	if err := r.once(ctx, ca, "cert", "ca", "--out", ca); err != nil {
		return err
	}
	for i, n := range r.Nodes {
		if err := os.MkdirAll(n.Dir, 0o755); err != nil {
			return err
		}
		if err := r.once(ctx, n.Certs(), "cert", "node", "--ca", ca, "--name", n.Name, "--host", r.o.Hosts[i], "--out", n.Certs()); err != nil {
			return err
		}
	}
	return nil
}

// once runs the binary to make dir, unless it is there.
func (r *Rig) once(ctx context.Context, dir string, args ...string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, r.o.Binary, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Start starts every node that does not run, the first one first when it is to
// begin the cluster, and returns when all are ready.
func (r *Rig) Start(ctx context.Context) error {
	if !r.begun() {
		if err := r.Nodes[0].Start(ctx); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range r.Nodes {
		if !n.Running() {
			g.Go(func() error { return n.Start(ctx) })
		}
	}
	return g.Wait()
}

// begun reports whether any node ever ran.
func (r *Rig) begun() bool {
	for _, n := range r.Nodes {
		if _, err := os.Stat(n.logFile()); err == nil {
			return true
		}
	}
	return false
}

// Stop ends every node, cleanly, all at once.
func (r *Rig) Stop() error {
	errs := make([]error, len(r.Nodes))
	var g errgroup.Group
	for i, n := range r.Nodes {
		g.Go(func() error { errs[i] = n.Stop(); return nil })
	}
	_ = g.Wait() // errs has them
	return errors.Join(errs...)
}

// Kill ends every node as kill -9 does.
func (r *Rig) Kill() {
	for _, n := range r.Nodes {
		n.Kill()
	}
}
