package volume

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The CRC32C of data and those of its blocks come from one pass: a checksum is
// linear in what it is of, so those of the blocks can be put together. For A
// followed by B it is that of A, moved on by as many zero bytes as B has, xor
// that of B.

// pastBlock moves a CRC32C on by BlockSize zero bytes: byte i of it becomes
// entry [i][byte], and the four are xored.
var pastBlock = newPastBlock()

func newPastBlock() *[4][256]uint32 {
	// m[i] is what bit i becomes; at first by one zero bit.
	var m [32]uint32
	m[0] = crc32.Castagnoli
	for i := 1; i < 32; i++ {
		m[i] = 1 << (i - 1)
	}
	apply := func(x uint32) (y uint32) {
		for i := range m {
			y ^= m[i] & -(x >> i & 1)
		}
		return y
	}
	for bits := 1; bits < 8*BlockSize; bits *= 2 {
		var twice [32]uint32
		for i := range twice {
			twice[i] = apply(m[i])
		}
		m = twice
	}
	var t [4][256]uint32
	for i := range t {
		for b := range t[i] {
			t[i][b] = apply(uint32(b) << (8 * i))
		}
	}
	return &t
}

// addBlock returns the CRC32C of what sum is of, a whole number of blocks,
// followed by block, whose own is crc.
func addBlock(sum uint32, block []byte, crc uint32) uint32 {
	if len(block) < BlockSize { // the last one
		return crc32.Update(sum, castagnoli, block)
	}
	t := pastBlock
	return t[0][byte(sum)] ^ t[1][byte(sum>>8)] ^ t[2][byte(sum>>16)] ^ t[3][sum>>24] ^ crc
}

// appendTable appends the block CRC table of data, and returns the CRC32C of
// all of it.
func appendTable(table, data []byte) ([]byte, uint32) {
	var sum uint32
	for len(data) > 0 {
		block := data[:min(len(data), BlockSize)]
		crc := crc32.Checksum(block, castagnoli)
		table = binary.LittleEndian.AppendUint32(table, crc)
		sum = addBlock(sum, block, crc)
		data = data[len(block):]
	}
	return table, sum
}

// verifyBlocks checks data, which starts with block first, against the table
// at meta's end. It returns the CRC32C of everything up to data's end, given
// that of what is in front of it.
func (h *header) verifyBlocks(meta, data []byte, first int, sum uint32, off int64) (uint32, error) {
	table := meta[headerSize+h.MasterLen : h.metaLen()]
	for i := first; len(data) > 0; i++ {
		block := data[:min(len(data), BlockSize)]
		crc := crc32.Checksum(block, castagnoli)
		if 4*i+4 > len(table) || binary.LittleEndian.Uint32(table[4*i:]) != crc {
			return 0, fmt.Errorf("%w: record at %d: checksum of block %d", ErrCorrupt, off, i)
		}
		sum = addBlock(sum, block, crc)
		data = data[len(block):]
	}
	return sum, nil
}

// verifyData checks the data of a needle against data_crc.
func (h *header) verifyData(data []byte, off int64) error {
	return h.verifySum(crc32.Checksum(data, castagnoli), off)
}

// verifySum compares the CRC32C of the data with data_crc.
func (h *header) verifySum(sum uint32, off int64) error {
	if sum != h.DataCRC {
		return fmt.Errorf("%w: record at %d: data checksum", ErrCorrupt, off)
	}
	return nil
}

// verifyAll checks data against data_crc and, if there is one, the table at
// meta's end.
func (h *header) verifyAll(meta, data []byte, off int64) error {
	if h.Flags&flagBlocks == 0 {
		return h.verifyData(data, off)
	}
	sum, err := h.verifyBlocks(meta, data, 0, 0, off)
	if err == nil {
		err = h.verifySum(sum, off)
	}
	return err
}
