package volume

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// Rot is a damaged part of the file below the last known sync.
type Rot struct {
	Offset, Length int64
	// LostDeletes says that both copies of some tombstone lay in it: what lies
	// in front of it may be deleted and is not served.
	LostDeletes bool
}

// damage is what Open found.
type damage struct {
	rot []Rot
	// unsureBelow: needles that start below it may have been deleted by a
	// tombstone that is lost.
	unsureBelow int64
	voidBytes   int64
	// torn, when not 0, is where a torn batch begins that a recovery kept in
	// part and could not repair: gaps from there on are rot to be careful with,
	// but what they held was never acknowledged.
	torn int64
}

// found is a record or, with a zero Kind, a gap.
type found struct {
	off, end int64
	h        header
}

// recovery is the state of recover.
type recovery struct {
	v       *Volume
	size    int64 // of the file
	synced  int64 // L of docs/format.md
	pending []found
	gap     *Rot   // a gap below L that no record followed yet
	base    base   // the checkpoint, or nothing
	deletes uint32 // deletes accounted for so far
	tail    []found
	garbage int64         // end of what is not zero behind the last whole record
	stop    error         // why nothing may be appended
	began   time.Duration // as now tells it
	told    int64         // up to where progress was reported
	guessed int64         // up to where was walked when the size of the index was foreseen
	slots   uint64        // of the checkpoint
	voids   int           // places where something was dropped
	broken  bool          // stop is a failed write or sync: it holds for later processes too
}

var errMarker = errors.New("an earlier process left the poison marker")

// recover implements the section "Recovery" of docs/format.md. With poisoned,
// nothing is synced or written, and limit, when not 0, takes the place of L
// and of the end.
func (v *Volume) recover(limit int64, poisoned bool) error {
	size, err := v.file.Size()
	if err != nil {
		return err
	}
	r := &recovery{v: v, size: size, began: v.now()}
	if !poisoned {
		v.openOutput()
	}
	if poisoned {
		r.stop = errMarker
	} else if err := errors.Join(v.file.Sync(), v.o.FS.SyncDir(v.dir)); err != nil { // step 1
		r.stop, r.broken = fmt.Errorf("sync at open: %w", err), true
	}
	r.start(limit)
	end, err := r.findRecords(limit) // steps 2 to 4
	if err != nil {
		return err
	}
	if r.base.newer != nil {
		r.loseTail(end)
	}
	v.writer = writer{end: end, allocated: r.size, deletes: r.deletes}
	v.out.end = end
	v.deletes.Store(r.deletes)
	v.synced.Store(end)
	v.indexed.Store(end)
	if r.stop == nil {
		r.stop = r.repair(end) // steps 5 and 6
		r.broken = r.stop != nil
	}
	for _, f := range r.tail {
		r.index(f)
	}
	v.idx.Load().settle()
	if r.stop != nil {
		v.setPoison(r.stop)
	}
	if r.broken && v.unread == nil {
		if v.damage.torn = 0; r.holes() {
			v.damage.torn = r.synced
		}
		v.leaveMarker() // up to end: what was kept was read from the device
	}
	v.recovery = Recovery{Elapsed: v.now() - r.began, Checkpoint: r.base.refused == nil && r.base.covers > dataStart,
		Walked: max(r.size, end) - r.base.covers, Kept: r.kept(), Voided: r.voids}
	r.report(end)
	return nil
}

// holes tells whether a part of the last batch is missing between records that
// were kept: then nothing of it was ever acknowledged.
func (r *recovery) holes() bool {
	at := r.synced
	for _, f := range r.tail {
		if f.off > at {
			return true
		}
		at = f.end
	}
	return false
}

// kept counts the records behind L that say more than how far everything is
// synced.
func (r *recovery) kept() (n int) {
	for i := range r.tail {
		if !nothingKept(r.tail[i : i+1]) {
			n++
		}
	}
	return n
}

// start takes the checkpoint for granted: what it covers is known to be synced
// and is not walked again.
func (r *recovery) start(limit int64) {
	end := r.size
	if limit != 0 {
		end = min(end, limit)
	}
	r.base = base{checkpoint: checkpoint{covers: dataStart}}
	if strings.HasSuffix(r.v.name, volumeExt) {
		r.base = r.v.restore(end)
		r.slots = r.v.idx.Load().slots()
	}
	r.reset(r.base.covers)
}

// reset is the state in front of a walk from where the checkpoint ends.
func (r *recovery) reset(synced int64) {
	r.synced, r.deletes, r.tail = synced, r.base.deletes, nil
	torn := r.v.damage.torn // of the marker
	r.v.damage = r.base.damage
	r.v.damage.torn, r.v.damage.rot = torn, slices.Clone(r.base.damage.rot)
}

// loseTail accounts for records that a checkpoint knew and the file has no
// more: they were acknowledged, and deletes may be among them.
func (r *recovery) loseTail(end int64) {
	if n := r.base.newer; n.covers > end {
		r.gap = &Rot{Offset: end, Length: n.covers - end}
		r.closeGap(n.deletes)
	}
}

// findRecords walks the file and returns the end of the last whole record.
func (r *recovery) findRecords(limit int64) (int64, error) {
	for {
		if err := r.survey(limit); err != nil || limit != 0 {
			return r.synced, err
		}
		end, later, err := r.walkTail()
		if err != nil || later == 0 {
			return end, err
		}
		// A header of an older batch, which old blocks brought back, hid a
		// header that knows better. What is indexed lies below both.
		r.reset(later)
	}
}

// survey walks all headers, finds L, and indexes what lies below it.
func (r *recovery) survey(limit int64) error {
	w := &walker{file: r.v.file, seal: &r.v.seal, end: r.size}
	if limit != 0 {
		w.end = min(r.size, limit)
	}
	defer w.readAhead(r.v.o.FS, r.v.name, r.base.covers)()
	for pos := r.base.covers; pos < w.end; {
		r.progress(pos)
		h, _, err := w.header(pos)
		f := found{off: pos}
		switch {
		case err == nil:
			f.h, f.end = h, min(pos+h.size(), w.end)
			r.synced = max(r.synced, h.SyncedTo)
		case fatal(err):
			return err
		default:
			if f.end, err = w.resync(pos + align); err != nil {
				return err
			}
		}
		r.pending = append(r.pending, f)
		pos = f.end
		r.settle()
	}
	if limit != 0 {
		r.synced = limit
	}
	r.settle()
	// The header that carries L was valid a moment ago, even if its data is
	// torn: it closes a gap in front of L, and the count goes on from it.
	for _, f := range r.pending {
		if f.h.Kind != 0 && r.gap != nil {
			r.closeGap(f.h.Deletes)
			r.deletes = f.h.Deletes
		}
	}
	r.closeGap(r.deletes + 1) // no record follows: assume the worst
	r.pending = nil
	return nil
}

// settle indexes what is pending and now known to lie below L.
func (r *recovery) settle() {
	for len(r.pending) > 0 && r.pending[0].off < r.synced {
		f := &r.pending[0]
		if f.h.Kind != 0 {
			r.account(*f)
			r.index(*f)
			r.pending = r.pending[1:]
			continue
		}
		cut := min(f.end, r.synced)
		if r.gap == nil {
			r.gap = &Rot{Offset: f.off}
		}
		r.gap.Length = cut - r.gap.Offset
		if f.off = cut; cut == f.end {
			r.pending = r.pending[1:]
		}
	}
}

// account follows the count of deletes through the records.
func (r *recovery) account(f found) {
	r.closeGap(f.h.Deletes)
	r.deletes = f.h.Deletes
	if f.h.Kind == KindTombstone {
		r.deletes++
	}
}

// closeGap records the gap in front of a record before which next deletes
// had been written.
func (r *recovery) closeGap(next uint32) {
	if r.gap == nil {
		return
	}
	d := &r.v.damage
	r.gap.LostDeletes = next != r.deletes && (d.torn == 0 || r.gap.Offset < d.torn)
	if r.gap.LostDeletes {
		d.unsureBelow = r.gap.Offset
	}
	d.rot = append(d.rot, *r.gap)
	r.gap = nil
}

func (r *recovery) index(f found) {
	switch f.h.Kind {
	case KindNeedle:
		r.v.indexNeedle(&f.h, f.off)
	case KindTombstone:
		r.v.indexTombstone(f.h.Key, f.off)
	}
}

// walkTail verifies what lies from L on as the device holds it, and returns
// the end of the last whole record, or the L that survey should have found.
func (r *recovery) walkTail() (end, later int64, err error) {
	w := &walker{file: r.v.file, seal: &r.v.seal, end: r.size}
	if err := r.v.file.Evict(r.synced&^(pageSize-1), 0); err != nil {
		r.unread(fmt.Errorf("drop cached pages at open: %w", err))
	}
	end = r.synced
	var buf []byte
	numbers := r.v.isLog() && r.stop == nil
	missing := false // the number of a delete: nothing behind it is kept
	for pos := r.synced; pos < r.size; {
		var h header
		h, _, err = w.header(pos)
		if fatal(err) {
			return 0, 0, err
		}
		if err == nil && h.SyncedTo > r.synced {
			return 0, h.SyncedTo, nil
		}
		// A header that knows less than L is of an older torn batch that a recovery
		// cut off, in blocks the file got again: it counts in no order with this one.
		whole := err == nil && h.SyncedTo == r.synced && pos+h.size() <= r.size && (pos == end || pos-end >= headerSize)
		if whole && h.Kind == KindNeedle {
			buf, err = w.data(&h, nil, pos, buf)
			if fatal(err) {
				return 0, 0, err
			}
			whole = err == nil
		}
		missing = missing || whole && numbers && h.Deletes > r.deletes
		if whole && !missing {
			end = pos + h.size()
			f := found{off: pos, end: end, h: h}
			r.tail = append(r.tail, f)
			r.account(f)
			pos = end
			continue
		}
		if pos, err = w.resync(pos + align); err != nil {
			return 0, 0, err
		}
	}
	if len(w.bad) > 0 {
		r.unread(fmt.Errorf("%w: the device cannot read at %d, behind the last known sync", ErrCorrupt, w.bad[0].off))
	}
	r.garbage, err = w.lastNonZero(end)
	return end, 0, err
}

// unread notes why something that was acknowledged may not have been seen.
// Another process may see it: so none is told that there is no more.
func (r *recovery) unread(err error) {
	r.v.unread, r.stop = err, cmp.Or(r.stop, err)
}

// lastNonZero returns the end of the last bytes from off on that are not
// zero, or off.
func (w *walker) lastNonZero(off int64) (int64, error) {
	last := off
	for off < w.end {
		b, err := w.window(off, windowLarge)
		if err != nil {
			return 0, err
		}
		off += int64(len(b))
		if n := len(bytes.TrimRight(b, "\x00")); n > 0 {
			last = off - int64(len(b)-n)
		}
	}
	return last, nil
}

// repair makes what was kept durable and the rest void, so that the next batch
// can follow. Its errors are failed writes: nothing may be appended after one.
func (r *recovery) repair(end int64) error {
	v, dirty := r.v, false
	at := r.synced
	voided := false
	for _, f := range r.tail {
		if f.off > at {
			h := header{Kind: KindVoid, SyncedTo: r.synced, Length: f.off - at - headerSize, Deletes: f.h.Deletes}
			if err := v.writeHeader(&h, at); err != nil {
				return fmt.Errorf("write a void record at %d: %w", at, err)
			}
			r.void(at, f.off)
			dirty, voided = true, true
		}
		at = f.end
	}
	unknown := end // from here on nobody was told that anything is stored
	if r.base.newer != nil {
		unknown = max(end, r.base.newer.covers)
	}
	if r.garbage > unknown {
		r.void(unknown, r.garbage)
	}
	if r.size > end {
		if err := v.file.Truncate(end); err != nil {
			return fmt.Errorf("cut the file at %d: %w", end, err)
		}
		v.writer.allocated = end
		dirty = true
	}
	if dirty {
		if err := v.file.Sync(); err != nil {
			return fmt.Errorf("sync at open: %w", err)
		}
	}
	if r.settled() && !voided {
		return nil
	}
	return v.writer.mark(v)
}

// settled tells whether a record that stays in the file says already that
// everything kept is synced. That only the checkpoint says so is not enough: it
// may be lost. Nor is a header of a torn batch, which is cut off.
func (r *recovery) settled() bool {
	if len(r.tail) == 0 {
		return r.synced == r.base.covers && !r.base.unmarked
	}
	knows := func(f found) bool { return f.h.SyncedTo == r.synced }
	return nothingKept(r.tail) && slices.ContainsFunc(r.tail, knows)
}

// void reports remains of a torn batch.
func (r *recovery) void(off, end int64) {
	r.v.damage.voidBytes += end - off
	r.voids++
	r.v.event(Event{Kind: EventVoid, Offset: off, Length: end - off})
}

// nothingKept tells whether a tail says nothing but how far everything is
// synced, as padding does like marks.
func nothingKept(tail []found) bool {
	for _, f := range tail {
		if f.h.Kind != KindMark && f.h.Kind != KindPadding {
			return false
		}
	}
	return true
}

// progressBytes is how often a walk reports how far it is.
const progressBytes = 1 << 30

func (r *recovery) progress(pos int64) {
	if pos-max(r.guessed, r.base.covers) >= guessBytes {
		r.guessed = pos
		r.foresee(pos)
	}
	if pos-max(r.told, r.base.covers) >= progressBytes {
		r.told = pos
		r.v.event(Event{Kind: EventScanning, Offset: pos, Length: r.size, Elapsed: r.v.now() - r.began})
	}
}

// guessBytes is how often a walk looks ahead.
const guessBytes = 16 << 20

// foresee takes it that the rest of the file is like what was walked of it, and
// so never more than fits. The index bounds what it does about it.
func (r *recovery) foresee(pos int64) {
	all := float64(r.v.idx.Load().slots())
	walked := max(0, all-float64(r.slots))
	if all > 0 {
		r.v.idx.Load().foresee(1 + walked/all*float64(r.size-pos)/float64(pos-r.base.covers))
	}
}

// report tells what was found.
func (r *recovery) report(end int64) {
	// A young volume has no checkpoint, and that is as it should be.
	young := end-dataStart < minCheckpoint && errors.Is(r.base.refused, fs.ErrNotExist)
	if r.base.refused != nil && !young {
		r.v.event(Event{Kind: EventIndexRebuilt, Offset: dataStart, Length: end - dataStart,
			Elapsed: r.v.now() - r.began, Err: r.base.refused})
	}
	for _, rot := range r.v.damage.rot {
		r.v.event(Event{Kind: EventRot, Offset: rot.Offset, Length: rot.Length})
	}
	if !nothingKept(r.tail) {
		r.v.event(Event{Kind: EventRecovered, Offset: r.synced, Length: end - r.synced,
			Elapsed: r.v.recovery.Elapsed, Recovery: r.v.recovery})
	}
}

// writeHeader writes a record that is nothing but a header.
func (v *Volume) writeHeader(h *header, off int64) error {
	var b [headerSize]byte
	v.seal.putHeader(b[:], h, off)
	_, err := v.file.WriteVAt([][]byte{b[:]}, off)
	return err
}
