package volume

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

const (
	compactBuffer   = 4 << 20   // bytes written at a time, but for larger records
	compactProgress = 256 << 20 // bytes between two progress events
)

// Damaged is a needle that a compaction cannot read. Cookie, Length and ETag
// are 0 when its header is damaged too.
type Damaged struct {
	Key    id.ID
	Alt    uint8
	Cookie id.Cookie
	Length int64
	ETag   uint32
	Err    error
}

// CompactOptions say what a compaction makes.
type CompactOptions struct {
	// Generation of the new file, above that of the volume.
	Generation uint32
	// Deletes is the delete number over which to compact: needles that the
	// deletes 1 to Deletes name are left out.
	Deletes uint32
	// Secret and Time go into the new superblock. Replicas that are given the
	// same ones make the same bytes. Zero means random, and now.
	Secret [32]byte
	Time   time.Time
	// Seal is what goes into the superblock of what is made from a poisoned
	// volume, as with Seal. A sealed one has it, and this is ignored.
	Seal SealInfo
	// Repair returns a good copy of a damaged needle. nil, or an error, ends
	// the compaction. It is called on the goroutine of Compact.
	Repair func(context.Context, Damaged) (Needle, error)
	// Throttle is asked before n bytes are read or written, and waits as long
	// as the budget wants. nil never waits.
	Throttle func(ctx context.Context, n int64) error
}

// Compact writes a new generation of a sealed volume, ascending by (key, alt)
// and without what is deleted, verifies it from the device, switches to it on
// the disk, and returns it, opened. v goes on serving the old generation until
// it is closed; both go by the same delete log, so that a delete through
// either counts in both. RemoveSuperseded removes the old file afterwards.
//
// Of a poisoned volume that is not sealed it makes the next generation from what
// is known to be synced; o.Deletes is 0. The poison is made to last first, so
// that the two hold the same as long as no delete is sent to the new one. A
// volume of which a part cannot be read is ErrCorrupt.
//
// Any error leaves the old generation as it was, and nothing of the new one
// that a later Open would take for a volume, except when the very last step,
// the sync of the directory, failed: then one of the two is found. Calling
// Compact again with the same numbers goes on from there.
func (v *Volume) Compact(ctx context.Context, o CompactOptions) (*Volume, error) {
	if o.Generation <= v.sb.Generation {
		return nil, fmt.Errorf("%w: generation %d from generation %d", ErrInvalid, o.Generation, v.sb.Generation)
	}
	begin := v.now()
	from, err := v.source(ctx, &o)
	if err != nil {
		return nil, fmt.Errorf("compact volume %d: %w", v.sb.Volume, err)
	}
	next, err := v.compact(ctx, from, o)
	if err != nil {
		return nil, fmt.Errorf("compact volume %d: %w", v.sb.Volume, errors.Join(err, from.log.release()))
	}
	v.took(&v.steps.compact, begin)
	return next, nil
}

// source returns what to compact.
func (v *Volume) source(ctx context.Context, o *CompactOptions) (*source, error) {
	if err := v.acquire(ctx); err != nil {
		return nil, err
	}
	defer v.release()
	if p := v.sealing.part.Load(); p != nil {
		return v.sealedSource(p)
	}
	if v.poisoned() == nil || v.isLog() {
		return nil, fmt.Errorf("%w: volume %d", ErrNotSealed, v.sb.Volume)
	}
	return v.poisonedSource(ctx, o)
}

func (v *Volume) compact(ctx context.Context, from *source, o CompactOptions) (*Volume, error) {
	if o.Deletes < from.rec.Deletes {
		return nil, fmt.Errorf("%w: over delete %d, after one over %d", ErrInvalid, o.Deletes, from.rec.Deletes)
	}
	all, err := List(v.o.FS, v.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if e.Volume == v.sb.Volume && e.Generation > v.sb.Generation && e.Generation != o.Generation {
			return nil, fmt.Errorf("%w: generation %d was made from generation %d already", ErrExists, e.Generation, v.sb.Generation)
		}
	}
	name := filepath.Join(v.dir, FileName(v.sb.Volume, o.Generation))
	e := Entry{Volume: v.sb.Volume, Generation: o.Generation, Name: filepath.Base(name)}
	if _, err := v.o.FS.Stat(name); err == nil {
		if err := v.adopt(ctx, from, name, o); err != nil {
			return nil, err
		}
		return v.openNext(e, from.log)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	dead, err := from.log.upTo(ctx, o.Deletes)
	if err != nil {
		return nil, err
	}
	c := &compaction{v: v, from: from, o: o, throttle: o.Throttle, dead: dead, tmp: name + tmpExt}
	if err := c.run(ctx); err != nil {
		return nil, errors.Join(err, c.discard())
	}
	if err := v.o.FS.Rename(c.tmp, name); err != nil {
		return nil, errors.Join(err, c.discard())
	}
	if err := v.o.FS.SyncDir(v.dir); err != nil {
		return nil, err
	}
	v.event(Event{Kind: EventCompacted, Length: c.rec.End})
	return v.openNext(e, from.log)
}

// openNext opens the new generation, which takes over log unless it fails.
func (v *Volume) openNext(e Entry, log *deleteLog) (*Volume, error) {
	next, err := openSharing(v.dir, e, v.o, log)
	if err != nil {
		return nil, err
	}
	if err := next.poisoned(); err != nil {
		log.share() // for Compact, which releases it
		return nil, errors.Join(err, next.Close())
	}
	return next, nil
}

// adopt finishes a compaction whose file has its name already.
func (v *Volume) adopt(ctx context.Context, from *source, name string, o CompactOptions) error {
	if err := v.o.FS.SyncDir(v.dir); err != nil {
		return err
	}
	sb, err := verifyFile(ctx, v.o.FS, name, o.Throttle)
	if err != nil {
		return err
	}
	if sb.Seal.Source != v.sb.Generation || sb.Seal.SourceDigest != from.rec.Digest || sb.Seal.Deletes != o.Deletes {
		return fmt.Errorf("%w: generation %d, made from something else", ErrExists, o.Generation)
	}
	return nil
}

// verifyFile reads a compacted file from the device: it must hold exactly the
// needles its superblock says, all of them whole.
func verifyFile(ctx context.Context, fsys vfs.FS, name string, t throttle) (superblock, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return superblock{}, err
	}
	sb, _, err := verifyOpen(ctx, f, t)
	return sb, errors.Join(err, f.Close())
}

func verifyOpen(ctx context.Context, f vfs.File, t throttle) (superblock, []entry, error) {
	if err := f.Evict(0, 0); err != nil {
		return superblock{}, nil, err
	}
	sb, damaged, err := readSuperblock(f)
	if err != nil {
		return sb, nil, err
	}
	if damaged || sb.Seal == nil {
		return sb, nil, fmt.Errorf("%w: superblock of the new generation", ErrCorrupt)
	}
	s := newSeal(sb)
	var in inventory
	if err := in.take(ctx, f, &s, sb.Seal.End, true, t); err != nil {
		return sb, nil, err
	}
	live := in.settle()
	for _, f := range damagedIn(live, in.gaps) {
		return sb, nil, f.Err
	}
	if digestOf(live) != sb.Seal.Digest || len(live) != len(in.entries) || int64(len(live)) != sb.Seal.Needles {
		return sb, nil, fmt.Errorf("%w: the new generation does not hold the needles it should", ErrCorrupt)
	}
	return sb, live, nil
}

// compaction is the state of one.
type compaction struct {
	v        *Volume
	from     *source
	o        CompactOptions
	throttle throttle
	dead     map[id.ID]bool
	tmp      string

	src, out vfs.File
	sb       superblock // of the new file
	seal     seal
	rec      SealRecord

	kept     []entry
	unproven bool   // a needle was repaired whose header is lost
	record   []byte // read last
	buf      []byte
	at       int64 // where buf goes
	end      int64 // at and what buf holds
	told     int64
}

// discard removes what a failed compaction made. What cannot be removed is
// removed by a later Open.
func (c *compaction) discard() error {
	if _, err := c.v.o.FS.Stat(c.tmp); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return c.v.o.FS.Remove(c.tmp)
}

// run makes the file under its temporary name, verified, with its index.
func (c *compaction) run(ctx context.Context) (err error) {
	c.sb = superblock{Identity: c.v.sb.Identity, Sequence: 1, Secret: c.o.Secret, Created: c.o.Time, State: stateSealed, Seal: &c.rec}
	c.sb.Generation = c.o.Generation
	if c.sb.Created.IsZero() {
		c.sb.Created = c.v.o.Clock.Now()
	}
	c.sb.Created = c.sb.Created.Truncate(time.Millisecond).UTC()
	if c.sb.Secret == ([32]byte{}) {
		if _, err := rand.Read(c.sb.Secret[:]); err != nil {
			return fmt.Errorf("draw the file secret: %w", err)
		}
	}
	c.seal = newSeal(c.sb)
	if c.src, err = c.v.o.FS.Open(c.v.name); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.src.Close()) }()
	if err := c.src.Evict(0, 0); err != nil {
		return err
	}
	if c.out, err = c.v.o.FS.Create(c.tmp); err != nil {
		return classify(err)
	}
	defer func() { err = errors.Join(err, c.out.Close()) }()
	if err := c.copyAll(ctx); err != nil {
		return err
	}
	if err := c.prove(); err != nil {
		return err
	}
	return c.finish(ctx)
}

// copyAll reads what the source names and writes what lives on.
func (c *compaction) copyAll(ctx context.Context) (err error) {
	size := int64(dataStart)
	all := c.from.all
	for i := range all {
		if e := &all[i]; !c.dead[e.key] {
			size += e.size()
		}
	}
	// All of the space now: want of it is known before anything is copied.
	if err := c.out.Allocate(0, size); err != nil {
		return classify(err)
	}
	c.at, c.end = dataStart, dataStart
	for i := range all {
		if c.dead[all[i].key] {
			continue
		}
		if err := c.copyOne(ctx, &all[i]); err != nil {
			return err
		}
		if c.end-c.told >= compactProgress {
			c.told = c.end
			c.v.event(Event{Kind: EventCompacting, Offset: c.end, Length: size})
		}
	}
	return c.flush(ctx)
}

// copyOne reads, verifies and writes one needle.
func (c *compaction) copyOne(ctx context.Context, e *entry) error {
	if err := c.throttle.wait(ctx, e.size()); err != nil {
		return err
	}
	if int64(cap(c.record)) < e.size() {
		c.record = make([]byte, e.size())
	}
	b := c.record[:e.size()]
	h, err := c.v.readRecord(c.src, b, e.off, e.key, e.alt)
	if err != nil {
		c.v.event(Event{Kind: EventCorruptRead, Offset: e.off, Length: e.size(), Key: e.key, Err: err})
		return c.repair(ctx, e, &h, err)
	}
	e.cookie, e.length, e.crc = h.Cookie, uint32(h.Length), h.DataCRC
	return c.write(ctx, e, &h, b[:h.metaLen()], b[h.metaLen():int64(h.metaLen())+h.Length])
}

// readRecord fills b with the record at off of f, a descriptor of v's file, and
// verifies all of it. With an error, the header is zero unless it is valid.
func (v *Volume) readRecord(f vfs.File, b []byte, off int64, key id.ID, alt uint8) (header, error) {
	h, err := v.recordFrom(f.ReadAt, b, off, key, alt)
	if s, ok := f.(vfs.Surer); ok && err != nil {
		return v.recordFrom(s.ReadAtSurely, b, off, key, alt)
	}
	return h, err
}

func (v *Volume) recordFrom(read func([]byte, int64) (int, error), b []byte, off int64, key id.ID, alt uint8) (header, error) {
	if n, err := read(b, off); n < len(b) {
		return header{}, fmt.Errorf("%w: read %d bytes at %d: %w", ErrCorrupt, len(b), off, err)
	}
	size := int64(len(b))
	h, err := v.checkHeader(b, place{off, size}, key, alt)
	if err == nil && h.size() != size {
		err = fmt.Errorf("%w: record at %d is not as long as the index says", ErrCorrupt, off)
	}
	if errors.Is(err, errShort) {
		err = fmt.Errorf("%w: record at %d is cut off", ErrCorrupt, off)
	}
	if err != nil {
		return header{}, err
	}
	meta, data := b[:h.metaLen()], b[h.metaLen():int64(h.metaLen())+h.Length]
	_, err = h.master(meta)
	if err == nil {
		err = h.verifyAll(meta, data, off)
	}
	return h, err
}

// repair takes a good copy from the caller in place of what cannot be read.
func (c *compaction) repair(ctx context.Context, e *entry, h *header, cause error) error {
	if c.o.Repair == nil {
		return cause
	}
	n, err := c.o.Repair(ctx, Damaged{Key: e.key, Alt: e.alt, Cookie: h.Cookie, Length: h.Length, ETag: h.DataCRC, Err: cause})
	if err != nil {
		return fmt.Errorf("%w; no good copy: %w", cause, err)
	}
	if err := n.validate(); err != nil {
		return fmt.Errorf("%w; the copy: %w", cause, err)
	}
	nh, meta := newNeedle(&n)
	if n.Key != e.key || n.Alt != e.alt || h.Kind != 0 &&
		(nh.Cookie != h.Cookie || nh.Length != h.Length || nh.DataCRC != h.DataCRC || nh.size() != h.size()) {
		return fmt.Errorf("%w; the copy is of something else", cause)
	}
	c.unproven = c.unproven || h.Kind == 0
	e.cookie, e.length, e.crc = nh.Cookie, uint32(nh.Length), nh.DataCRC
	c.v.event(Event{Kind: EventRepaired, Offset: e.off, Key: e.key, Err: cause})
	return c.write(ctx, e, &nh, meta, n.Data)
}

// write appends a record to the new file.
func (c *compaction) write(ctx context.Context, e *entry, h *header, meta, data []byte) error {
	h.SyncedTo, h.Deletes = dataStart, 0
	c.seal.putHeader(meta, h, c.end)
	k := *e
	k.off, k.units = c.end, uint32(h.size()/align)
	c.kept = append(c.kept, k)
	c.rec.DataBytes += h.Length
	c.buf = append(append(append(c.buf, meta...), data...), padding[:h.size()-int64(len(meta)+len(data))]...)
	c.end += h.size()
	if len(c.buf) < compactBuffer {
		return nil
	}
	return c.flush(ctx)
}

func (c *compaction) flush(ctx context.Context) error {
	if len(c.buf) == 0 {
		return nil
	}
	if err := c.throttle.wait(ctx, int64(len(c.buf))); err != nil {
		return err
	}
	if _, err := c.out.WriteVAt([][]byte{c.buf}, c.at); err != nil {
		return fmt.Errorf("write %d bytes at %d: %w", len(c.buf), c.at, classify(err))
	}
	c.at, c.buf = c.end, c.buf[:0]
	return nil
}

// prove compares with the digest of the source when a needle was repaired of
// which nothing but its name was known.
func (c *compaction) prove() error {
	if !c.unproven {
		return nil
	}
	for i := range c.from.all {
		e := &c.from.all[i]
		if !c.dead[e.key] {
			continue
		}
		h, _, err := c.v.readMetaFrom(c.src, place{e.off, e.size()}, e.key, e.alt)
		if err != nil {
			return fmt.Errorf("a repaired needle cannot be proven right: %w", err)
		}
		e.cookie, e.length, e.crc = h.Cookie, uint32(h.Length), h.DataCRC
	}
	if digestOf(c.from.all) != c.from.rec.Digest {
		return fmt.Errorf("%w: a repaired needle is not the one that was sealed", ErrCorrupt)
	}
	return nil
}

// readMetaFrom reads the header of a record whatever is left of its data.
func (v *Volume) readMetaFrom(f vfs.File, p place, key id.ID, alt uint8) (header, []byte, error) {
	b := make([]byte, min(p.size, maxMeta))
	if n, err := vfs.ReadAtSurely(f, b, p.off); n < len(b) {
		return header{}, nil, fmt.Errorf("%w: read at %d: %w", ErrCorrupt, p.off, err)
	}
	h, err := v.checkHeader(b, p, key, alt)
	return h, b, err
}

// finish writes the superblock, syncs, verifies from the device, and leaves
// the index.
func (c *compaction) finish(ctx context.Context) error {
	old := c.from.rec
	c.rec.SealInfo, c.rec.End, c.rec.Needles = old.SealInfo, c.end, int64(len(c.kept))
	c.rec.Digest, c.rec.Sealed, c.rec.Deletes = digestOf(c.kept), c.sb.Created, c.o.Deletes
	c.rec.Source, c.rec.SourceDigest = c.v.sb.Generation, old.Digest
	b := encodeSuperblock(c.sb)
	if _, err := c.out.WriteVAt([][]byte{b, b}, 0); err != nil {
		return fmt.Errorf("write the superblock: %w", classify(err))
	}
	if err := c.out.Truncate(c.end); err != nil {
		return err
	}
	if err := c.out.Sync(); err != nil {
		return fmt.Errorf("sync the new generation: %w", classify(err))
	}
	sb, live, err := verifyOpen(ctx, c.out, c.throttle)
	if err != nil {
		return fmt.Errorf("read back the new generation: %w", err)
	}
	if sb.Seal.Digest != c.rec.Digest || sb.Identity != c.sb.Identity || sb.Secret != c.sb.Secret {
		return fmt.Errorf("%w: the new generation reads back as another file", ErrCorrupt)
	}
	head := sealIndexHead{Volume: sb.Volume, Generation: sb.Generation, Sign: c.seal.sign, Digest: c.rec.Digest, End: c.rec.End}
	x, err := buildSealIndex(head, live)
	if err != nil {
		return err
	}
	if err := vfs.WriteFile(c.v.o.FS, filepath.Join(c.v.dir, IndexName(sb.Volume, sb.Generation)), x.b); err != nil {
		return fmt.Errorf("write the sealed index: %w", classify(err))
	}
	return nil
}
