package coding

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

const (
	shardExt = ".shard"
	tmpExt   = ".tmp"
)

// FileName is the name of a shard's file inside its directory.
func FileName(v volume.ID, generation, epoch uint32, shard int) string {
	return fmt.Sprintf("%08x-%08x-%08x-%02x%s", uint32(v), generation, epoch, shard, shardExt)
}

// Home is where a shard lives.
type Home struct {
	FS  vfs.FS
	Dir string
}

func (h Home) path(p Plan, shard int) string {
	return filepath.Join(h.Dir, FileName(p.Volume, p.Generation, p.Epoch, shard))
}

// Entry is one shard file in a directory, by its name.
type Entry struct {
	Volume            volume.ID
	Generation, Epoch uint32
	Shard             int
	Name              string // without the directory
	Unfinished        bool   // the name of a file under way: it is no shard
}

// parseName is the inverse of FileName, with or without the mark of an
// unfinished file.
func parseName(name string) (Entry, bool) {
	base, tmp := strings.CutSuffix(name, tmpExt)
	parts := strings.Split(strings.TrimSuffix(base, shardExt), "-")
	if len(parts) != 4 {
		return Entry{}, false
	}
	var n [4]uint64
	for i, p := range parts {
		var err error
		if n[i], err = strconv.ParseUint(p, 16, 32); err != nil {
			return Entry{}, false
		}
	}
	e := Entry{Volume: volume.ID(n[0]), Generation: uint32(n[1]), Epoch: uint32(n[2]), Shard: int(n[3]), Name: name, Unfinished: tmp}
	if e.Shard >= MaxData+MaxParity || FileName(e.Volume, e.Generation, e.Epoch, e.Shard) != base {
		return Entry{}, false
	}
	return e, true
}

// List returns the shard files of a directory by name: by volume, generation,
// epoch and shard, finished and not. It opens none of them.
func List(fsys vfs.FS, dir string) ([]Entry, error) {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, name := range names {
		if e, ok := parseName(name); ok {
			out = append(out, e)
		}
	}
	return out, nil
}
