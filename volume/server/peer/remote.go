package peer

import (
	"context"
	"fmt"
	"slices"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/server"
)

// The calls of a server.Peer, on the side that calls.

// Create implements server.Peer.
func (c *Client) Create(ctx context.Context, disk uint32, ident volume.Identity) error {
	_, err := c.ask(ctx, request{call: callCreate, args: identArgs(disk, ident)})
	return err
}

// Append implements server.Peer.
func (c *Client) Append(ctx context.Context, disk uint32, ident volume.Identity, group []volume.Needle) error {
	return c.group(ctx, callAppend, disk, ident, group)
}

// Fill implements server.Peer.
func (c *Client) Fill(ctx context.Context, disk uint32, ident volume.Identity, group []volume.Needle) error {
	return c.group(ctx, callFill, disk, ident, group)
}

func (c *Client) group(ctx context.Context, name call, disk uint32, ident volume.Identity, group []volume.Needle) error {
	a := identArgs(disk, ident)
	for i := range group {
		n := &group[i]
		a.bytes += int64(len(n.Data))
		if len(n.Data) > volume.MaxData || n.Master != nil && len(n.Master.ContentType) > maxContentType {
			return fmt.Errorf("%w: %v alt %d", volume.ErrTooLarge, n.Key, n.Alt)
		}
	}
	if len(group) > maxCount || a.bytes > volume.MaxGroup {
		return fmt.Errorf("%w: a group of %d needles with %d bytes", volume.ErrTooLarge, len(group), a.bytes)
	}
	a.count = uint32(len(group))
	_, err := c.ask(ctx, request{call: name, args: a, send: func(b *body) {
		for i := range group {
			n := &group[i]
			crc := sum(n.Data)
			b.buf = appendNeedle(b.buf, &needle{key: n.Key, cookie: n.Cookie, alt: n.Alt, size: int64(len(n.Data)), etag: crc, master: n.Master})
			b.addData(n.Data, crc)
		}
	}})
	return err
}

// Entomb implements server.Peer.
func (c *Client) Entomb(ctx context.Context, disk uint32, v volume.ID, key id.ID) error {
	_, err := c.ask(ctx, request{call: callEntomb, args: args{disk: disk, volume: v, key: key}})
	return err
}

// Delete implements server.Peer.
func (c *Client) Delete(ctx context.Context, disk uint32, v volume.ID, key id.ID) error {
	_, err := c.ask(ctx, request{call: callDelete, args: args{disk: disk, volume: v, key: key}})
	return err
}

// sendKeys returns what sends keys, as lists.
func sendKeys(keys []id.ID) func(*body) {
	return func(b *body) {
		for some := range slices.Chunk(keys, maxList/keyBytes) {
			b.add(kindList, func(buf []byte) []byte {
				for _, k := range some {
					buf = appendKey(buf, k)
				}
				return buf
			})
		}
	}
}

// LogDeletes implements server.Peer. Many keys are several calls.
func (c *Client) LogDeletes(ctx context.Context, disk uint32, v volume.ID, sync, after uint32, keys []id.ID) (newest uint32, err error) {
	for {
		some := keys[:min(len(keys), maxCount)]
		a := args{disk: disk, volume: v, sync: sync, after: after, count: uint32(len(some))}
		result, err := c.ask(ctx, request{call: callLog, args: a, send: sendKeys(some)})
		if newest, err = number(c, callLog, result, err); err != nil || newest < after {
			return newest, err
		}
		if keys = keys[len(some):]; len(keys) == 0 {
			return newest, nil
		}
		after += uint32(len(some))
	}
}

// number reads a number beside err, which counts if both are wrong.
func number(c *Client, name call, result []byte, err error) (uint32, error) {
	n, bad := parseNumber(result)
	if err == nil && bad != nil {
		err = &callError{c.node, name, unavailable(bad)}
	}
	return n, err
}

// Read implements server.Peer.
func (c *Client) Read(ctx context.Context, disk uint32, v volume.ID, blob id.ID, alt uint8, cookie id.Cookie) (volume.Blob, error) {
	a := args{disk: disk, volume: v, key: blob, alt: alt, cookie: cookie}
	n, m, err := c.part(ctx, callRead, a)
	if err != nil {
		return volume.Blob{}, err
	}
	return m.Blob(n.etag, n.master), nil
}

// ReadRange implements server.Peer.
func (c *Client) ReadRange(ctx context.Context, disk uint32, v volume.ID, blob id.ID, alt uint8, cookie id.Cookie, off, n int64) (volume.Range, error) {
	a := args{disk: disk, volume: v, key: blob, alt: alt, cookie: cookie, off: off, n: n}
	got, m, err := c.part(ctx, callRange, a)
	if err != nil {
		return volume.Range{}, err
	}
	return m.Range(got.off, got.size, got.etag, got.master), nil
}

// part reads a needle or a part of one, once, into memory of the budget.
func (c *Client) part(ctx context.Context, name call, a args) (n needle, m volume.Memory, err error) {
	got := false
	_, err = c.ask(ctx, request{call: name, args: a, got: func(ctx context.Context, in *frames, h head) (err error) {
		if h.kind != kindNeedle || got {
			return malformed("frame of kind %d", h.kind)
		}
		got = true
		if n, h, err = in.partBehind(h); err != nil {
			return err
		}
		if err := fits(name, &a, &n, h); err != nil {
			return err
		}
		if m, err = c.c.o.Reads.Memory(ctx, h.n); err != nil {
			return err
		}
		return in.into(h, m.Bytes())
	}})
	if err == nil && !got {
		err = &callError{c.node, name, unavailable(malformed("no needle in the answer"))}
	}
	if err != nil {
		m.Release()
	}
	return n, m, err
}

// fits compares what came with what was asked for.
func fits(name call, a *args, n *needle, h head) error {
	if n.key != a.key || n.alt != a.alt || n.cookie != a.cookie {
		return malformed("another needle than was asked for")
	}
	if name == callRead {
		return n.whole(h)
	}
	if int64(h.n) > max(a.n, 0) || int64(h.n) > max(n.size-n.off, 0) {
		return malformed("%d bytes at %d of a needle of %d", h.n, n.off, n.size)
	}
	return nil
}

// Probe implements server.Peer.
func (c *Client) Probe(ctx context.Context, disk uint32, v volume.ID, blob id.ID) (volume.Probed, error) {
	result, err := c.ask(ctx, request{call: callProbe, args: args{disk: disk, volume: v, key: blob}})
	if err != nil {
		return volume.Probed{}, err
	}
	p, err := parseProbed(result, func(e *remoteError) error { return &callError{c.node, callProbe, e} })
	return p, c.bad(callProbe, err)
}

// bad is why a result counts for nothing.
func (c *Client) bad(name call, err error) error {
	if err == nil {
		return nil
	}
	return &callError{c.node, name, unavailable(err)}
}

// Standing implements server.Peer.
func (c *Client) Standing(ctx context.Context, disk uint32, v volume.ID) (server.Standing, error) {
	return c.stands(ctx, callStanding, disk, v)
}

// Fence implements server.Peer.
func (c *Client) Fence(ctx context.Context, disk uint32, v volume.ID) (server.Standing, error) {
	return c.stands(ctx, callFence, disk, v)
}

func (c *Client) stands(ctx context.Context, name call, disk uint32, v volume.ID) (server.Standing, error) {
	result, err := c.ask(ctx, request{call: name, args: args{disk: disk, volume: v}})
	if err != nil {
		return server.Standing{}, err
	}
	s, err := parseStanding(result)
	return s, c.bad(name, err)
}

// Holdings implements server.Peer.
func (c *Client) Holdings(ctx context.Context, disk uint32, v volume.ID, fn func(server.Holding) error) error {
	_, err := c.ask(ctx, request{call: callHoldings, args: args{disk: disk, volume: v}, got: lists(holdingBytes, parseHolding, func(h server.Holding) error {
		return own(fn(h))
	})})
	return err
}

// lists reads list frames and gives fn their entries.
func lists[T any](size int, parse func(*parser) T, fn func(T) error) func(context.Context, *frames, head) error {
	return func(_ context.Context, in *frames, h head) error {
		if h.kind != kindList {
			return malformed("frame of kind %d", h.kind)
		}
		b, err := in.payload(h)
		if err != nil {
			return err
		}
		return parseList(b, size, parse, fn)
	}
}

func own(err error) error {
	if err == nil {
		return nil
	}
	return &ownError{err}
}

// Fetch implements server.Peer. Many keys are several calls.
func (c *Client) Fetch(ctx context.Context, disk uint32, v volume.ID, keys []id.ID, fn func(volume.Needle) error) error {
	var data []byte
	got := func(_ context.Context, in *frames, h head) error {
		if h.kind != kindNeedle {
			return malformed("frame of kind %d", h.kind)
		}
		n, h, err := in.needleBehind(h)
		if err != nil {
			return err
		}
		if cap(data) < h.n {
			data = make([]byte, h.n)
		}
		if err := in.into(h, data[:h.n]); err != nil {
			return err
		}
		return own(fn(volume.Needle{Key: n.key, Alt: n.alt, Cookie: n.cookie, Master: n.master, Data: data[:h.n:h.n]}))
	}
	return inParts(keys, func(some []id.ID) error {
		a := args{disk: disk, volume: v, count: uint32(len(some))}
		_, err := c.ask(ctx, request{call: callFetch, args: a, send: sendKeys(some), got: got})
		return err
	})
}

// inParts calls fn with as many keys as one call takes, at least once.
func inParts(keys []id.ID, fn func([]id.ID) error) error {
	for {
		some := keys[:min(len(keys), maxCount)]
		if err := fn(some); err != nil {
			return err
		}
		if keys = keys[len(some):]; len(keys) == 0 {
			return nil
		}
	}
}

// Bury implements server.Peer. Many keys are several calls.
func (c *Client) Bury(ctx context.Context, disk uint32, v volume.ID, keys []id.ID) error {
	return inParts(keys, func(some []id.ID) error {
		a := args{disk: disk, volume: v, count: uint32(len(some))}
		_, err := c.ask(ctx, request{call: callBury, args: a, send: sendKeys(some)})
		return err
	})
}

// Seal implements server.Peer. The pace is that of the node.
func (c *Client) Seal(ctx context.Context, disk uint32, v volume.ID, info volume.SealInfo) (server.Sealed, error) {
	if n := len(info.Replicas) + len(info.Policy); n > volume.MaxSealTexts {
		return server.Sealed{}, fmt.Errorf("%w: replica set and policy of %d bytes", volume.ErrInvalid, n)
	}
	return c.sealed(ctx, request{call: callSeal, args: args{disk: disk, volume: v, seal: &info}})
}

// Make implements server.Peer.
func (c *Client) Make(ctx context.Context, disk uint32, v volume.ID, generation uint32) (server.Sealed, error) {
	return c.sealed(ctx, request{call: callMake, args: args{disk: disk, volume: v, generation: generation}})
}

func (c *Client) sealed(ctx context.Context, q request) (server.Sealed, error) {
	result, err := c.ask(ctx, q)
	if err != nil {
		return server.Sealed{}, err
	}
	s, err := parseSealed(result)
	return s, c.bad(q.call, err)
}

// Copy implements server.Peer.
func (c *Client) Copy(ctx context.Context, disk uint32, v volume.ID, generation uint32, fn func([]byte) error) (server.Sealed, error) {
	var piece []byte
	a := args{disk: disk, volume: v, generation: generation}
	return c.sealed(ctx, request{call: callCopy, args: a, got: func(_ context.Context, in *frames, h head) error {
		if h.kind != kindData || h.n > maxPiece {
			return malformed("frame of kind %d with %d bytes", h.kind, h.n)
		}
		if cap(piece) < h.n {
			piece = make([]byte, h.n)
		}
		if err := in.into(h, piece[:h.n]); err != nil {
			return err
		}
		return own(fn(piece[:h.n:h.n]))
	}})
}

// Deletes implements server.Peer.
func (c *Client) Deletes(ctx context.Context, disk uint32, v volume.ID, after uint32, limit int) (all []volume.Delete, newest uint32, err error) {
	limit = max(0, min(limit, 1<<31-1))
	a := args{disk: disk, volume: v, after: after, limit: uint32(limit)}
	result, err := c.ask(ctx, request{call: callDeletes, args: a, got: lists(deleteBytes, parseDelete, func(d volume.Delete) error {
		if len(all) == limit {
			return malformed("more deletes than were asked for")
		}
		all = append(all, d)
		return nil
	})})
	if newest, err = number(c, callDeletes, result, err); err != nil {
		return nil, newest, err
	}
	return all, newest, nil
}

// Admit implements server.Peer.
func (c *Client) Admit(ctx context.Context, disk uint32, v volume.ID, joining uint32) error {
	_, err := c.ask(ctx, request{call: callAdmit, args: args{disk: disk, volume: v, joining: joining}})
	return err
}
