package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

const (
	checkpointExt = ".ckpt"
	// A checkpoint is due when the records behind the last one are this many
	// times its size, so that writing checkpoints stays below 1/16 of all
	// writing; but not before minCheckpoint, and at the latest at
	// Options.CheckpointBytes.
	checkpointShare        = 16
	minCheckpoint          = 64 << 20
	defaultCheckpointBytes = 512 << 20
)

func idOf(b []byte) id.ID { return id.ID(binary.LittleEndian.Uint64(b)) }

// checkpointPath names the checkpoint beside the volume file.
func (v *Volume) checkpointPath() string {
	return strings.TrimSuffix(v.name, filepath.Ext(v.name)) + checkpointExt
}

// checkpointer writes checkpoints behind the writer, in a goroutine of its
// own.
type checkpointer struct {
	offers  chan snapshot // from the writer; holds one
	stopped chan struct{} // closed when the goroutine has ended
	begun   int64         // covers of the last offer; the writer's
	covered atomic.Int64  // what the durable checkpoint covers, 0 if none
	written atomic.Int64  // checkpoints written
	bytes   atomic.Int64  // of them
}

// snapshot is a checkpoint to be written: the first blocks of the list, the
// last one as it was.
type snapshot struct {
	checkpoint
	idx  *index     // sealing takes it off the volume
	head uint64     // of the last block
	done chan error // of room 1: is told what came of it; nil: nobody asks
}

// snapshot is taken by the writer, between two batches.
func (v *Volume) snapshot() snapshot {
	w, c, idx := &v.writer, &v.counters, v.idx.Load()
	s := snapshot{idx: idx, checkpoint: checkpoint{
		covers: w.end, unmarked: w.unmarked, deletes: w.deletes,
		needles: c.needles.Load(), tombstones: c.tombstones.Load(), liveBytes: c.liveBytes.Load(),
		blocks: idx.blocks.Load(), slots: idx.slots(), damage: v.damage,
	}}
	if s.blocks > 0 {
		s.last = idx.tail.place
		s.head = idx.block(s.blocks - 1).head.Load()
	}
	return s
}

// checkpointing tells whether this file has checkpoints.
func (v *Volume) checkpointing() bool {
	return strings.HasSuffix(v.name, volumeExt) && v.sealing.part.Load() == nil &&
		v.poisoned() == nil && len(v.damage.rot) <= maxRots
}

// dropCheckpoint removes what a sealed volume has no use for: it has an index
// of another kind.
func (v *Volume) dropCheckpoint() {
	if err := v.o.FS.Remove(v.checkpointPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.event(Event{Kind: EventCheckpointFailed, Err: err})
	}
}

// offerCheckpoint has a checkpoint begun if one is due and none waits to be.
// The writer calls it between two batches and never waits.
func (v *Volume) offerCheckpoint() {
	due := min(v.o.CheckpointBytes, max(minCheckpoint, checkpointShare*blockSize*int64(v.idx.Load().blocks.Load())))
	if v.writer.end-v.checkpoints.begun < due || !v.checkpointing() {
		return
	}
	select {
	case v.checkpoints.offers <- v.snapshot():
		v.checkpoints.begun = v.writer.end
	default:
	}
}

// start begins with what Open had to walk, if that was much.
func (c *checkpointer) start(v *Volume) {
	c.offers, c.stopped = make(chan snapshot, 1), make(chan struct{})
	v.offerCheckpoint()
	go v.runCheckpoints()
}

// runCheckpoints is the checkpointer's goroutine.
func (v *Volume) runCheckpoints() {
	defer close(v.checkpoints.stopped)
	for s := range v.checkpoints.offers {
		if err := v.checkpoint(s); s.done != nil {
			s.done <- err
		}
	}
}

// stop ends the goroutine, after what it was offered. The writer has ended.
func (c *checkpointer) stop() {
	close(c.offers)
	<-c.stopped
}

// lastCheckpoint is what a clean close leaves: a checkpoint of everything.
// Losing one costs the next Open a walk and nothing else, so its failure is an
// event, not an error.
func (v *Volume) lastCheckpoint() {
	if v.checkpointing() && v.checkpoints.covered.Load() != v.writer.end && v.idx.Load().blocks.Load() > 0 {
		v.checkpoint(v.snapshot())
	}
}

// checkpoint writes s and reports what came of it.
func (v *Volume) checkpoint(s snapshot) error {
	begin := v.now()
	size, err := v.writeCheckpoint(s)
	v.took(&v.steps.checkpoint, begin)
	if err != nil {
		v.event(Event{Kind: EventCheckpointFailed, Offset: s.covers, Err: classify(err)})
		return err
	}
	v.checkpoints.covered.Store(s.covers)
	v.checkpoints.written.Add(1)
	v.checkpoints.bytes.Add(size)
	return nil
}

// writeCheckpoint puts s in place: all of it under another name, synced, then
// renamed, then the directory synced. At every moment the name has the old
// checkpoint or the new one.
func (v *Volume) writeCheckpoint(s snapshot) (int64, error) {
	if s.blocks > 0 {
		crc, err := recordCRCAt(v.file, &v.seal, s.last)
		if err != nil {
			return 0, fmt.Errorf("the last record: %w", err)
		}
		s.lastCRC = crc
	}
	name := v.checkpointPath()
	tmp := name + tmpExt
	f, err := v.o.FS.Create(tmp)
	if err != nil {
		return 0, err
	}
	err = v.fillCheckpoint(f, s)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, errors.Join(err, v.o.FS.Remove(tmp)) // it may hold space that the disk lacks
	}
	if err := v.o.FS.Rename(tmp, name); err != nil {
		return 0, err
	}
	return s.size(), v.o.FS.SyncDir(v.dir)
}

// fillCheckpoint writes the bytes of s, a mebibyte at a time.
func (v *Volume) fillCheckpoint(f vfs.File, s snapshot) error {
	const step = 32
	buf := make([]byte, 0, checkpointHead+min(step, s.blocks/chunkBlocks+1)*(sectionBytes+4)+4)
	buf = append(buf, encodeCheckpointHead(&s.checkpoint, v.sb.Identity, &v.seal)...)
	var off, number int64
	flush := func() error {
		_, err := f.WriteVAt([][]byte{buf}, off)
		off, buf = off+int64(len(buf)), buf[:0]
		return err
	}
	seal := func(from int) {
		buf = binary.LittleEndian.AppendUint32(buf, v.seal.sectionCRC(s.covers, number, buf[from:]))
		number++
	}
	for n := uint64(0); n < s.blocks; {
		from := len(buf)
		for end := min(n+chunkBlocks, s.blocks); n < end; n++ {
			b := s.idx.block(n)
			head := b.head.Load()
			if n == s.blocks-1 {
				head = s.head
			}
			at := len(buf)
			buf = append(buf, make([]byte, blockSize)...)
			b.encode(buf[at:], head)
		}
		seal(from)
		if number%step == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	from := len(buf)
	buf = appendRots(buf, s.damage.rot)
	seal(from)
	return flush()
}

// base is what recovery starts from: a checkpoint, or nothing.
type base struct {
	checkpoint
	// refused says why there is no checkpoint to start from.
	refused error
	// newer is the checkpoint that covers more than there is, if that is why.
	newer *checkpoint
}

var errNoCheckpoint = errors.New("there is no checkpoint")

// restore fills index and counters from the checkpoint, if it can be used: the
// records below end are what there is.
func (v *Volume) restore(end int64) base {
	c, list, err := v.loadCheckpoint(end)
	b := base{checkpoint: checkpoint{covers: dataStart}, refused: err}
	switch {
	case err != nil:
		return b
	case c.covers > end:
		gone := 0
		for _, ch := range list.chunks {
			for i := range ch {
				for cur := ch[i].cursor(); cur.next(); {
					if cur.off+cur.size > end {
						gone++
					}
				}
			}
		}
		b.newer = c
		b.refused = fmt.Errorf("%w: the checkpoint covers %d bytes, the file ends at %d: %d records are gone",
			ErrCorrupt, c.covers, end, gone)
		return b
	}
	if b.refused = c.matches(v.file, &v.seal); b.refused != nil {
		return b
	}
	v.idx.Load().adopt(list.chunks, c.blocks, list.tables)
	v.counters.needles.Store(c.needles)
	v.counters.tombstones.Store(c.tombstones)
	v.counters.liveBytes.Store(c.liveBytes)
	v.checkpoints.covered.Store(c.covers)
	v.checkpoints.begun = c.covers
	b.checkpoint = *c
	return b
}

func (v *Volume) loadCheckpoint(end int64) (*checkpoint, loaded, error) {
	f, err := v.o.FS.Open(v.checkpointPath())
	if err != nil {
		return nil, loaded{}, fmt.Errorf("%w: %w", errNoCheckpoint, err)
	}
	c, list, err := readCheckpoint(f, v.sb.Identity, &v.seal, end)
	return c, list, errors.Join(err, f.Close())
}
