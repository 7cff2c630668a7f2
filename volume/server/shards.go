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

func (d *disk) home(v volume.ID, epoch uint32) coding.Home {
	return coding.Home{FS: d.fs, Dir: d.epochDir(v, epoch)}
}

// epochs lists the folders of epochs on the disk. Other names are left alone.
func (d *disk) epochs() (map[volume.ID][]uint32, error) {
	names, err := d.fs.ReadDir(filepath.Join(d.dir, shardsName))
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

// diskShard is a shard in a file on a disk of this node. It fails at once when
// the disk is out of service or does not answer its reads: then k others answer.
type diskShard struct {
	d *disk
	f *coding.File

	mu     sync.RWMutex // held for reading by reads; guards closed
	closed bool
}

// ReadAt implements coding.Shard.
func (s *diskShard) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := s.d.usable(); err != nil {
		return err
	}
	if begun, any := s.d.seen.oldest(readCall); any && time.Duration(s.d.seat.tick.Load()-begun) >= slowRead {
		return unavailable("%s does not answer", s.d.dir)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return volume.ErrClosed
	}
	clock := s.d.s.o.Clock
	began := clock.Elapsed()
	err := s.f.ReadAt(ctx, p, off)
	if err == nil {
		s.d.s.coder.latency.add(clock.Elapsed() - began)
	}
	return err
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
