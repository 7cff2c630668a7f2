package tools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"hayloft/internal/id"
	"hayloft/volume"
)

// readDeletes unites what the delete logs and the tombstones in the files say.
func (v *rescued) readDeletes(ctx context.Context) error {
	if err := v.readLogs(ctx); err != nil {
		return err
	}
	for _, c := range v.copies {
		// A catalog has them applied, and a compacted file holds none.
		if c.origin == nil || c.origin.Seal != nil && (c.origin.Seal.Source != 0 || v.catalog != nil && v.sameTile(c) && c.generation <= v.listed.Generation) {
			continue
		}
		t := &tombstones{keys: v.dead}
		if err := t.read(ctx, c); err != nil {
			return err
		}
		c.deletes = t.missing
	}
	return nil
}

// readLogs reads the delete logs: each may have what the others lack.
func (v *rescued) readLogs(ctx context.Context) error {
	t := &tombstones{keys: v.dead, numbers: make(map[uint32]bool)}
	logged, applied := false, uint32(0) // there was a log; the deletes that a file goes by
	if i := slices.IndexFunc(v.copies, func(c *remnant) bool { return c.origin != nil && (c.origin.Seal != nil || c.origin.Logged) }); i >= 0 {
		logged = true
		if s := v.copies[i].origin.Seal; s != nil {
			applied = s.Deletes
		}
	}
	sound := false
	for _, path := range v.logs {
		log := &remnant{what: path}
		file, err := v.fs.Open(path)
		if err == nil {
			log.at = file
			if log.size, err = file.Size(); err == nil {
				err = file.Evict(0, 0)
			}
		}
		if err == nil {
			var o volume.Origin
			if o, err = volume.ReadOrigin(file); err == nil && (o.Volume != v.id || !o.DeleteLog) {
				err = fmt.Errorf("%w: it says that it is of volume %d", volume.ErrCorrupt, o.Volume)
			}
		}
		if err == nil {
			t.missing = false
			err = t.read(ctx, log)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			sound = sound || err == nil && !t.missing
		}
		if err != nil {
			v.row.Problems = append(v.row.Problems, fmt.Sprintf("volume %d: delete log %s: %s", v.id, path, OneLine(err)))
		}
	}
	if !logged {
		return nil
	}
	missing := 0
	for n := applied + 1; n <= t.last; n++ {
		if !t.numbers[n] {
			missing++
		}
	}
	if !sound || missing > 0 {
		what := "no whole delete log is left"
		if len(v.logs) == 0 {
			what = "no delete log is left"
		}
		v.row.Problems = append(v.row.Problems, fmt.Sprintf("volume %d: %s: what was deleted last may be among what was written", v.id, what))
	} else {
		v.row.Problems = nil // what one log lacks another one has
	}
	return nil
}

// tombstones are collected from files.
type tombstones struct {
	keys    map[id.ID]bool
	numbers map[uint32]bool // of the deletes of a log; may be nil
	last    uint32          // largest of them
	after   uint32          // newer collects the keys of deletes with larger numbers
	newer   map[id.ID]bool  // may be nil
	missing bool            // one may have been in a damaged part
}

// read walks the headers of a file, by the rule of docs/format.md: a gap took a
// tombstone when the count behind it is not the one before it.
func (t *tombstones) read(ctx context.Context, c *remnant) error {
	count, synced := uint32(0), int64(0)
	if c.origin != nil && c.origin.Seal != nil {
		synced = c.origin.Seal.End
	}
	gap := int64(-1)
	var took []int64 // gaps that did
	_, err := volume.ScanAt(c.at, c.size, false, func(r volume.Record) error {
		if r.Kind == 0 {
			if gap < 0 {
				gap = r.Offset
			}
			return ctx.Err()
		}
		if gap >= 0 && r.Deletes != count {
			took = append(took, gap)
		}
		gap, count, synced = -1, r.Deletes, max(synced, r.SyncedTo)
		if r.Kind == volume.KindTombstone && r.Err == nil {
			t.keys[r.Key] = true
			count++
			if t.numbers != nil {
				t.numbers[count] = true
				t.last = max(t.last, count)
			}
			if t.newer != nil && count > t.after {
				t.newer[r.Key] = true
			}
		}
		return ctx.Err()
	})
	if gap >= 0 {
		took = append(took, gap) // nothing follows it: assume the worst
	}
	for _, off := range took {
		t.missing = t.missing || off < synced
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if t.numbers == nil { // reading it for its needles says what is wrong with the file
		t.missing = t.missing || err != nil
		return nil
	}
	return err
}

// complete tells whether everything that the newest generation held is settled.
func (v *rescued) complete() bool {
	newest := v.newest()
	if v.catalog != nil && v.listed.Generation == newest {
		ok := true
		v.catalog.Each(func(key id.ID, alt uint8, _, _ int64) bool {
			ok = v.dead[key] || v.done[pair{key, alt}]
			return ok
		})
		return ok
	}
	for p := range v.bad {
		if v.isLost(p) {
			return false
		}
	}
	return slices.ContainsFunc(v.copies, func(c *remnant) bool { return c.whole && c.generation == newest && c.origin.Seal != nil })
}

// isLost tells whether a needle that was found damaged is whole nowhere else.
func (v *rescued) isLost(p pair) bool { return !v.done[p] && !v.deleted(v.bad[p].generation, p) }

// settle says what could not be had, and why.
func (v *rescued) settle() error {
	if err := v.lost(); err != nil {
		return err
	}
	unknown := v.unknown()
	if v.row.Lost > 0 && v.catalog != nil {
		v.problem("%d of %d needles are lost", v.row.Lost, v.catalog.Needles())
	} else if v.row.Lost > 0 {
		v.problem("%d needles are lost", v.row.Lost)
	}
	switch {
	case !unknown:
	case len(v.copies) == 0:
		v.problem("nothing is left of it but a delete log")
	case v.newest() == 0:
		v.problem("no copy of it can be read")
	default:
		v.problem("parts of it are lost, and nobody knows what they held")
	}
	for _, c := range v.copies {
		if c.epoch != nil {
			for _, i := range c.epoch.sick() {
				c.damage("%s: %s", c.epoch.names[i], OneLine(c.epoch.damaged[i]))
			}
		}
		v.row.Copies = append(v.row.Copies, c.row)
		if v.row.Lost > 0 || unknown {
			for _, text := range c.row.Damage {
				v.problem("%s: %s", c.what, text)
			}
		}
	}
	if v.deletesMissing() {
		v.problem("a damaged part held a delete: what was deleted may be among what was written")
	}
	for _, text := range v.row.Problems {
		if err := v.sink.Damaged(text); err != nil {
			return err
		}
	}
	return nil
}

func (v *rescued) problem(format string, args ...any) {
	v.row.Problems = append(v.row.Problems, fmt.Sprintf("volume %d: ", v.id)+fmt.Sprintf(format, args...))
}

// lost tells the sink of every needle that is known and was whole nowhere.
func (v *rescued) lost() error {
	tell := func(p pair, why error) error {
		v.row.Lost++
		return v.sink.Lost(Lost{Volume: v.id, Class: v.row.Class, Blob: p.key, Alt: p.alt, Why: OneLine(why)})
	}
	var known []pair
	for p := range v.bad {
		if v.isLost(p) {
			known = append(known, p)
		}
	}
	slices.SortFunc(known, func(a, b pair) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.alt, b.alt)) })
	for _, p := range known {
		if err := tell(p, v.bad[p].why); err != nil {
			return err
		}
	}
	if v.catalog == nil {
		return nil
	}
	var err error
	v.catalog.Each(func(key id.ID, alt uint8, off, size int64) bool {
		p := pair{key, alt}
		if _, told := v.bad[p]; !told && !v.done[p] && !v.dead[key] {
			err = tell(p, fmt.Errorf("%d bytes at %d of generation %d are in no copy", size, off, v.listed.Generation))
		}
		return err == nil
	})
	return err
}

// unknown tells whether something may be lost of which not even the name is left.
func (v *rescued) unknown() bool {
	newest := v.newest()
	if v.catalog != nil && v.listed.Generation == newest {
		newest++ // all of that one is known; was there a later one?
		return slices.ContainsFunc(v.copies, func(c *remnant) bool { return c.origin == nil && c.generation >= newest })
	}
	if newest == 0 {
		return true // nothing can be read, or nothing is there but a delete log
	}
	whole := false
	for _, c := range v.copies {
		if c.origin == nil && c.generation > newest {
			return true
		}
		whole = whole || c.whole && c.generation == newest
	}
	return !whole
}

// deletesMissing tells whether the tombstones of the generation that counts may be
// incomplete in every copy of it.
func (v *rescued) deletesMissing() bool {
	newest := v.newest()
	missing := false
	for _, c := range v.copies {
		if c.origin == nil || c.generation != newest {
			continue
		}
		if !c.deletes {
			return false
		}
		missing = true
	}
	return missing
}

// sick are the shards in which something was wrong, ascending.
func (e *epoch) sick() (out []int) {
	for i, err := range e.damaged {
		if !errors.Is(err, context.Canceled) && e.names[i] != "" {
			out = append(out, i)
		}
	}
	slices.Sort(out)
	return out
}
