package volume

import (
	"time"

	"hayloft/internal/slab"
)

// A batch is full when it holds this much; a single group may be larger.
const batchBytes = 16 << 20

// batchPiece is how much memory a batch takes at a time, at most. It comes from
// where reads get theirs: a volume without a batch holds none.
const batchPiece = 1 << 20

// batch is what one sync makes durable: records and, behind them, the padding
// that lets the next batch begin on a block of its own.
//
// The writer goroutine puts it together, while it is pipe.open, and answers its
// ops. In between, whoever has taken it writes it.
type batch struct {
	start   int64  // of its first record; everything in front of it is synced before it is written
	off     int64  // where the next record goes
	deletes uint32 // written to the file before off, modulo 2^32

	pieces []slab.Lease // what was not written yet; all but the last are full
	held   int64        // how much that is, tail and all
	tail   []byte       // what is free of the last piece
	from   int64        // where their content goes in the file
	until  int64        // where it is known to end at least
	spill  func()       // writes them when the batch is larger than batches are; nil: it is not

	// err is why the batch is not on stable storage. The two durations are how
	// long the device took.
	err           error
	wrote, synced time.Duration

	// What follows is the writer goroutine's alone.
	records  []record
	ops      []*op // that wait for it
	assembly time.Duration
}

// record is what publishing a record takes.
type record struct {
	h    header
	off  int64
	twin bool // the second copy of a tombstone
}

// begin makes b an empty batch at off.
func (b *batch) begin(off int64, deletes uint32) {
	*b = batch{start: off, off: off, from: off, deletes: deletes,
		pieces: b.pieces[:0], records: b.records[:0], ops: b.ops[:0]}
}

// expect tells that b will go on to end.
func (b *batch) expect(end int64) { b.until = end }

// add appends a record. meta has room for the header in front, and data is
// copied.
func (b *batch) add(s *seal, h header, meta, data []byte, twin bool) {
	h.SyncedTo, h.Deletes = b.start, b.deletes
	if twin {
		b.deletes++ // both copies carry the same number
	}
	s.putHeader(meta, &h, b.off)
	b.records = append(b.records, record{h: h, off: b.off, twin: twin})
	b.put(meta, data, h.size())
}

// put appends the bytes of a record of so many bytes.
func (b *batch) put(meta, data []byte, size int64) {
	b.copy(meta)
	b.copy(data)
	b.zero(int(size) - len(meta) - len(data))
	b.off += size
}

func (b *batch) copy(p []byte) {
	for len(p) > 0 {
		b.grow()
		n := copy(b.tail, p)
		b.tail, p = b.tail[n:], p[n:]
	}
}

func (b *batch) zero(n int) {
	for n > 0 {
		b.grow()
		k := min(n, len(b.tail))
		clear(b.tail[:k])
		b.tail, n = b.tail[k:], n-k
	}
}

// grow sees to it that there is something free: what is known to be needed, and
// at least as much again as there is. A lone delete so takes little, and a large
// batch few pieces.
func (b *batch) grow() {
	if len(b.tail) > 0 {
		return
	}
	if b.spill != nil && b.held >= batchBytes {
		b.spill()
	}
	p := buffers.Get(int(min(max(b.until-b.from-b.held, b.held), batchPiece)))
	b.pieces, b.tail = append(b.pieces, p), pieceOf(p)
	b.held += int64(len(b.tail))
}

// pieceOf is what a batch uses of a buffer. All sizes of buffers are multiples of
// a page, as direct writes of several need it.
func pieceOf(p slab.Lease) []byte {
	b := p.Bytes()
	return b[:min(len(b), batchPiece)]
}

// padded is where a batch ends whose records end at off, if batches end at
// multiples of unit. Padding is a record, which has a header at least.
func padded(off, unit int64) int64 {
	end := (off + unit - 1) &^ (unit - 1)
	if end != off && end-off < headerSize {
		end += unit
	}
	return end
}

// pad ends the batch at a multiple of unit.
func (b *batch) pad(s *seal, unit int64) {
	n := padded(b.off, unit) - b.off
	if n == 0 {
		return
	}
	h := header{Kind: KindPadding, SyncedTo: b.start, Deletes: b.deletes, Length: n - headerSize}
	var meta [headerSize]byte
	s.putHeader(meta[:], &h, b.off)
	b.put(meta[:], nil, n)
}

// content returns what was put together and not written yet.
func (b *batch) content() (bufs [][]byte, n int64) {
	bufs = make([][]byte, len(b.pieces))
	for i, p := range b.pieces {
		bufs[i] = pieceOf(p)
	}
	if i := len(bufs) - 1; i >= 0 {
		bufs[i] = bufs[i][:len(bufs[i])-len(b.tail)]
	}
	return bufs, b.held - int64(len(b.tail))
}

// release gives the memory back. What it held counts as written.
func (b *batch) release() {
	b.from += b.held - int64(len(b.tail))
	for _, p := range b.pieces {
		p.Release()
	}
	clear(b.pieces)
	b.pieces, b.held, b.tail = b.pieces[:0], 0, nil
}
