package volume

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"hayloft/internal/id"
	"hayloft/internal/slab"
	"hayloft/internal/vfs"
)

// heldByOpen waits until the writer has put so many bytes of records into the
// open batch, and returns how much memory that takes.
func heldByOpen(v *Volume, size int64) int64 {
	for v.pipe.size.Load() < size {
		runtime.Gosched()
	}
	v.pipe.mu.Lock()
	defer v.pipe.mu.Unlock()
	return v.pipe.open.held
}

// TestMemoryOfPendingDeletes: while a sync hangs, the deletes behind it hold
// about as much memory as they are long, be it one or be it thousands, in a
// volume and in the delete log of one.
func TestMemoryOfPendingDeletes(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		g := newGate(vfs.OpSync)
		v := create(t, &vfs.Fault{FS: newMem(t, 1), Before: g.before})
		mustAppend(t, v, testNeedle(1, 1, 500))
		w := v
		if sealed {
			if _, err := v.Seal(bg, SealInfo{}); err != nil {
				t.Fatal(err)
			}
			w = v.sealing.part.Load().log.cur.Load().v
		}
		g.set(true)
		ops := []*op{newDelete(1), newDelete(2), newDelete(3)} // one alone would be flushed by the writer
		submitTogether(w, ops[:2]...)
		<-g.arrived
		submitTogether(w, ops[2])
		if got := heldByOpen(w, 2*headerSize); got > int64(slab.Size(1)) {
			t.Errorf("sealed %v: a lone delete holds %d bytes", sealed, got)
		}
		for i := range 5000 {
			ops = append(ops, newDelete(id.ID(i+4)))
		}
		submitTogether(w, ops[3:]...)
		if got, need := heldByOpen(w, 5001*2*headerSize), int64(5001*2*headerSize); got < need || got > 2*need+2*int64(slab.Size(1)) {
			t.Errorf("sealed %v: deletes of %d bytes hold %d", sealed, need, got)
		}
		g.set(false)
		close(g.pass)
		for _, o := range ops {
			if err := <-o.done; err != nil {
				t.Fatal(err)
			}
		}
		closeVolume(t, v)
	}
}

// TestPiecesOfABatch: whatever goes into a batch comes out of it, in pieces that
// a direct write takes.
func TestPiecesOfABatch(t *testing.T) {
	for _, seed := range seeds(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var b batch
		var want []byte
		start := dataStart + int64(rng.IntN(3))*8
		b.begin(start, 0)
		for range 1 + rng.IntN(40) {
			p := make([]byte, 8+rng.IntN(1<<rng.IntN(21))&^7)
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			zeros := rng.IntN(20) * 8
			if size := int64(len(p) + zeros); rng.IntN(4) > 0 { // a mark expects nothing
				b.expect(padded(b.off+size, pageSize))
			}
			b.put(p[:8], p[8:], int64(len(p)+zeros))
			want = append(append(want, p...), make([]byte, zeros)...)
		}
		bufs, n := b.content()
		if got := slices.Concat(bufs...); n != int64(len(want)) || !bytes.Equal(got, want) || b.off != start+n {
			t.Fatalf("%d bytes came out of %d\n%s", n, len(want), repeatWith(t, seed))
		}
		for i, buf := range bufs {
			if i < len(bufs)-1 && len(buf)%pageSize != 0 || cap(buf) < pageSize || len(buf) > batchPiece {
				t.Fatalf("piece %d of %d has %d bytes\n%s", i, len(bufs), len(buf), repeatWith(t, seed))
			}
		}
		if most := 12 + n/batchPiece; int64(len(bufs)) > most {
			t.Errorf("%d bytes in %d pieces\n%s", n, len(bufs), repeatWith(t, seed))
		}
		if b.release(); b.from != b.off || b.held != 0 || len(b.pieces) != 0 {
			t.Fatalf("after release: %d bytes in %d pieces, next at %d of %d", b.held, len(b.pieces), b.from, b.off)
		}
	}
}
