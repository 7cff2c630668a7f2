package coding

import (
	"fmt"
	"strconv"
	"strings"

	"hayloft/volume"
)

// Limits and sizes of format version 1; see docs/shard-format.md.
const (
	MaxData   = 32 // largest k
	MaxParity = 8  // largest m

	// BlockSize is the unit of the sums, in bytes.
	BlockSize = 64 << 10

	pageSize       = 4096
	headSize       = 2 * pageSize // head and superblock copy
	sumsPerPage    = pageSize/4 - 1
	minSourceBytes = 2 * pageSize
	maxSourceBytes = 1 << 48
	maxIndexBytes  = 1 << 32
)

// Policy says into how many shards a volume is cut.
type Policy struct {
	Data   int // k: any that many shards give the source back
	Parity int // m: that many may be lost
}

// Shards is k+m.
func (p Policy) Shards() int { return p.Data + p.Parity }

// Validate holds the policy to the limits of the format.
func (p Policy) Validate() error {
	if p.Data < 1 || p.Data > MaxData || p.Parity < 1 || p.Parity > MaxParity {
		return fmt.Errorf("%w: policy %d+%d: 1 to %d and 1 to %d", volume.ErrInvalid, p.Data, p.Parity, MaxData, MaxParity)
	}
	return nil
}

// String returns for example "10+4".
func (p Policy) String() string { return fmt.Sprintf("%d+%d", p.Data, p.Parity) }

// ParsePolicy is the inverse of String.
func ParsePolicy(s string) (Policy, error) {
	k, m, ok := strings.Cut(s, "+")
	data, errK := strconv.Atoi(k)
	parity, errM := strconv.Atoi(m)
	p := Policy{Data: data, Parity: parity}
	if !ok || errK != nil || errM != nil || p.String() != s {
		return Policy{}, fmt.Errorf("%w: %q is no policy such as 10+4", volume.ErrInvalid, s)
	}
	return p, p.Validate()
}

// Plan is what the directory fixed before the first byte was written. Every
// shard repeats it.
type Plan struct {
	Policy
	Volume       volume.ID
	Generation   uint32 // of the source
	Epoch        uint32 // given out once
	Encoder      uint64 // incarnation of the one run that may write under Epoch
	SourceBytes  int64  // SealRecord.End of the source
	SourceDigest volume.Digest
	IndexBytes   int64 // of the source's sealed index
}

// Validate holds the plan to the limits of the format.
func (p Plan) Validate() error {
	if err := p.Policy.Validate(); err != nil {
		return err
	}
	if p.Volume == 0 || p.Generation == 0 || p.Epoch == 0 || p.Encoder == 0 ||
		p.SourceBytes < minSourceBytes || p.SourceBytes > maxSourceBytes || p.IndexBytes < 0 || p.IndexBytes > maxIndexBytes {
		return fmt.Errorf("%w: volume %d generation %d epoch %d encoder %x, %d bytes, index of %d",
			volume.ErrInvalid, p.Volume, p.Generation, p.Epoch, p.Encoder, p.SourceBytes, p.IndexBytes)
	}
	return nil
}

// ShardBytes is s: the bytes of the source, or of parity, in one shard.
func (p Plan) ShardBytes() int64 {
	unit := int64(BlockSize) * int64(p.Data)
	return (p.SourceBytes + unit - 1) / unit * BlockSize
}

// FileBytes is the size of each shard file.
func (p Plan) FileBytes() int64 { return p.layout().fileBytes() }

func (p Plan) layout() layout { return layout{payload: p.ShardBytes(), index: p.IndexBytes} }

// layout is where things lie in a shard file.
type layout struct {
	payload int64 // s
	index   int64 // without padding
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

func (l layout) bodyBytes() int64  { return l.payload + roundUp(l.index, pageSize) }
func (l layout) blocks() int64     { return roundUp(l.bodyBytes(), BlockSize) / BlockSize }
func (l layout) tablePages() int64 { return roundUp(l.blocks(), sumsPerPage) / sumsPerPage }
func (l layout) tableAt() int64    { return headSize + l.bodyBytes() }
func (l layout) tailAt() int64     { return l.tableAt() + l.tablePages()*pageSize }
func (l layout) fileBytes() int64  { return l.tailAt() + headSize }

// blockLen is the length of block b of the body.
func (l layout) blockLen(b int64) int64 { return min(BlockSize, l.bodyBytes()-b*BlockSize) }
