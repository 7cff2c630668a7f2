package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

// restart measures opening a volume of many small needles, and what its index
// takes of memory.
type restart struct {
	dir     string
	needles int
	size    int // bytes of each
	repeat  int

	clean, killed []float64 // seconds
	perNeedle     float64   // bytes of memory, heap after GC and mapped
	peak          float64   // largest Stats.IndexBytes per needle while growing
	dropped       bool      // all caches could be dropped, not just the files' pages
	lost          int       // needles that were not found again
}

var errKilled = errors.New("the process is dead")

// mortal is a file system that a process can die on: after kill, nothing
// reaches the disk any more. What Close then does is what a kernel does when a
// process is killed: it gives up the locks.
type mortal struct {
	vfs.Fault
	dead atomic.Bool
}

func newMortal() *mortal {
	m := &mortal{Fault: vfs.Fault{FS: vfs.OS{}}}
	m.Before = func(vfs.Op) vfs.Outcome {
		if m.dead.Load() {
			return vfs.Outcome{Err: errKilled}
		}
		return vfs.Outcome{}
	}
	return m
}

// kill ends v as kill -9 would.
func (m *mortal) kill(v *volume.Volume) error {
	m.dead.Store(true)
	if err := v.Close(); err != nil && !errors.Is(err, errKilled) {
		return err
	}
	return nil
}

// fillers put groups of this many needles, from as many clients as it takes to
// keep the writer busy.
const (
	fillGroup   = 64
	fillClients = 8
)

// enough is after how many seconds of opening no further round is begun: a slow
// restart needs no second figure to be called slow.
const enough = 15

func sum(v []float64) (total float64) {
	for _, x := range v {
		total += x
	}
	return total
}

func (r *restart) run(ctx context.Context) error {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	m := newMortal()
	v, err := volume.Create(r.dir, ident, volume.Options{FS: m})
	if err != nil {
		return err
	}
	if err := r.fill(ctx, v); err != nil {
		return errors.Join(err, v.Close())
	}
	if err := m.kill(v); err != nil {
		return err
	}
	next := r.needles
	for range r.repeat { // each time with a batch more that no clean close has seen
		if sum(r.killed) > enough {
			break
		}
		m = newMortal()
		v, took, err := r.open(ctx, volume.Options{FS: m})
		if err != nil {
			return err
		}
		r.killed = append(r.killed, took)
		if err := r.put(ctx, v, next/fillGroup+1); err != nil {
			return errors.Join(err, v.Close())
		}
		next += fillGroup
		if err := m.kill(v); err != nil {
			return err
		}
	}
	return r.reopen(ctx)
}

// reopen measures after clean closes, and the memory.
func (r *restart) reopen(ctx context.Context) error {
	v, _, err := r.open(ctx, volume.Options{})
	if err != nil {
		return err
	}
	for range r.repeat {
		if sum(r.clean) > enough {
			break
		}
		if err := v.Close(); err != nil {
			return err
		}
		v = nil
		heap, outside := heapInUse(), mapped()
		var took float64
		if v, took, err = r.open(ctx, volume.Options{}); err != nil {
			return err
		}
		r.clean = append(r.clean, took)
		if err := r.touch(ctx, v); err != nil {
			return errors.Join(err, v.Close())
		}
		used := max(0, heapInUse()-heap) + max(0, mapped()-outside)
		r.perNeedle = max(r.perNeedle, float64(used)/float64(v.Stats().Needles))
		runtime.KeepAlive(v)
	}
	return v.Close()
}

// open drops the caches and opens the volume.
func (r *restart) open(ctx context.Context, o volume.Options) (*volume.Volume, float64, error) {
	if err := errors.Join(ctx.Err(), evict(r.dir)); err != nil {
		return nil, 0, err
	}
	var err error
	if r.dropped, err = dropCaches(); err != nil {
		return nil, 0, err
	}
	begin := time.Now()
	v, err := volume.Open(r.dir, benchID, o)
	if err != nil {
		return nil, 0, err
	}
	took := time.Since(begin).Seconds()
	if n := v.Stats().Needles; n < int64(r.needles) {
		r.lost += r.needles - int(n)
	}
	return v, took, nil
}

// touch reads needles all over the volume, so that what is used straight from
// a file is resident when memory is counted.
func (r *restart) touch(ctx context.Context, v *volume.Volume) error {
	const samples = 2000
	for s := range samples {
		n := needle{key: keyOf(int(int64(s) * int64(r.needles) / samples)), size: r.size}
		b, err := v.Read(ctx, n.key, 0, cookieOf(n.key))
		if err == nil {
			err = checkFast(&n, b)
			b.Release()
		}
		if err != nil {
			return fmt.Errorf("after a restart: %w", err)
		}
	}
	return nil
}

// fill puts all needles and watches the index grow.
func (r *restart) fill(ctx context.Context, v *volume.Volume) error {
	groups := (r.needles + fillGroup - 1) / fillGroup
	var next atomic.Int64
	var mu sync.Mutex // guards errs and r.peak
	var errs []error
	var wg sync.WaitGroup
	for range fillClients {
		wg.Go(func() {
			for {
				g := int(next.Add(1) - 1)
				if g >= groups {
					return
				}
				err := r.put(ctx, v, g)
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				}
				if s := v.Stats(); g%64 == 0 && s.Needles > int64(r.needles/10) {
					r.peak = max(r.peak, float64(s.IndexBytes)/float64(s.Needles))
				}
				stop := len(errs) > 0
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// put appends group g.
func (r *restart) put(ctx context.Context, v *volume.Volume, g int) error {
	bufs := make([][]byte, fillGroup)
	for i := range bufs {
		bufs[i] = bytes.Clone(noise[:r.size])
	}
	return writing{size: r.size, group: fillGroup}.put(ctx, v, bufs, g)
}

// heapInUse is the live heap in bytes.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
