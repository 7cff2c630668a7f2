package tools

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// firstSlot is the first slot of a class; see docs/directory-format.md. The empty tile
// of a volume that holds nothing is put there: no record of it names its slot.
var firstSlot = map[volume.Class]id.Slot{volume.ClassVariants: 64, volume.ClassOriginals: 544}

// ofClass tells whether volumes of a class lie on a slot.
func ofClass(c volume.Class, s id.Slot) bool {
	if c == volume.ClassVariants && s >= firstSlot[volume.ClassOriginals] {
		return false
	}
	return s >= firstSlot[c]
}

// closing takes in a volume that is not sealed: its tile is what its records need.
func (v *surveyed) closing() error {
	c := v.files[0]
	if len(v.files) > 1 {
		return fmt.Errorf("it is not sealed, and there are %d files of it, of which nobody says that one counts: move the others away", len(v.files))
	}
	v.from(c.origin)
	first, last := id.Millis(0), id.Millis(0)
	slot, any := id.Slot(0), false
	_, err := volume.ScanAt(c.at, c.size, false, func(r volume.Record) error {
		if r.Err != nil || r.Kind != volume.KindNeedle && r.Kind != volume.KindTombstone {
			return v.ctx.Err()
		}
		at := r.Key.Millis()
		if any && r.Key.Slot() != slot {
			return fmt.Errorf("its records are of slots %d and %d", slot, r.Key.Slot())
		}
		if !any {
			first, last = at, at
		}
		slot, any, first, last = r.Key.Slot(), true, min(first, at), max(last, at)
		if m := r.Master; m != nil {
			v.Newest = max(v.Newest, m.Photo.Millis(), m.Owner.Millis())
		}
		return v.ctx.Err()
	})
	if err != nil {
		return err
	}
	v.out.Slot, v.out.From, v.out.To = slot, first, last+1
	if !any {
		v.out.Slot, v.out.From, v.out.To = firstSlot[c.origin.Class], 1, 1
		v.note("it holds nothing")
	}
	v.out.Closed = v.out.To
	v.out.Disks = []int{v.diskOf(c.path)}
	return nil
}

func (v *surveyed) from(o *volume.Origin) {
	v.out.Class, v.out.Generation, v.out.Opened, v.out.Seal = o.Class, o.Generation, o.Created, o.Seal
	if s := o.Seal; s != nil {
		v.out.Slot, v.out.From, v.out.To, v.out.Closed = s.Slot, s.From, s.To, max(id.MillisOf(s.Sealed), 1)
	}
}

func (v *surveyed) note(format string, args ...any) {
	v.out.Notes = append(v.out.Notes, fmt.Sprintf(format, args...))
}

func (v *surveyed) diskOf(path string) int { return v.disk[dataDirOf(path)] }

// sealed takes in a volume of which the newest generation is a file. An epoch counts
// beside it as well when all its shards are there.
func (v *surveyed) sealed() error {
	newest := v.files[0]
	v.from(newest.origin)
	for _, c := range v.files {
		if c.generation != newest.generation {
			continue
		}
		if c.origin.Seal == nil || c.origin.Seal.Digest != newest.origin.Seal.Digest {
			return fmt.Errorf("%s and %s are of generation %d, and do not hold the same: move one of them away", newest.path, c.path, c.generation)
		}
		v.out.Disks = append(v.out.Disks, v.diskOf(c.path))
	}
	v.chooseReplicas()
	for _, e := range v.epochs {
		same := e.plan.SourceDigest == v.out.Seal.Digest && e.plan.SourceBytes == v.out.Seal.End
		if e.plan.Generation == v.out.Generation && !same {
			continue
		}
		if s, err := v.epoch(e); err == nil && len(s.Missing) == 0 {
			v.out.Epoch = s
			return nil
		}
	}
	if len(v.shards) > 0 {
		v.note("its shards are not taken in: they are not complete, and will be made again")
	}
	return v.logOfSource()
}

// chooseReplicas keeps the disks that the superblock names, where there are several.
func (v *surveyed) chooseReplicas() {
	named := slices.DeleteFunc(slices.Clone(v.out.Disks), func(d int) bool {
		uuid := v.Survey.Disks[d].UUID
		all := v.out.Seal.Replicas
		for ; len(all) >= len(uuid); all = all[len(uuid):] {
			if [16]byte(all) == uuid {
				return false
			}
		}
		return true
	})
	if len(v.out.Disks) > 1 && len(named) > 0 && len(named) < len(v.out.Disks) {
		v.note("copies on other disks than its superblock names are left alone")
		v.out.Disks = named
	}
}

// logOfSource refuses a volume whose own delete log lacks what a log beside shards
// has: deleted photos would come back.
func (v *surveyed) logOfSource() error {
	home := filepath.Dir(v.files[0].path)
	own, others := make(map[id.ID]bool), make(map[id.ID]bool)
	for _, path := range v.logs {
		keys := others
		if filepath.Dir(path) == home {
			keys = own
		}
		file, err := v.fs.Open(path)
		if err != nil {
			return err
		}
		size, err := file.Size()
		if err != nil {
			return err
		}
		t := &tombstones{keys: keys, numbers: make(map[uint32]bool)}
		if err := t.read(v.ctx, &remnant{at: file, size: size}); err != nil && filepath.Dir(path) == home {
			return fmt.Errorf("delete log %s: %w", path, err)
		}
	}
	lacks := 0
	for key := range others {
		if !own[key] {
			lacks++
		}
	}
	if lacks > 0 {
		return fmt.Errorf("its delete log in %s lacks %d deletes that the logs beside its shards have, and the shards are not complete", home, lacks)
	}
	return nil
}

// released takes in a volume whose shards alone are left. What is missing is made
// again by the upkeep; what it has to be is computed now.
func (v *surveyed) released() error {
	var why error
	for _, e := range v.epochs {
		s, err := v.epoch(e)
		if err != nil {
			why = errors.Join(why, err)
			continue
		}
		o, err := volume.ReadOrigin(bytes.NewReader(e.head.Superblock))
		if err == nil && (o.Seal == nil || o.Volume != v.id || o.Generation != e.plan.Generation || o.Seal.Digest != e.plan.SourceDigest || o.Seal.End != e.plan.SourceBytes) {
			err = fmt.Errorf("%w: epoch %d: the superblock in its shards is another one's", volume.ErrCorrupt, e.plan.Epoch)
		}
		if err != nil {
			why = errors.Join(why, err)
			continue
		}
		if len(s.Missing) > 0 {
			if s.Digests, err = coding.Digests(v.ctx, coding.Committed{Plan: e.plan, Digests: s.Digests}, e.shards, coding.Options{}); err != nil {
				why = errors.Join(why, err)
				continue
			}
			v.note("shards %v of epoch %d are missing and will be made again", s.Missing, e.plan.Epoch)
		}
		v.from(&o)
		v.out.Epoch = s
		if len(v.files) > 0 {
			v.note("files of older generations are left alone until the upkeep removes them")
		}
		return nil
	}
	return why
}

// epoch describes one with at least k shards, and gives the missing ones homes.
func (v *surveyed) epoch(e *epoch) (*SurveyedEpoch, error) {
	s := &SurveyedEpoch{Plan: e.plan, Epoch: e.plan.Epoch, Policy: e.plan.Policy.String(), Digests: e.digests, Homes: make([]int, e.plan.Shards()), Missing: []int{}}
	on := make([]int, len(v.Survey.Disks))
	for i, name := range e.names {
		if name == "" {
			s.Missing = append(s.Missing, i)
			continue
		}
		s.Homes[i] = v.diskOf(name)
		on[s.Homes[i]]++
	}
	for _, i := range s.Missing {
		least := slices.Index(on, slices.Min(on))
		s.Homes[i] = least
		on[least]++
	}
	if n := slices.Max(on); n > e.plan.Parity {
		return nil, fmt.Errorf("epoch %d: %d of its shards would lie on %s, and it survives the loss of %d: name more disks, or move shards", e.plan.Epoch, n, v.Survey.Disks[slices.Index(on, n)].Data, e.plan.Parity)
	}
	return s, nil
}
