package tools

import (
	"bytes"
	"errors"
	"fmt"
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

// sealed takes in a volume of which the newest generation is a file, on one disk or
// several. An epoch counts beside it as well when all its shards are there: then its
// logs have the deletes, else a copy must have them.
func (v *surveyed) sealed() error {
	newest := v.files[0]
	v.from(newest.origin)
	var copies, others []*remnant
	for _, c := range v.files {
		switch seal := c.origin.Seal; {
		case c.generation != newest.generation:
		case seal == nil:
			others = append(others, c)
		case seal.Digest != newest.origin.Seal.Digest:
			return fmt.Errorf("%s and %s are of generation %d, and do not hold the same: move one of them away", newest.path, c.path, c.generation)
		default:
			copies = append(copies, c)
		}
	}
	v.out.Target = max(len(v.out.Seal.Replicas)/len(SurveyedDisk{}.UUID), len(copies))
	if len(others) > 0 {
		v.note("copies that were not sealed are left alone")
	}
	var scan []*remnant
	if len(others) > 0 {
		scan = append(slices.Clone(copies), others...)
	}
	lacks, err := v.chooseSync(copies, scan)
	if err != nil {
		return err
	}
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
	return lacks
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
