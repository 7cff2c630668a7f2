package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/bench/raw"
	"hayloft/volume"
)

// restart measures opening a volume of many small needles, and what its index
// takes of memory.
type restart struct {
	writer  []string // the command of the process that is killed
	dir     string
	needles int
	size    int // bytes of each
	repeat  int

	clean, killed []float64 // seconds
	tail          int64     // largest part of the file behind the checkpoint after a kill, bytes
	perNeedle     float64   // bytes of memory, heap after GC and mapped
	peak          float64   // largest memory of the index per needle while it grew
	loadPeak      float64   // largest resident memory per needle while opening; 0: not known
	checkpoint    int64     // bytes
	file          int64     // bytes
	dropped       bool      // all caches could be dropped, not just the files' pages
	lost          int       // needles that were acknowledged and not found again

	groups int // that the writers may have put
	stored int // needles
	acked  int // needles that the writers said were acknowledged
}

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
	for i := range r.repeat {
		if sum(r.killed) > enough {
			break
		}
		// The first life writes all of it, the others a twentieth more, all on
		// top of a checkpoint that a clean close left.
		more := r.needles
		if i > 0 {
			more = max(r.needles/20, fillGroup*sayEvery)
		}
		if err := r.kill(ctx, more); err != nil {
			return err
		}
	}
	return r.reopen(ctx)
}

// kill lets a writer put needles until it is killed, and opens what it left.
func (r *restart) kill(ctx context.Context, needles int) error {
	l, err := live(ctx, r.writer, WriterOptions{Dir: r.dir, From: r.groups, Size: r.size}, r.stored, needles)
	if err != nil {
		return err
	}
	r.acked += l.acknowledged
	r.peak = max(r.peak, l.peak)
	v, took, err := r.open(ctx)
	if err != nil {
		return err
	}
	r.killed = append(r.killed, took)
	s := v.Stats()
	// Each client may have left a part of a group, or a group of which nothing
	// is there.
	r.groups += (int(s.Needles)-r.stored)/fillGroup + 2*fillClients
	r.stored = int(s.Needles)
	return v.Close()
}

// reopen measures after clean closes, and the memory.
func (r *restart) reopen(ctx context.Context) error {
	for range r.repeat {
		if sum(r.clean) > enough {
			break
		}
		before, known := resetPeak()
		v, took, err := r.open(ctx)
		if err != nil {
			return err
		}
		if after := peakResident(); known && after > before {
			r.loadPeak = float64(after-before) / float64(v.Stats().Needles)
		}
		r.clean = append(r.clean, took)
		if err := r.touch(ctx, v); err != nil {
			return errors.Join(err, v.Close())
		}
		s := v.Stats()
		r.file = s.FileBytes
		used, err := held(v)
		if err != nil {
			return err
		}
		r.perNeedle = max(r.perNeedle, float64(used)/float64(s.Needles))
	}
	st, err := os.Stat(checkpointFile(r.dir))
	if err != nil {
		return err
	}
	r.checkpoint = st.Size()
	return nil
}

// checkpointFile is the checkpoint beside the volume in dir (docs/format.md).
func checkpointFile(dir string) string {
	name := filepath.Join(dir, volume.FileName(library.ID, 1))
	return name[:len(name)-len(filepath.Ext(name))] + ".ckpt"
}

// open drops the caches and opens the volume.
func (r *restart) open(ctx context.Context) (*volume.Volume, float64, error) {
	if err := errors.Join(ctx.Err(), raw.Evict(r.dir)); err != nil {
		return nil, 0, err
	}
	var err error
	if r.dropped, err = dropCaches(); err != nil {
		return nil, 0, err
	}
	begin := time.Now()
	v, err := volume.Open(r.dir, library.ID, volume.Options{})
	if err != nil {
		return nil, 0, err
	}
	took := time.Since(begin).Seconds()
	s := v.Stats()
	r.tail = max(r.tail, s.FileBytes-s.CheckpointEnd)
	r.lost += max(0, r.acked-int(s.Needles))
	return v, took, nil
}

// touch reads needles all over the volume, so that what is used straight from
// a file is resident when memory is counted.
func (r *restart) touch(ctx context.Context, v *volume.Volume) error {
	const samples = 2000
	sure := int64(r.needles - 2*fillClients*fillGroup) // the last groups of the first life may be missing
	for s := range int64(samples) {
		n := library.Needle{Key: photoKey(int(s * sure / samples)), Size: r.size}
		b, err := v.Read(ctx, n.Key, 0, library.CookieOf(n.Key))
		if err == nil {
			err = library.CheckFast(&n, b)
			b.Release()
		}
		if err != nil {
			return fmt.Errorf("after a restart: %w", err)
		}
	}
	return nil
}

// held closes v and returns how much memory that gave back: the live heap, and
// what was mapped. What readers of the whole process share stays, and is not
// counted.
func held(v *volume.Volume) (int64, error) {
	heap, outside := heapInUse(), mapped()
	if err := v.Close(); err != nil {
		return 0, err
	}
	return max(0, heap-heapInUse()) + max(0, outside-mapped()), nil
}

// heapInUse is the live heap in bytes.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// rebuild measures opening a volume whose checkpoint is lost, in turn with
// reading its file from end to end.
type rebuild struct {
	dir    string
	rounds int

	bytes, needles int64
	engine, raw    []float64 // bytes per second
	seconds        []float64
	told           int64 // events of progress
}

// The raw side of a rebuild reads so many pieces of so many bytes at once.
const throughClients, throughBytes = 4, 1 << 20

func (r *rebuild) run(ctx context.Context) error {
	var told atomic.Int64
	o := volume.Options{Events: func(e volume.Event) {
		if e.Kind == volume.EventScanning {
			told.Add(1)
		}
	}}
	for range r.rounds {
		if err := errors.Join(ctx.Err(), os.RemoveAll(checkpointFile(r.dir)), raw.Evict(r.dir)); err != nil {
			return err
		}
		if _, err := dropCaches(); err != nil {
			return err
		}
		begin := time.Now()
		v, err := volume.Open(r.dir, library.ID, o)
		if err != nil {
			return err
		}
		took := time.Since(begin).Seconds()
		s := v.Stats()
		if err := v.Close(); err != nil {
			return err
		}
		r.bytes, r.needles = s.FileBytes, s.Needles
		r.seconds = append(r.seconds, took)
		r.engine = append(r.engine, float64(s.FileBytes)/took)
		raw, err := readThrough(ctx, filepath.Join(r.dir, volume.FileName(library.ID, 1)))
		if err != nil {
			return err
		}
		r.raw = append(r.raw, raw)
		if sum(r.seconds) > enough {
			break
		}
	}
	r.told = told.Load()
	return nil
}

// readThrough reads a file from the device, and returns bytes per second. A few
// reads are under way at any time, or the device would wait for the program.
func readThrough(ctx context.Context, name string) (float64, error) {
	f, _, err := raw.OpenDirect(name, os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // read only
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	bufs := raw.HugeBufs(throughClients, throughBytes)
	begin := time.Now()
	err = contest.InParallel(ctx, throughClients, int((st.Size()+throughBytes-1)/throughBytes), func(c, i int) error {
		at := int64(i) * throughBytes
		// At the end of the file a direct read stops with an error.
		if n, err := f.ReadAt(bufs[c], at); at+int64(n) < min(at+throughBytes, st.Size()) {
			return fmt.Errorf("read %s at %d: %w", name, at, err)
		}
		return nil
	})
	return float64(st.Size()) / time.Since(begin).Seconds(), err
}
