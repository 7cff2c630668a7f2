package volume

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// indexed is a volume that has an index and no file. The index has entries
// until it takes more than so many blocks; their records lie one behind the
// other, but from entry back on they begin at the front again. first is the
// number of the first entry in the last block. Keys are 64 random bits, so that
// few fit into a block.
func indexed(blocks uint64, back int) (v *Volume, first int) {
	v, ix := &Volume{}, new(index)
	v.idx.Store(ix)
	v.sb.Identity = testIdent
	for i := 0; ix.blocks.Load() <= blocks; i++ {
		first = i
		off := int64(i)
		if back != 0 && i >= back {
			off -= int64(back)
		}
		ix.put(id.ID(hash(id.ID(i+1))), 0, place{dataStart + off*64, 64})
		if i >= 1000 && i&(i-1) == 0 {
			ix.foresee(float64(blocks) / float64(ix.blocks.Load()))
		}
	}
	ix.settle()
	return v, first
}

// encodedIndex is a checkpoint of v's index.
func encodedIndex(t *testing.T, v *Volume) []byte {
	t.Helper()
	ix := v.idx.Load()
	s := snapshot{idx: ix, checkpoint: checkpoint{covers: maxOffset, blocks: ix.blocks.Load(), slots: ix.slots(), last: ix.tail.place}}
	s.head = ix.block(s.blocks - 1).head.Load()
	mem := newMem(t, 1)
	f, err := mem.Create("/d/c")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.fillCheckpoint(f, s), f.Close()); err != nil {
		t.Fatal(err)
	}
	return readAll(t, mem, "/d/c")
}

// load reads b as a checkpoint.
func load(t *testing.T, b []byte, v *Volume, fault func(vfs.Op) vfs.Outcome) (*index, error) {
	t.Helper()
	mem := newMem(t, 1)
	replaceFile(t, mem, "/d/c", b)
	f, err := (&vfs.Fault{FS: mem, Before: fault}).Open("/d/c")
	if err != nil {
		t.Fatal(err)
	}
	c, list, err := readCheckpoint(f, testIdent, &v.seal, 0)
	if err != nil {
		return nil, err
	}
	ix := new(index)
	ix.adopt(list.chunks, c.blocks, list.tables)
	return ix, f.Close()
}

// TestLoadInSteps: a checkpoint of several steps, which several workers load,
// gives the index that it was made of; damage in any section, and a read that
// fails, is noticed whoever meets it.
func TestLoadInSteps(t *testing.T) {
	v, _ := indexed(2*loadSections*chunkBlocks+300, 0)
	made := v.idx.Load()
	b := encodedIndex(t, v)
	ix, err := load(t, b, v, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for e := range made.all() {
		if p, found, deleted := ix.get(e.key, e.alt); !found || deleted || p != e.place {
			t.Fatalf("%v is at %v (%v, %v), want %v", e.key, p, found, deleted, e.place)
		}
		n++
	}
	if ix.slots() != made.slots() || ix.tail.located != made.tail.located || ix.bytes() > 24*int64(n) {
		t.Errorf("%d slots of %d, the last %v of %v, %d bytes for %d", ix.slots(), made.slots(), ix.tail.located, made.tail.located, ix.bytes(), n)
	}
	// What follows a load is found, whatever was foreseen.
	ix.put(1<<62, 0, place{maxOffset - 64, 64})
	if _, found, _ := ix.get(1<<62, 0); !found {
		t.Error("what was added is not found")
	}

	for at := checkpointHead + 100; at < len(b); at += 5 * (sectionBytes + 4) {
		flipped := bytes.Clone(b)
		flipped[at] ^= 4
		if _, err := load(t, flipped, v, nil); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a bit flipped in byte %d: %v", at, err)
		}
	}
	failed := errors.New("no")
	var offsets []int64 // of the reads behind the head
	var mu sync.Mutex   // guards offsets
	if _, err := load(t, b, v, func(op vfs.Op) vfs.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind == vfs.OpRead {
			offsets = append(offsets, op.Off)
		}
		return vfs.Outcome{}
	}); err != nil || len(offsets) < 4 {
		t.Fatalf("%d reads (%v)", len(offsets), err)
	}
	for _, off := range offsets {
		_, err := load(t, b, v, func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpRead && op.Off == off {
				return vfs.Outcome{Err: failed}
			}
			return vfs.Outcome{}
		})
		if !errors.Is(err, failed) {
			t.Fatalf("the read at %d fails: %v", off, err)
		}
	}
}

// TestLoadOutOfOrder: records that go back where one step ends and the next
// begins are noticed though each step for itself is in order.
func TestLoadOutOfOrder(t *testing.T) {
	v, first := indexed(loadSections*chunkBlocks, 0)
	if _, err := load(t, encodedIndex(t, v), v, nil); err != nil {
		t.Fatal(err)
	}
	v, again := indexed(loadSections*chunkBlocks, first)
	if again != first {
		t.Fatalf("the second step begins with %d, not %d", again, first)
	}
	if _, err := load(t, encodedIndex(t, v), v, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a list that goes back: %v", err)
	}
}

// TestForeseenIndex: an index that was to become much larger, or hardly larger,
// finds everything, and takes no more in the end than one that grew by itself.
func TestForeseenIndex(t *testing.T) {
	const n = 30_000
	var grown index
	for i := range int64(n) {
		grown.put(id.Make(id.Millis(1+i*50), id.Slot(i*7%8), 0), 0, place{dataStart + i*1000, 1000})
	}
	entries := slices.Collect(grown.all())
	for _, times := range []float64{1, 3, 200} {
		var ix index
		for i, e := range entries {
			if i == n/3 {
				ix.foresee(times)
			}
			ix.put(e.key, e.alt, e.place)
		}
		ix.settle()
		for _, e := range entries {
			if p, found, _ := ix.get(e.key, e.alt); !found || p != e.place {
				t.Fatalf("foreseen %v times: %v at %v (%v)", times, e.key, p, found)
			}
		}
		if ix.slots() != grown.slots() || ix.bytes() > grown.bytes()*5/4 {
			t.Errorf("foreseen %v times: %d slots and %d bytes, grown %d and %d", times, ix.slots(), ix.bytes(), grown.slots(), grown.bytes())
		}
	}
}

// TestForeseenFromTombstones: a file that begins with nothing but deletes and
// claims to be large does not take the memory of one that is full of them.
func TestForeseenFromTombstones(t *testing.T) {
	const n = guessBytes / (2 * headerSize)
	v := &Volume{}
	v.idx.Store(new(index))
	r := &recovery{v: v, size: 32 << 30, base: base{checkpoint: checkpoint{covers: dataStart}}}
	ix, before := v.idx.Load(), int64(0)
	for i := range int64(2*n - 1) {
		pos := dataStart + i*2*headerSize
		if i == n {
			before = ix.bytes()
		}
		r.progress(pos)
		ix.remove(id.ID(hash(id.ID(i+1))), place{pos, headerSize})
	}
	if r.guessed == 0 || before == 0 {
		t.Fatal("nothing was foreseen")
	}
	if got := ix.bytes(); got > 5*before {
		t.Errorf("%d bytes for %d deletes became %d for %d", before, n, got, 2*n)
	}
	ix.settle()
	if got := ix.bytes(); got > 5*before/2 {
		t.Errorf("%d bytes for %d deletes are %d for %d in the end", before, n, got, 2*n)
	}
}
