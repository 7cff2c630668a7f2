package main

import (
	"context"
	"errors"
	"time"

	"hayloft/directory"
	"hayloft/directory/fleet"
	"hayloft/directory/steward"
	"hayloft/internal/raftgroup"

	"github.com/prometheus/client_golang/prometheus"
)

// openFleet makes the parts that know who is alive and see to it that volumes have
// their replicas. They work as long as runFleet runs.
func (n *node) openFleet(context.Context) (err error) {
	t := table{n.directory}
	n.fleet, err = fleet.New(fleet.Options{
		Node: n.who.name, Incarnation: n.incarnation, Self: n.rooms, Table: t, Peers: n.othersAt(pathBeat), Clock: n.clock, Events: n.fleetEvent,
	})
	if err != nil {
		return err
	}
	n.wire.serves(pathBeat, n.fleet.Serve)
	n.fleetNow.Store(n.fleet)
	n.steward, err = steward.New(steward.Options{
		Directory: n.directory, Fleet: n.fleet, Leadership: t, Peers: n.othersAt(pathSteward), Clock: n.clock, Seed: n.incarnation,
		RepairDelay: time.Duration(n.s.repairDelay), Replicas: n.s.targetReplicas(), Settle: n.settle, Events: n.stewardEvent,
	})
	if err == nil {
		n.wire.serves(pathSteward, n.steward.Serve)
		n.wire.answer(pathVoters, n.answerVoters)
	}
	return err
}

// othersAt are the other nodes at a path; nil for a node that is alone.
func (n *node) othersAt(path string) fleet.Peers {
	if n.wire == nil {
		return nil
	}
	return at{n.wire, path}
}

// runFleet works until ctx ends.
func (n *node) runFleet(ctx context.Context) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.fleet.Run(ctx)
	}()
	n.steward.Run(ctx)
	<-ended
	return ctx.Err()
}

// fleetPatience is how long a start waits for word of the others.
const fleetPatience = 5 * time.Second

// awaitFleet waits until this node and the others know of each other: before, volumes
// find no place.
func (n *node) awaitFleet(ctx context.Context) {
	for end := n.clock.Elapsed() + fleetPatience; len(n.fleet.View().Nodes) == 0 && n.clock.Elapsed() < end; {
		select {
		case <-n.clock.After(20 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// rooms are the disks of this process as the fleet is told.
func (n *node) rooms() []fleet.Disk {
	var out []fleet.Disk
	for _, r := range n.blobs.Rooms() {
		out = append(out, fleet.Disk{Disk: r.Disk, InService: r.InService, Free: r.Free, Capacity: r.Capacity})
	}
	return out
}

// table is the directory as fleet and steward see it.
type table struct{ d *directory.Directory }

func (t table) Leader() (string, bool) { return t.d.Leader() }

func (t table) Leading() bool { return t.d.Stats().Leader }

func (t table) Version() uint64 { return t.d.Map().Version() }

func (t table) Fresh(ctx context.Context) (uint64, error) {
	m, err := t.d.Fresh(ctx)
	if err != nil {
		return 0, err
	}
	return m.Version(), nil
}

func (t table) Nodes() map[string][]uint32 {
	m := t.d.Map()
	out := make(map[string][]uint32)
	names := make(map[directory.NodeID]string)
	for _, n := range m.Nodes() {
		names[n.ID], out[n.Name] = n.Name, nil
	}
	for _, d := range m.Disks() {
		if name, ok := names[d.Node]; ok {
			out[name] = append(out[name], uint32(d.ID))
		}
	}
	return out
}

func (n *node) fleetEvent(e fleet.Event) {
	switch e.Kind {
	case fleet.EventUp:
		n.log.Info("a node is up", "node", e.Node, "away", e.Away.Round(time.Second))
	case fleet.EventAway:
		n.log.Warn("a node is away: what it has is made elsewhere when it does not return", "node", e.Node, "after", n.s.repairDelay)
	case fleet.EventDisk:
		n.log.Warn("a disk came into service or left it", "node", e.Node, "disk", e.Disk, "in_service", e.Up)
	}
	if n.steward != nil {
		n.steward.Kick()
	}
}

func (n *node) stewardEvent(e steward.Event) {
	log := n.log
	switch e.Kind {
	case steward.EventStep:
		log.Info("placement", "volume", e.Step.Volume, "op", e.Step.Op, "disk", e.Step.Disk, "node", e.Step.Node, "cause", e.Step.Cause, "why", e.Step.Why)
	case steward.EventFilled:
		log.Info("a replica is in sync", "volume", e.Volume, "disk", e.Disk, "cause", e.Cause, "bytes", e.Bytes, "took", e.Took.Round(time.Millisecond))
	case steward.EventSlow:
		log.Warn("a replica does not get in sync, others are not kept waiting for it", "volume", e.Volume, "disk", e.Disk, "for", e.Took.Round(time.Second))
	case steward.EventGone:
		log.Info("nothing is left there: it is declared gone", "node", e.Node, "disk", e.Disk)
	case steward.EventBalanced:
		log.Info("disks are balanced")
	case steward.EventFailed:
		if n.work.Err() == nil && !errors.Is(e.Err, raftgroup.ErrNotLeader) {
			log.Warn("placement: to be tried again", "err", e.Err)
		}
	}
}

// filledCollector shows what came in sync, by cause.
type filledCollector struct{ s *steward.Steward }

var (
	filledReplicas = prometheus.NewDesc("hayloft_placement_filled_replicas_total", "Replicas that the steward of this process added and that came in sync, by cause.", []string{"cause"}, nil)
	filledBytes    = prometheus.NewDesc("hayloft_placement_filled_bytes_total", "Bytes of the volumes of these replicas, by cause.", []string{"cause"}, nil)
)

// Describe implements prometheus.Collector.
func (c filledCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- filledReplicas
	ch <- filledBytes
}

// Collect implements prometheus.Collector.
func (c filledCollector) Collect(ch chan<- prometheus.Metric) {
	for cause, t := range c.s.Filled() {
		label := string(cause)
		if label == "" {
			label = "unknown"
		}
		ch <- prometheus.MustNewConstMetric(filledReplicas, prometheus.CounterValue, float64(t.Replicas), label)
		ch <- prometheus.MustNewConstMetric(filledBytes, prometheus.CounterValue, float64(t.Bytes), label)
	}
}
