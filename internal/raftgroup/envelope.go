package raftgroup

import (
	"encoding/binary"
	"fmt"
)

// An entry's data is an envelope around the commands that were packed into it
// (docs/group-format.md):
//
//	byte 0       envelope version, 2
//	u64          term the entry was proposed for
//	16 bytes     origin
//	uvarint      number of the request
//	uvarint      number of commands; none: a mark
//	then each    uvarint length, bytes
//
// Nothing follows the last command. The checksum lies outside, in the entry's
// extension (see logstore.go), because it covers index and term too. Version 1
// had neither term nor origin nor number.
const (
	envelopeVersion  = 2
	envelopeVersion1 = 1
	envelopeHead     = 1 + 8 + 16
)

// ticketID names one entry of one member: its origin, drawn at each start, and a
// number.
type ticketID struct {
	origin tag
	number uint64
}

// envelope is what an entry holds. The commands alias its data.
type envelope struct {
	term uint64 // zero for version 1, which is never void
	id   ticketID
	cmds [][]byte
}

// void reports whether an entry that is logged in term has no effect.
func (e *envelope) void(term uint64) bool { return e.term != 0 && e.term != term }

// packer builds the commands of one envelope.
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

// counted returns the commands with their number before them.
func (p *packer) counted() []byte {
	out := make([]byte, 0, binary.MaxVarintLen32+len(p.body))
	out = binary.AppendUvarint(out, uint64(p.count))
	return append(out, p.body...)
}

// pack makes an envelope around what counted returned.
func pack(term uint64, id ticketID, counted []byte) []byte {
	out := make([]byte, 0, envelopeHead+binary.MaxVarintLen64+len(counted))
	out = append(out, envelopeVersion)
	out = binary.LittleEndian.AppendUint64(out, term)
	out = append(out, id.origin[:]...)
	out = binary.AppendUvarint(out, id.number)
	return append(out, counted...)
}

// unpack returns what is in an envelope; the commands alias data.
func unpack(data []byte) (e envelope, err error) {
	if len(data) == 0 {
		return e, fmt.Errorf("%w: empty envelope", ErrCorrupt)
	}
	switch data[0] {
	case envelopeVersion1:
		if e.cmds, err = unpackCounted(data[1:]); err == nil && len(e.cmds) == 0 {
			err = fmt.Errorf("%w: envelope count", ErrCorrupt)
		}
		return e, err
	case envelopeVersion:
	default:
		return e, fmt.Errorf("%w: envelope version %d", ErrUnsupported, data[0])
	}
	if len(data) < envelopeHead {
		return e, fmt.Errorf("%w: envelope cut short", ErrCorrupt)
	}
	e.term = binary.LittleEndian.Uint64(data[1:])
	copy(e.id.origin[:], data[9:])
	number, n := binary.Uvarint(data[envelopeHead:])
	if n <= 0 || e.term == 0 {
		return e, fmt.Errorf("%w: envelope head", ErrCorrupt)
	}
	e.id.number = number
	e.cmds, err = unpackCounted(data[envelopeHead+n:])
	return e, err
}

func unpackCounted(data []byte) ([][]byte, error) {
	count, n := binary.Uvarint(data)
	if n <= 0 || count > uint64(len(data)-n) {
		return nil, fmt.Errorf("%w: envelope count", ErrCorrupt)
	}
	rest := data[n:]
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
