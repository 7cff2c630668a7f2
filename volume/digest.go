package volume

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// entry is one needle of an inventory: what the digest covers, and where the
// record lies.
type entry struct {
	key    id.ID
	cookie id.Cookie
	off    int64
	units  uint32 // size of the record divided by align
	length uint32 // bytes of data
	crc    uint32 // data_crc
	alt    uint8
	bad    bool // the header is valid, data or master info is not
}

func (e *entry) size() int64 { return int64(e.units) * align }

func compareEntries(a, b entry) int {
	if c := cmp.Compare(a.key, b.key); c != 0 {
		return c
	}
	return cmp.Compare(a.alt, b.alt)
}

// inventory is what a volume file holds, read from the device: 40 bytes of
// memory per needle while it is used.
type inventory struct {
	entries []entry // in the order of the file until settle
	dead    map[id.ID]bool
	gaps    []extent
	end     int64
	// lost: a gap took both copies of a tombstone, or may have: some entries
	// may be deleted.
	lost    bool
	deletes uint32 // accounted for so far
	open    bool   // a gap that no record followed yet
}

// throttle is asked before n bytes are read or written; it waits as long as
// the caller's budget wants, and ends early with the context's error.
type throttle func(ctx context.Context, n int64) error

func (t throttle) wait(ctx context.Context, n int64) error {
	if err := ctx.Err(); err != nil || t == nil {
		return err
	}
	return t(ctx, n)
}

// take adds the records of file from offset in.end up to end, as the device
// holds them; what lies there must be synced. With deep, the data is read and
// verified too.
func (in *inventory) take(ctx context.Context, file vfs.File, s *seal, end int64, deep bool, t throttle) error {
	pos := max(in.end, dataStart)
	if err := file.Evict(pos&^(pageSize-1), 0); err != nil {
		return fmt.Errorf("drop cached pages: %w", err)
	}
	if in.dead == nil {
		in.dead = make(map[id.ID]bool)
	}
	w := &walker{file: file, seal: s, end: end}
	var buf []byte
	for pos < end {
		h, meta, err := w.header(pos)
		if fatal(err) {
			return err
		}
		next := pos + h.size()
		if err != nil || next > end {
			if next, err = w.resync(pos + align); err != nil {
				return err
			}
			in.gaps = append(in.gaps, extent{pos, next})
			in.open = true
		} else {
			in.account(&h)
			if buf, err = in.add(w, &h, meta, pos, deep, buf); err != nil {
				return err
			}
		}
		if err := t.wait(ctx, next-pos); err != nil {
			return err
		}
		pos = next
	}
	in.end = end
	return nil
}

// account follows the count of deletes, as recovery does.
func (in *inventory) account(h *header) {
	in.lost = in.lost || in.open && h.Deletes != in.deletes
	in.open = false
	in.deletes = h.Deletes
	if h.Kind == KindTombstone {
		in.deletes++
	}
}

// mayHideDeletes tells whether a tombstone may be missing.
func (in *inventory) mayHideDeletes() bool { return in.lost || in.open }

// add notes one record. The error ends the walk.
func (in *inventory) add(w *walker, h *header, meta []byte, pos int64, deep bool, buf []byte) ([]byte, error) {
	switch h.Kind {
	case KindTombstone:
		in.dead[h.Key] = true
		return buf, nil
	case KindNeedle:
	default:
		return buf, nil
	}
	e := entry{key: h.Key, alt: h.Alt, cookie: h.Cookie, off: pos,
		units: uint32(h.size() / align), length: uint32(h.Length), crc: h.DataCRC}
	_, err := h.master(meta)
	if deep {
		var dataErr error
		if buf, dataErr = w.data(h, meta, pos, buf); fatal(dataErr) {
			return buf, dataErr
		}
		err = errors.Join(err, dataErr)
	}
	e.bad = err != nil
	in.entries = append(in.entries, e)
	return buf, nil
}

// settle returns the live needles by (key, alt). Of several records under one
// name the last whole one counts, or else the last.
func (in *inventory) settle() []entry {
	live := make([]entry, 0, len(in.entries))
	for _, e := range in.entries {
		if !in.dead[e.key] {
			live = append(live, e)
		}
	}
	slices.SortStableFunc(live, compareEntries)
	out := live[:0]
	for _, e := range live {
		n := len(out)
		switch {
		case n == 0 || compareEntries(out[n-1], e) != 0:
			out = append(out, e)
		case out[n-1].bad || !e.bad:
			out[n-1] = e
		}
	}
	return out
}

// digestOf is the digest of needles that are sorted by (key, alt).
func digestOf(sorted []entry) Digest {
	h := sha256.New()
	h.Write([]byte("HAYSET01"))
	buf := make([]byte, 0, 25*1024)
	le := binary.LittleEndian
	for i := range sorted {
		e := &sorted[i]
		buf = le.AppendUint64(buf, uint64(e.key))
		buf = append(buf, e.alt)
		buf = le.AppendUint64(buf, uint64(e.cookie))
		buf = le.AppendUint32(buf, e.length)
		buf = le.AppendUint32(buf, e.crc)
		if len(buf) == cap(buf) {
			h.Write(buf)
			buf = buf[:0]
		}
	}
	h.Write(buf)
	return Digest(h.Sum(nil))
}

// damagedIn lists what is wrong with live needles and the file around them.
func damagedIn(live []entry, gaps []extent) (findings []Finding) {
	for _, g := range gaps {
		findings = append(findings, Finding{Kind: FindingGap, Offset: g.off, Length: g.end - g.off,
			Err: fmt.Errorf("%w: no record at %d", ErrCorrupt, g.off)})
	}
	for i := range live {
		if e := &live[i]; e.bad {
			findings = append(findings, Finding{Kind: FindingData, Offset: e.off, Length: e.size(), Key: e.key, Alt: e.alt,
				Err: fmt.Errorf("%w: record at %d", ErrCorrupt, e.off)})
		}
	}
	return findings
}

// Inventory reads the whole synced part of the file from the device and
// returns the digest of its live needles, deletes of the file applied and
// those of a delete log not. It works on open, poisoned and sealed volumes
// alike; what is damaged is listed. A replica with the same set has the same
// digest.
func (v *Volume) Inventory(ctx context.Context) (Digest, int64, []Finding, error) {
	if err := v.acquire(ctx); err != nil {
		return Digest{}, 0, nil, err
	}
	defer v.release()
	file, err := v.o.FS.Open(v.name)
	if err != nil {
		return Digest{}, 0, nil, fmt.Errorf("inventory of volume %d: %w", v.sb.Volume, err)
	}
	var in inventory
	err = in.take(ctx, file, &v.seal, v.synced.Load(), true, nil)
	if err = errors.Join(err, file.Close()); err != nil {
		return Digest{}, 0, nil, fmt.Errorf("inventory of volume %d: %w", v.sb.Volume, err)
	}
	live := in.settle()
	return digestOf(live), int64(len(live)), damagedIn(live, in.gaps), nil
}
