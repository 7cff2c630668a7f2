package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"hayloft/internal/vfs"
)

// loadSections is how many sections are read at a time: a mebibyte.
const loadSections = 32

// loaded is what a checkpoint brings besides its head.
type loaded struct {
	chunks []*chunk
	tables *tableBuilder
}

// loading reads the sections of a checkpoint on all processors: each worker
// takes the next few, reads them, verifies them, decodes them where they will
// stay, and feeds the tables. So reading, checking and building overlap, and
// memory is the index itself, a mebibyte for each worker and what the feeders
// put by. Nothing of it counts before all of it is verified.
type loading struct {
	f     vfs.File
	s     *seal
	c     *checkpoint
	out   loaded
	next  atomic.Int64 // step that nobody has taken
	steps []step
}

// step is what loadSections sections were found to hold.
type step struct {
	first int64 // offset of the first record
	last  place // the last one
	err   error
}

// readCheckpoint reads and verifies a whole checkpoint. Its tables get room for
// what may follow it in a volume file that ends at end.
func readCheckpoint(f vfs.File, ident Identity, s *seal, end int64) (*checkpoint, loaded, error) {
	size, err := f.Size()
	if err != nil {
		return nil, loaded{}, err
	}
	head := make([]byte, min(size, checkpointHead))
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, loaded{}, err
	}
	c, err := decodeCheckpointHead(head, ident, s)
	if err != nil {
		return nil, loaded{}, err
	}
	if c.size() != size {
		return nil, loaded{}, fmt.Errorf("%w: checkpoint of %d bytes must have %d", ErrCorrupt, size, c.size())
	}
	sections := (c.blocks + chunkBlocks - 1) / chunkBlocks
	steps := (sections + loadSections - 1) / loadSections
	workers := max(1, min(runtime.GOMAXPROCS(0), 8, int(steps)))
	l := &loading{f: f, s: s, c: c, steps: make([]step, steps)}
	l.out = loaded{chunks: make([]*chunk, sections), tables: newTableBuilder(c.blocks, c.slots+c.following(end), workers)}
	var wg sync.WaitGroup
	for range workers - 1 {
		wg.Go(l.work)
	}
	l.work()
	wg.Wait()
	if err := l.check(); err != nil {
		return nil, loaded{}, err
	}
	b := make([]byte, rotSize*len(c.damage.rot)+4)
	if err := l.read(b, size-int64(len(b))); err != nil {
		return nil, loaded{}, err
	}
	if b, err = l.section(b, int64(sections)); err != nil {
		return nil, loaded{}, err
	}
	return c, l.out, decodeRots(c.damage.rot, b)
}

// following is how many slots the records behind a checkpoint are likely to
// take: at most as many as there are.
func (c *checkpoint) following(end int64) uint64 {
	if end <= c.covers {
		return 0
	}
	return uint64(float64(c.slots) * min(1, float64(end-c.covers)/float64(c.covers)))
}

// work is one worker.
func (l *loading) work() {
	feed := l.out.tables.feeder()
	var buf []byte
	for {
		n := l.next.Add(1) - 1
		if n >= int64(len(l.steps)) {
			break
		}
		s := &l.steps[n]
		if buf, s.err = l.step(n, s, feed, buf); s.err != nil {
			l.next.Store(int64(len(l.steps))) // nobody need go on
		}
	}
	feed.end()
}

// step loads the n-th step, with buf to read into, and returns buf.
func (l *loading) step(n int64, s *step, feed *feeder, buf []byte) ([]byte, error) {
	from := n * loadSections
	to := min(from+loadSections, int64(len(l.out.chunks)))
	blocks := min(uint64(to)*chunkBlocks, l.c.blocks) - uint64(from)*chunkBlocks
	size := int(blocks)*blockSize + 4*int(to-from)
	buf = slices.Grow(buf[:0], size)[:size]
	if err := l.read(buf, checkpointHead+from*(sectionBytes+4)); err != nil {
		return buf, err
	}
	at := int64(dataStart)
	for i, rest := from, buf; i < to; i++ {
		b, err := l.section(rest[:min(len(rest), sectionBytes+4)], i)
		if err != nil {
			return buf, err
		}
		rest = rest[len(b)+4:]
		ch := new(chunk)
		l.out.chunks[i] = ch
		for j := 0; j*blockSize < len(b); j++ {
			if s.last, err = ch[j].decode(b[j*blockSize:], at, l.c.covers, uint64(i)*chunkBlocks+uint64(j), feed); err != nil {
				return buf, err
			}
			at = s.last.off + s.last.size
		}
	}
	first := l.out.chunks[from][0].cursor()
	first.next()
	s.first = first.off
	return buf, nil
}

// read fills b from off.
func (l *loading) read(b []byte, off int64) error {
	if n, err := l.f.ReadAt(b, off); n < len(b) {
		return fmt.Errorf("%w: read the checkpoint at %d: %w", ErrCorrupt, off, err)
	}
	return nil
}

// section verifies the section and cuts its checksum off.
func (l *loading) section(b []byte, number int64) ([]byte, error) {
	n := len(b) - 4
	if binary.LittleEndian.Uint32(b[n:]) != l.s.sectionCRC(l.c.covers, number, b[:n]) {
		return nil, fmt.Errorf("%w: checksum of checkpoint section %d", ErrCorrupt, number)
	}
	return b[:n], nil
}

// check compares what the steps found with one another and with the head.
func (l *loading) check() error {
	last := place{off: dataStart}
	var errs []error
	for i := range l.steps {
		s := &l.steps[i]
		errs = append(errs, s.err)
		if s.err == nil && s.first < last.off+last.size {
			errs = append(errs, fmt.Errorf("%w: checkpoint entry", ErrCorrupt))
		}
		last = s.last
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if l.c.blocks > 0 && last.off != l.c.last.off {
		return fmt.Errorf("%w: checkpoint's last record", ErrCorrupt)
	}
	l.c.last.size = last.size
	return nil
}
