package volume

import (
	"sync"
	"testing"

	"hayloft/internal/id"
)

// begin makes the next batch the open one, as the writer does.
func (p *pipe) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = &batch{}
	p.open.begin(p.next, 0)
	p.open.off += 8
}

// TestPipeOrder: batches are flushed in the order in which they were begun, also
// when the writer hands one over while the flusher is about to take one.
func TestPipeOrder(t *testing.T) {
	var s seal
	p := &pipe{unit: 1, next: dataStart, handed: make(chan *batch, 1)}
	p.idle.Store(true) // the first half of grab
	p.begin()
	p.handOver(&s)
	p.begin()
	if b := p.takeFree(&s); b != nil { // the second half
		t.Fatalf("the batch at %d is taken before that at %d", b.start, (<-p.handed).start)
	}
	if b := <-p.handed; b.start != dataStart {
		t.Fatalf("the batch at %d was handed over", b.start)
	}
	if b := p.grab(&s); b == nil || b.start != dataStart+8 {
		t.Fatalf("the next batch is %+v", b)
	}
}

// TestPipeRace is the same with goroutines.
func TestPipeRace(t *testing.T) {
	var s seal
	p := &pipe{unit: 1, next: dataStart, handed: make(chan *batch, 1)}
	p.idle.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() {
		last := int64(0)
		for b := range p.handed {
			for b != nil {
				if b.start < last {
					t.Errorf("the batch at %d is flushed behind that at %d", b.start, last)
				}
				last = b.start
				b = p.grab(&s)
			}
		}
	})
	for range 1_000_000 {
		p.mu.Lock()
		open := p.open != nil
		p.mu.Unlock()
		if !open {
			p.begin()
		}
		p.handOver(&s)
	}
	close(p.handed)
	wg.Wait()
}

// TestOutOfOrder: a batch that is not the next one is never written.
func TestOutOfOrder(t *testing.T) {
	mem := newMem(t, 1)
	v := create(t, mem)
	mustAppend(t, v, testNeedle(1, 1, 500))
	before := fileOf(t, mem, testFile)
	if err := v.onWriter(bg, func() error {
		var b batch
		var meta [headerSize]byte
		b.begin(v.writer.end+pageSize, v.writer.deletes)
		b.add(&v.seal, header{Kind: KindMark}, meta[:], nil, false)
		v.flush(&b)
		return b.err
	}); err == nil {
		t.Fatal("it was written")
	}
	if string(fileOf(t, mem, testFile)) != string(before) {
		t.Fatal("the file changed")
	}
	// Nor is anything behind it.
	wantErr(t, v.Append(bg, []Needle{testNeedle(2, 1, 500)}), ErrPoisoned)
	if err := readErr(v, testNeedle(1, 1, 500)); err != nil {
		t.Fatal(err)
	}
	closeVolume(t, v)
}

// TestCheckBesideDeletes: a check finds nothing in a sound volume while batches
// are being made readable.
func TestCheckBesideDeletes(t *testing.T) {
	v := create(t, newMem(t, 1))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for k := id.ID(1); k < 20000; k += 4000 {
			var ops []*op
			for i := range id.ID(4000) {
				ops = append(ops, newDelete(k+i))
			}
			submitTogether(v, ops...)
			for _, o := range ops {
				if err := <-o.done; err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		if _, err := v.Check(bg, func(f Finding) { t.Errorf("%v at %d: %v", f.Kind, f.Offset, f.Err) }); err != nil {
			t.Fatal(err)
		}
	}
	closeVolume(t, v)
}

// TestLargestFile: the last batch of the largest file leaves room for the mark
// of a close or a seal, and checkpoint and seal can say where it ends.
func TestLargestFile(t *testing.T) {
	v := create(t, newMem(t, 1))
	for _, c := range []struct {
		at, size int64
		fits     bool
	}{
		{lastEnd - 8192, 8192, true}, {lastEnd - 8192, 4096 + 8, true}, {lastEnd - 8192, 8193, false}, {lastEnd, 128, false}, {lastEnd - 4096, 4096 - 8, false},
	} {
		err := v.onWriter(bg, func() error {
			next, room := v.pipe.next, v.writer.allocated
			v.pipe.next, v.writer.allocated = c.at, maxOffset
			_, err := v.place(c.size, maxOffset, func(*batch) {})
			v.pipe.next, v.writer.allocated, v.pipe.open, v.writer.pending = next, room, nil, 0
			return err
		})
		if c.fits {
			wantErr(t, err, nil)
		} else {
			wantErr(t, err, ErrFull)
		}
	}
	rec := SealRecord{End: padded(lastEnd+headerSize, pageSize)}
	b := make([]byte, superblockSize)
	rec.encode(b)
	if _, err := decodeSealRecord(b); err != nil {
		t.Fatal(err)
	}
	closeVolume(t, v)
}
