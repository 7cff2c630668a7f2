package peer

import (
	"math"
	"time"

	"hayloft/volume"
	"hayloft/volume/server"
)

// Results of calls, as they stand in the end frame.

func appendSealed(b []byte, s server.Sealed) []byte {
	b = append(b, s.Digest[:]...)
	b = le.AppendUint64(b, uint64(s.Needles))
	b = le.AppendUint64(b, uint64(s.Bytes))
	b = le.AppendUint64(b, uint64(s.DataBytes))
	b = le.AppendUint64(b, uint64(s.Sealed.UnixMilli()))
	return le.AppendUint32(b, s.Deletes)
}

func takeSealed(p *parser) server.Sealed {
	s := server.Sealed{Digest: volume.Digest(p.take(32))}
	n, bytes, data := p.u64(), p.u64(), p.u64()
	p.bad = p.bad || n > math.MaxInt64 || bytes > math.MaxInt64 || data > math.MaxInt64
	s.Needles, s.Bytes, s.DataBytes = int64(n), int64(bytes), int64(data)
	s.Sealed, s.Deletes = time.UnixMilli(int64(p.u64())).UTC(), p.u32()
	return s
}

func parseSealed(b []byte) (server.Sealed, error) {
	p := parser{b: b}
	s := takeSealed(&p)
	return s, p.end("sealed")
}

const (
	flagFenced   = 1
	flagPoisoned = 2
	flagSealed   = 4
	flagMade     = 8
)

func appendStanding(b []byte, s server.Standing) []byte {
	b = le.AppendUint32(b, s.Generation)
	b = le.AppendUint32(b, s.Deletes)
	var flags uint8
	for bit, set := range map[uint8]bool{flagFenced: s.Fenced, flagPoisoned: s.Poisoned, flagSealed: s.Sealed != nil, flagMade: s.Made != nil} {
		if set {
			flags |= bit
		}
	}
	b = append(b, flags)
	for _, of := range []*server.Sealed{s.Sealed, s.Made} {
		if of != nil {
			b = appendSealed(b, *of)
		}
	}
	return b
}

func parseStanding(b []byte) (server.Standing, error) {
	p := parser{b: b}
	s := server.Standing{Generation: p.u32(), Deletes: p.u32()}
	flags := p.flags(flagFenced | flagPoisoned | flagSealed | flagMade)
	s.Fenced, s.Poisoned = flags&flagFenced != 0, flags&flagPoisoned != 0
	if flags&flagSealed != 0 {
		of := takeSealed(&p)
		s.Sealed = &of
	}
	if flags&flagMade != 0 {
		of := takeSealed(&p)
		s.Made = &of
	}
	return s, p.end("standing")
}

func appendProbed(b []byte, pr volume.Probed) []byte {
	b = putBool(b, pr.Deleted)
	n := min(len(pr.Needles), math.MaxUint8) // there is no more
	b = append(b, byte(n))
	for _, ne := range pr.Needles[:n] {
		b = append(b, ne.Alt)
		b = le.AppendUint64(b, uint64(ne.Offset))
		b = le.AppendUint64(b, uint64(ne.Size))
		b = appendError(b, ne.Err, 128)
	}
	return b
}

// parseProbed gives the errors of needles to wrap.
func parseProbed(b []byte, wrap func(*remoteError) error) (volume.Probed, error) {
	p := parser{b: b}
	out := volume.Probed{Deleted: p.flag()}
	for range int(p.u8()) {
		n := volume.ProbedNeedle{Alt: p.u8(), Offset: int64(p.u64()), Size: int64(p.u64())}
		p.bad = p.bad || n.Offset < 0 || n.Size < 0
		if e := takeError(&p); e != nil {
			n.Err = wrap(e)
		}
		if p.bad {
			break
		}
		out.Needles = append(out.Needles, n)
	}
	return out, p.end("probed")
}

func parseNumber(b []byte) (uint32, error) {
	p := parser{b: b}
	n := p.u32()
	return n, p.end("number")
}
