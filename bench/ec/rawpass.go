package ec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/bench/raw"
	"hayloft/internal/vfs"
)

// rawPass is what a coding asked of the disk, to be done again without code and
// sums: the source read in the same pieces and order, the shards' pieces written in
// theirs, each file synced, read back in the same pieces, and named. Reads and writes
// go on beside one another, as many of each at once as package coding has, and a
// write waits until as much of the source was read as when the engine makes it.
type rawPass struct {
	source []raw.Extent // reads, in order
	writes []rawWrite   // in order
	back   [][]raw.Extent
	room   []int64 // of each file
	direct bool
	bytes  int64 // read and written
}

type rawWrite struct {
	file int
	raw.Extent
}

const (
	// passAtOnce is how many reads, or writes, or files, package coding has under
	// way, and passAhead how many stripes it reads ahead of what it writes.
	passAtOnce = 8
	passAhead  = 3
)

// newRawPass sorts what was recorded of a coding of the file source.
func newRawPass(ops []vfs.Op, source string) (*rawPass, error) {
	p := &rawPass{direct: true}
	files := shardFiles(ops, source)
	p.back, p.room = make([][]raw.Extent, len(files)), make([]int64, len(files))
	for _, op := range ops {
		e := raw.Extent{Off: op.Off, Len: int(op.Len)}
		if op.Name == source {
			if op.Kind == vfs.OpRead {
				p.source = append(p.source, e)
				p.bytes += op.Len
			}
			continue
		}
		i := slices.Index(files, filepath.Base(op.Name))
		switch op.Kind {
		case vfs.OpAllocate:
			p.room[i] = max(p.room[i], op.Off+op.Len)
		case vfs.OpWrite:
			p.writes = append(p.writes, rawWrite{i, e})
			p.bytes += op.Len
		case vfs.OpRead:
			p.back[i] = append(p.back[i], e)
			p.bytes += op.Len
		}
	}
	if len(p.source) == 0 || len(p.writes) == 0 || len(p.back) == 0 {
		return nil, errors.New("the coding that was recorded did nothing")
	}
	return p, nil
}

// shardFiles are the names of the files that were made, by shard.
func shardFiles(ops []vfs.Op, source string) (names []string) {
	for _, op := range ops {
		if name := filepath.Base(op.Name); op.Name != source && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (p *rawPass) String() string {
	return fmt.Sprintf("%d reads of the source, %d writes to %d files, read back in as many pieces as the engine does, %d of each at once; %d MB read and written",
		len(p.source), len(p.writes), len(p.back), passAtOnce, p.bytes/1e6)
}

// memory is a buffer for each call that may be under way.
func (p *rawPass) memory(huge bool) ([][]byte, func(), error) {
	longest := 0
	for _, e := range p.source {
		longest = max(longest, e.Len)
	}
	for _, w := range p.writes {
		longest = max(longest, w.Len)
	}
	for _, all := range p.back {
		for _, e := range all {
			longest = max(longest, e.Len)
		}
	}
	bufs, free, err := raw.ClientBufs(2*passAtOnce, longest)
	if huge && err == nil {
		free()
		bufs, free = raw.HugeBufs(2*passAtOnce, longest), func() {}
	}
	for _, b := range bufs {
		for at := 0; at < len(b); {
			at += copy(b[at:], library.Noise)
		}
	}
	return bufs, free, err
}

// run does the pass, with one file in each of dirs.
func (p *rawPass) run(ctx context.Context, source string, dirs []string, memory [][]byte) (err error) {
	src, direct, err := raw.OpenDirect(source, os.O_RDONLY)
	if err != nil {
		return err
	}
	p.direct = p.direct && direct
	files := make([]*os.File, len(p.back))
	defer func() {
		for _, f := range append(files, src) {
			if f != nil {
				err = errors.Join(err, f.Close())
			}
		}
	}()
	for i := range files {
		if files[i], direct, err = raw.OpenDirect(filepath.Join(dirs[i], "raw.tmp"), os.O_RDWR|os.O_CREATE); err != nil {
			return err
		}
		p.direct = p.direct && direct
		if err := unix.Fallocate(int(files[i].Fd()), 0, 0, p.room[i]); err != nil {
			return fmt.Errorf("fallocate: %w", err)
		}
	}
	if err := p.copy(ctx, src, files, memory); err != nil {
		return err
	}
	if err := contest.InParallel(ctx, passAtOnce, len(files), func(_, i int) error { return unix.Fdatasync(int(files[i].Fd())) }); err != nil {
		return err
	}
	err = contest.InParallel(ctx, passAtOnce, len(files), func(c, i int) error {
		for _, e := range p.back[i] {
			if err := readRaw(files[i], memory[c], e); err != nil {
				return err
			}
		}
		return nil
	})
	for _, dir := range dirs {
		err = errors.Join(err, os.Rename(filepath.Join(dir, "raw.tmp"), filepath.Join(dir, "raw")), vfs.OS{}.SyncDir(dir))
	}
	return err
}

// copy reads the source and writes the files.
func (p *rawPass) copy(ctx context.Context, src *os.File, files []*os.File, memory [][]byte) error {
	g := newGauge(len(p.source), len(p.writes), passAhead*min(passAtOnce, len(files)))
	defer context.AfterFunc(ctx, g.end)()
	var wg sync.WaitGroup
	var readErr error
	wg.Go(func() {
		readErr = contest.InParallel(ctx, passAtOnce, len(p.source), func(c, i int) error {
			g.waitRead(i)
			return g.readDone(readRaw(src, memory[c], p.source[i]))
		})
	})
	err := contest.InParallel(ctx, passAtOnce, len(p.writes), func(c, i int) error {
		g.waitWrite(i)
		w := p.writes[i]
		_, err := files[w.file].WriteAt(memory[passAtOnce+c][:w.Len], w.Off)
		return g.writeDone(err)
	})
	wg.Wait()
	return errors.Join(err, readErr)
}

func readRaw(f *os.File, b []byte, e raw.Extent) error {
	n, err := f.ReadAt(b[:e.Len], e.Off)
	if n < e.Len && err != nil && err != io.EOF { // a source ends within its last page
		return fmt.Errorf("read %d bytes at %d: %w", e.Len, e.Off, err)
	}
	return nil
}

// gauge keeps reads and writes of a copy together: as far through the writes as
// through the reads, but for what is read ahead.
type gauge struct {
	reads, writes, ahead int

	mu      sync.Mutex // guards all below
	changed *sync.Cond
	got     int  // reads that are done
	put     int  // writes
	over    bool // nobody waits any more
}

func newGauge(reads, writes, ahead int) *gauge {
	g := &gauge{reads: reads, writes: writes, ahead: ahead}
	g.changed = sync.NewCond(&g.mu)
	return g
}

func (g *gauge) wait(ready func() bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.over && !ready() {
		g.changed.Wait()
	}
}

// waitRead waits until read i may begin.
func (g *gauge) waitRead(i int) {
	g.wait(func() bool { return i < g.put*g.reads/g.writes+g.ahead })
}

// waitWrite waits until write i may begin.
func (g *gauge) waitWrite(i int) {
	g.wait(func() bool { return g.got >= (i*g.reads+g.writes-1)/g.writes })
}

func (g *gauge) readDone(err error) error  { return g.done(&g.got, err) }
func (g *gauge) writeDone(err error) error { return g.done(&g.put, err) }

func (g *gauge) done(n *int, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	*n++
	g.over = g.over || err != nil
	g.changed.Broadcast()
	return err
}

// end lets everybody go.
func (g *gauge) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	g.changed.Broadcast()
}
