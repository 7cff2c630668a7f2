package tools

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// shardsDirName is where a data directory keeps the shards of coded volumes; see
// docs/data-directory.md.
const shardsDirName = "shards"

// RescueOptions say what is wanted of the volumes. The zero value wants every
// original that was not deleted.
type RescueOptions struct {
	All     bool // also variants, and whatever else is no master
	Deleted bool // also what was deleted
}

// RescueSink takes what a rescue finds. Damaged is told what could not be had, and
// Lost of each needle among it that is known.
type RescueSink struct {
	ExportSink
	Lost func(Lost) error
}

// Lost is a needle that was in a volume and is whole in no copy of it.
type Lost struct {
	Volume volume.ID `json:"volume"`
	Class  string    `json:"class"`
	Blob   id.ID     `json:"blob"`
	Alt    uint8     `json:"alt"`
	Why    string    `json:"why"`
}

// RescuedVolume is what became of one volume.
type RescuedVolume struct {
	ID      volume.ID     `json:"id"`
	Class   string        `json:"class"`   // empty when nothing of it can be read
	Needles int64         `json:"needles"` // handed out
	Deleted int64         `json:"deleted"` // left out, or handed out all the same
	Lost    int64         `json:"lost"`    // known, and whole nowhere
	Copies  []RescuedCopy `json:"copies"`
	// Problems are why something of it is lost, unknown, or perhaps deleted.
	Problems []string `json:"problems"`
}

// RescuedCopy is a file, or the shards of one epoch.
type RescuedCopy struct {
	Generation uint32   `json:"generation"`
	File       string   `json:"file,omitempty"`
	Epoch      uint32   `json:"epoch,omitempty"`
	Policy     string   `json:"policy,omitempty"`
	Shards     []string `json:"shards,omitempty"` // files by number, empty where there is none
	Read       bool     `json:"read"`             // false: other copies had everything, or it cannot be read
	Damage     []string `json:"damage,omitempty"`
}

// Rescue gets needles out of what is left of data directories: volume files of any
// generation and state, and the shards of any epoch, without a directory that says
// which of them count. What the records' own checksums prove is right, wherever it
// lies. Nothing in the data directories is changed. It is used by one goroutine,
// apart from Progress.
type Rescue struct {
	files *Files
	o     RescueOptions
	done  atomic.Int64 // volumes
	total atomic.Int64
	now   atomic.Uint32 // volume under work
}

// OpenRescue takes what is left of data directories: volumes/ or shards/ is enough.
func OpenRescue(dirs []string, o RescueOptions) (*Rescue, error) {
	r := &Rescue{files: &Files{}, o: o}
	for _, d := range dirs {
		d = filepath.Clean(d)
		if slices.Contains(r.files.dirs, d) {
			return nil, fmt.Errorf("data directory %s is named twice", d)
		}
		if err := remainsOf(d); err != nil {
			return nil, err
		}
		r.files.dirs = append(r.files.dirs, d)
	}
	return r, nil
}

// shardDirs are the folders of a data directory in which shards lie, one for each
// epoch of a volume.
func shardDirs(data string) (dirs []string, err error) {
	names, err := vfs.OS{}.ReadDir(filepath.Join(data, shardsDirName))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, n := range names {
		dir := filepath.Join(data, shardsDirName, n)
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			dirs = append(dirs, dir)
		}
	}
	return dirs, err
}

func remainsOf(d string) error {
	if st, err := os.Stat(d); err == nil && st.IsDir() {
		if _, err := os.Stat(filepath.Join(d, shardsDirName)); err == nil {
			return nil
		}
	}
	return dataDir(d)
}

// Claim keeps servers away from the directories until Close, and is ErrInUse when
// one is there. A directory without a disk.id is nobody's.
func (r *Rescue) Claim() error { return r.files.Claim() }

// Close ends the claim.
func (r *Rescue) Close() error { return r.files.Close() }

// Progress tells the volume under work, and how many of all are done.
func (r *Rescue) Progress() (now volume.ID, done, total int64) {
	return volume.ID(r.now.Load()), r.done.Load(), r.total.Load()
}

// remains are the files of one volume number.
type remains struct {
	id     volume.ID
	files  []volumeFile
	shards []string
	logs   []string
	// begun are the shard files by their names, unfinished ones too: their numbers
	// were given out.
	begun []coding.Entry
}

// dataDirOf is the data directory that a volume file, a shard or a delete log lies in.
func dataDirOf(path string) string {
	dir := filepath.Dir(filepath.Dir(path))
	if filepath.Base(dir) == shardsDirName {
		return filepath.Dir(dir)
	}
	return dir
}

type volumeFile struct {
	path       string
	generation uint32 // as the name says
}

// Run hands out everything there is, volume by volume, and says what became of
// each. absent are numbers below the highest of which there is no file at all: they
// never held anything, were never used, or lie on a disk that was not named.
func (r *Rescue) Run(ctx context.Context, s RescueSink) (rows []RescuedVolume, absent []volume.ID, err error) {
	all, problems := r.find()
	for _, p := range problems {
		if err := s.Damaged(p); err != nil {
			return nil, nil, err
		}
	}
	rows = []RescuedVolume{}
	r.total.Store(int64(len(all)))
	numbers := slices.Sorted(maps.Keys(all))
	for i, n := range numbers {
		if err := ctx.Err(); err != nil {
			return rows, absent, err
		}
		for m := volume.ID(1); i > 0 && n-numbers[i-1] > m || i == 0 && n > m; m++ {
			absent = append(absent, n-m)
		}
		r.now.Store(uint32(n))
		row, err := r.volume(ctx, all[n], s)
		if err != nil {
			return rows, absent, err
		}
		if row != nil {
			rows = append(rows, *row)
		}
		r.done.Add(1)
	}
	slices.Sort(absent)
	return rows, absent, nil
}

// find lists the files by the volume in their names.
func (r *Rescue) find() (all map[volume.ID]*remains, problems []string) {
	all = make(map[volume.ID]*remains)
	of := func(v volume.ID) *remains {
		if all[v] == nil {
			all[v] = &remains{id: v}
		}
		return all[v]
	}
	for _, data := range r.files.dirs {
		dirs, err := shardDirs(data)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s cannot be listed: %s", filepath.Join(data, shardsDirName), OneLine(err)))
		}
		for _, dir := range append(dirs, filepath.Join(data, volumesDirName)) {
			files, err1 := volume.List(nil, dir)
			logs, err2 := volume.ListDeletes(nil, dir)
			shards, err3 := coding.List(vfs.OS{}, dir)
			if err := errors.Join(err1, err2, err3); err != nil && !errors.Is(err, fs.ErrNotExist) {
				problems = append(problems, fmt.Sprintf("%s cannot be listed: %s", dir, OneLine(err)))
			}
			for _, e := range files {
				of(e.Volume).files = append(of(e.Volume).files, volumeFile{filepath.Join(dir, e.Name), e.Generation})
			}
			for _, e := range logs {
				of(e.Volume).logs = append(of(e.Volume).logs, filepath.Join(dir, e.Name))
			}
			for _, e := range shards {
				of(e.Volume).begun = append(of(e.Volume).begun, e)
				if !e.Unfinished {
					of(e.Volume).shards = append(of(e.Volume).shards, filepath.Join(dir, e.Name))
				}
			}
		}
	}
	return all, problems
}
