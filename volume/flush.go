package volume

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
)

// While one batch is on its way to stable storage the next one is put together
// (decision 114). The writer goroutine does the putting together, a second one,
// the flusher, writes and syncs, one batch at a time. The flusher takes the open
// batch the moment it has nothing to do, so batches are as large as the device
// makes callers wait, and no timer is involved.

// pipe is what the two goroutines share.
type pipe struct {
	unit int64 // batches end at its multiples; 1: anywhere

	mu      sync.Mutex // guards open, next and deletes
	open    *batch     // takes records; nil: it was not begun
	next    int64      // where the batch behind those taken begins
	deletes uint32     // written in front of next, modulo 2^32

	size   atomic.Int64 // of open
	idle   atomic.Bool  // nobody flushes, and the flusher wants a batch
	handed chan *batch  // for the flusher that waits

	doneMu sync.Mutex // guards done
	done   []*batch   // flushed, in order, for the writer to conclude
}

// take closes the open batch, if there is one, for the caller to flush. Called
// with mu held.
func (p *pipe) take(s *seal) *batch {
	b := p.open
	if b == nil {
		return nil
	}
	p.idle.Store(false)
	b.pad(s, p.unit)
	p.open, p.next, p.deletes = nil, b.off, b.deletes
	p.size.Store(0)
	return b
}

// grab is take by the flusher, which does not wait for the lock: when the writer
// has it, the writer looks at idle once it gave it back.
func (p *pipe) grab(s *seal) *batch {
	p.idle.Store(true)
	return p.takeFree(s)
}

// takeFree is the second half of grab. The writer may have been here between the
// two: then what is open comes behind what it handed over.
func (p *pipe) takeFree(s *seal) *batch {
	if !p.mu.TryLock() {
		return nil
	}
	defer p.mu.Unlock()
	if !p.idle.Load() {
		return nil
	}
	return p.take(s)
}

// handOver gives the open batch to the flusher if it waits for one. The writer
// calls it whenever it gave the lock back.
func (p *pipe) handOver(s *seal) {
	if b := p.takeIdle(s); b != nil {
		p.handed <- b // has room: the flusher is waiting or about to
	}
}

// takeIdle is take by the writer, while the flusher does nothing.
func (p *pipe) takeIdle(s *seal) *batch {
	if !p.idle.Load() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.idle.Load() { // the flusher was faster
		return nil
	}
	return p.take(s)
}

func (p *pipe) finished(b *batch) {
	p.doneMu.Lock()
	defer p.doneMu.Unlock()
	p.done = append(p.done, b)
}

// firstDone returns the batch that was flushed first and is not concluded.
func (p *pipe) firstDone() *batch {
	p.doneMu.Lock()
	defer p.doneMu.Unlock()
	if len(p.done) == 0 {
		return nil
	}
	b := p.done[0]
	n := copy(p.done, p.done[1:])
	p.done[n] = nil
	p.done = p.done[:n]
	return b
}

// runFlusher is the flusher.
func (v *Volume) runFlusher(ended chan<- struct{}) {
	defer close(ended)
	p := &v.pipe
	for b := range p.handed {
		for b != nil {
			v.flush(b)
			p.finished(b)
			b = p.grab(&v.seal) // first of all: the device waits
			v.queue.signal()
		}
	}
}

// output is how batches reach the file. One goroutine at a time uses it.
type output struct {
	past    vfs.File // past the page cache; nil: there is no way
	refused bool     // the file system opens such files and does not write them
	end     int64    // of the last batch that was synced
	err     error    // the first failure: nothing is written after it
}

// openOutput looks for a way past the page cache. Without one, and whatever the
// reason, writes go through it. Delete logs do: most of their batches are much
// smaller than a unit, and a log is read whole at every opening.
func (v *Volume) openOutput() {
	v.pipe.unit = 1
	if v.o.PageCache || v.isLog() {
		return
	}
	f, unit, err := v.o.FS.OpenDirectWrite(v.name)
	if err != nil {
		if !errors.Is(err, vfs.ErrNoDirect) {
			v.event(Event{Kind: EventPageCache, Err: err})
		}
		return
	}
	if unit > pageSize {
		_ = f.Close() // nothing was written; no piece is aligned to more
		return
	}
	// A page even where less would do: no page that holds synced records is
	// written again, by whatever way, and none of them lies in the page cache
	// half old.
	v.out.past, v.pipe.unit = f, pageSize
}

// close has no error: what was written was synced, or the volume is poisoned.
func (o *output) close() {
	if o.past != nil {
		_ = o.past.Close()
		o.past = nil
	}
}

// flush puts what is left of a batch on stable storage. After the first failure
// no batch is written any more.
func (v *Volume) flush(b *batch) {
	v.spill(b)
	if o := &v.out; o.err == nil {
		begin := v.now()
		if err := v.file.Sync(); err != nil {
			o.err = fmt.Errorf("sync after writing at %d: %w", b.start, classify(err))
		}
		b.synced = v.now() - begin
		o.end = b.off
	}
	b.err = v.out.err
}

// errOrder is a bug of ours that must not get to the disk: every record says
// that all in front of its batch is synced.
var errOrder = errors.New("batches are out of order")

// spill writes what was put together of a batch so far.
func (v *Volume) spill(b *batch) {
	if o := &v.out; o.err == nil && b.start != o.end {
		o.err = fmt.Errorf("%w: one at %d behind %d", errOrder, b.start, o.end)
	}
	if o := &v.out; o.err == nil {
		begin := v.now()
		if bufs, n := b.content(); n > 0 {
			if err := v.writeOut(bufs, b.from); err != nil {
				o.err = fmt.Errorf("write %d bytes at %d: %w", n, b.from, classify(err))
			}
		}
		b.wrote += v.now() - begin
	}
	b.release()
}

// writeOut writes past the page cache if there is a way. What begins in the
// middle of a block goes through it: a file of an earlier program, or of a file
// system without such a way, may end there, and recovery may have cut it there.
func (v *Volume) writeOut(bufs [][]byte, off int64) error {
	if o := &v.out; o.past != nil && !o.refused && off%v.pipe.unit == 0 {
		n, err := o.past.WriteVAt(bufs, off)
		if n > 0 || !errors.Is(err, unix.EINVAL) {
			return err
		}
		o.refused = true // and nothing was written
		v.event(Event{Kind: EventPageCache, Err: err})
	}
	_, err := v.file.WriteVAt(bufs, off)
	return err
}
