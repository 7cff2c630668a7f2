package tools

import (
	"fmt"
	"path/filepath"
	"slices"

	"hayloft/internal/id"
	"hayloft/volume"
)

// maxReplicas is how many replicas a row of the directory has at most.
const maxReplicas = 8

// closing takes in a volume that is not sealed: its tile is what the records of its
// copies need. A put was acknowledged when all of them had it, so what one has more
// does no harm; they are made equal when the volume is sealed.
func (v *surveyed) closing() error {
	v.from(v.files[0].origin)
	t := &extent{keys: make(map[id.ID]bool)}
	for i, c := range v.files {
		if c.generation != v.files[0].generation {
			return fmt.Errorf("it is not sealed, and there are %d files of it, of which nobody says that one counts: move the others away", len(v.files))
		}
		if err := v.extend(t, c, i > 0); err != nil {
			return err
		}
	}
	v.out.Slot, v.out.From, v.out.To = t.slot, t.first, t.last+1
	if !t.any {
		v.out.Slot, v.out.From, v.out.To = firstSlot[v.out.Class], 1, 1
		v.note("it holds nothing")
	}
	v.out.Closed, v.out.Target = v.out.To, len(v.files)
	lacks, err := v.chooseSync(v.files, v.files)
	if err == nil {
		err = lacks
	}
	return err
}

// extent is what the records of an unsealed volume's copies span.
type extent struct {
	any         bool
	slot        id.Slot
	first, last id.Millis
	keys        map[id.ID]bool // of the first copy's needles
}

// extend adds the records of a copy. Another copy has a needle in common with the
// first, if both have any: else they are not of one volume.
func (v *surveyed) extend(t *extent, c *remnant, another bool) error {
	needles, common := 0, 0
	_, err := volume.ScanAt(c.at, c.size, false, func(r volume.Record) error {
		if r.Err != nil || r.Kind != volume.KindNeedle && r.Kind != volume.KindTombstone {
			return v.ctx.Err()
		}
		at := r.Key.Millis()
		if t.any && r.Key.Slot() != t.slot {
			return fmt.Errorf("its records are of slots %d and %d", t.slot, r.Key.Slot())
		}
		if !t.any {
			t.first, t.last = at, at
		}
		t.slot, t.any, t.first, t.last = r.Key.Slot(), true, min(t.first, at), max(t.last, at)
		if r.Kind == volume.KindNeedle {
			needles++
			if !another {
				t.keys[r.Key] = true
			} else if t.keys[r.Key] {
				common++
			}
		}
		if m := r.Master; m != nil {
			v.Newest = max(v.Newest, m.Photo.Millis(), m.Owner.Millis())
		}
		return v.ctx.Err()
	})
	if err == nil && another && needles > 0 && len(t.keys) > 0 && common == 0 {
		err = fmt.Errorf("%s and %s are not sealed and have nothing in common: move one of them away", v.files[0].path, c.path)
	}
	return err
}

// chooseSync makes copies the replicas, and those in sync that have every delete of
// which any file of the volume on any disk tells: a photo that was deleted on another
// one must not come back. scan are the files whose own tombstones count. lacks says that no copy has every delete; then the one that has
// most is in sync.
func (v *surveyed) chooseSync(copies, scan []*remnant) (lacks, err error) {
	own, all := make(map[string]map[id.ID]bool), make(map[id.ID]bool)
	after := uint32(0)
	if s := v.out.Seal; s != nil {
		after = s.Deletes // those up to it are applied
	}
	for _, path := range v.logs {
		file, err := v.fs.Open(path)
		if err != nil {
			return nil, err
		}
		size, err := file.Size()
		if err != nil {
			return nil, err
		}
		home := filepath.Dir(path)
		t := &tombstones{keys: make(map[id.ID]bool), numbers: make(map[uint32]bool), after: after, newer: all}
		err = t.read(v.ctx, &remnant{at: file, size: size})
		if err != nil && slices.ContainsFunc(copies, func(c *remnant) bool { return filepath.Dir(c.path) == home }) {
			return nil, fmt.Errorf("delete log %s: %w", path, err)
		}
		own[home] = t.keys
	}
	if err := v.tombstones(scan, own, all); err != nil {
		return nil, err
	}
	least, best := -1, 0
	var sync []int
	for i, c := range copies {
		n := missing(all, own[filepath.Dir(c.path)])
		if least < 0 || n < least {
			least, best = n, i
		}
		if n == 0 {
			sync = append(sync, i)
		}
	}
	if len(sync) == 0 {
		sync = []int{best}
		lacks = fmt.Errorf("its delete log in %s lacks %d deletes that others of its files have", filepath.Dir(copies[best].path), least)
	}
	v.place(copies, sync)
	return lacks, nil
}

// tombstones adds those in files to what their homes have.
func (v *surveyed) tombstones(files []*remnant, own map[string]map[id.ID]bool, all map[id.ID]bool) error {
	for _, c := range files {
		home := filepath.Dir(c.path)
		if own[home] == nil {
			own[home] = make(map[id.ID]bool)
		}
		t := &tombstones{keys: own[home], newer: all}
		if err := t.read(v.ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// missing counts the keys that are not in have.
func missing(all, have map[id.ID]bool) (n int) {
	for key := range all {
		if !have[key] {
			n++
		}
	}
	return n
}

// place notes the disks of copies, those in sync first if there are more than a row
// can name.
func (v *surveyed) place(copies []*remnant, sync []int) {
	order := make([]int, 0, len(copies))
	for i := range copies {
		if len(copies) <= maxReplicas || slices.Contains(sync, i) {
			order = append(order, i)
		}
	}
	for i := range copies {
		if !slices.Contains(order, i) {
			order = append(order, i)
		}
	}
	if len(order) > maxReplicas {
		order = order[:maxReplicas]
		v.note("more copies than %d are left alone", maxReplicas)
	}
	for _, i := range order {
		d := v.diskOf(copies[i].path)
		v.out.Disks = append(v.out.Disks, d)
		if slices.Contains(sync, i) {
			v.out.InSync = append(v.out.InSync, d)
		}
	}
	v.out.Target = min(max(v.out.Target, 1), maxReplicas)
	if n := len(v.out.Disks) - len(v.out.InSync); n > 0 {
		v.note("%d of its copies lack deletes, and will be filled", n)
	}
}
