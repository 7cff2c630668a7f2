package tools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/internal/vfs/overlay"
	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/server"
)

// Survey is what the disks of a server say of its volumes: enough to make a
// directory again when every copy of it is lost. It decides nothing about bytes: it
// takes superblocks and heads of shards at their word, which is sealed by checksums,
// and leaves reading the rest to the upkeep, which removes nothing before it has.
type Survey struct {
	Disks   []SurveyedDisk   `json:"disks"`
	Volumes []SurveyedVolume `json:"volumes"` // by number
	// Left are volumes that cannot be taken in, and why.
	Left []LeftVolume `json:"left"`
	// Newest is the end of everything of which the disks tell an id time: tiles, blobs,
	// and in open volumes photos and their owners.
	Newest id.Millis `json:"newest"`
}

// SurveyedDisk is a data directory with an identity.
type SurveyedDisk struct {
	Data string   `json:"data"`
	UUID [16]byte `json:"-"`
}

// LeftVolume is one that cannot be taken in.
type LeftVolume struct {
	ID  volume.ID `json:"id"`
	Why string    `json:"why"`
}

// SurveyedVolume is one as it would be in the directory: sealed when it has a Seal,
// else closing.
type SurveyedVolume struct {
	ID             volume.ID          `json:"id"`
	Class          volume.Class       `json:"-"`
	Generation     uint32             `json:"generation"`
	LastGeneration uint32             `json:"last_generation"` // the largest of any file
	Opened         time.Time          `json:"-"`
	Closed         id.Millis          `json:"-"`
	Slot           id.Slot            `json:"slot"`
	From           id.Millis          `json:"from"` // tile, To excluded
	To             id.Millis          `json:"to"`
	Seal           *volume.SealRecord `json:"-"`
	Disks          []int              `json:"disks"`           // with the file; numbers in Survey.Disks
	InSync         []int              `json:"in_sync"`         // those of them that have every delete
	Target         int                `json:"target"`          // how many there should be, as far as is known
	LastEpoch      uint32             `json:"last_epoch"`      // the largest of any file
	Epoch          *SurveyedEpoch     `json:"epoch,omitempty"` // that counts
	Notes          []string           `json:"notes,omitempty"`
}

// Released tells whether the shards alone are left to serve.
func (v *SurveyedVolume) Released() bool { return len(v.Disks) == 0 }

// SurveyedEpoch is one that can be committed.
type SurveyedEpoch struct {
	Plan    coding.Plan     `json:"-"`
	Epoch   uint32          `json:"epoch"`
	Policy  string          `json:"policy"`
	Digests []coding.Digest `json:"-"`
	Homes   []int           `json:"homes"`   // numbers in Survey.Disks
	Missing []int           `json:"missing"` // shards that are on no disk, and are to be made again at their homes
}

// surveyor is the work on one survey.
type surveyor struct {
	*Survey
	disk map[string]int // by data directory
}

// SurveyDisks looks at data directories, the first of them that of the metadata. It
// changes nothing. Nobody may change them meanwhile: Claim first.
func (r *Rescue) SurveyDisks(ctx context.Context) (*Survey, error) {
	s := &surveyor{&Survey{Disks: []SurveyedDisk{}, Volumes: []SurveyedVolume{}, Left: []LeftVolume{}}, make(map[string]int)}
	all, problems := r.find()
	if len(problems) > 0 {
		return nil, errors.New(problems[0]) // what cannot be listed may hold anything
	}
	for _, d := range r.files.dirs {
		uuid, err := server.DiskUUID(vfs.OS{}, d)
		if errors.Is(err, fs.ErrNotExist) && !holds(all, d) {
			continue // the server makes an identity
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s holds volumes and has lost its identity: restore its %s", d, diskIDName)
		}
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(s.Disks, func(o SurveyedDisk) bool { return o.UUID == uuid }); i >= 0 {
			return nil, fmt.Errorf("%s and %s have one identity: one of them is a copy", s.Disks[i].Data, d)
		}
		s.disk[d] = len(s.Disks)
		s.Disks = append(s.Disks, SurveyedDisk{d, uuid})
	}
	r.total.Store(int64(len(all)))
	for _, n := range slices.Sorted(maps.Keys(all)) {
		r.now.Store(uint32(n))
		v, err := s.volume(ctx, all[n])
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			s.leave(n, err)
		} else {
			s.Volumes = append(s.Volumes, *v)
		}
		r.done.Add(1)
	}
	s.overlaps()
	for i := range s.Volumes {
		s.Newest = max(s.Newest, s.Volumes[i].To)
	}
	return s.Survey, nil
}

func holds(all map[volume.ID]*remains, dir string) bool {
	in := func(path string) bool { return dataDirOf(path) == dir }
	for _, m := range all {
		if slices.ContainsFunc(m.files, func(f volumeFile) bool { return in(f.path) }) || slices.ContainsFunc(m.shards, in) || slices.ContainsFunc(m.logs, in) {
			return true
		}
	}
	return false
}

func (s *surveyor) leave(v volume.ID, why error) {
	s.Left = append(s.Left, LeftVolume{v, OneLine(why)})
}

// overlaps leaves out volumes whose tiles lie inside those of others: they are not of
// one directory.
func (s *surveyor) overlaps() {
	byTile := make([]*SurveyedVolume, len(s.Volumes))
	for i := range s.Volumes {
		byTile[i] = &s.Volumes[i]
	}
	slices.SortFunc(byTile, func(a, b *SurveyedVolume) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.ID, b.ID))
	})
	bad := make(map[volume.ID]error)
	var last *SurveyedVolume
	for _, v := range byTile {
		if v.From == v.To {
			continue
		}
		if last != nil && last.Slot == v.Slot && v.From < last.To {
			for a, b := range map[*SurveyedVolume]*SurveyedVolume{v: last, last: v} {
				bad[a.ID] = fmt.Errorf("its tile overlaps that of volume %d: they are not of one directory", b.ID)
			}
		}
		if last == nil || last.Slot != v.Slot || v.To > last.To {
			last = v
		}
	}
	s.Volumes = slices.DeleteFunc(s.Volumes, func(v SurveyedVolume) bool { return bad[v.ID] != nil })
	for _, n := range slices.Sorted(maps.Keys(bad)) {
		s.leave(n, bad[n])
	}
	slices.SortFunc(s.Left, func(a, b LeftVolume) int { return cmp.Compare(a.ID, b.ID) })
}

// surveyed is the work on one volume.
type surveyed struct {
	*surveyor
	*remains
	ctx    context.Context
	fs     *overlay.FS
	out    *SurveyedVolume
	files  []*remnant // readable, newest generation first
	epochs []*epoch   // newest generation and epoch first
	broken error      // of a file that cannot be read
}

// volume decides what the row of one volume is to say.
func (s *surveyor) volume(ctx context.Context, m *remains) (out *SurveyedVolume, err error) {
	v := &surveyed{surveyor: s, remains: m, ctx: ctx, fs: &overlay.FS{}, out: &SurveyedVolume{ID: m.id, Disks: []int{}, InSync: []int{}, Target: 1}}
	defer func() { err = errors.Join(err, v.fs.Close()) }()
	if err := v.open(); err != nil {
		return nil, err
	}
	switch {
	case len(v.files) > 0 && v.files[0].origin.Seal == nil && len(v.epochs) == 0:
		err = v.closing()
	case len(v.files) > 0 && v.files[0].origin.Seal != nil && (len(v.epochs) == 0 || v.files[0].generation >= v.epochs[0].plan.Generation):
		err = v.sealed()
	case len(v.epochs) > 0:
		err = v.released()
	case v.broken != nil:
		err = v.broken
	default:
		err = errors.New("nothing is left of it but a delete log")
	}
	if err == nil && !ofClass(v.out.Class, v.out.Slot) {
		err = fmt.Errorf("it is of %v, and slot %d is of another class", v.out.Class, v.out.Slot)
	}
	return v.out, err
}

// open reads who every file says it is.
func (v *surveyed) open() error {
	found := &rescued{remains: v.remains, fs: v.fs}
	found.openFiles()
	for _, c := range found.copies {
		v.out.LastGeneration = max(v.out.LastGeneration, c.generation)
		switch {
		case c.origin == nil:
			v.broken = fmt.Errorf("%s: %s", c.path, c.row.Damage[0])
		case filepath.Base(filepath.Dir(c.path)) != volumesDirName:
			v.broken = fmt.Errorf("%s is not in a directory %q", c.path, volumesDirName)
		default:
			v.files = append(v.files, c)
		}
	}
	slices.SortStableFunc(v.files, func(a, b *remnant) int { // of a generation those that are sealed first
		return cmp.Or(cmp.Compare(b.generation, a.generation), cmp.Compare(open(a), open(b)))
	})
	for _, e := range v.begun {
		v.out.LastEpoch, v.out.LastGeneration = max(v.out.LastEpoch, e.Epoch), max(v.out.LastGeneration, e.Generation)
	}
	for _, e := range openEpochs(v.ctx, v.fs, v.id, slices.DeleteFunc(slices.Clone(v.shards), cut(v.fs)), func(string, error) {}) {
		v.out.LastEpoch = max(v.out.LastEpoch, e.plan.Epoch)
		if e.decodes() {
			v.epochs = append(v.epochs, e)
		} else {
			v.broken = cmp.Or(v.broken, fmt.Errorf("generation %d epoch %d: %s", e.plan.Generation, e.plan.Epoch, e.shortage()))
		}
	}
	slices.SortFunc(v.epochs, func(a, b *epoch) int {
		return cmp.Or(cmp.Compare(b.plan.Generation, a.plan.Generation), cmp.Compare(b.plan.Epoch, a.plan.Epoch))
	})
	return nil
}

// open is 1 for a file that is not sealed.
func open(c *remnant) int {
	if c.origin.Seal == nil {
		return 1
	}
	return 0
}

// cut tells of a shard file whether it has not the length that it should: it is
// lost, and made again. One whose head cannot be read says so later.
func cut(fsys vfs.FS) func(path string) bool {
	return func(path string) bool {
		_, head, err := coding.OpenAny(fsys, path)
		if err != nil {
			return false
		}
		st, err := fsys.Stat(path)
		return err != nil || st.Size != head.FileBytes()
	}
}
