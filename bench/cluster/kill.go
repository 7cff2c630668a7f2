package cluster

import (
	"context"
	"fmt"
	"time"

	"hayloft/bench"
	"hayloft/bench/contest"
	"hayloft/bench/rig"
)

const (
	before = 3 * time.Second // of load before a node is killed
	after  = 8 * time.Second // of load with the node away
)

// failover kills a node under readers and writers, one after the other, and starts
// it again. In the end every acknowledged blob is read.
func (b *run) failover(ctx context.Context) error {
	data := make([]byte, b.Size)
	for len(b.lib.all()) < b.Blobs {
		fill(data)
		blob, _, err := b.store.put(ctx, data)
		if err != nil {
			return err
		}
		b.lib.add(blob)
	}
	var reads, puts bench.Latency
	var readGaps, writeGaps []float64
	retried := 0
	for i := range b.Kills {
		victim := b.rig.Nodes[i%len(b.rig.Nodes)]
		b.Progress(fmt.Sprintf("killing %s under load", victim.Name))
		l := start(ctx, b.store, &b.lib, b.Size, b.Readers, b.Writers)
		wait(ctx, before)
		victim.Kill()
		wait(ctx, after)
		l.end()
		readGaps = append(readGaps, l.reads.slowest.Seconds())
		writeGaps = append(writeGaps, l.puts.slowest.Seconds())
		retried += l.reads.retried + l.puts.retried
		for _, t := range []struct{ from, to *bench.Latency }{{&l.reads.took, &reads}, {&l.puts.took, &puts}} {
			t.to.Merge(t.from)
		}
		if err := b.again(ctx, victim); err != nil {
			return err
		}
	}
	b.add(gap("failover_read_gap_s", readGaps), gap("failover_write_gap_s", writeGaps),
		reads.Result("get_around_kill", 0.5), puts.Result("put_around_kill", 0.5),
		bench.Result{Name: "requests_retried", Unit: "1", Value: float64(retried), N: b.Kills})
	return b.verify(ctx)
}

// gap is a result whose value is the median of several kills, and whose p99 is the
// worst.
func gap(name string, seconds []float64) bench.Result {
	worst := 0.0
	for _, s := range seconds {
		worst = max(worst, s)
	}
	return bench.Result{Name: name, Unit: "s", Value: contest.Median(seconds), P50: contest.Median(seconds), P99: worst, P999: worst, N: len(seconds)}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// again starts a node that was killed and waits until the cluster is whole.
func (b *run) again(ctx context.Context, n *rig.Node) error {
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := n.Start(starting); err != nil {
		return err
	}
	return b.settled(ctx)
}

// verify reads everything that was acknowledged.
func (b *run) verify(ctx context.Context) error {
	all := b.lib.all()
	b.Progress(fmt.Sprintf("reading %d blobs", len(all)))
	lost := 0
	var first error
	for _, x := range all {
		one, cancel := context.WithTimeout(ctx, requestTime)
		_, err := b.store.get(one, x)
		cancel()
		if err != nil {
			lost++
			if first == nil {
				first = err
			}
		}
	}
	b.add(bench.Result{Name: "acknowledged_identical", Unit: "1", Value: float64(len(all) - lost), N: len(all), Errors: lost})
	return first
}

// leaders kills the node that leads the directory and sees how long there is none.
func (b *run) leaders(ctx context.Context) error {
	var took []float64
	for range b.Kills {
		if err := b.settled(ctx); err != nil {
			return err
		}
		lead, err := b.leader(ctx, nil)
		if err != nil {
			return err
		}
		b.Progress("killing the leader, " + lead.Name)
		began := time.Now()
		lead.Kill()
		for {
			if _, err := b.leader(ctx, lead); err == nil {
				break
			}
			if time.Since(began) > time.Minute || ctx.Err() != nil {
				return fmt.Errorf("no leader a minute after %s was killed", lead.Name)
			}
			wait(ctx, 10*time.Millisecond)
		}
		took = append(took, time.Since(began).Seconds())
		if err := b.again(ctx, lead); err != nil {
			return err
		}
	}
	b.add(gap("leader_change_s", took))
	return nil
}
