package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"hayloft/volume"
	"hayloft/volume/coding"
)

// Shards lie in DIR/shards, in one folder for each epoch of a volume, together
// with the disk's copy of that epoch's delete log; see docs/data-directory.md.
const shardsName = "shards"

func epochName(v volume.ID, epoch uint32) string { return fmt.Sprintf("%08x-%08x", uint32(v), epoch) }

// epochOf is the inverse of epochName.
func epochOf(name string) (v volume.ID, epoch uint32, ok bool) {
	if len(name) != 17 || name[8] != '-' {
		return 0, 0, false
	}
	a, errA := strconv.ParseUint(name[:8], 16, 32)
	b, errB := strconv.ParseUint(name[9:], 16, 32)
	v, epoch = volume.ID(a), uint32(b)
	return v, epoch, errA == nil && errB == nil && epochName(v, epoch) == name
}

func (d *disk) epochDir(v volume.ID, epoch uint32) string {
	return filepath.Join(d.dir, shardsName, epochName(v, epoch))
}

// home is where readers find the shards of an epoch, workplace where jobs do, which
// leave a disk that hangs.
func (d *disk) home(v volume.ID, epoch uint32) coding.Home {
	return coding.Home{FS: d.fs, Dir: d.epochDir(v, epoch)}
}

func (d *disk) workplace(v volume.ID, epoch uint32) coding.Home {
	return coding.Home{FS: impatient{d: d}, Dir: d.epochDir(v, epoch)}
}

// epochs lists the folders of epochs on the disk. Other names are left alone.
func (d *disk) epochs() (map[volume.ID][]uint32, error) {
	names, err := impatient{d: d}.ReadDir(filepath.Join(d.dir, shardsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	out := make(map[volume.ID][]uint32)
	for _, n := range names {
		if v, epoch, ok := epochOf(n); ok {
			out[v] = append(out[v], epoch)
		}
	}
	return out, err
}

// slowRead is after how long without an answer from a disk the others are asked
// in its place, as its watcher counts. A healthy disk answers within a tenth of
// that even when busy.
const slowRead = 2 * time.Second

// diskShard is a shard in a file on some disk. It fails at once when the disk is out
// of service or does not answer its reads: then k others answer.
type diskShard struct {
	s    *Server
	at   site
	home coding.Home // where it was opened
	f    *coding.File

	mu     sync.RWMutex // held for reading by reads; guards closed
	closed bool
}

// places bounds the reads of shards that are under way on a disk: reads that hang keep
// what they hold of the coder's budget for ever, and there must be enough left for
// the other disks.
type places struct {
	sem   *semaphore.Weighted // bytes
	limit int64
	least int64 // what a read takes, however short
}

// placeShare is the share of the coder's memory for reads that those on one disk have.
const placeShare = 4

func newPlaces(o *Options, bytes int64) places {
	limit := max(1, bytes/placeShare)
	return places{semaphore.NewWeighted(limit), limit, max(1, limit/int64(o.MaxReads))}
}

// enter waits for a place, unless that takes so long that the disk must hang.
func (p *places) enter(ctx context.Context, s *Server, name string, n int) (leave func(), err error) {
	weight := min(max(int64(n), p.least), p.limit)
	if p.sem.TryAcquire(weight) {
		return func() { p.sem.Release(weight) }, nil
	}
	late, cancel := context.WithCancel(ctx)
	defer cancel()
	entered := make(chan error, 1)
	go func() { entered <- p.sem.Acquire(late, weight) }()
	select {
	case err = <-entered:
	case <-s.o.Clock.After(slowRead):
		cancel()
		err = <-entered // it may have come just now
	}
	switch {
	case err == nil:
		return func() { p.sem.Release(weight) }, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, unavailable("%s does not answer", name)
}

// enter is farDisk.enter for a disk here.
func (d *disk) enter(ctx context.Context, s *Server, n int) (leave func(), err error) {
	return d.shardReads.enter(ctx, s, d.dir, n)
}

// hangs reports whether reads of the disk wait for long.
func (d *disk) hangs() bool {
	begun, any := d.seen.oldest(readCall)
	return any && time.Duration(d.seat.tick.Load()-begun) >= slowRead
}

// ReadAt implements coding.Shard.
func (s *diskShard) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := s.why(); err != nil {
		return err
	}
	on := s.at.on()
	if on.hangs() {
		return unavailable("%s does not answer", s.at.name())
	}
	leave, err := on.enter(ctx, s.s, len(p))
	if err != nil {
		return err
	}
	defer leave()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return volume.ErrClosed
	}
	clock := s.s.o.Clock
	began := clock.Elapsed()
	err = s.f.ReadAt(ctx, p, off)
	if err == nil {
		s.s.coder.latency.add(clock.Elapsed() - began)
	}
	return err
}

// why is nil when the shard may be read, and else says why not.
func (s *diskShard) why() error {
	if lostShelf(s.home.FS) {
		return unavailable("%s: %w", s.at.name(), ErrShelf)
	}
	return s.at.usable()
}

// close closes the file when the reads under way have ended.
func (s *diskShard) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.f.Close()
}

// latency keeps the recent p95 of reads.
type latency struct {
	p95 atomic.Int64 // nanoseconds; 0 until there are enough

	mu   sync.Mutex // guards all below
	last [128]time.Duration
	n    int
}

func (l *latency) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[l.n] = d
	if l.n++; l.n < len(l.last) {
		return
	}
	l.n = 0
	sorted := l.last
	slices.Sort(sorted[:])
	l.p95.Store(int64(sorted[len(sorted)*95/100]))
}

func (l *latency) hedgeAfter() time.Duration { return time.Duration(l.p95.Load()) }
