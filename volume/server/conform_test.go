package server_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/mesh"
	"hayloft/internal/mesh/certs"
	"hayloft/internal/mesh/meshtest"
	"hayloft/volume"
	"hayloft/volume/server"
	"hayloft/volume/server/peer"
	"hayloft/volume/server/peer/peertest"
)

// oneServer sends requests to it, whatever node they are for.
type oneServer struct{ s *httptest.Server }

func (o oneServer) Do(_ context.Context, _ string, r *http.Request) (*http.Response, error) {
	r.URL.Host = o.s.Listener.Addr().String()
	return o.s.Client().Do(r)
}

// TestReplicasConform holds the disks of a process to what a Peer has to do, as they
// are and as another node sees them.
func TestReplicasConform(t *testing.T) {
	ways := map[string]func(t *testing.T, p server.Peer) server.Peer{
		"here": func(_ *testing.T, p server.Peer) server.Peer { return p },
		"over TLS": func(t *testing.T, p server.Peer) server.Peer {
			s := httptest.NewTLSServer(peer.Handler(p, peer.HandlerOptions{Caller: func(context.Context) (string, bool) { return "node-2", true }}))
			t.Cleanup(s.Close)
			return released(t, oneServer{s}, p.Node())
		},
		"over the mesh": func(t *testing.T, p server.Peer) server.Peer {
			ca := meshtest.CA(t)
			here, there := meshtest.Node(t, ca, p.Node()), meshtest.Node(t, ca, "node-2")
			meshtest.Acquaint(here, there)
			here.Handle("blobs", peer.Handler(p, peer.HandlerOptions{Caller: func(ctx context.Context) (string, bool) {
				from, ok := mesh.PeerOf(ctx)
				return from.Name, ok && from.Role == certs.Node
			}}))
			return released(t, there.Client("blobs"), p.Node())
		},
	}
	for way, over := range ways {
		t.Run(way, func(t *testing.T) {
			peertest.Run(t, func(t *testing.T) peertest.Subject {
				c := newCluster(t, server.Options{NoUpkeep: true}, 1, 1)
				c.keepTime(t)
				m := c.members[0]
				s := peertest.Subject{Peer: over(t, m.server().Replicas()), Name: m.server().Replicas().Node(), Disk: m.disks()[0], Away: c.members[1].disks()[0]}
				w := m.wire
				check := func(err error) {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
				}
				var lease id.Lease
				s.Open = func() volume.Identity {
					var err error
					now := id.MillisOf(c.clock.Now())
					lease, err = w.Leaser(volume.ClassOriginals, 77, s.Disk).Acquire(context.Background(), now)
					check(err)
					ident, err := w.OpenVolume(context.Background(), lease, []uint32{s.Disk}, 1, lease.From)
					check(err)
					return ident
				}
				s.Confirm = func(ident volume.Identity) {
					_, err := w.ConfirmVolume(context.Background(), ident.Volume, ident.Generation)
					check(err)
				}
				s.Close = func(volume.ID) { check(w.CloseTile(context.Background(), lease, lease.From+1000)) }
				s.Sealed = func(v volume.ID, sealed server.Sealed) {
					_, err := w.SealVolume(context.Background(), v, 1, []uint32{s.Disk}, sealed)
					check(err)
				}
				return s
			})
		})
	}
}

// released returns a client whose blobs have all been released when the test ends.
func released(t *testing.T, do peer.Doer, node string) server.Peer {
	budget := volume.NewReadBudget(1<<20, 1)
	t.Cleanup(func() {
		if held := budget.Held(); held != 0 {
			t.Errorf("%d bytes are held", held)
		}
	})
	return peer.NewClients(do, peer.Options{Reads: budget}).Node(node)
}

// keepTime lets time go by until the test ends, so that what is held to a pace goes on.
func (c *cluster) keepTime(t *testing.T) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				c.clock.Advance(20 * time.Millisecond)
			}
		}
	})
	t.Cleanup(func() {
		close(done)
		wg.Wait()
	})
}
