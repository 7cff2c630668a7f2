package volume

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// TestTableAndSumInOnePass: the CRC32C put together from those of the blocks
// is that of the data, whatever its length.
func TestTableAndSumInOnePass(t *testing.T) {
	const seed = 20261120
	t.Logf("seed %d; repeat: go test ./volume -run %s", seed, t.Name())
	rnd := rand.New(rand.NewPCG(seed, 1))
	lengths := []int{0, 1, 7, BlockSize - 1, BlockSize, BlockSize + 1, 2 * BlockSize, 9*BlockSize - 3, 40 * BlockSize}
	for range 60 {
		lengths = append(lengths, rnd.IntN(6*BlockSize))
	}
	for _, n := range lengths {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		table, sum := appendTable([]byte("head"), data)
		if want := crc32.Checksum(data, castagnoli); sum != want {
			t.Fatalf("%d bytes: %08x, want %08x", n, sum, want)
		}
		if blocks := (n + BlockSize - 1) / BlockSize; len(table) != 4+4*blocks {
			t.Fatalf("%d bytes: a table of %d bytes", n, len(table)-4)
		}
		for i := 0; i*BlockSize < n; i++ {
			if want := crc32.Checksum(data[i*BlockSize:min(n, (i+1)*BlockSize)], castagnoli); binary.LittleEndian.Uint32(table[4+4*i:]) != want {
				t.Fatalf("%d bytes: block %d", n, i)
			}
		}
	}
}

// TestSumOfBlocksIsCompared: a table that fits its data does not vouch for an
// ETag that does not.
func TestSumOfBlocksIsCompared(t *testing.T) {
	n := testNeedle(1, 0, 3*BlockSize+5)
	h, meta := newNeedle(&n)
	if err := h.verifyAll(meta, n.Data, 0); err != nil {
		t.Fatal(err)
	}
	h.DataCRC ^= 1
	if err := h.verifyAll(meta, n.Data, 0); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("another ETag: %v", err)
	}
	h.DataCRC ^= 1
	meta[len(meta)-1] ^= 1
	if err := h.verifyAll(meta, n.Data, 0); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("another table: %v", err)
	}
}
