package raftgroup

import "github.com/hashicorp/raft"

// gatedStore lets an append through only when the gate is open.
type gatedStore struct {
	store
	gate <-chan struct{}
}

func (s *gatedStore) StoreLogs(l []*raft.Log) error {
	<-s.gate
	return s.store.StoreLogs(l)
}
