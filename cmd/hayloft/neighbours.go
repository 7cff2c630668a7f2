package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"hayloft/directory"
	"hayloft/directory/fleet"
	"hayloft/directory/plan"
	"hayloft/directory/steward"
	"hayloft/internal/mesh"
	"hayloft/volume"
	"hayloft/volume/server"
	"hayloft/volume/server/peer"
)

// remoteReadBytes bounds the memory of needles read from other nodes.
const (
	remoteReadBytes = 128 << 20
	remoteReads     = 512
)

// roomForVolume is what a disk must have free for a new volume to begin there.
const roomForVolume = 64 << 20

// neighbours are the disks of the whole cluster as this node's blob server sees them.
type neighbours struct {
	n       *node
	clients *peer.Clients // nil: there is no other node
	roster  atomic.Pointer[roster]

	mu     sync.Mutex // guards random
	random *rand.Rand
}

var _ server.Peers = (*neighbours)(nil)

// roster is what follows from the nodes and disks of a table and one view of the fleet.
type roster struct {
	table   *directory.Map
	view    *fleet.View
	cluster *plan.Cluster
	disks   []server.FleetDisk
	peers   map[uint32]server.Peer
	several bool // nodes have disks
}

func (n *node) newNeighbours() *neighbours {
	b := &neighbours{n: n, random: rand.New(rand.NewPCG(n.incarnation, 0))}
	if n.mesh != nil {
		b.clients = peer.NewClients(n.mesh.Client(protoBlobs), peer.Options{Reads: volume.NewReadBudget(remoteReadBytes, remoteReads)})
	}
	return b
}

// serveReplicas answers for the replicas of this process.
func (n *node) serveReplicas() {
	if n.mesh == nil {
		return
	}
	n.mesh.Handle(protoBlobs, peer.Handler(n.blobs.Replicas(), peer.HandlerOptions{Caller: callerOf}))
}

// callerOf is the node that a request proves to come from.
func callerOf(ctx context.Context) (string, bool) {
	p, ok := mesh.PeerOf(ctx)
	return p.Name, ok
}

// now is the roster of this moment. It is made once for each view, each second that is,
// and when nodes or disks change: a write must not pay for the volumes of others.
func (b *neighbours) now() *roster {
	m, v := b.n.directory.Map(), b.n.view()
	if r := b.roster.Load(); r != nil && r.view == v && r.table.SamePlaces(m) {
		return r
	}
	r := b.make(m, v)
	b.roster.Store(r)
	return r
}

// view is what the fleet says; nothing before there is one.
func (n *node) view() *fleet.View {
	if f := n.fleetNow.Load(); f != nil {
		return f.View()
	}
	return &nobody
}

var nobody fleet.View

func (b *neighbours) make(m *directory.Map, v *fleet.View) *roster {
	r := &roster{table: m, view: v, cluster: steward.Cluster(m, v), peers: map[uint32]server.Peer{}}
	own := plan.Node{}
	for _, row := range m.Nodes() {
		if row.Name == b.n.who.name {
			own = steward.Node(row)
		}
	}
	states := map[uint32]fleet.DiskState{}
	up := map[string]bool{}
	for _, node := range v.Nodes {
		up[node.Name] = node.Up
		for _, d := range node.Disks {
			states[d.Disk.Disk] = d
		}
	}
	owners := map[directory.NodeID]bool{}
	for _, d := range m.Disks() {
		row, ok := m.NodeOf(d.ID)
		state := m.StateOf(d.ID)
		if !ok || state == directory.Gone {
			continue
		}
		owners[row.ID] = true
		s := states[uint32(d.ID)]
		r.disks = append(r.disks, server.FleetDisk{
			Disk: uint32(d.ID), Node: row.Name, Up: up[row.Name] && s.InService, Taking: state == directory.Active,
			Distance: plan.Distance(own, steward.Node(row)), Free: s.Free, Capacity: s.Capacity,
		})
		if row.Name != b.n.who.name && b.clients != nil {
			r.peers[uint32(d.ID)] = b.clients.Node(row.Name)
		}
	}
	r.several = len(owners) > 1
	return r
}

// Of implements server.Peers.
func (b *neighbours) Of(disk uint32) server.Peer {
	return b.now().peers[disk]
}

// Disks implements server.Peers.
func (b *neighbours) Disks() []server.FleetDisk { return b.now().disks }

// Choose implements server.Peers. The floor is two replicas, one where there is one
// node: there is nothing else to be had.
func (b *neighbours) Choose(_ volume.Class, home uint32, want int, avoid []uint32) ([]uint32, error) {
	r := b.now()
	floor := 1
	if r.several {
		floor = min(want, 2)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	disks, err := r.cluster.Choose(plan.Request{
		Home: directory.DiskID(home), Want: want, Floor: floor, Avoid: diskIDs(avoid), Bytes: roomForVolume,
	}, b.random)
	if errors.Is(err, plan.ErrTooFew) {
		return nil, fmt.Errorf("%w: %w", server.ErrPlacement, err)
	}
	out := make([]uint32, len(disks))
	for i, d := range disks {
		out[i] = uint32(d)
	}
	return out, err
}
