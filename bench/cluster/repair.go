package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hayloft/bench"
	"hayloft/bench/rig"
)

// Names of metrics that the nodes count by.
const (
	metricFilled = "hayloft_replica_fill_bytes_total" // that nodes received to fill replicas
	metricStored = "hayloft_volume_file_bytes"        // of the replicas on a node
)

// settleTime bounds how long the cluster may take to be whole again.
const settleTime = 3 * time.Minute

// settled waits until there is a leader, every node is up, and no volume has fewer
// replicas than it should.
func (b *run) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for {
		s, err := b.look(ctx, nil)
		if err == nil && s.Leader != "" && s.UnderReplicated == 0 && up(s) == len(b.rig.Nodes) {
			return nil
		}
		wait(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			return fmt.Errorf("the cluster does not come to rest: %+v, %w", s, errors.Join(err, ctx.Err()))
		}
	}
}

func up(s rig.Status) (n int) {
	for _, x := range s.Nodes {
		if x.Up {
			n++
		}
	}
	return n
}

// look asks any node but one how the cluster is.
func (b *run) look(ctx context.Context, but *rig.Node) (s rig.Status, err error) {
	for _, n := range b.rig.Nodes {
		if n == but || !n.Running() {
			continue
		}
		if s, err = n.Status(ctx); err == nil && s.Leader != "" {
			return s, nil
		}
	}
	return s, errors.Join(err, errors.New("nobody knows a leader"))
}

// leader is the node that leads, by the word of any node but one, which does not
// count either.
func (b *run) leader(ctx context.Context, but *rig.Node) (*rig.Node, error) {
	s, err := b.look(ctx, but)
	if err != nil {
		return nil, err
	}
	for _, n := range b.rig.Nodes {
		if n != but && n.Name == s.Leader {
			return n, nil
		}
	}
	return nil, fmt.Errorf("%s leads", s.Leader)
}

// sum adds up a metric of the nodes that run.
func (b *run) sum(ctx context.Context, name string) (total float64, err error) {
	for _, n := range b.rig.Nodes {
		if n.Running() {
			v, err := n.Metric(ctx, name)
			if err != nil {
				return 0, err
			}
			total += v
		}
	}
	return total, nil
}

// repair erases a node and starts it again, empty: what it lost comes back by
// itself, and no more is moved than that.
func (b *run) repair(ctx context.Context) error {
	if err := b.settled(ctx); err != nil {
		return err
	}
	victim := b.rig.Nodes[len(b.rig.Nodes)-1]
	b.Progress("replacing " + victim.Name + " by an empty one")
	lost, err := victim.Metric(ctx, metricStored)
	if err != nil {
		return err
	}
	victim.Kill()
	before, err := b.sum(ctx, metricFilled)
	if err != nil {
		return err
	}
	if err := victim.Erase(); err != nil {
		return err
	}
	began := time.Now()
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := victim.Start(starting); err != nil {
		return err
	}
	// At first nobody knows that what it had is gone.
	for s, err := b.look(ctx, nil); err != nil || s.UnderReplicated == 0; s, err = b.look(ctx, nil) {
		if wait(ctx, 50*time.Millisecond); time.Since(began) > time.Minute || ctx.Err() != nil {
			return fmt.Errorf("%s is empty, and nothing is missed: %+v, %w", victim.Name, s, err)
		}
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	moved, err := b.sum(ctx, metricFilled)
	if err != nil {
		return err
	}
	b.add(bench.Result{Name: "repair_s", Unit: "s", Value: took, N: 1}, bench.Result{Name: "repair_bytes", Unit: "B", Value: moved - before, N: 1},
		bench.Result{Name: "lost_bytes", Unit: "B", Value: lost, N: 1})
	if lost > 0 {
		b.report.Ratios["repair_bytes_over_lost"] = (moved - before) / lost
	}
	return b.verify(ctx)
}
