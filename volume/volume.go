package volume

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

const (
	defaultMaxBytes   = 32 << 30
	defaultAllocChunk = 16 << 20
	minMaxBytes       = dataStart + 4096
)

// Options of Create and Open. The zero value works.
type Options struct {
	// FS holds the files; nil is the machine's.
	FS vfs.FS
	// Clock dates files and markers; nil is the machine's.
	Clock clock.Clock
	// MaxBytes bounds the file as far as puts are concerned; deletes may pass
	// it. 0 means 32 GiB, the largest is 1 TiB.
	MaxBytes int64
	// AllocChunk is how many bytes the file grows by at a time, ahead of the
	// data; 0 means 16 MiB. A closed volume holds no such reserve.
	AllocChunk int64
	// CheckpointBytes is how many bytes of records may follow a checkpoint of
	// the index before the next one is begun, at most; with a small index it is
	// begun earlier. 0 means 512 MiB, the largest is 1 GiB.
	CheckpointBytes int64
	// PageCache has the volume read and written through the page cache. The zero
	// value goes past it where the file system can.
	PageCache bool
	// Reads bounds the readers of this volume together with those of the others
	// that are given the same. nil: nothing bounds them.
	Reads *ReadBudget
	// Steps is where the volume counts how long its steps take, together with
	// the other volumes that are given the same. nil gives it one of its own.
	Steps *Steps
	// Hung, when not nil, returns a channel that is closed while the disk is taken
	// to hang: calls that wait for a put or delete end then with ErrHung.
	Hung func() <-chan struct{}
	// Events receives what an operator should know. It is called from any
	// goroutine, must return soon and must not call the volume.
	Events func(Event)
}

// Validate reports everything that is wrong with the options at once.
func (o Options) Validate() error {
	var errs []error
	if o.MaxBytes != 0 && (o.MaxBytes < minMaxBytes || o.MaxBytes > maxOffset) {
		errs = append(errs, fmt.Errorf("MaxBytes is %d, must be 0 or %d to %d", o.MaxBytes, minMaxBytes, maxOffset))
	}
	if o.AllocChunk < 0 || o.AllocChunk > 1<<30 {
		errs = append(errs, fmt.Errorf("AllocChunk is %d, must be 0 to %d", o.AllocChunk, 1<<30))
	}
	if o.CheckpointBytes < 0 || o.CheckpointBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("CheckpointBytes is %d, must be 0 to %d", o.CheckpointBytes, 1<<30))
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w: %w", ErrInvalid, errors.Join(errs...))
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.AllocChunk == 0 {
		o.AllocChunk = defaultAllocChunk
	}
	if o.CheckpointBytes == 0 {
		o.CheckpointBytes = defaultCheckpointBytes
	}
	if o.Steps == nil {
		o.Steps = new(Steps)
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	return o
}

// hung is what a caller waits for besides its answer; nil: for nothing.
func (o *Options) hung() <-chan struct{} {
	if o.Hung == nil {
		return nil
	}
	return o.Hung()
}

// Needle is one image.
type Needle struct {
	Key    id.ID       // blob id, not 0
	Alt    uint8       // which variant, at most MaxAlt
	Cookie id.Cookie   // not 0
	Master *MasterInfo // on masters only
	Data   []byte      // at most MaxData bytes
}

// Volume is an open volume.
type Volume struct {
	o    Options
	sb   superblock
	seal seal
	dir  string
	name string // of the file, with the directory
	file vfs.File
	// idx is that of an open volume; sealing empties it.
	idx atomic.Pointer[index]

	// life is held for reading by whoever uses file, and for writing by Close and
	// nobody else.
	life   sync.RWMutex
	closed bool // guarded by life

	queue       queue
	checkpoints checkpointer
	reads       readFile

	writer  writer        // used by the writer goroutine alone, and by Open before it starts
	pipe    pipe          // from it to the flusher, and back
	out     output        // used by whoever flushes: the flusher, or the writer goroutine while that one is idle
	stopped chan struct{} // closed when the writer goroutine has ended

	deletes  atomic.Uint32         // in the file, in front of synced
	synced   atomic.Int64          // end of what is known to be on stable storage and readable
	indexed  atomic.Int64          // end of what the index knows: behind synced while a batch is made readable
	poison   atomic.Pointer[error] // why nothing is appended any more
	damage   damage                // set by Open, then read-only
	later    laterDeletes          // the same
	unread   error                 // what may be acknowledged could not be read by Open; then read-only
	recovery Recovery              // the same
	counters counters
	steps    *Steps  // of the options
	sealing  sealing // what fencing and sealing add
}

// counters are what Stats sums up.
type counters struct {
	needles, tombstones, liveBytes atomic.Int64
	appended, deleted              atomic.Int64
	batches, syncs, batchBytes     atomic.Int64
	reads, corruptReads            atomic.Int64
}

// Create makes the file of a new volume in dir, which must exist, and opens
// it. When it returns nil the file, its name and its identity are durable. The
// directory must hold no other generation of the volume.
func Create(dir string, ident Identity, o Options) (*Volume, error) {
	if err := errors.Join(ident.validate(), o.Validate()); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	switch _, err := find(o.FS, dir, ident.Volume); {
	case err == nil:
		return nil, fmt.Errorf("%w: %d in %s", ErrExists, ident.Volume, dir)
	case !errors.Is(err, ErrNoVolume):
		return nil, err
	}
	sb := superblock{Identity: ident, Sequence: 1, Created: o.Clock.Now()}
	if _, err := rand.Read(sb.Secret[:]); err != nil {
		return nil, fmt.Errorf("draw the file secret: %w", err)
	}
	copy0 := encodeSuperblock(sb)
	// WriteFile gives the file its name only after it is synced: a named file
	// always has its superblock.
	name := filepath.Join(dir, FileName(ident.Volume, ident.Generation))
	if err := vfs.WriteFile(o.FS, name, append(copy0, copy0...)); err != nil {
		return nil, fmt.Errorf("create volume %d: %w", ident.Volume, classify(err))
	}
	return Open(dir, ident.Volume, o)
}

// Open opens volume v in dir for reading and appending, and recovers it after
// a crash; see docs/format.md. A poisoned volume opens read-only, and so does
// one whose recovery met a failing device.
func Open(dir string, v ID, o Options) (*Volume, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	e, err := find(o.FS, dir, v)
	if err != nil {
		return nil, err
	}
	return openFile(dir, e, o)
}

// openFile opens one file: a volume, or the delete log of one.
func openFile(dir string, e Entry, o Options) (*Volume, error) { return openSharing(dir, e, o, nil) }

// openSharing is openFile for a sealed volume whose delete log is open already. It
// is the new volume's, when there is no error.
func openSharing(dir string, e Entry, o Options, log *deleteLog) (vol *Volume, err error) {
	vol = &Volume{o: o, dir: dir, name: filepath.Join(dir, e.Name), steps: o.Steps, stopped: make(chan struct{})}
	vol.sealing.log.Store(log)
	vol.idx.Store(new(index))
	begin := vol.now()
	vol.pipe.unit = 1
	if vol.file, err = o.FS.OpenWrite(vol.name); err != nil {
		return nil, fmt.Errorf("open volume %d: %w", e.Volume, err)
	}
	if err := vol.load(e); err != nil {
		vol.out.close()
		if own := vol.sealing.log.Load(); own != log {
			err = errors.Join(err, own.release())
		}
		return nil, fmt.Errorf("open volume %d: %w", e.Volume, errors.Join(err, vol.file.Close()))
	}
	vol.recovery.Elapsed = vol.now() - begin
	vol.steps.open.Observe(vol.recovery.Elapsed)
	vol.steps.walked.Observe(vol.recovery.Walked)
	vol.queue.init()
	vol.reads.open(vol)
	vol.checkpoints.start(vol)
	if vol.sealing.part.Load() != nil {
		close(vol.stopped) // a sealed file has no writer
	} else {
		go vol.run()
	}
	return vol, nil
}

// load reads identity and marker and recovers the records.
func (v *Volume) load(e Entry) error {
	var damaged bool
	var err error
	if v.sb, damaged, err = readSuperblock(v.file); err != nil {
		return err
	}
	if v.sb.Volume != e.Volume || v.sb.Generation != e.Generation || v.isLog() != e.isLog() {
		return fmt.Errorf("%w: file %s says it is volume %d, generation %d", ErrCorrupt, e.Name, v.sb.Volume, v.sb.Generation)
	}
	v.seal = newSeal(v.sb)
	if damaged {
		v.event(Event{Kind: EventSuperblock})
	}
	limit, poisoned, err := v.readMarker()
	if err != nil {
		return err
	}
	if v.sb.State != stateOpen {
		if err := v.loadClosing(limit, poisoned); err != nil {
			return err
		}
		return v.loadLater()
	}
	v.sealing.head = v.sb
	if err := v.recover(limit, poisoned); err != nil {
		return err
	}
	return v.loadLater()
}

func readSuperblock(f io.ReaderAt) (superblock, bool, error) {
	var copies [2][]byte
	var readErr error
	for i := range copies {
		b := make([]byte, superblockSize)
		// An unreadable copy is a damaged one.
		n, err := vfs.ReadAtSurely(f, b, int64(i)*superblockSize)
		copies[i] = b[:n]
		if n < superblockSize {
			readErr = errors.Join(readErr, err)
		}
	}
	sb, damaged, err := chooseSuperblock(copies)
	if err != nil && readErr != nil {
		err = fmt.Errorf("%w (%w)", err, readErr)
	}
	return sb, damaged, err
}

// readMarker tells whether the volume was poisoned by an earlier process, and
// up to where it is known to be synced (0: not known).
func (v *Volume) readMarker() (limit int64, poisoned bool, err error) {
	name := v.markerPath()
	b, err := vfs.ReadFile(v.o.FS, name, markerSize+1)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		// Whether it says so or not, its being there does.
		return 0, true, nil
	}
	m, err := decodeMarker(b)
	if isUnsupported(err) {
		return 0, false, err
	}
	if err != nil || m.Volume != v.sb.Volume || m.Generation != v.sb.Generation {
		return 0, true, nil
	}
	v.damage.torn = m.Torn
	return m.SyncedTo, true, nil
}

// setPoison makes the volume read-only for this process.
func (v *Volume) setPoison(cause error) {
	err := fmt.Errorf("%w: volume %d: %w", ErrPoisoned, v.sb.Volume, cause)
	if v.poison.CompareAndSwap(nil, &err) {
		v.event(Event{Kind: EventPoisoned, Offset: v.synced.Load(), Err: cause})
	}
}

// leaveMarker makes the poison hold for later processes. Failing that, they
// still find no record that was not synced: Open reads from the device.
func (v *Volume) leaveMarker() {
	if err := v.writeMarker(); err != nil {
		v.event(Event{Kind: EventMarkerFailed, Err: err})
	}
}

func (v *Volume) writeMarker() error {
	m := marker{Volume: v.sb.Volume, Generation: v.sb.Generation, SyncedTo: v.synced.Load(), When: v.o.Clock.Now(),
		Torn: v.damage.torn}
	return classify(vfs.WriteFile(v.o.FS, v.markerPath(), encodeMarker(m)))
}

func (v *Volume) poisoned() error {
	if p := v.poison.Load(); p != nil {
		return *p
	}
	return nil
}

func (v *Volume) event(e Event) {
	e.Volume = v.sb.Volume
	v.o.Events(e)
}

// Identity says which volume this is.
func (v *Volume) Identity() Identity { return v.sb.Identity }

// Has tells whether a needle of key can be read, without touching the disk.
func (v *Volume) Has(key id.ID) bool {
	if p := v.sealing.part.Load(); p != nil {
		return p.has(key)
	}
	if v.idx.Load().has(key) {
		gone, unsure := v.logged(key)
		return !gone && unsure == nil
	}
	p := v.sealing.part.Load()
	return p != nil && p.has(key) // sealed meanwhile
}

// Stats returns a snapshot.
func (v *Volume) Stats() Stats {
	c := &v.counters
	if p := v.sealing.part.Load(); p != nil {
		return p.stats(v)
	}
	s := Stats{
		Identity: v.sb.Identity,
		Needles:  c.needles.Load(), Tombstones: c.tombstones.Load(),
		LiveBytes: c.liveBytes.Load(), FileBytes: v.synced.Load(), MaxBytes: v.o.MaxBytes,
		IndexBytes:  v.idx.Load().bytes(),
		Checkpoints: v.checkpoints.written.Load(), CheckpointBytes: v.checkpoints.bytes.Load(),
		CheckpointEnd: v.checkpoints.covered.Load(),
		Appended:      c.appended.Load(), Deleted: c.deleted.Load(),
		Batches: c.batches.Load(), Syncs: c.syncs.Load(), BatchBytes: c.batchBytes.Load(),
		Reads: c.reads.Load(), CorruptReads: c.corruptReads.Load(),
		Rot: len(v.damage.rot), VoidBytes: v.damage.voidBytes, Recovery: v.recovery,
		Poisoned: v.poisoned(),
	}
	if l := v.sealing.log.Load(); l != nil {
		v.addLog(&s, l)
	}
	return s
}

// Close ends the writer after what is queued, leaves a mark so that the next
// Open has nothing to recover, gives back preallocated space, and closes the
// file. It waits for reads in flight. Later calls return ErrClosed.
func (v *Volume) Close() error {
	if !v.queue.close() {
		return ErrClosed
	}
	<-v.stopped
	v.checkpoints.stop()
	v.life.Lock()
	defer v.life.Unlock()
	v.closed = true
	v.reads.close()
	defer v.out.close()
	if p := v.sealing.part.Load(); p != nil {
		v.dropCheckpoint()
		return errors.Join(p.log.leave(p), v.file.Close())
	}
	err := v.writer.finish(v)
	v.lastCheckpoint()
	if l := v.sealing.log.Load(); l != nil {
		err = errors.Join(err, l.release())
	}
	return errors.Join(err, v.file.Close())
}

// use keeps the file open until release is called. It does not wait for a Close
// that waits for somebody else.
func (v *Volume) use() error {
	if !v.life.TryRLock() {
		return ErrClosed
	}
	if v.closed {
		v.life.RUnlock()
		return ErrClosed
	}
	return nil
}

func (v *Volume) release() { v.life.RUnlock() }

// acquire is use for callers with a context.
func (v *Volume) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return v.use()
}
