package ssd

import (
	"cmp"
	"slices"
)

// written is a region that has something.
type written struct {
	region int
	seq    uint64
	table  trailer
	closed bool // table counts
}

// restore finds what the file holds. A region that cannot be read, or is not
// what it should be, is free; other errors there are none.
func (d *device) restore() {
	var all []written
	for region := range d.made {
		if d.t.isClosing() {
			break
		}
		w := d.inspect(region)
		if w.seq == 0 {
			continue
		}
		d.seqs[region].Store(w.seq)
		d.seq = max(d.seq, w.seq)
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b written) int { return cmp.Compare(a.seq, b.seq) })
	for _, w := range all {
		if !w.closed || !d.restoreTable(w) {
			d.walk(w)
		}
	}
}

// inspect looks at both ends of a region.
func (d *device) inspect(region int) written {
	b := d.open.buf[:2*blockBytes]
	first, last := b[:blockBytes], b[blockBytes:]
	if !d.readBlock(first, region, 0) {
		return written{}
	}
	h, err := decodeHead(first, d.place(region, 0, 0))
	if err != nil {
		return written{}
	}
	w := written{region: region, seq: h.seq}
	if !d.readBlock(last, region, d.region-blockBytes) {
		return w
	}
	w.table, w.closed = decodeTrailer(last, d.salt, uint32(region))
	// A trailer of an earlier writing is still there while the next one is under way.
	w.closed = w.closed && w.table.seq == w.seq && tableBlocks(w.table.rows) <= d.region/2
	return w
}

// readBlock fills b from an offset of a region; both are whole blocks.
func (d *device) readBlock(b []byte, region, off int) bool {
	_, err := d.file.io().ReadAt(b, d.off(region)+int64(off))
	if err != nil {
		d.t.n.errors.Add(1)
	}
	return err == nil
}

// restoreTable indexes a closed region by its table.
func (d *device) restoreTable(w written) bool {
	n := tableBlocks(w.table.rows)
	b := d.t.pool.Get(n)
	defer b.Release()
	buf := b.Bytes()[:n]
	if !d.readBlock(buf, w.region, d.region-n) {
		return false
	}
	rows, ok := decodeRows(buf[:n-trailerSize], w.table)
	if ok {
		d.enter(w.region, rows)
	}
	return ok
}

// walk indexes a region by the heads of its records, until one is not valid.
func (d *device) walk(w written) {
	lease := d.t.pool.Get(2 * blockBytes)
	defer lease.Release()
	for at := 0; at < d.region; {
		h, ok := d.headAt(lease.Bytes(), w, at)
		if !ok {
			// Batches begin at whole blocks.
			next := (at + blockBytes - 1) &^ (blockBytes - 1)
			if next == at {
				return
			}
			at = next
			continue
		}
		if h.kind == kindPurges {
			h.data = d.purgesAt(w, at, h)
		}
		d.enter(w.region, h.rowsOf(uint16(at/unit), h.to))
		at += unitsOf(h.to) * unit
	}
}

// headAt reads the head at an offset of a region, in buf. A head ends less than
// a block after the one in which it begins.
func (d *device) headAt(buf []byte, w written, at int) (head, bool) {
	from := at &^ (blockBytes - 1)
	buf = buf[:min(2*blockBytes, d.region-from)]
	if !d.readBlock(buf, w.region, from) {
		return head{}, false
	}
	h, err := decodeHead(buf[at-from:], d.place(w.region, w.seq, uint16(at/unit)))
	return h, err == nil && at+h.to <= d.region
}

// purgesAt reads the data of a record of purges; without it, it purges nothing.
func (d *device) purgesAt(w written, at int, h head) []byte {
	s := slot{region: uint16(w.region), unit: uint16(at / unit), units: uint16(unitsOf(h.to))}
	lease := d.t.pool.Get(int(s.units)*unit + 2*blockBytes)
	defer lease.Release()
	b, err := d.read(lease.Bytes(), s)
	if err != nil || h.withData(b) != nil {
		return nil
	}
	return append([]byte(nil), h.data...)
}

// enter indexes the rows of a region.
func (d *device) enter(region int, rows []row) {
	for _, r := range rows {
		if r.units == 0 {
			d.index.purge(r.blob)
		} else {
			d.index.put(region, r)
		}
	}
}
