package steward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hayloft/directory"
	"hayloft/directory/plan"
)

// replica is one volume's on one disk.
type replica struct {
	volume directory.VolumeID
	disk   directory.DiskID
}

// filling is a replica that was added and is not in sync yet.
type filling struct {
	replica
	cause plan.Cause // empty: another leader added it
	bytes int64
	since time.Duration
	slow  bool // it takes too long, and is not counted
}

// work is what a leader remembers. All of it can be lost.
type work struct {
	since   time.Duration
	adopted bool // what was under way when it began
	fills   map[replica]*filling
	removed []removed
}

type removed struct {
	disk  directory.DiskID
	bytes int64
	at    time.Duration
}

func newWork(now time.Duration) *work {
	return &work{since: now, fills: map[replica]*filling{}}
}

// freed is what disks will have free that do not say so yet.
func (w *work) freed(now time.Duration) map[directory.DiskID]int64 {
	w.removed = slices.DeleteFunc(w.removed, func(r removed) bool { return now-r.at > freeing })
	out := make(map[directory.DiskID]int64, len(w.removed))
	for _, r := range w.removed {
		out[r.disk] += r.bytes
	}
	return out
}

// look finds out what became of the fills. The caller holds mu.
func (s *Steward) look(c *plan.Cluster, volumes []plan.Volume, now time.Duration) (events []Event) {
	w := s.work
	at := make(map[directory.VolumeID]*plan.Volume, len(volumes))
	for i := range volumes {
		v := &volumes[i]
		at[v.ID] = v
		if w.adopted || v.Coded {
			continue
		}
		for _, d := range v.Replicas {
			if r := (replica{v.ID, d}); !slices.Contains(v.InSync, d) {
				w.fills[r] = &filling{replica: r, bytes: v.Bytes, since: now}
			}
		}
	}
	w.adopted = true
	for _, f := range w.sorted() {
		v := at[f.volume]
		switch {
		case v == nil || !slices.Contains(v.Replicas, f.disk):
			delete(w.fills, f.replica) // given up
		case slices.Contains(v.InSync, f.disk):
			delete(w.fills, f.replica)
			t := s.totals[f.cause]
			t.Replicas++
			t.Bytes += v.Bytes
			s.totals[f.cause] = t
			events = append(events, Event{Kind: EventFilled, Volume: f.volume, Disk: f.disk, Cause: f.cause, Bytes: v.Bytes, Took: now - f.since})
		case !f.slow && now-f.since > patience+time.Duration(f.bytes/slowest)*time.Second:
			f.slow = true
			events = append(events, Event{Kind: EventSlow, Volume: f.volume, Disk: f.disk, Took: now - f.since})
		}
	}
	return events
}

// sorted are the fills by age.
func (w *work) sorted() []*filling {
	out := make([]*filling, 0, len(w.fills))
	for _, f := range w.fills {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b *filling) int {
		return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.volume, b.volume), cmp.Compare(a.disk, b.disk))
	})
	return out
}

// affordable are the steps of a plan that may be taken now. The caller holds mu.
func (s *Steward) affordable(c *plan.Cluster, volumes []plan.Volume, p plan.Plan) (steps []plan.Step) {
	w := s.work
	if w == nil {
		return nil
	}
	primary := make(map[directory.VolumeID]directory.DiskID, len(volumes))
	for _, v := range volumes {
		if up := c.Sources(v); len(up) > 0 {
			primary[v.ID] = up[0]
		}
	}
	busy, all := map[directory.DiskID]int{}, 0
	for _, f := range w.fills {
		if from := primary[f.volume]; from != 0 && !f.slow && c.Up(f.disk) {
			busy[f.disk]++
			busy[from]++
			all++
		}
	}
	removals := 0
	for _, st := range p.Steps {
		from := primary[st.Volume]
		switch {
		case st.Op == plan.Remove:
			if removals++; removals > maxRemovals {
				continue
			}
		case all >= s.o.Fills || busy[st.Disk] >= s.o.DiskFills || busy[from] >= s.o.DiskFills:
			continue
		default:
			all++
			busy[st.Disk]++
			busy[from]++
		}
		steps = append(steps, st)
	}
	return steps
}

// take takes steps. A row that has moved on is left to the next plan, and one that
// is refused keeps no other from being changed.
func (s *Steward) take(ctx context.Context, volumes []plan.Volume, steps []plan.Step) error {
	bytes := make(map[directory.VolumeID]int64, len(volumes))
	for _, v := range volumes {
		bytes[v.ID] = v.Bytes
	}
	var failed []error
	for _, st := range steps {
		var err error
		if st.Op == plan.Add {
			_, err = s.o.Directory.AddReplica(ctx, st.Volume, st.Disk, st.Sync)
		} else {
			_, err = s.o.Directory.RemoveReplica(ctx, st.Volume, st.Disk, st.Sync)
		}
		switch {
		case errors.Is(err, directory.ErrStale):
			continue
		case err != nil:
			failed = append(failed, fmt.Errorf("%v: %w", st, err))
			if errors.Is(err, directory.ErrUnavailable) || ctx.Err() != nil {
				return errors.Join(failed...)
			}
			continue
		}
		s.mu.Lock()
		if w := s.work; w != nil {
			r, now := replica{st.Volume, st.Disk}, s.o.Clock.Elapsed()
			if st.Op == plan.Add {
				w.fills[r] = &filling{replica: r, cause: st.Cause, bytes: st.Bytes, since: now}
			} else {
				if w.fills[r] == nil {
					w.removed = append(w.removed, removed{st.Disk, bytes[st.Volume], now})
				}
				delete(w.fills, r)
			}
		}
		s.mu.Unlock()
		s.o.Events(Event{Kind: EventStep, Step: st})
	}
	return errors.Join(failed...)
}

// fulfil does what operators asked for and nothing is in the way of any more.
func (s *Steward) fulfil(ctx context.Context, c *plan.Cluster, m *directory.Map, volumes []plan.Volume, was Intent, p plan.Plan) error {
	change := Intent{Lost: was.Lost, Nodes: was.Nodes, Disks: was.Disks, Balance: was.Balance}
	for _, n := range was.Nodes {
		row, ok := m.Node(n)
		if ok && row.State == directory.Draining {
			if !c.Left(volumes, disksOf(m, n)).Empty() {
				continue
			}
			if _, err := s.o.Directory.SetNodeState(ctx, n, directory.Gone); err != nil {
				return err
			}
			s.o.Events(Event{Kind: EventGone, Node: n})
		}
		change.Nodes = set(change.Nodes, n, false)
	}
	for _, d := range was.Disks {
		row, ok := m.Disk(d)
		if ok && row.State == directory.Draining {
			if !c.Left(volumes, []directory.DiskID{d}).Empty() {
				continue
			}
			if _, err := s.o.Directory.SetDiskState(ctx, d, directory.Gone); err != nil {
				return err
			}
			s.o.Events(Event{Kind: EventGone, Node: row.Node, Disk: d})
		}
		change.Disks = set(change.Disks, d, false)
	}
	for _, d := range was.Lost {
		if c.Up(d) {
			change.Lost = set(change.Lost, d, false)
		}
	}
	balanced := was.Balance > 0 && len(p.Steps) == 0 && !s.filling()
	if balanced {
		change.Balance = 0
	}
	if change.encode() == was.encode() {
		return nil
	}
	// What was asked for meanwhile stays.
	err := s.change(func(now Intent) Intent {
		now.Nodes, now.Disks, now.Lost = less(now.Nodes, was.Nodes, change.Nodes), less(now.Disks, was.Disks, change.Disks), less(now.Lost, was.Lost, change.Lost)
		if balanced && now.Balance == was.Balance {
			now.Balance = 0
		}
		return now
	})
	if balanced && err == nil {
		s.o.Events(Event{Kind: EventBalanced})
	}
	return err
}

// less is now without those of was that are not in left.
func less[T comparable](now, was, left []T) []T {
	return slices.DeleteFunc(slices.Clone(now), func(n T) bool { return slices.Contains(was, n) && !slices.Contains(left, n) })
}

func (s *Steward) filling() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.work != nil && slices.ContainsFunc(s.work.sorted(), func(f *filling) bool { return f.cause == plan.Balance && !f.slow })
}

func disksOf(m *directory.Map, n directory.NodeID) (out []directory.DiskID) {
	for _, d := range m.Disks() {
		if d.Node == n {
			out = append(out, d.ID)
		}
	}
	return out
}
