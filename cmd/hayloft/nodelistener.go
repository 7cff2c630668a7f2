package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/internal/mesh"
	"hayloft/internal/vfs"

	"github.com/prometheus/client_golang/prometheus"
)

// validateNode lists what is wrong with the settings of the node listener.
func (s *settings) validateNode() (faults []error) {
	fault := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(len(s.join) == 0 || s.nodeListen != "", "--join is for a node with --node-listen")
	fault(len(s.roles) == len(everyRole) || s.nodeListen != "" || s.isEdge(), "--roles other than all are for a node with --node-listen: the others are elsewhere")
	if s.nodeListen == "" {
		fault((s.certs == "" || s.isEdge()) && s.nodeAdvertise == "", "--certs and --node-advertise are for a node with --node-listen")
		return faults
	}
	fault(s.certs != "", "--node-listen wants --certs: make them with hayloft cert ca --out ca, once, and hayloft cert node --ca ca --name NAME --host HOST --out certs for each node")
	_, _, err := net.SplitHostPort(s.nodeListen)
	fault(err == nil, "--node-listen %q is not host:port", s.nodeListen)
	if s.nodeAdvertise == "" {
		fault(!everyAddress(s.nodeListen), "--node-listen %s is every address of this machine: say --node-advertise, the one under which other nodes find it", s.nodeListen)
		return faults
	}
	host, port, err := net.SplitHostPort(s.nodeAdvertise)
	fault(err == nil && host != "" && port != "" && !everyAddress(s.nodeAdvertise) && len(s.nodeAdvertise) <= 255,
		"--node-advertise %q is not host:port", s.nodeAdvertise)
	return faults
}

// openIdentity reads this node's certificates, if it has any.
func (n *node) openIdentity(context.Context) (err error) {
	if n.s.certs == "" {
		return nil
	}
	role := n.s.certRole()
	if err := keyModeFault(filepath.Join(n.s.certs, mesh.KeyFile(role))); err != nil {
		return fmt.Errorf("--certs: %w", err)
	}
	n.identity, err = mesh.OpenIdentity(mesh.IdentityOptions{FS: vfs.OS{}, Dir: n.s.certs, Role: role, Clock: n.clock, Events: n.meshLog.event})
	if err != nil {
		return fmt.Errorf("--certs: %w", err)
	}
	return nil
}

// certified is the name in this node's certificate, if it has one.
func (n *node) certified() string {
	if n.identity == nil {
		return ""
	}
	return n.identity.Self().Name
}

// openMesh opens the node listener, if there is to be one.
func (n *node) openMesh(context.Context) error {
	if n.s.nodeListen == "" {
		return nil
	}
	l, err := listen("node-listen", n.s.nodeListen)
	if err != nil {
		return err
	}
	n.mesh, err = mesh.Open(mesh.Options{
		Identity: n.identity, Listener: l, Advertise: n.s.advertised(l.Addr()), Clock: n.clock, Events: n.meshLog.event,
	})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	addr := n.s.advertised(l.Addr())
	n.mesh.SetAddr(n.who.name, addr)
	n.log.Info("node listener", "node", n.who.name, "listen", l.Addr(), "advertise", addr, "certificate_until", n.mesh.Until())
	return nil
}

// advertised is where other nodes find the node listener. A port that the system
// has chosen is known only now.
func (s *settings) advertised(a net.Addr) string {
	if s.nodeAdvertise != "" {
		return s.nodeAdvertise
	}
	host, port, err := net.SplitHostPort(s.nodeListen)
	if tcp, ok := a.(*net.TCPAddr); ok && err == nil && port == "0" {
		return net.JoinHostPort(host, fmt.Sprint(tcp.Port))
	}
	return s.nodeListen
}

// meshLog makes log lines of what the mesh reports. A node that is refused comes
// again every second: the same is said once a minute.
type meshLog struct {
	n     *node
	ready atomic.Bool // this node has all of its parts: what it does not serve it will not
	mu    sync.Mutex  // guards told
	// told is when a line was last written, by what happened and to whom.
	told map[string]time.Duration
}

const (
	meshLogEvery = time.Minute
	meshLogKept  = 1024 // lines that are remembered
)

// meshLines are what happens at the node listener and when others are dialed.
var meshLines = map[mesh.EventKind]string{
	mesh.EventRefused:    "node listener: somebody was refused",
	mesh.EventMistaken:   "a node does not answer as it should, or refuses this one",
	mesh.EventIdentity:   "new certificates are in use",
	mesh.EventBadFiles:   "the certificates can't be used: those from before stay in use",
	mesh.EventExpiring:   "the certificate ends soon: hayloft cert renew",
	mesh.EventCutOff:     "a connection was closed: its certificate does not count any more",
	mesh.EventPanic:      "a handler of the node listener panicked",
	mesh.EventServer:     "node listener",
	mesh.EventAcceptFail: "node listener: it can't take connections for now",
}

func (l *meshLog) event(e mesh.Event) {
	var args []any
	add := func(name string, v any, ok bool) {
		if ok {
			args = append(args, name, v)
		}
	}
	add("peer", e.Peer, e.Peer != (mesh.Peer{}))
	add("address", e.Addr, e.Addr != "")
	add("protocol", e.Proto, e.Proto != "")
	add("until", e.Until, !e.Until.IsZero())
	add("err", e.Err, e.Err != nil)
	if e.Kind == mesh.EventRefused && !l.ready.Load() && strings.Contains(fmt.Sprint(e.Err), "unsupported application protocols") {
		l.n.log.Debug("node listener: asked for what is not open yet", args...) // they come again
		return
	}
	switch e.Kind {
	case mesh.EventRefused, mesh.EventMistaken, mesh.EventAcceptFail, mesh.EventServer:
		host, _, _ := net.SplitHostPort(e.Addr)
		if !l.first(fmt.Sprint(e.Kind, host, e.Peer, e.Proto)) {
			return
		}
	}
	switch e.Kind {
	case mesh.EventIdentity:
		l.n.log.Info(meshLines[e.Kind], args...)
	case mesh.EventServer:
		l.n.log.Debug(meshLines[e.Kind], args...)
	case mesh.EventBadFiles, mesh.EventPanic, mesh.EventMistaken:
		l.n.log.Error(meshLines[e.Kind], args...)
	default:
		l.n.log.Warn(meshLines[e.Kind], args...)
	}
}

// first reports whether that was not said within the last minute.
func (l *meshLog) first(what string) bool {
	now := l.n.clock.Elapsed()
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.told[what]; ok && now-at < meshLogEvery {
		return false
	}
	if len(l.told) >= meshLogKept {
		clear(l.told)
	}
	if l.told == nil {
		l.told = map[string]time.Duration{}
	}
	l.told[what] = now
	return true
}

// meshMetrics adds what the node listener does.
func (n *node) meshMetrics(c *collector) {
	if n.mesh == nil {
		return
	}
	const count, level = prometheus.CounterValue, prometheus.GaugeValue
	st := n.mesh.Stats
	c.add(level, "mesh_connections", "Connections with other nodes, both ways.", func() float64 { return float64(st().Open) })
	c.add(count, "mesh_accepted_total", "Connections of others that were taken.", func() float64 { return float64(st().Accepted) })
	c.add(count, "mesh_refused_total", "Connections of others that were refused, or ended before they had said who they are.", func() float64 { return float64(st().Refused) })
	c.add(count, "mesh_dialed_total", "Connections made to other nodes.", func() float64 { return float64(st().Dialed) })
	c.add(count, "mesh_dial_failures_total", "Connections to other nodes that could not be made.", func() float64 { return float64(st().Failed) })
	c.add(level, "certificate_expires_seconds", "Time until this node's certificate ends.", func() float64 { return n.mesh.Until().Sub(n.clock.Now()).Seconds() })
}
