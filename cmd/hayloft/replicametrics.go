package main

import (
	"hayloft/volume/server"

	"github.com/prometheus/client_golang/prometheus"
)

// replicaFigures sum up what replicas on several nodes bring with them.
func replicaFigures() []figure[*server.Stats] {
	counter := func(name, help string, read func(*server.ReplicationStats) uint64) figure[*server.Stats] {
		return newFigure(prometheus.CounterValue, name, help, nil, func(s *server.Stats) float64 { return float64(read(&s.Replication)) })
	}
	return []figure[*server.Stats]{
		newFigure(prometheus.GaugeValue, "replicas_out_of_sync", "Replicas that this node should have, and that lack something.", nil,
			func(s *server.Stats) float64 { return float64(s.Replication.OutOfSync) }),
		counter("replicas_filled_total", "Replicas of this node that were filled, and are in sync.", func(r *server.ReplicationStats) uint64 { return r.Filled }),
		counter("replica_fill_bytes_total", "Bytes that this node received to fill replicas.", func(r *server.ReplicationStats) uint64 { return r.FillBytes }),
		counter("replicas_restored_total", "Times that damage in a replica of this node was restored from another one.", func(r *server.ReplicationStats) uint64 { return r.Restored }),
		counter("replicas_left_sync_total", "Replicas that were put out of sync because they did not answer a delete.", func(r *server.ReplicationStats) uint64 { return r.LeftSync }),
		counter("replica_appends_total", "Groups that were sent to one of several replicas.", func(r *server.ReplicationStats) uint64 { return r.Appends }),
		counter("replica_late_appends_total", "Groups that a replica did not take in time.", func(r *server.ReplicationStats) uint64 { return r.Late }),
		counter("replica_remote_reads_total", "Reads that were asked of other nodes.", func(r *server.ReplicationStats) uint64 { return r.RemoteReads }),
		counter("replica_hedges_total", "Reads that another replica was asked for too, since the first one was slow.", func(r *server.ReplicationStats) uint64 { return r.Hedges }),
		counter("replica_hedges_won_total", "Of those, how many the other one answered first.", func(r *server.ReplicationStats) uint64 { return r.HedgesWon }),
	}
}
