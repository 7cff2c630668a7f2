package offheap

import (
	"bytes"
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

var seedFlag = flag.Uint64("seed", 0, "repeat a random test with this seed")

func newArena(t testing.TB, o Options) *Arena {
	t.Helper()
	if o.Limit == 0 {
		o.Limit = 64 << 20
	}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	if (a.fd < 0) != o.Anonymous {
		t.Fatalf("the memory file is %d", a.fd)
	}
	return a
}

// each runs f on an arena in a memory file and on one in anonymous memory.
func each(t *testing.T, f func(t *testing.T, a *Arena)) {
	t.Run("file", func(t *testing.T) { f(t, newArena(t, Options{})) })
	t.Run("anonymous", func(t *testing.T) { f(t, newArena(t, Options{Anonymous: true})) })
}

func TestSizes(t *testing.T) {
	each(t, func(t *testing.T, a *Arena) {
		var want int64
		for _, n := range []int{1, 4095, 4096, 4097, 8192, 8193, 13_000, 200_000, 1 << 20, 29_500_001} {
			b := a.Alloc(n)
			if len(b) != n || int64(cap(b)) != Size(n) || Size(n) < int64(n) || Size(n) > int64(n)+4095 {
				t.Fatalf("Alloc(%d): %d of %d bytes, Size %d", n, len(b), cap(b), Size(n))
			}
			if zeroes := bytes.Count(b, []byte{0}); zeroes != n {
				t.Errorf("%d of %d bytes are not zero", n-zeroes, n)
			}
			b[0], b[n-1] = 1, 1
			if want += Size(n); a.Held() != want {
				t.Errorf("%d bytes held, want %d", a.Held(), want)
			}
		}
		for _, n := range []int{0, -1, Largest + 1} {
			if a.Alloc(n) != nil {
				t.Errorf("Alloc(%d) gave a block", n)
			}
		}
	})
}

// TestMemoryGoesBack: what the kernel counts is what the blocks take, after every
// change of sizes.
func TestMemoryGoesBack(t *testing.T) {
	a := newArena(t, Options{})
	probe, err := a.Resident()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{3000, 70_000, 9000, 2 << 20, 13_000} {
		var blocks [][]byte
		for a.Held() < 32<<20 {
			b := a.Alloc(n)
			b[0] = 1
			blocks = append(blocks, b)
		}
		if got, _ := a.Resident(); got-probe != a.Held() {
			t.Errorf("blocks of %d: %d bytes resident, %d held", n, got-probe, a.Held())
		}
		for _, b := range blocks {
			a.Free(b)
		}
	}
	if got, _ := a.Resident(); got != probe || a.Held() != 0 {
		t.Errorf("%d bytes resident, %d held and nothing in use", got-probe, a.Held())
	}
}

// TestRoom: whatever the sizes, there are addresses for as much as the limit says.
func TestRoom(t *testing.T) {
	for _, n := range []int{1, 4097, 70_000, 1<<20 + 1} {
		a := newArena(t, Options{Limit: 16 << 20})
		for a.Held()+Size(n) <= 16<<20 {
			if a.Alloc(n) == nil {
				t.Fatalf("blocks of %d: no room after %d bytes", n, a.Held())
			}
		}
	}
	a := newArena(t, Options{Limit: 1 << 20})
	if a.Alloc(32<<20) == nil {
		t.Error("a large block has no room alone")
	}
	for i := 0; a.Alloc(1<<20) != nil; i++ {
		if i == 100 {
			t.Fatal("there is no end of the addresses")
		}
	}
}

func TestFreeOfWhatIsNoBlock(t *testing.T) {
	a := newArena(t, Options{})
	b := a.Alloc(10_000)
	for name, bad := range map[string][]byte{
		"other memory": make([]byte, 10), "nothing": nil, "its middle": b[4096:], "a part": b[:4096], "never given out": a.mem[a.classes[3].start:][:20_000],
	} {
		if !panics(func() { a.Free(bad) }) {
			t.Errorf("Free of %s went through", name)
		}
	}
	a.Free(b)
	if !panics(func() { a.Free(b) }) {
		t.Error("a second Free went through")
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

// TestWhatWasSentStays: bytes that a socket has but its peer has not read are not
// changed by Free, nor by whoever has the memory next.
func TestWhatWasSentStays(t *testing.T) {
	a := newArena(t, Options{Poison: true})
	const size = 100_000
	b := a.Alloc(size)
	for i := range b {
		b[i] = byte(i * 7)
	}
	want := bytes.Clone(b)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	out, in := os.NewFile(uintptr(pair[0]), "out"), os.NewFile(uintptr(pair[1]), "in")
	defer in.Close()
	fd, off, ok := a.File(b[5000:])
	if !ok || off != 5000+a.classes[classOf(size)].start {
		t.Fatalf("File: %d, %v", off, ok)
	}
	n, err := unix.Sendfile(pair[0], fd, &off, size-5000)
	if err != nil || n < 50_000 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	a.Free(b)
	next := a.Alloc(size)
	if &next[0] != &b[0] {
		t.Fatal("the block was not given out again: this test proves nothing")
	}
	for i := range next {
		next[i] = 0xEE
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, n)
	if _, err := in.Read(got[:1]); err != nil {
		t.Fatal(err)
	}
	for at := 1; at < n; {
		m, err := in.Read(got[at:])
		if err != nil {
			t.Fatalf("after %d of %d: %v", at, n, err)
		}
		at += m
	}
	if !bytes.Equal(got, want[5000:5000+n]) {
		t.Error("what was sent changed on its way")
	}
}

// TestPoison: in such an arena a freed block has none of its bytes left.
func TestPoison(t *testing.T) {
	a := newArena(t, Options{Poison: true})
	b := a.Alloc(5000)
	copy(b, "somebody's photo")
	a.Free(b)
	if want := bytes.Repeat([]byte{poison}, 5000); !bytes.Equal(b, want) {
		t.Error("a freed block is not overwritten")
	}
}

func TestCloseWaitsForBlocks(t *testing.T) {
	each(t, func(t *testing.T, a *Arena) {
		b := a.Alloc(70_000)
		a.Close()
		a.Close()
		b[69_999] = 7 // ends the process if the addresses are gone
		if a.Alloc(1) != nil {
			t.Error("a block after Close")
		}
		a.Free(b)
		if a.blocks != 0 {
			t.Errorf("%d blocks", a.blocks)
		}
		if _, err := a.Resident(); a.fd >= 0 && err == nil {
			t.Error("the memory file is open")
		}
	})
}

func TestOptions(t *testing.T) {
	for _, limit := range []int64{0, -1, 1 << 50} {
		if _, err := New(Options{Limit: limit}); err == nil {
			t.Errorf("a limit of %d was accepted", limit)
		}
	}
}

// TestHoldersAreAlone: goroutines that write what only they know find it again.
func TestHoldersAreAlone(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with: go test ./internal/offheap -run TestHoldersAreAlone -seed %d", seed)
	each(t, func(t *testing.T, a *Arena) {
		var wg sync.WaitGroup
		for g := range uint64(8) {
			wg.Go(func() { hold(t, a, g, rand.New(rand.NewPCG(seed, g))) })
		}
		wg.Wait()
		if a.Held() != 0 || a.blocks != 0 {
			t.Errorf("%d bytes held in %d blocks", a.Held(), a.blocks)
		}
	})
}

func hold(t *testing.T, a *Arena, g uint64, rng *rand.Rand) {
	var held [][]byte
	for i := range uint64(1500) {
		if i < 1400 && len(held) < 10 && rng.IntN(2) == 0 {
			b := a.Alloc(16 + rng.IntN(100_000)>>rng.IntN(6))
			mark := g<<32 | i
			binary.LittleEndian.PutUint64(b, mark)
			binary.LittleEndian.PutUint64(b[len(b)-8:], mark)
			held = append(held, b)
		} else if len(held) > 0 {
			k := rng.IntN(len(held))
			b := held[k]
			first, last := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[len(b)-8:])
			if first>>32 != g || first != last {
				t.Errorf("goroutine %d: a block changed under its holder", g)
			}
			a.Free(b)
			held = append(held[:k], held[k+1:]...)
		}
	}
	for _, b := range held {
		a.Free(b)
	}
}

func BenchmarkAllocFree(b *testing.B) {
	for _, n := range []int{10 << 10, 64 << 10, 200 << 10} {
		b.Run(sizeName(n), func(b *testing.B) {
			a := newArena(b, Options{})
			src := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				block := a.Alloc(n)
				copy(block, src)
				a.Free(block)
			}
		})
	}
}

func sizeName(n int) string {
	return map[int]string{10 << 10: "10KiB", 64 << 10: "64KiB", 200 << 10: "200KiB"}[n]
}
