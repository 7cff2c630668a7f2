package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"hayloft/cache/tier"
	"hayloft/internal/mesh"
	"hayloft/internal/mesh/certs"
	"hayloft/internal/sign"
)

// edge is what a node has that fills its cache from other tiers: no directory, no feed,
// no disks.
type edge struct {
	chain *tier.Chain
	ring  *sign.Ring
	keys  atomic.Pointer[[]sign.Key] // of ring
}

// isEdge reports whether this node fills from other tiers.
func (s *settings) isEdge() bool { return len(s.upstream) > 0 }

// validateEdge lists what is wrong with the settings of an edge.
func (s *settings) validateEdge() (faults []error) {
	fault := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	if !s.isEdge() {
		return nil
	}
	fault(slices.Equal(s.roles, []role{roleCache}), "--upstream is for --roles cache alone: what fills from other caches has no part in the cluster")
	fault(len(s.join) == 0, "--upstream and --join do not go together: a node of the cluster asks its directory where photos are")
	fault(len(s.blobKeys) == 0, "--upstream and --blob-keys do not go together: there is no storage behind it")
	fault(s.certs != "", "--upstream wants --certs: make them with hayloft cert client --ca ca --name NAME --out certs")
	seen := map[string]bool{}
	for _, u := range s.upstream {
		addr, err := upstreamAddr(u)
		fault(err == nil, "--upstream: %v", err)
		fault(!seen[addr], "--upstream names %s twice", addr)
		seen[addr] = true
	}
	return faults
}

// upstreamAddr is the host:port of https://host:port, the node listener of a cache node.
func upstreamAddr(text string) (string, error) {
	u, err := url.Parse(text)
	if err == nil {
		if _, _, e := net.SplitHostPort(u.Host); e != nil || u.Scheme != "https" || "https://"+u.Host != text {
			err = errors.New("no port")
		}
	}
	if err != nil {
		return "", fmt.Errorf("%q is not the node listener of a cache node, such as https://10.0.0.1:9443", text)
	}
	return u.Host, nil
}

// steps open the parts of a node, lowest first.
func (n *node) steps() []func(context.Context) error {
	if n.s.isEdge() {
		return []func(context.Context) error{n.openIdentity, n.openEdgeMesh, n.openEdge, n.openFront}
	}
	return []func(context.Context) error{
		n.openIdentity, n.openData, n.openMesh, n.openWire, n.openAdmin, n.openGroups, n.openBlobs, n.openFleet, n.openFeed, n.openMedia, n.openFront,
	}
}

// openEdgeMesh opens the way to the upstreams, and a node listener if there is to be one.
func (n *node) openEdgeMesh(ctx context.Context) (err error) {
	n.who.name = n.certified()
	if n.s.nodeListen != "" {
		return n.openMesh(ctx)
	}
	n.mesh, err = mesh.Open(mesh.Options{Identity: n.identity, Clock: n.clock, Events: n.meshLog.event})
	return err
}

// edgePause is how long an edge waits before it asks again for what it cannot do
// without.
const edgePause = time.Second

// edgeFill is how long a fill over a long way may take. Readers have what has come, and an
// upstream from which nothing comes is left much sooner.
const edgeFill = time.Minute

// openEdge waits until an upstream has told what private URLs are checked with: before,
// each would be "not found".
func (n *node) openEdge(ctx context.Context) (err error) {
	o := tier.Options{Name: n.who.name, Path: &n.tierPath, Clock: n.clock}
	for _, u := range n.s.upstream {
		addr, err := upstreamAddr(u)
		if err != nil {
			return err
		}
		o.Upstreams = append(o.Upstreams, tier.Upstream{Name: addr, Dialer: &upstreamAt{mesh: n.mesh, addr: addr}})
	}
	e := &edge{}
	if e.chain, err = tier.New(o); err != nil {
		return err
	}
	if e.ring, err = sign.NewRing(); err != nil {
		return err
	}
	for told := false; ; {
		if err = n.learnKeys(ctx, e); err == nil {
			break
		}
		why := "an upstream: " + err.Error()
		n.waiting.Store(&why)
		if !told {
			told = true
			n.log.Warn("no upstream answers: waiting", "err", err)
		}
		select {
		case <-n.clock.After(edgePause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	n.waiting.Store(nil)
	n.edge, n.mediaRing, n.ring = e, e.ring, e.ring
	return nil
}

func (n *node) learnKeys(ctx context.Context, e *edge) error {
	keys, err := e.chain.Keys(ctx)
	if err == nil {
		err = e.ring.Replace(keys...)
	}
	if err == nil {
		e.keys.Store(&keys)
	}
	return err
}

// followUpstream keeps the keys as the upstreams have them, until ctx ends.
func (n *node) followUpstream(ctx context.Context) error {
	for {
		if err := n.learnKeys(ctx, n.edge); err != nil && ctx.Err() == nil {
			n.log.Debug("no upstream told its keys", "err", err)
		}
		select {
		case <-n.clock.After(keyLook):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// warm fills half of the cache with what the upstreams are asked for.
func (n *node) warm(ctx context.Context) {
	filled, err := n.edge.chain.Warm(ctx, n.cache, int64(n.s.cacheMemory)/2)
	if err != nil && ctx.Err() == nil {
		n.log.Warn("no upstream told what it is asked for: the cache begins empty", "err", err)
		return
	}
	n.log.Info("filled with what the upstreams are asked for", "objects", filled)
}

// upstreamAt is the tier that answers at an address, whatever its name.
type upstreamAt struct {
	mesh *mesh.Mesh
	addr string
	name atomic.Pointer[string] // nil: not known
}

// Do implements tier.Dialer.
func (u *upstreamAt) Do(ctx context.Context, r *http.Request) (*http.Response, error) {
	name := u.name.Load()
	if name == nil {
		found, _, err := u.mesh.Hello(ctx, u.addr)
		if err != nil {
			return nil, err
		}
		u.mesh.Pin(found, u.addr) // whatever it advertises: this is the way to it from here
		name = &found
		u.name.Store(name)
	}
	resp, err := u.mesh.Client(protoTier).Do(ctx, *name, r)
	var away *mesh.UnreachableError
	if errors.As(err, &away) && !away.Sent {
		u.name.CompareAndSwap(name, nil) // another node may be there now
	}
	return resp, err
}

// certRole is whose certificate this process shows: a client's, if it is an edge that
// nobody fills from and has one; else a node's.
func (s *settings) certRole() certs.Role {
	if s.isEdge() && s.nodeListen == "" {
		if _, err := os.Stat(filepath.Join(s.certs, mesh.CertFile(certs.Client))); err == nil {
			return certs.Client
		}
	}
	return certs.Node
}
