package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// sealing is what fencing and sealing add to a Volume.
type sealing struct {
	head   superblock  // as on the device; used by Open, then by the writer goroutine alone
	fenced atomic.Bool // puts of clients are refused
	part   atomic.Pointer[sealedPart]
	log    atomic.Pointer[deleteLog] // that deletes go to, nil before the fence; a compaction gives it to Open

	mending sync.Mutex // held by who writes the file of a sealed volume again

	// onDelete, in a delete log, is told on the writer goroutine of keys that are
	// newly deleted. It is set before anything is written.
	onDelete func([]id.ID)
	// replaced: this file is a delete log no more. The writer goroutine's.
	replaced bool
}

// sealedPart is what serves a sealed volume. It never changes.
type sealedPart struct {
	rec SealRecord
	idx *sealIndex
	log *deleteLog
	// incomplete says that idx was made from a file in which records are
	// missing: a key that is not found may lie there.
	incomplete error
	// unsure is why needles of the file may have been deleted: a tombstone in it is
	// lost, and so is the index.
	unsure error

	live, liveBytes atomic.Int64 // needles and their records, deletes applied
}

func (v *Volume) isLog() bool { return v.sb.Class == classDeletes }

func (e Entry) isLog() bool { return strings.HasSuffix(e.Name, deletesExt) }

// markerPath is the name of the poison marker.
func (v *Volume) markerPath() string {
	if v.isLog() {
		return v.name + markerExt
	}
	return filepath.Join(v.dir, markerName(v.sb.Volume, v.sb.Generation))
}

func (v *Volume) sealedError() error { return fmt.Errorf("%w: volume %d", ErrSealed, v.sb.Volume) }

// Sealed returns what the superblock of a sealed volume says, and false for
// one that is not sealed. The byte slices are not to be changed.
func (v *Volume) Sealed() (SealRecord, bool) {
	if p := v.sealing.part.Load(); p != nil {
		return p.rec, true
	}
	return SealRecord{}, false
}

// Fenced tells whether puts are refused, because the volume is fenced or
// sealed.
func (v *Volume) Fenced() bool { return v.sealing.fenced.Load() }

// loadClosing opens a file whose superblock says that it is fenced or sealed,
// if the device says so too.
func (v *Volume) loadClosing(limit int64, poisoned bool) error {
	var stop error
	if !poisoned {
		if err := errors.Join(v.file.Sync(), v.o.FS.SyncDir(v.dir)); err != nil {
			stop = fmt.Errorf("sync at open: %w", err)
		}
	}
	// A sync that failed in an earlier process may have left pages the device
	// never got.
	if err := v.file.Evict(0, dataStart); err != nil {
		return fmt.Errorf("drop cached pages: %w", err)
	}
	sb, _, err := readSuperblock(v.file)
	if err != nil {
		return err
	}
	if sb.Identity != v.sb.Identity || sb.Secret != v.sb.Secret {
		return fmt.Errorf("%w: the superblock changed while it was read", ErrCorrupt)
	}
	v.sb, v.sealing.head = sb, sb
	v.sealing.fenced.Store(sb.State != stateOpen)
	if sb.State == stateSealed {
		return v.openSealed(stop, poisoned)
	}
	if err := v.recover(limit, poisoned); err != nil {
		return err
	}
	if sb.Logged {
		log, err := openDeleteLog(v.dir, v.sb.Volume, v.o)
		if err != nil {
			return fmt.Errorf("delete log: %w", err)
		}
		v.sealing.log.Store(log)
	}
	if v.poisoned() == nil {
		if stop == nil {
			stop = v.healSuperblock()
		}
		if stop != nil {
			v.setPoison(stop)
			v.leaveMarker()
		}
	}
	return nil
}

// healSuperblock writes a copy that is damaged or older than the other again.
func (v *Volume) healSuperblock() error {
	var copies [2][]byte
	good := -1
	for i := range copies {
		copies[i] = make([]byte, superblockSize)
		if _, err := vfs.ReadAtSurely(v.file, copies[i], int64(i)*superblockSize); err != nil {
			continue
		}
		if sb, err := decodeSuperblock(copies[i]); err == nil && sb.Sequence == v.sb.Sequence {
			good = i
		}
	}
	if good < 0 {
		return fmt.Errorf("%w: the superblock changed while it was read", ErrCorrupt)
	}
	other := 1 - good
	if string(copies[0]) == string(copies[1]) {
		return nil
	}
	if _, err := v.file.WriteVAt([][]byte{copies[good]}, int64(other)*superblockSize); err != nil {
		return fmt.Errorf("write superblock copy %d: %w", other, err)
	}
	if err := v.file.Sync(); err != nil {
		return fmt.Errorf("sync superblock copy %d: %w", other, err)
	}
	return nil
}

// openSealed makes a sealed volume readable: index, then delete log. stop is
// why nothing may be written; then deletes are refused.
func (v *Volume) openSealed(stop error, poisoned bool) error {
	rec := *v.sb.Seal
	v.synced.Store(rec.End)
	v.writer.end = rec.End
	if stop == nil && !poisoned {
		stop = v.healSuperblock()
	}
	switch {
	case poisoned:
		v.setPoison(errMarker)
	case stop != nil:
		// No marker: the next process does not believe this one's pages
		// either, and goes by what the device holds.
		v.setPoison(stop)
	}
	p := &sealedPart{rec: rec}
	if err := p.loadIndex(v); err != nil {
		return err
	}
	log := v.sealing.log.Load()
	given := log != nil
	if !given {
		var err error
		if log, err = openDeleteLog(v.dir, v.sb.Volume, v.o); err != nil {
			return fmt.Errorf("delete log: %w", err)
		}
	}
	if err := p.attach(log); err != nil {
		err = fmt.Errorf("delete log: %w", err)
		if !given {
			err = errors.Join(err, log.release())
		}
		return err
	}
	if err := log.holds(p.rec.Deletes); err != nil {
		v.event(Event{Kind: EventRot, Err: err})
	}
	v.sealing.log.Store(log)
	v.sealing.part.Store(p)
	if !given && v.poisoned() == nil {
		v.removeLeftovers()
	}
	return nil
}

// sealHead is what a sealed index must say to belong to the file.
func (v *Volume) sealHead(rec *SealRecord) sealIndexHead {
	return sealIndexHead{Volume: v.sb.Volume, Generation: v.sb.Generation, Sign: v.seal.sign, Digest: rec.Digest, End: rec.End}
}

func (h sealIndexHead) belongs(o sealIndexHead) bool {
	return h.Volume == o.Volume && h.Generation == o.Generation && h.Sign == o.Sign && h.Digest == o.Digest && h.End == o.End
}

func (v *Volume) indexPath() string {
	return filepath.Join(v.dir, IndexName(v.sb.Volume, v.sb.Generation))
}

// loadIndex reads the sealed index, or makes it again from the records.
func (p *sealedPart) loadIndex(v *Volume) error {
	idx, err := readSealIndex(v.o.FS, v.indexPath(), v.sealHead(&p.rec))
	if err == nil && idx.head.Needles == p.rec.Needles {
		p.idx = idx
		v.recovery.Checkpoint = true
		return nil
	}
	if isUnsupported(err) {
		err = nil // a newer program's: ours is made again, beside the file
	}
	v.event(Event{Kind: EventSealedIndexLost, Err: err})
	v.recovery.Walked = p.rec.End - dataStart
	return p.rebuildIndex(v)
}

// readSealIndex reads and verifies a sealed index, and lets its pages go: what
// counts from now on is the copy in memory.
func readSealIndex(fsys vfs.FS, name string, want sealIndexHead) (*sealIndex, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	var b []byte
	if err == nil && size > maxSealIndex {
		err = fmt.Errorf("%w: sealed index of %d bytes", ErrCorrupt, size)
	}
	if err == nil {
		b = make([]byte, size)
		var n int
		if n, err = f.ReadAt(b, 0); n == len(b) {
			err = f.Evict(0, 0)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	x, err := decodeSealIndex(b)
	if err != nil {
		return nil, err
	}
	if !x.head.belongs(want) {
		return nil, fmt.Errorf("%w: sealed index of another file", ErrCorrupt)
	}
	return x, nil
}

// maxSealIndex bounds what is read as an index, in bytes.
const maxSealIndex = 1 << 32

// rebuildIndex makes the index from the records. When the headers do not give
// the digest that was sealed, some needle is missing.
func (p *sealedPart) rebuildIndex(v *Volume) error {
	var in inventory
	size, err := v.file.Size()
	if err != nil {
		return err
	}
	if err := in.take(context.Background(), v.file, &v.seal, min(size, p.rec.End), false, nil); err != nil {
		return err
	}
	live := in.settle()
	if digestOf(live) != p.rec.Digest {
		p.incomplete = fmt.Errorf("%w: a part of volume %d is damaged, and its index is lost", ErrCorrupt, v.sb.Volume)
		for _, g := range in.gaps {
			v.event(Event{Kind: EventRot, Offset: g.off, Length: g.end - g.off})
		}
		if len(in.gaps) == 0 {
			return fmt.Errorf("%w: the needles of volume %d are not those that were sealed", ErrCorrupt, v.sb.Volume)
		}
		if in.mayHideDeletes() && p.rec.Source == 0 { // a compacted file holds no tombstones
			p.unsure = p.incomplete
		}
	}
	if p.idx, err = buildSealIndex(v.sealHead(&p.rec), live); err != nil {
		return err
	}
	if p.incomplete == nil {
		p.saveIndex(v)
	}
	return nil
}

// saveIndex writes the index. It can be made again: a failure costs time at
// the next Open.
func (p *sealedPart) saveIndex(v *Volume) {
	if err := p.writeIndex(v); err != nil {
		v.event(Event{Kind: EventSealedIndexFailed, Err: classify(err)})
	}
}

func (p *sealedPart) writeIndex(v *Volume) error {
	return vfs.WriteFile(v.o.FS, v.indexPath(), p.idx.b)
}

// locate is Volume.locate of a sealed volume.
func (p *sealedPart) locate(v *Volume, key id.ID, alt uint8) (place, error) {
	if p.log.deleted(key) {
		return place{}, notFound(key, alt)
	}
	at, found := p.idx.get(key, alt)
	switch {
	case !found && p.incomplete != nil:
		return at, v.corrupt(key, 0, fmt.Errorf("%v alt %d is not found: %w", key, alt, p.incomplete))
	case !found:
		return at, notFound(key, alt)
	}
	if err := p.doubt(); err != nil {
		return at, v.corrupt(key, at.off, fmt.Errorf("%v alt %d may have been deleted: %w", key, alt, err))
	}
	return at, nil
}

func (p *sealedPart) has(key id.ID) bool {
	if p.log.deleted(key) || p.doubt() != nil {
		return false
	}
	_, ok := p.idx.find(key)
	return ok
}

// doubt is why needles that are found may have been deleted.
func (p *sealedPart) doubt() error {
	return cmp.Or(p.log.unsure(), p.unsure, p.log.holds(p.rec.Deletes))
}

// forget subtracts a deleted key from what is live.
func (p *sealedPart) forget(key id.ID) {
	bl, ok := p.idx.find(key)
	if !ok {
		return
	}
	for i := range bl.alts {
		p.live.Add(-1)
		p.liveBytes.Add(-bl.place(i).size)
	}
}

// attach joins the delete log, whose deletes are subtracted from now on.
func (p *sealedPart) attach(log *deleteLog) error {
	p.log = log
	return log.follow(p)
}

// recount begins anew with what is live when all that the log deletes is deleted.
// It runs on the writer goroutine of the log.
func (p *sealedPart) recount(log *Volume) {
	var bytes int64
	p.idx.each(func(_ id.ID, _ uint8, at place) bool {
		bytes += at.size
		return true
	})
	p.live.Store(p.idx.head.Needles)
	p.liveBytes.Store(bytes)
	log.idx.Load().each(func(key id.ID, _ uint8, _ place) bool {
		p.forget(key)
		return true
	})
}

func (p *sealedPart) stats(v *Volume) Stats {
	c, l := &v.counters, p.log.cur.Load().v.Stats()
	s := Stats{
		Identity: v.sb.Identity,
		Needles:  p.live.Load(), Tombstones: l.Tombstones,
		LiveBytes: p.liveBytes.Load(), FileBytes: p.rec.End, MaxBytes: v.o.MaxBytes,
		IndexBytes: p.idx.bytes() + l.IndexBytes,
		Appended:   c.appended.Load(), Deleted: c.deleted.Load(),
		Batches: c.batches.Load() + l.Batches, Syncs: c.syncs.Load() + l.Syncs, BatchBytes: c.batchBytes.Load() + l.BatchBytes,
		Reads: c.reads.Load(), CorruptReads: c.corruptReads.Load(),
		Rot: len(v.damage.rot) + l.Rot, VoidBytes: v.damage.voidBytes + l.VoidBytes,
		DeleteLogBytes: l.FileBytes, Recovery: v.recovery,
		Poisoned: v.poisoned(),
	}
	if s.Poisoned == nil {
		s.Poisoned = l.Poisoned
	}
	return s
}
