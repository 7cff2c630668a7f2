package ssd

import (
	"time"

	"hayloft/internal/id"
)

const (
	batchBytes = 1 << 20 // written with one call, if so much waits
	maxObject  = 4 << 20 // larger ones are refused: one would push a hundred others out
	maxPurges  = 1024    // in one record
	maxRows    = 60_000  // of a region; their table fits into the buffer
	// growPatience is how long a device that was full is not asked for more room.
	growPatience = time.Minute
)

// openRegion is the region that is being written. Its buffer holds what is not
// written yet, whole blocks from the unit `from` on.
type openRegion struct {
	region int // -1: none
	seq    uint64
	from   int // bytes from the region's beginning, a whole number of blocks
	used   int // bytes of buf, whole units
	buf    []byte
	rows   []row    // of all records so far
	placed []placed // in buf
}

type placed struct {
	it *item
	row
}

// pace is a budget of bytes that fills up at a rate; it may be overdrawn once.
type pace struct {
	rate int64
	have int64
	last time.Duration
}

// refill adds what time has brought, at most a second's, and returns how long
// to wait until the budget is not overdrawn.
func (p *pace) refill(now time.Duration) time.Duration {
	p.have = min(p.rate, p.have+int64(float64(now-p.last)/float64(time.Second)*float64(p.rate)))
	p.last = now
	if p.have >= 0 {
		return 0
	}
	return time.Duration(float64(-p.have) / float64(p.rate) * float64(time.Second))
}

// write writes what is offered until the device fails or the tier is closed. It
// returns why.
func (t *Tier) write(dev *device) error {
	p := pace{rate: t.o.Rate, have: t.o.Rate, last: t.o.Clock.Elapsed()}
	for !dev.failed() {
		if wait := p.refill(t.o.Clock.Elapsed()); wait > 0 && !t.isClosing() {
			select {
			case <-t.o.Clock.After(wait):
			case <-t.closing: // the rest is written without waiting
			case <-dev.gone:
			}
			continue
		}
		purges, items := t.take(dev)
		if len(purges)+len(items) > 0 {
			before := dev.wrote
			if err := dev.append(purges, items); err != nil {
				t.n.errors.Add(1)
				return err
			}
			p.have -= dev.wrote - before
			continue
		}
		if t.isClosing() {
			return dev.closeRegion()
		}
		select {
		case <-t.wake:
		case <-t.closing:
		case <-dev.gone:
		}
	}
	return dev.why()
}

// take takes what waits to be written, about a batch of it.
func (t *Tier) take(dev *device) ([]id.ID, []*item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, it := range t.writing {
		t.queued -= it.size
	}
	n, size := 0, int64(0)
	for ; n < len(t.queue) && size < batchBytes; n++ {
		size += t.queue[n].size
	}
	t.writing = t.queue[:n:n]
	t.queue = t.queue[n:]
	n = min(len(t.purges), dev.maxRows()/2, maxPurges)
	t.noting = t.purges[:n:n]
	t.purges = t.purges[n:]
	return t.noting, t.writing
}

// append writes purges and items, in this order. Purges come first: what they
// void and had not been written is dead by now, so every item here came after
// them.
func (d *device) append(purges []id.ID, items []*item) error {
	if len(purges) > 0 {
		if err := d.add(&item{rec: purgeRecord(purges)}); err != nil {
			return err
		}
	}
	for _, it := range items {
		if d.t.isDead(it) {
			continue
		}
		if err := d.add(it); err != nil {
			return err
		}
	}
	return d.flush()
}

func (t *Tier) isDead(it *item) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return it.dead
}

// maxObject is the largest record, in bytes.
func (d *device) maxObject() int { return min(d.region/4, maxObject) }

// maxRows is the most rows of a region. One of nothing but objects has fewer.
func (d *device) maxRows() int { return min(maxRows, d.region/64) }

// add puts a record into the buffer, and writes what must be written before.
func (d *device) add(it *item) error {
	o := &d.open
	size := unitsOf(it.rec.size()) * unit
	rows := len(o.rows) + 1
	if it.rec.kind == kindPurges {
		rows = len(o.rows) + len(it.rec.data)/8
	}
	if o.region < 0 || rows > d.maxRows() || o.from+o.used+size+blockBytes+tableBlocks(rows) > d.region {
		if err := d.turn(); err != nil {
			return err
		}
	} else if o.used+size > len(o.buf)-blockBytes {
		if err := d.flush(); err != nil {
			return err
		}
	}
	at := uint16((o.from + o.used) / unit)
	b := o.buf[o.used : o.used+size]
	clear(b[it.rec.size():])
	it.rec.encode(b, d.place(o.region, o.seq, at))
	o.used += size
	for _, r := range it.rec.rowsOf(at, size) {
		o.rows = append(o.rows, r)
		if r.units > 0 {
			o.placed = append(o.placed, placed{it, r})
		}
	}
	return nil
}

// turn ends the open region and begins the next.
func (d *device) turn() error {
	if err := d.flush(); err != nil {
		return err
	}
	if err := d.closeRegion(); err != nil {
		return err
	}
	return d.nextRegion()
}

// writeAt writes whole blocks at an offset of the open region.
func (d *device) writeAt(b []byte, off int) error {
	n, err := d.file.io().WriteVAt([][]byte{b}, d.off(d.open.region)+int64(off))
	d.wrote += int64(n)
	d.t.n.written.Add(uint64(n))
	return err
}

// flush writes the buffer and indexes what was in it.
func (d *device) flush() error {
	o := &d.open
	if o.used == 0 {
		return nil
	}
	n := (o.used + blockBytes - 1) &^ (blockBytes - 1)
	clear(o.buf[o.used:n])
	if err := d.writeAt(o.buf[:n], o.from); err != nil {
		return err
	}
	o.from, o.used = o.from+n, 0
	d.t.publish(d, o.placed)
	o.placed = o.placed[:0]
	return nil
}

// publish indexes what was written and was not purged meanwhile. A purge of it
// is noted behind it.
func (t *Tier) publish(d *device, list []placed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range list {
		if !p.it.dead && !d.index.put(d.open.region, p.row) {
			t.n.refused.Add(1)
		}
	}
}

// closeRegion writes the table of the open region, if there is one.
func (d *device) closeRegion() error {
	o := &d.open
	if o.region < 0 || len(o.rows) == 0 {
		return nil
	}
	b := o.buf[:tableBlocks(len(o.rows))]
	encodeTable(b, o.rows, d.place(o.region, o.seq, 0))
	if err := d.writeAt(b, d.region-len(b)); err != nil {
		return err
	}
	if d.file.direct == nil {
		_ = d.file.locked.Evict(d.off(o.region), int64(d.region)) // advice
	}
	o.region, o.rows = -1, o.rows[:0]
	return nil
}

// nextRegion begins a new region: one more if the file may grow and the device
// has room, else the one that was written longest ago.
func (d *device) nextRegion() error {
	region := d.grow()
	if region < 0 {
		if d.made == 0 {
			return errSmall
		}
		region = 0
		for r := range d.made {
			if d.seqs[r].Load() < d.seqs[region].Load() {
				region = r
			}
		}
	}
	// In this order, who reads there now takes no offence at what he finds: with the
	// old number he sees afterwards that it has changed, with the new one that the
	// index does not lead there any more.
	d.index.dropRegion(region)
	d.seq++
	d.seqs[region].Store(d.seq)
	o := &d.open
	o.region, o.seq, o.from, o.used, o.rows = region, d.seq, 0, 0, o.rows[:0]
	return nil
}

// grow makes a new region, or returns -1.
func (d *device) grow() int {
	now := d.t.o.Clock.Elapsed()
	if d.made >= d.count || d.full && now-d.fullAt < growPatience {
		return -1
	}
	if err := d.file.locked.Allocate(d.off(d.made), int64(d.region)); err != nil {
		d.t.n.errors.Add(1)
		d.full, d.fullAt = true, now
		return -1
	}
	d.full = false
	d.made++
	return d.made - 1
}
