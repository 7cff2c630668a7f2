package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"hayloft/internal/id"
	"hayloft/volume"
)

const (
	fillKeys  = 256     // asked for at a time
	fillBytes = 8 << 20 // sent at a time, but for larger needles
	aheadBy   = 512     // holdings that are read ahead of a replica
)

// needs is what one replica lacks that others have.
type needs struct {
	tombstones []id.ID
	keys       map[*party][]id.ID // by the replica that has the needles, in order
	names      map[name]bool
}

type name struct {
	key id.ID
	alt uint8
}

// unite gives every fenced replica that is not sealed the needles and tombstones that
// the others have; when one is sealed, those that it has.
func (u *sealing) unite(ctx context.Context) error {
	all := u.active()
	open := 0
	for _, p := range all {
		if p.st.Sealed == nil {
			open++
		}
	}
	if open == 0 || len(all) == 1 {
		return nil
	}
	lacking, err := u.compare(ctx, all)
	if err != nil {
		return err
	}
	each(all, func(p *party) {
		if n := lacking[p]; n != nil {
			u.ask(p, u.give(ctx, p, n))
		}
	})
	for _, p := range all {
		if p.out != nil && errors.Is(p.out, volume.ErrSealed) {
			p.out = nil // by another coordinator, just now
			return errRound
		}
		if !p.here {
			return errRound
		}
	}
	return ctx.Err()
}

// compare walks through the holdings of all in the order of keys.
func (u *sealing) compare(ctx context.Context, all []*party) (map[*party]*needs, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	streams := make([]*stream, len(all))
	for i, p := range all {
		st := &stream{batches: make(chan []Holding)}
		streams[i] = st
		wg.Go(func() { st.run(ctx, u.s, p, u.row.Volume.Volume) })
	}
	m := merging{all: all, base: -1, views: make([]view, len(all)), lacking: make(map[*party]*needs)}
	for i, p := range all {
		if p == u.base() {
			m.base = i
		}
	}
	for {
		key, some, again := id.ID(0), false, false
		for i, st := range streams {
			h, ok := st.head()
			switch {
			case !ok && st.err != nil:
				u.ask(all[i], st.err)
				again = true
			case ok && (!some || h.Key < key):
				key, some = h.Key, true
			}
		}
		if again {
			return nil, errors.Join(errRound, ctx.Err())
		}
		if !some {
			return m.lacking, nil
		}
		for i, st := range streams {
			m.views[i].take(key, st)
		}
		m.settle(key)
	}
}

// stream is what one replica holds, as it arrives.
type stream struct {
	batches chan []Holding
	batch   []Holding
	at      int
	err     error // valid when batches is closed
}

// run lists the holdings of a replica.
func (st *stream) run(ctx context.Context, s *Server, p *party, v volume.ID) {
	ctx, beat, end := s.lively(ctx, pieceWait)
	defer end()
	defer close(st.batches)
	var out []Holding
	send := func() error {
		select {
		case st.batches <- out:
			out = nil
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := p.peer.Holdings(ctx, p.disk, v, func(h Holding) error {
		beat()
		if out = append(out, h); len(out) < aheadBy {
			return nil
		}
		defer beat()
		return send()
	})
	if err == nil && len(out) > 0 {
		err = send()
	}
	st.err = err
}

// head returns the next holding; false at the end, and when err says so.
func (st *stream) head() (Holding, bool) {
	for st.at == len(st.batch) {
		var more bool
		if st.batch, more = <-st.batches; !more {
			st.batch, st.at = nil, 0
			return Holding{}, false
		}
		st.at = 0
	}
	return st.batch[st.at], true
}

// view is what one replica has of a key.
type view struct {
	tombstone bool
	needles   []Holding
}

func (w *view) take(key id.ID, st *stream) {
	w.tombstone, w.needles = false, w.needles[:0]
	for h, ok := st.head(); ok && h.Key == key; h, ok = st.head() {
		if h.Tombstone {
			w.tombstone = true
		} else {
			w.needles = append(w.needles, h)
		}
		st.at++
	}
}

func (w *view) has(alt uint8) *Holding {
	for i := range w.needles {
		if w.needles[i].Alt == alt {
			return &w.needles[i]
		}
	}
	return nil
}

// keep copies a needle out of the hands of who brought it.
func keep(n volume.Needle) volume.Needle {
	n.Data = bytes.Clone(n.Data)
	if n.Master != nil {
		m := *n.Master
		n.Master = &m
	}
	return n
}

// merging decides key by key what each replica lacks.
type merging struct {
	all     []*party
	base    int // the sealed one that the others are made like, or -1
	views   []view
	lacking map[*party]*needs
}

func (m *merging) needs(i int) *needs {
	p := m.all[i]
	if m.lacking[p] == nil {
		m.lacking[p] = &needs{keys: make(map[*party][]id.ID), names: make(map[name]bool)}
	}
	return m.lacking[p]
}

// settle decides about one key. A sealed replica is given nothing.
func (m *merging) settle(key id.ID) {
	dead := false
	for i := range m.views {
		if m.views[i].tombstone && (m.base < 0 || m.base == i) {
			dead = true
		}
	}
	for i, p := range m.all {
		if p.st.Sealed != nil || p.out != nil {
			continue
		}
		if dead && !m.views[i].tombstone {
			n := m.needs(i)
			n.tombstones = append(n.tombstones, key)
		}
	}
	if dead {
		return
	}
	for from := range m.views {
		if m.base >= 0 && m.base != from {
			continue
		}
		for k := range m.views[from].needles {
			m.spread(from, &m.views[from].needles[k])
		}
	}
}

// spread has every replica get a needle that one has, unless it has it. Of two that
// differ the first stands: neither was acknowledged.
func (m *merging) spread(from int, h *Holding) {
	if m.all[from].out != nil {
		return
	}
	for i, p := range m.all {
		if i == from || p.out != nil || p.st.Sealed != nil {
			continue
		}
		have := m.views[i].has(h.Alt)
		switch {
		case have == nil:
			n := m.needs(i)
			if at := (name{h.Key, h.Alt}); !n.names[at] {
				n.names[at] = true
				list := n.keys[m.all[from]]
				if len(list) == 0 || list[len(list)-1] != h.Key {
					n.keys[m.all[from]] = append(list, h.Key)
				}
			}
		case i > from && (have.Cookie != h.Cookie || have.Length != h.Length || have.ETag != h.ETag):
			p.out = fmt.Errorf("%w: needle %v, variant %d, is another one than on disk %d", volume.ErrConflict, h.Key, h.Alt, m.all[from].disk)
		}
	}
}

// give sends a replica what it lacks.
func (u *sealing) give(ctx context.Context, p *party, n *needs) error {
	v := u.row.Volume
	for rest := n.tombstones; len(rest) > 0; {
		some := rest[:min(len(rest), logPage)]
		if err := p.peer.Bury(ctx, p.disk, v.Volume, some); err != nil {
			return err
		}
		rest = rest[len(some):]
	}
	for _, from := range u.all {
		for rest := n.keys[from]; len(rest) > 0; {
			some := rest[:min(len(rest), fillKeys)]
			if err := u.carry(ctx, from, p, some, n.names); err != nil {
				return err
			}
			rest = rest[len(some):]
		}
	}
	return nil
}

// carry copies needles from one replica to another. One that cannot be read there is
// left out: the digests will tell.
func (u *sealing) carry(ctx context.Context, from, to *party, keys []id.ID, want map[name]bool) error {
	var group []volume.Needle
	size := 0
	send := func() error {
		if len(group) == 0 {
			return nil
		}
		err := to.peer.Fill(ctx, to.disk, u.row.Volume, group)
		group, size = group[:0], 0
		return err
	}
	var failed error // at the one that is filled
	err := from.peer.Fetch(ctx, from.disk, u.row.Volume.Volume, keys, func(n volume.Needle) error {
		if !want[name{n.Key, n.Alt}] {
			return nil
		}
		group = append(group, keep(n))
		if size += len(n.Data); size >= fillBytes {
			failed = send()
		}
		return failed
	})
	if failed == nil && err == nil {
		failed = send()
	}
	if failed != nil {
		return failed
	}
	if err != nil { // the other one does not answer
		return fmt.Errorf("%w: fetch from disk %d: %w", ErrUnavailable, from.disk, err)
	}
	return nil
}
