package coding

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"

	"hayloft/volume"
)

// Digest identifies the bytes of one shard; see docs/shard-format.md.
type Digest [32]byte

const (
	shardMagic    = "HAYSHARD"
	formatVersion = 1

	sourceSumTag = "HAYSRC01"
	digestTag    = "HAYSHD01"

	boundBytes  = 96  // of the head: what the sums are bound to
	digestBytes = 128 // of the head: what the digest covers
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// head is the decoded form of the first and last 8192 bytes of a shard file.
type head struct {
	Plan
	Shard      int
	SourceSum  [32]byte
	Digest     Digest
	Superblock [pageSize]byte // first copy of the source's, opaque here
}

// encode returns the 8192 bytes.
func (h *head) encode() []byte {
	b := make([]byte, headSize)
	copy(b, shardMagic)
	le := binary.LittleEndian
	le.PutUint16(b[8:], formatVersion)
	b[10], b[11], b[12] = byte(h.Data), byte(h.Parity), byte(h.Shard)
	le.PutUint32(b[16:], uint32(h.Volume))
	le.PutUint32(b[20:], h.Generation)
	le.PutUint32(b[24:], h.Epoch)
	le.PutUint64(b[32:], h.Encoder)
	le.PutUint64(b[40:], uint64(h.SourceBytes))
	le.PutUint64(b[48:], uint64(h.ShardBytes()))
	le.PutUint64(b[56:], uint64(h.IndexBytes))
	copy(b[64:], h.SourceDigest[:])
	copy(b[96:], h.SourceSum[:])
	copy(b[128:], h.Digest[:])
	copy(b[pageSize:], h.Superblock[:])
	le.PutUint32(b[4092:], headCRC(b))
	return b
}

func headCRC(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:4092], castagnoli), castagnoli, b[pageSize:headSize])
}

// decodeHead reads one copy. Damage is volume.ErrCorrupt; an intact copy of a
// newer format is volume.ErrUnsupported.
func decodeHead(b []byte) (*head, error) {
	if len(b) != headSize || string(b[:8]) != shardMagic {
		return nil, corrupt("not a shard file")
	}
	le := binary.LittleEndian
	if le.Uint32(b[4092:]) != headCRC(b) {
		return nil, corrupt("checksum of the head")
	}
	if v, f := le.Uint16(b[8:]), le.Uint32(b[28:]); v != formatVersion || f != 0 {
		return nil, fmt.Errorf("%w: shard file of version %d, features %#x", volume.ErrUnsupported, v, f)
	}
	h := &head{
		Plan: Plan{
			Policy: Policy{Data: int(b[10]), Parity: int(b[11])},
			Volume: volume.ID(le.Uint32(b[16:])), Generation: le.Uint32(b[20:]), Epoch: le.Uint32(b[24:]),
			Encoder: le.Uint64(b[32:]), SourceBytes: int64(le.Uint64(b[40:])), SourceDigest: volume.Digest(b[64:96]),
			IndexBytes: int64(le.Uint64(b[56:])),
		},
		Shard:     int(b[12]),
		SourceSum: [32]byte(b[96:128]), Digest: Digest(b[128:160]),
		Superblock: [pageSize]byte(b[pageSize:]),
	}
	if err := h.Validate(); err != nil {
		return nil, corrupt("fields of the head: %w", err)
	}
	if h.Shard >= h.Shards() || string(b[13:16]) != "\x00\x00\x00" || int64(le.Uint64(b[48:])) != h.ShardBytes() {
		return nil, corrupt("fields of the head")
	}
	return h, nil
}

// belongs says why a head is not that of shard i of the plan, with nil for one
// that is.
func (h *head) belongs(p Plan, i int) error {
	if h.Plan != p || h.Shard != i {
		return fmt.Errorf("%w: %v, not %v", ErrForeign, h.name(), (&head{Plan: p, Shard: i}).name())
	}
	return nil
}

func (h *head) name() string {
	return fmt.Sprintf("shard %d of volume %d generation %d epoch %d encoder %x (%s of %d bytes, index of %d, digest %x)",
		h.Shard, h.Volume, h.Generation, h.Epoch, h.Encoder, h.Policy, h.SourceBytes, h.IndexBytes, h.SourceDigest[:8])
}

// binding is the CRC32C state after what all sums of a shard are bound to.
type binding uint32

func (h *head) binding() binding {
	b := h.encode()
	return binding(crc32.Update(crc32.Checksum(b[:boundBytes], castagnoli), castagnoli, b[pageSize:]))
}

func (s binding) with(n int64) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	return crc32.Update(uint32(s), castagnoli, b[:])
}

// rawSum is the checksum of a block's bytes alone. Xor with mask makes the sum
// of it, and back.
func rawSum(block []byte) uint32 { return crc32.Checksum(block, castagnoli) }

func (s binding) mask(block int64) uint32 { return s.with(block) }

// putPage makes page q of the table from the sums in it.
func (s binding) putPage(page []byte, q int64, sums []uint32) {
	clear(page[:pageSize])
	for i, sum := range sums {
		binary.LittleEndian.PutUint32(page[4*i:], sum)
	}
	binary.LittleEndian.PutUint32(page[4092:], crc32.Update(s.with(q), castagnoli, page[:4092]))
}

// readPage verifies page q, and puts its sums into sums.
func (s binding) readPage(page []byte, q int64, sums []uint32) error {
	if len(page) != pageSize || len(sums) > sumsPerPage ||
		binary.LittleEndian.Uint32(page[4092:]) != crc32.Update(s.with(q), castagnoli, page[:4092]) {
		return corrupt("page %d of the table of sums", q)
	}
	for i := range sums {
		sums[i] = binary.LittleEndian.Uint32(page[4*i:])
	}
	return nil
}

// pageSums is the part of the sums that page q holds.
func pageSums(sums []uint32, q int64) []uint32 {
	return sums[q*sumsPerPage : min(int64(len(sums)), (q+1)*sumsPerPage)]
}

// digest computes the digest of the shard from its sums.
func (h *head) digest(sums []uint32) Digest {
	b := h.encode()
	w := sha256.New()
	w.Write([]byte(digestTag))
	w.Write(b[:digestBytes])
	w.Write(b[pageSize:])
	writeSums(w, sums)
	return Digest(w.Sum(nil))
}

// sourceSum computes the sum of the source from the raw sums of the data
// shards' payloads.
func sourceSum(raw [][]uint32) [32]byte {
	w := sha256.New()
	w.Write([]byte(sourceSumTag))
	for _, sums := range raw {
		writeSums(w, sums)
	}
	return [32]byte(w.Sum(nil))
}

func writeSums(w hash.Hash, sums []uint32) {
	var buf [4096]byte
	for len(sums) > 0 {
		n := min(len(sums), len(buf)/4)
		for i, sum := range sums[:n] {
			binary.LittleEndian.PutUint32(buf[4*i:], sum)
		}
		w.Write(buf[:4*n])
		sums = sums[n:]
	}
}
