package server

import (
	"context"

	"hayloft/internal/id"
	"hayloft/volume"
)

// Probed is what lies under a blob id, and where.
type Probed struct {
	Volume volume.Identity
	Coded  bool // it was read out of shards
	volume.Probed
}

// Probe looks up a blob as Read does, and reads every needle of it, with no cookie:
// for operators. What Read would answer for all of them is its error.
func (s *Server) Probe(ctx context.Context, blob id.ID) (Probed, error) {
	return read(ctx, s, reading[Probed]{
		blob: blob, drop: func(*Probed) {},
		here: func(ctx context.Context, v *volume.Volume) (Probed, error) {
			p, err := v.Probe(ctx, blob)
			return Probed{Volume: v.Identity(), Coded: s.servedCoded(v), Probed: p}, err
		},
		there: func(ctx context.Context, peer Peer, disk uint32, v volume.Identity) (Probed, error) {
			p, err := peer.Probe(ctx, disk, v.Volume, blob)
			row, _ := s.o.Directory.Row(v.Volume)
			return Probed{Volume: v, Coded: row.Coding.Committed != nil, Probed: p}, err
		},
	})
}

// servedCoded reports whether a volume is one that shards serve.
func (s *Server) servedCoded(v *volume.Volume) bool {
	h := s.codedHandle(v.Identity().Volume)
	return h != nil && h.vol == v
}
