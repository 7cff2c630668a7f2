package peer

import (
	"encoding/binary"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/server"
)

var le = binary.LittleEndian

// parser takes fields off b. Once one was cut off, all are zero and bad is set.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) take(n int) []byte {
	if p.bad || n > len(p.b) {
		p.bad = true
		return make([]byte, n)
	}
	out := p.b[:n]
	p.b = p.b[n:]
	return out
}

func (p *parser) u8() uint8   { return p.take(1)[0] }
func (p *parser) u16() uint16 { return le.Uint16(p.take(2)) }
func (p *parser) u32() uint32 { return le.Uint32(p.take(4)) }
func (p *parser) u64() uint64 { return le.Uint64(p.take(8)) }

// flags takes a byte of which only some bits may be set.
func (p *parser) flags(known uint8) uint8 {
	f := p.u8()
	p.bad = p.bad || f&^known != 0
	return f
}

func (p *parser) flag() bool { return p.flags(1) == 1 }

// zero takes n bytes that must be zero.
func (p *parser) zero(n int) {
	for _, b := range p.take(n) {
		p.bad = p.bad || b != 0
	}
}

// text takes n bytes, none if they are not there: n may come from the wire.
func (p *parser) text(n int) []byte {
	if p.bad || n > len(p.b) {
		p.bad = true
		return nil
	}
	return p.take(n)
}

// end says whether all was there, and nothing else.
func (p *parser) end(what string) error {
	if p.bad || len(p.b) > 0 {
		return malformed("%s", what)
	}
	return nil
}

func putBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// args are the arguments of a call. What it does not use is zero.
type args struct {
	disk       uint32
	volume     volume.ID
	generation uint32
	class      volume.Class
	alt        uint8
	key        id.ID
	cookie     id.Cookie
	sync       uint32
	after      uint32
	limit      uint32
	joining    uint32
	off, n     int64
	count      uint32 // of needles or keys that follow
	bytes      int64  // of data of the needles
	seal       *volume.SealInfo
	names      [2]string // of files on a shelf, at most maxName bytes each
}

// tail is what follows the arguments of a call.
type tail int

const (
	noTail tail = iota
	sealTail
	namesTail
)

func tailOf(c call) tail {
	switch c {
	case callSeal:
		return sealTail
	case callOpen, callName:
		return namesTail
	}
	return noTail
}

const maxName = 255

// maxCount bounds the needles and the keys of one call.
const maxCount = 1 << 16

func identArgs(disk uint32, ident volume.Identity) args {
	return args{disk: disk, volume: ident.Volume, generation: ident.Generation, class: ident.Class}
}

func (a *args) ident() volume.Identity {
	return volume.Identity{Volume: a.volume, Generation: a.generation, Class: a.class}
}

func appendArgs(b []byte, a *args) []byte {
	b = le.AppendUint32(b, a.disk)
	b = le.AppendUint32(b, uint32(a.volume))
	b = le.AppendUint32(b, a.generation)
	b = append(b, byte(a.class), a.alt, 0, 0)
	b = le.AppendUint64(b, uint64(a.key))
	b = le.AppendUint64(b, uint64(a.cookie))
	b = le.AppendUint32(b, a.sync)
	b = le.AppendUint32(b, a.after)
	b = le.AppendUint32(b, a.limit)
	b = le.AppendUint32(b, a.joining)
	b = le.AppendUint64(b, uint64(a.off))
	b = le.AppendUint64(b, uint64(a.n))
	b = le.AppendUint32(b, a.count)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, uint64(a.bytes))
	if s := a.seal; s != nil {
		b = le.AppendUint16(b, uint16(s.Slot))
		b = le.AppendUint64(b, uint64(s.From))
		b = le.AppendUint64(b, uint64(s.To))
		b = putBool(b, s.United)
		b = le.AppendUint16(b, uint16(len(s.Replicas)))
		b = le.AppendUint16(b, uint16(len(s.Policy)))
		b = append(b, s.Replicas...)
		b = append(b, s.Policy...)
	}
	return b
}

// appendNames appends the names of files.
func appendNames(b []byte, a *args) []byte {
	for _, n := range a.names {
		b = append(append(b, byte(len(n))), n...)
	}
	return b
}

// parseArgs is the inverse of appendArgs, with what follows.
func parseArgs(b []byte, behind tail) (args, error) {
	p := parser{b: b}
	a := args{disk: p.u32(), volume: volume.ID(p.u32()), generation: p.u32(), class: volume.Class(p.u8()), alt: p.u8()}
	p.zero(2)
	a.key, a.cookie = id.ID(p.u64()), id.Cookie(p.u64())
	a.sync, a.after, a.limit, a.joining = p.u32(), p.u32(), p.u32(), p.u32()
	a.off, a.n, a.count = int64(p.u64()), int64(p.u64()), p.u32()
	p.zero(4)
	bytes := p.u64()
	p.bad = p.bad || a.count > maxCount || bytes > volume.MaxGroup
	a.bytes = int64(bytes)
	if behind == namesTail {
		for i := range a.names {
			a.names[i] = string(p.text(int(p.u8())))
		}
	}
	if behind == sealTail {
		s := &volume.SealInfo{Slot: id.Slot(p.u16()), From: id.Millis(p.u64()), To: id.Millis(p.u64()), United: p.flag()}
		n, m := int(p.u16()), int(p.u16())
		p.bad = p.bad || n+m > volume.MaxSealTexts
		s.Replicas, s.Policy = append([]byte(nil), p.text(n)...), append([]byte(nil), p.text(m)...)
		a.seal = s
	}
	return a, p.end("arguments")
}

// needle is what a needle frame says: of a whole needle, or of a part of one.
type needle struct {
	key    id.ID
	cookie id.Cookie
	alt    uint8
	off    int64 // of the data that follows
	size   int64 // of the whole
	etag   uint32
	master *volume.MasterInfo
}

func appendNeedle(b []byte, n *needle) []byte {
	b, at := openFrame(b)
	b = le.AppendUint64(b, uint64(n.key))
	b = le.AppendUint64(b, uint64(n.cookie))
	b = le.AppendUint64(b, uint64(n.off))
	b = le.AppendUint64(b, uint64(n.size))
	b = le.AppendUint32(b, n.etag)
	b = append(b, n.alt)
	b = putBool(b, n.master != nil)
	b = append(b, 0, 0)
	if m := n.master; m != nil {
		b = le.AppendUint64(b, uint64(m.Photo))
		b = le.AppendUint64(b, uint64(m.Owner))
		b = le.AppendUint64(b, uint64(m.Time.UnixMilli()))
		b = append(b, byte(len(m.ContentType)))
		b = append(b, m.ContentType...)
	}
	closeFrame(b, at, kindNeedle)
	return b
}

func parseNeedle(b []byte) (needle, error) {
	p := parser{b: b}
	n := needle{key: id.ID(p.u64()), cookie: id.Cookie(p.u64())}
	off, size := p.u64(), p.u64()
	n.etag, n.alt = p.u32(), p.u8()
	master := p.flag()
	p.zero(2)
	p.bad = p.bad || off > volume.MaxData || size > volume.MaxData
	n.off, n.size = int64(off), int64(size)
	if master {
		m := &volume.MasterInfo{Photo: id.ID(p.u64()), Owner: id.ID(p.u64()), Time: time.UnixMilli(int64(p.u64())).UTC()}
		l := int(p.u8())
		p.bad = p.bad || l > maxContentType
		m.ContentType = string(p.text(l))
		n.master = m
	}
	return n, p.end("needle")
}

const maxContentType = 127

// whole says whether the data of h is all of the needle, by length and checksum.
func (n *needle) whole(h head) error {
	if n.off != 0 || int64(h.n) != n.size || h.crc != n.etag {
		return malformed("needle of %d bytes with data of %d", n.size, h.n)
	}
	return nil
}

const (
	keyBytes     = 8
	deleteBytes  = 12
	holdingBytes = 32
)

func appendKey(b []byte, k id.ID) []byte { return le.AppendUint64(b, uint64(k)) }

func parseKey(p *parser) id.ID { return id.ID(p.u64()) }

func appendDelete(b []byte, d volume.Delete) []byte {
	return appendKey(le.AppendUint32(b, d.Number), d.Key)
}

func parseDelete(p *parser) volume.Delete {
	return volume.Delete{Number: p.u32(), Key: parseKey(p)}
}

func appendHolding(b []byte, h server.Holding) []byte {
	b = le.AppendUint64(b, uint64(h.Key))
	b = le.AppendUint64(b, uint64(h.Cookie))
	b = le.AppendUint64(b, uint64(h.Length))
	b = le.AppendUint32(b, h.ETag)
	b = append(b, h.Alt)
	b = putBool(b, h.Tombstone)
	return append(b, 0, 0)
}

func parseHolding(p *parser) server.Holding {
	h := server.Holding{Key: id.ID(p.u64()), Cookie: id.Cookie(p.u64())}
	length := p.u64()
	p.bad = p.bad || length > volume.MaxData
	h.Length, h.ETag, h.Alt, h.Tombstone = int64(length), p.u32(), p.u8(), p.flag()
	p.zero(2)
	return h
}

// parseList calls fn for the entries of a list frame.
func parseList[T any](b []byte, size int, parse func(*parser) T, fn func(T) error) error {
	if len(b)%size != 0 {
		return malformed("list of %d bytes", len(b))
	}
	for p := (parser{b: b}); len(p.b) > 0; {
		if v := parse(&p); p.bad {
			return malformed("entry of a list")
		} else if err := fn(v); err != nil {
			return err
		}
	}
	return nil
}
