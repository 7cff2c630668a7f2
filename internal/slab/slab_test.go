package slab

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"unsafe"
)

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

func TestAllocIsAligned(t *testing.T) {
	for _, n := range []int{1, 4096, 5000, hugeBytes/2 - 1, hugeBytes / 2, hugeBytes, 3*hugeBytes + 17} {
		b := Alloc(n)
		unit := uintptr(pageBytes)
		if n >= hugeBytes/2 {
			unit = hugeBytes
		}
		if len(b) != n || address(b)%unit != 0 {
			t.Errorf("Alloc(%d): %d bytes at %#x", n, len(b), address(b))
		}
		b[n-1] = 1
	}
}

func TestSizes(t *testing.T) {
	last := 0
	for c := range classes {
		if s := sizeOf(c); s <= last || s%pageBytes != 0 || s > chunkBytes/2 {
			t.Errorf("class %d is of %d bytes after %d", c, s, last)
		}
		last = sizeOf(c)
	}
	if last != Largest {
		t.Errorf("the largest class has %d bytes, Largest is %d", last, Largest)
	}
	for _, n := range []int{1, 8 << 10, 66_048, 205_376, Largest, Largest + 1, 5 << 20} {
		var p Pool
		l := p.Get(n)
		if got := len(l.Bytes()); got != Size(n) || got < n || address(l.Bytes())%pageBytes != 0 {
			t.Errorf("Get(%d): %d bytes at %#x, Size says %d", n, got, address(l.Bytes()), Size(n))
		}
		if l.Pooled() != (n <= Largest) {
			t.Errorf("Get(%d): pooled %v", n, l.Pooled())
		}
	}
}

// TestReleaseOnce: a copy of a lease that is released late takes nothing from
// the next holder.
func TestReleaseOnce(t *testing.T) {
	var p Pool
	a := p.Get(100)
	again := a
	if !a.Release() || again.Release() {
		t.Fatal("a lease is released once")
	}
	b := p.Get(100)
	if again.Release() {
		t.Fatal("an old copy released the next holder's lease")
	}
	if c := p.Get(100); address(c.Bytes()) == address(b.Bytes()) {
		t.Fatal("two holders have one buffer")
	}
	if (Lease{}).Release() || (Lease{}).Bytes() != nil {
		t.Fatal("the zero lease is that of nothing")
	}
}

// TestReuse: what is given back is given out again, also as another size.
func TestReuse(t *testing.T) {
	var p Pool
	for n := smallest; n < Largest; n += 37_000 {
		var all []Lease
		for range 3 * chunkBytes / sizeOf(classOf(n)) {
			all = append(all, p.Get(n))
		}
		for _, l := range all {
			l.Release()
		}
	}
	if limit := int64(classes+keepChunks) * chunkBytes; p.Bytes() > limit {
		t.Errorf("%d bytes are kept, at most %d are needed", p.Bytes(), limit)
	}
	free := 0
	for _, list := range p.partial {
		for _, c := range list {
			if len(c.free) != c.count {
				t.Errorf("a chunk of class %d has %d of %d buffers back", c.class, len(c.free), c.count)
			}
			free++
		}
	}
	if got := int64(free+len(p.empty)) * chunkBytes; got != p.Bytes() {
		t.Errorf("%d bytes are free, %d are counted", got, p.Bytes())
	}
}

// TestForgottenBuffers: memory whose leases were lost is collected.
func TestForgottenBuffers(t *testing.T) {
	var p Pool
	gone := make(chan struct{})
	func() {
		c := 0
		for range 40 * chunkBytes / Largest { // more than the pool can point to
			l := p.Get(Largest)
			if c++; c == 1 {
				runtime.AddCleanup(l.buf, func(ch chan struct{}) { close(ch) }, gone)
			}
		}
	}()
	for range 20 {
		runtime.GC()
		select {
		case <-gone:
			return
		default:
		}
	}
	t.Fatal("a buffer that nobody can reach is kept")
}

// TestGrowingStopsNobody: while memory is got for one, others take and give back
// what there is, and who needs more too waits for the same memory.
func TestGrowingStopsNobody(t *testing.T) {
	var p Pool
	held := []Lease{p.Get(100)}
	for len(p.empty) > 0 {
		held = append(held, p.Get(Largest))
	}
	for p.partial[classOf(Largest)] != nil && len(p.partial[classOf(Largest)]) > 0 {
		held = append(held, p.Get(Largest))
	}
	var wg sync.WaitGroup
	grown := 0
	p.alloc = func(n int) []byte {
		if grown++; grown == 1 {
			for range 3 {
				wg.Go(func() { p.Get(200_000).Release() })
			}
			if !p.Get(100).Release() || !held[len(held)-1].Release() {
				t.Error("a lease was released before")
			}
		}
		return Alloc(n)
	}
	l := p.Get(200_000)
	wg.Wait()
	if grown != 1 || p.Bytes() != 2*slabBytes || !l.Release() {
		t.Errorf("grown %d times to %d bytes", grown, p.Bytes())
	}
}

// TestHoldersAreAlone: goroutines that write what only they know find it again.
func TestHoldersAreAlone(t *testing.T) {
	var p Pool
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, g))
			var held []Lease
			var marks []uint64
			for i := range uint64(3000) {
				if len(held) < 20 && rng.IntN(2) == 0 {
					l := p.Get(1 + rng.IntN(300_000))
					mark := g<<32 | i
					binary.LittleEndian.PutUint64(l.Bytes(), mark)
					binary.LittleEndian.PutUint64(l.Bytes()[len(l.Bytes())-8:], mark)
					held, marks = append(held, l), append(marks, mark)
				} else if len(held) > 0 {
					k := rng.IntN(len(held))
					b := held[k].Bytes()
					if binary.LittleEndian.Uint64(b) != marks[k] || binary.LittleEndian.Uint64(b[len(b)-8:]) != marks[k] {
						t.Errorf("goroutine %d: a buffer changed under its holder", g)
					}
					held[k].Release()
					held, marks = append(held[:k], held[k+1:]...), append(marks[:k], marks[k+1:]...)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkGet(b *testing.B) {
	var p Pool
	for b.Loop() {
		p.Get(66_048).Release()
	}
}
