package peer

import (
	"context"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/server"
)

// What each call does on the side that is called. An error that is broken ends the
// exchange without an answer; every other one is the Peer's.

func (e *exchange) create(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	return nil, e.h.local.Create(ctx, e.args.disk, e.args.ident())
}

func (e *exchange) append(ctx context.Context) ([]byte, error) {
	return nil, e.group(ctx, e.h.writes, e.h.local.Append)
}

func (e *exchange) fill(ctx context.Context) ([]byte, error) {
	return nil, e.group(ctx, e.h.fills, e.h.local.Fill)
}

// group reads a group of needles into memory of the budget and gives it to store.
func (e *exchange) group(ctx context.Context, budget *volume.ReadBudget,
	store func(context.Context, uint32, volume.Identity, []volume.Needle) error) error {
	m, err := budget.Memory(ctx, int(e.args.bytes))
	if err != nil {
		return unavailable(err)
	}
	defer m.Release()
	group := make([]volume.Needle, e.args.count)
	room := m.Bytes()
	for i := range group {
		n, h, err := e.in.needle()
		if err == nil && h.n > len(room) {
			err = malformed("needles with more data than was announced")
		}
		if err == nil {
			err = e.in.into(h, room[:h.n])
		}
		if err != nil {
			return broken(err)
		}
		group[i] = volume.Needle{Key: n.key, Alt: n.alt, Cookie: n.cookie, Master: n.master, Data: room[:h.n:h.n]}
		room = room[h.n:]
	}
	if len(room) > 0 {
		return broken(malformed("needles with %d bytes less than was announced", len(room)))
	}
	if err := e.whole(); err != nil {
		return err
	}
	return store(ctx, e.args.disk, e.args.ident(), group)
}

// needle reads the frame of a whole needle, and the head of that of its data.
func (f *frames) needle() (needle, head, error) {
	h, err := f.want(kindNeedle)
	if err != nil {
		return needle{}, h, err
	}
	return f.needleBehind(h)
}

// needleBehind goes on behind the head of the needle's frame.
func (f *frames) needleBehind(h head) (needle, head, error) {
	n, h, err := f.partBehind(h)
	if err == nil {
		err = n.whole(h)
	}
	return n, h, err
}

// partBehind does so for a needle or a part of one.
func (f *frames) partBehind(h head) (needle, head, error) {
	b, err := f.payload(h)
	if err != nil {
		return needle{}, h, err
	}
	n, err := parseNeedle(b)
	if err != nil {
		return needle{}, h, err
	}
	h, err = f.want(kindData)
	return n, h, err
}

func (e *exchange) entomb(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	return nil, e.h.local.Entomb(ctx, e.args.disk, e.args.volume, e.args.key)
}

func (e *exchange) delete(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	return nil, e.h.local.Delete(ctx, e.args.disk, e.args.volume, e.args.key)
}

// announced reads the entries of lists, as many as the arguments say, and the end.
func announced[T any](e *exchange, size int, parse func(*parser) T) ([]T, error) {
	var all []T
	for want := int(e.args.count); len(all) < want; {
		h, err := e.in.want(kindList)
		if err == nil && h.n == 0 {
			err = malformed("an empty list")
		}
		var b []byte
		if err == nil {
			b, err = e.in.payload(h)
		}
		if err == nil {
			err = parseList(b, size, parse, func(v T) error {
				all = append(all, v)
				return nil
			})
		}
		if err == nil && len(all) > want {
			err = malformed("more entries than were announced")
		}
		if err != nil {
			return nil, broken(err)
		}
	}
	return all, e.whole()
}

func (e *exchange) keys() ([]id.ID, error) { return announced(e, keyBytes, parseKey) }

func (e *exchange) log(ctx context.Context) ([]byte, error) {
	keys, err := e.keys()
	if err != nil {
		return nil, err
	}
	newest, err := e.h.local.LogDeletes(ctx, e.args.disk, e.args.volume, e.args.sync, e.args.after, keys)
	return le.AppendUint32(nil, newest), err
}

func (e *exchange) read(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	a := &e.args
	blob, err := e.h.local.Read(ctx, a.disk, a.volume, a.key, a.alt, a.cookie)
	if err != nil {
		return nil, err
	}
	defer blob.Release()
	n := needle{key: a.key, cookie: a.cookie, alt: a.alt, size: int64(len(blob.Data)), etag: blob.ETag, master: blob.Master}
	return nil, e.give(&n, blob.Data, blob.ETag, true)
}

func (e *exchange) readRange(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	a := &e.args
	r, err := e.h.local.ReadRange(ctx, a.disk, a.volume, a.key, a.alt, a.cookie, a.off, a.n)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	n := needle{key: a.key, cookie: a.cookie, alt: a.alt, off: r.Offset, size: r.Size, etag: r.ETag, master: r.Master}
	return nil, e.give(&n, r.Data, sum(r.Data), true)
}

// give sends a needle, or a part of one, with its data. If it is all of the answer,
// its length is announced.
func (e *exchange) give(n *needle, data []byte, crc uint32, only bool) error {
	var size int
	e.out.add(func(b []byte) []byte {
		b = appendNeedle(b, n)
		size = len(b)
		return b
	})
	if only {
		e.out.length(size + headBytes + len(data) + headBytes + 3) // an end that says no more than that
	}
	return broken(e.out.data(data, crc))
}

func (e *exchange) probe(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	p, err := e.h.local.Probe(ctx, e.args.disk, e.args.volume, e.args.key)
	return appendProbed(nil, p), err
}

func (e *exchange) standing(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	s, err := e.h.local.Standing(ctx, e.args.disk, e.args.volume)
	return appendStanding(nil, s), err
}

func (e *exchange) fence(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	s, err := e.h.local.Fence(ctx, e.args.disk, e.args.volume)
	return appendStanding(nil, s), err
}

func (e *exchange) admit(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	return nil, e.h.local.Admit(ctx, e.args.disk, e.args.volume, e.args.joining)
}

func (e *exchange) bury(ctx context.Context) ([]byte, error) {
	keys, err := e.keys()
	if err != nil {
		return nil, err
	}
	return nil, e.h.local.Bury(ctx, e.args.disk, e.args.volume, keys)
}

func (e *exchange) seal(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	s, err := e.h.local.Seal(ctx, e.args.disk, e.args.volume, *e.args.seal)
	return appendSealed(nil, s), err
}

func (e *exchange) make(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	s, err := e.h.local.Make(ctx, e.args.disk, e.args.volume, e.args.generation)
	return appendSealed(nil, s), err
}

// copyPiece is how much of a file goes into one frame, if it comes in larger
// pieces.
const copyPiece = 1 << 20

func (e *exchange) copy(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	s, err := e.h.local.Copy(ctx, e.args.disk, e.args.volume, e.args.generation, func(b []byte) error {
		for len(b) > 0 {
			piece := b[:min(len(b), copyPiece)]
			if err := e.out.data(piece, sum(piece)); err != nil {
				return broken(err)
			}
			b = b[len(piece):]
		}
		return nil
	})
	return appendSealed(nil, s), err
}

func (e *exchange) fetch(ctx context.Context) ([]byte, error) {
	keys, err := e.keys()
	if err != nil {
		return nil, err
	}
	return nil, e.h.local.Fetch(ctx, e.args.disk, e.args.volume, keys, func(n volume.Needle) error {
		crc := sum(n.Data)
		return e.give(&needle{key: n.Key, cookie: n.Cookie, alt: n.Alt, size: int64(len(n.Data)), etag: crc, master: n.Master}, n.Data, crc, false)
	})
}

// list gathers entries into list frames.
type list struct {
	out *answer
	b   []byte
	at  int
}

func (l *list) add(entry func([]byte) []byte) error {
	if l.b == nil {
		l.b, l.at = openFrame(make([]byte, 0, headBytes+maxList))
	}
	l.b = entry(l.b)
	if len(l.b)+holdingBytes <= headBytes+maxList {
		return nil
	}
	return l.flush()
}

func (l *list) flush() error {
	if len(l.b) <= headBytes {
		return nil
	}
	closeFrame(l.b, l.at, kindList)
	l.out.add(func(b []byte) []byte { return append(b, l.b...) })
	l.b = l.b[:headBytes]
	return broken(l.out.flush())
}

func (e *exchange) holdings(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	l := list{out: e.out}
	err := e.h.local.Holdings(ctx, e.args.disk, e.args.volume, func(h server.Holding) error {
		return l.add(func(b []byte) []byte { return appendHolding(b, h) })
	})
	if err == nil {
		err = l.flush()
	}
	return nil, err
}

func (e *exchange) deletes(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	all, newest, err := e.h.local.Deletes(ctx, e.args.disk, e.args.volume, e.args.after, int(e.args.limit))
	l := list{out: e.out}
	for i := 0; i < len(all) && err == nil; i++ {
		err = l.add(func(b []byte) []byte { return appendDelete(b, all[i]) })
	}
	if err == nil {
		err = l.flush()
	}
	return le.AppendUint32(nil, newest), err
}
