package server

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
)

const (
	lookEvery = time.Second
	// takeOver is how long a disk is away before the next replica in sync moves its
	// volumes on.
	takeOver = 5 * time.Second
)

// lookout remembers since when disks of the cluster are away, as this node hears.
type lookout struct {
	mu    sync.Mutex // guards all below
	since map[uint32]time.Time
}

// sky is which disks are there, at one moment.
type sky struct {
	s   *Server
	now time.Time
	up  map[uint32]bool
}

// look asks which disks are there. One that is not is noted from now on.
func (s *Server) look() sky {
	k := sky{s: s, now: s.o.Clock.Now(), up: make(map[uint32]bool)}
	var others []FleetDisk
	if s.o.Peers != nil {
		others = s.o.Peers.Disks()
	}
	here := s.o.Directory.NodeDisks()
	for _, f := range others {
		if f.Up && !slices.ContainsFunc(here, func(nd NodeDisk) bool { return nd.Disk == f.Disk }) {
			k.up[f.Disk] = true
		}
	}
	for _, d := range s.all() { // of these this process knows more than it has told others
		if d.usable() == nil {
			k.up[d.number] = true
		}
	}
	s.lookout.mu.Lock()
	for n := range s.lookout.since {
		if k.up[n] {
			delete(s.lookout.since, n)
		}
	}
	s.lookout.mu.Unlock()
	for _, f := range others {
		k.away(f.Disk)
	}
	return k
}

// away is how long a disk has been away, 0 when it is there.
func (k sky) away(disk uint32) time.Duration {
	if k.up[disk] {
		return 0
	}
	l := &k.s.lookout
	l.mu.Lock()
	defer l.mu.Unlock()
	since, known := l.since[disk]
	if !known {
		if l.since == nil {
			l.since = make(map[uint32]time.Time)
		}
		since = k.now
		l.since[disk] = since
	}
	return max(k.now.Sub(since), 1)
}

// coordinator is the disk of the replica that moves a volume on, 0 when nobody may:
// of those in sync the first that is there. One that is just away keeps its turn.
func (k sky) coordinator(row Row) uint32 {
	for _, n := range row.InSync {
		if k.away(n) < takeOver {
			return n
		}
	}
	return 0
}

// all reports whether disks are all there.
func (k sky) all(disks []uint32) bool {
	return !slices.ContainsFunc(disks, func(n uint32) bool { return !k.up[n] })
}

// lost reports whether a replica of an open volume has been away for so long that it is
// made again elsewhere, which is done when the volume is sealed.
func (k sky) lost(row Row) bool {
	return len(row.InSync) > 1 && slices.ContainsFunc(row.InSync, func(n uint32) bool { return k.away(n) >= k.s.o.RepairDelay })
}

// absence is 0 for a disk that is there, more when others take over, and still more when
// its replicas are made again.
func (k sky) absence(disk uint32) (n int) {
	away := k.away(disk)
	if away >= takeOver {
		n++
	}
	if away >= k.s.o.RepairDelay {
		n++
	}
	return n
}

// lookOut has this node's disks looked over when one elsewhere has been away for so
// long that others act, when one is back, and when other nodes have changed what is to
// be done for the volumes here, until ctx ends.
func (s *Server) lookOut(ctx context.Context) {
	absences := make(map[uint32]int)
	for {
		for _, d := range s.all() {
			if d.rowsChanged() {
				d.kick()
			}
		}
		k, changed := s.look(), false
		all := s.o.Peers.Disks()
		s.coder.hear(all)
		for _, f := range all {
			if n := k.absence(f.Disk); n != absences[f.Disk] {
				absences[f.Disk], changed = n, true
			}
		}
		if changed {
			for _, d := range s.all() {
				d.kick()
			}
			s.coder.kick()
		}
		select {
		case <-s.o.Clock.After(lookEvery):
		case <-ctx.Done():
			return
		}
	}
}

var rowSeed = maphash.MakeSeed()

// rowsChanged reports whether rows of volumes on the disk have changed, in what due goes
// by, since it was called last. What rested because of what they were does not any more.
// One goroutine calls it.
func (d *disk) rowsChanged() (changed bool) {
	rows := d.s.o.Directory.Rows(d.number)
	now := make(map[volume.ID]uint64, len(rows))
	for _, row := range rows {
		attempt := uint32(0)
		if row.Attempt != nil {
			attempt = row.Attempt.Generation
		}
		v := row.Volume.Volume
		now[v] = maphash.Comparable(rowSeed, [...]uint32{row.Volume.Generation, uint32(row.State), row.Sync, attempt})
		if was, known := d.rows[v]; !known || was != now[v] {
			d.troubles.reconsider(v)
			changed = true
		}
	}
	changed = changed || len(now) != len(d.rows)
	d.rows = now
	return changed
}

// within is a context that ends after a time of the server's clock, for calls to other
// nodes. The caller calls end.
func (s *Server) within(ctx context.Context, wait time.Duration) (_ context.Context, end context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	late := s.o.Clock.After(wait)
	go func() {
		select {
		case <-late:
			cancel(errNoAnswer)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// lively is a context that ends when beat was not called for a time of the server's
// clock: for answers that come in pieces. The caller calls end.
func (s *Server) lively(ctx context.Context, wait time.Duration) (_ context.Context, beat func(), end context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	var beats atomic.Uint64
	go func() {
		for last := beats.Load(); ; last = beats.Load() {
			select {
			case <-s.o.Clock.After(wait):
			case <-ctx.Done():
				return
			}
			if beats.Load() == last {
				cancel(errNoAnswer)
			}
		}
	}()
	return ctx, func() { beats.Add(1) }, func() { cancel(context.Canceled) }
}

// errNoAnswer is why a call to another node was given up.
var errNoAnswer = unavailable("no answer in time")

// fellow is a replica as those of the same volume see it.
type fellow interface {
	PeerLife
	LogDeletes(ctx context.Context, disk uint32, v volume.ID, sync, after uint32, keys []id.ID) (newest uint32, err error)
}

// peerOf returns who answers for a disk, this process for its own.
func (s *Server) peerOf(disk uint32) (fellow, error) {
	if d := s.diskByNumber(disk); d != nil {
		return near{&replicas{s}, d}, nil
	}
	if s.o.Peers != nil {
		if p := s.o.Peers.Of(disk); p != nil {
			return p, nil
		}
	}
	return nil, unavailable("nobody is known who has disk %d", disk)
}
