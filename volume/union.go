package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"hayloft/internal/id"
)

// Holding is one live needle, or one tombstone, in the file of a volume.
type Holding struct {
	Key       id.ID
	Alt       uint8
	Tombstone bool // Alt and what follows are 0
	Cookie    id.Cookie
	Length    int64  // bytes of the data
	ETag      uint32 // CRC32C of the data
}

// Holdings calls fn for what the file of a fenced, sealed or poisoned volume holds,
// ascending by key and alt, read from the device and verified. Of a key with a
// tombstone there is that and no needle. What is damaged is left out: another
// replica may have it. The delete log does not count. An error of fn ends it;
// throttle, if not nil, is asked before n bytes are read. It takes some 80 bytes of
// memory for each needle.
func (v *Volume) Holdings(ctx context.Context, throttle func(ctx context.Context, n int64) error, fn func(Holding) error) (err error) {
	if err := v.acquire(ctx); err != nil {
		return err
	}
	defer v.release()
	if !v.Fenced() && v.poisoned() == nil {
		return v.notFenced()
	}
	file, err := v.o.FS.Open(v.name)
	if err != nil {
		return fmt.Errorf("holdings of volume %d: %w", v.sb.Volume, err)
	}
	var in inventory
	err = in.take(ctx, file, &v.seal, v.synced.Load(), true, throttle)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("holdings of volume %d: %w", v.sb.Volume, err)
	}
	live := in.settle()
	in.entries = nil
	dead := make([]id.ID, 0, len(in.dead))
	for key := range in.dead {
		dead = append(dead, key)
	}
	slices.Sort(dead)
	return merge(live, dead, fn)
}

// merge calls fn for needles and tombstones by key; no key is in both.
func merge(live []entry, dead []id.ID, fn func(Holding) error) error {
	for len(live) > 0 || len(dead) > 0 {
		var h Holding
		if len(live) == 0 || len(dead) > 0 && dead[0] < live[0].key {
			h, dead = Holding{Key: dead[0], Tombstone: true}, dead[1:]
		} else {
			e := &live[0]
			live = live[1:]
			if e.bad {
				continue
			}
			h = Holding{Key: e.key, Alt: e.alt, Cookie: e.cookie, Length: int64(e.length), ETag: e.crc}
		}
		if err := fn(h); err != nil {
			return err
		}
	}
	return nil
}

// Fetch calls fn for the live needles of some keys, as the file has them, verified,
// in the order of keys and by alt: to fill another replica, or to repair one. Data
// and Master are valid until fn returns; an error of fn ends it. What is not there,
// has a tombstone in the file, or is damaged is left out; what the delete log alone
// deletes is not: the other replica may not have come so far.
func (v *Volume) Fetch(ctx context.Context, keys []id.ID, fn func(Needle) error) (err error) {
	if err := v.acquire(ctx); err != nil {
		return err
	}
	defer v.release()
	f, err := v.o.FS.Open(v.name)
	if err != nil {
		return fmt.Errorf("fetch from volume %d: %w", v.sb.Volume, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var buf []byte
	for _, key := range keys {
		last := -1 // alt that was found whole
		for _, e := range v.recordsOf(key) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if int(e.alt) == last {
				continue
			}
			if int64(cap(buf)) < e.size {
				buf = make([]byte, e.size)
			}
			h, err := v.readRecord(f, buf[:e.size], e.off, key, e.alt)
			if err != nil {
				v.event(Event{Kind: EventCorruptRead, Offset: e.off, Length: e.size, Key: key, Err: err})
				continue
			}
			last = int(e.alt)
			m, _ := h.master(buf[:h.metaLen()]) // verified by readRecord
			n := Needle{Key: key, Alt: e.alt, Cookie: h.Cookie, Master: m, Data: buf[h.metaLen() : int64(h.metaLen())+h.Length]}
			if err := fn(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// recordsOf lists the records of a key's needles, by alt, the last one of each
// first: that counts, unless it is damaged. None of a key with a tombstone.
func (v *Volume) recordsOf(key id.ID) (all []located) {
	idx := v.idx.Load() // empty only when the volume is sealed by then
	if p := v.sealing.part.Load(); p != nil {
		if bl, ok := p.idx.find(key); ok {
			for i, alt := range bl.alts {
				all = append(all, located{key, alt, bl.place(i)})
			}
		}
	} else {
		for e := range idx.entries(key) {
			if e.alt == altTombstone {
				return nil
			}
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b located) int { return cmp.Or(cmp.Compare(a.alt, b.alt), cmp.Compare(b.off, a.off)) })
	return all
}
