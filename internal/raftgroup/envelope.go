package raftgroup

import (
	"encoding/binary"
	"fmt"
)

// An entry's data is an envelope around the commands that were packed into it:
//
//	byte 0       envelope version, 1
//	uvarint      number of commands, at least 1
//	then each    uvarint length, bytes
//
// Nothing follows the last command. The checksum lies outside, in the entry's
// extension (see logstore.go), because it covers index and term too.
const envelopeVersion = 1

const envelopeOverhead = 1 + binary.MaxVarintLen32 // per entry; each command adds at most MaxVarintLen32

// packer builds one envelope.
type packer struct {
	body  []byte
	count int
}

func (p *packer) fits(cmd []byte) bool {
	return p.count == 0 || (p.count < maxEntryCommands && len(p.body)+len(cmd)+binary.MaxVarintLen32 <= maxEntryBytes)
}

func (p *packer) add(cmd []byte) {
	p.body = binary.AppendUvarint(p.body, uint64(len(cmd)))
	p.body = append(p.body, cmd...)
	p.count++
}

func (p *packer) envelope() []byte {
	out := make([]byte, 0, envelopeOverhead+len(p.body))
	out = append(out, envelopeVersion)
	out = binary.AppendUvarint(out, uint64(p.count))
	return append(out, p.body...)
}

// unpack returns the commands of an envelope; they alias data.
func unpack(data []byte) ([][]byte, error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: empty envelope", ErrCorrupt)
	}
	if data[0] != envelopeVersion {
		return nil, fmt.Errorf("%w: envelope version %d", ErrUnsupported, data[0])
	}
	count, n := binary.Uvarint(data[1:])
	rest := data[1+max(n, 0):]
	if n <= 0 || count == 0 || count > uint64(len(rest)) {
		return nil, fmt.Errorf("%w: envelope count", ErrCorrupt)
	}
	cmds := make([][]byte, 0, count)
	for range count {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return nil, fmt.Errorf("%w: envelope cut short", ErrCorrupt)
		}
		end := n + int(size)
		cmds = append(cmds, rest[n:end:end])
		rest = rest[end:]
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes behind the last command", ErrCorrupt, len(rest))
	}
	return cmds, nil
}
