package ec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"hayloft/bench/library"
	"hayloft/bench/raw"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coded"
	"hayloft/volume/coding"
)

// source is a sealed, compacted volume.
type source struct {
	*library.Library
	rec   volume.SealRecord
	index []byte // as on the disk
}

func makeSource(ctx context.Context, dir string, total int64, size library.Sizes) (*source, error) {
	if _, err := library.Build(ctx, dir, total, size); err != nil {
		return nil, err
	}
	if err := errors.Join(library.Seal(ctx, dir), library.Compact(ctx, dir)); err != nil {
		return nil, err
	}
	s := new(source)
	v, err := volume.Open(dir, library.ID, volume.Options{})
	if err != nil {
		return nil, err
	}
	s.rec, _ = v.Sealed() // Compact makes nothing else
	index, err := v.SealedIndex()
	s.index = slices.Clone(index)
	if err = errors.Join(err, v.Close()); err != nil {
		return nil, err
	}
	s.Library, err = library.Scan(ctx, dir, 2)
	return s, err
}

// sized are the needles of one size.
func (s *source) sized(bytes int) *library.Library {
	return s.Of(func(n *library.Needle) bool { return n.Size == bytes })
}

func (s *source) file(fsys vfs.FS) coding.Source {
	return coding.Source{FS: fsys, Name: s.File, Index: s.index}
}

// shards are one epoch of a source, each in a folder of its own.
type shards struct {
	src *source
	c   coding.Committed
	dir []string // by shard
}

// place makes the folders of a set of shards, named name, and says what is to be
// made there.
func (b *run) place(src *source, p coding.Policy, name string) (*shards, error) {
	s := &shards{src: src, c: coding.Committed{Plan: coding.Plan{
		Policy: p, Volume: library.ID, Generation: 2, Epoch: 1, Encoder: 1,
		SourceBytes: src.rec.End, SourceDigest: src.rec.Digest, IndexBytes: int64(len(src.index)),
	}}}
	for i := range p.Shards() {
		dir := filepath.Join(b.Dirs[i%len(b.Dirs)], fmt.Sprintf("%s-%02d", name, i))
		if err := (vfs.OS{}).MkdirAll(dir); err != nil {
			return nil, err
		}
		s.dir = append(s.dir, dir)
	}
	return s, nil
}

// code makes a set of shards, with a delete log beside each.
func (b *run) code(ctx context.Context, src *source, p coding.Policy, name string) (*shards, error) {
	s, err := b.place(src, p, name)
	if err != nil {
		return nil, err
	}
	if s.c.Digests, err = coding.Encode(ctx, s.c.Plan, src.file(vfs.OS{}), s.homes(vfs.OS{}), coding.Options{}); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	for _, dir := range s.dir {
		if err := coded.WriteLog(vfs.OS{}, dir, library.ID, nil); err != nil {
			return nil, errors.Join(err, s.remove())
		}
	}
	return s, nil
}

func (s *shards) homes(fsys vfs.FS) (out []coding.Home) {
	for _, dir := range s.dir {
		out = append(out, coding.Home{FS: fsys, Dir: dir})
	}
	return out
}

func (s *shards) path(i int) string {
	return filepath.Join(s.dir[i], coding.FileName(s.c.Volume, s.c.Generation, s.c.Epoch, i))
}

func (s *shards) remove() error {
	var errs []error
	for _, dir := range s.dir {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// evict drops the pages of all files from the page cache.
func (s *shards) evict() error {
	var errs []error
	for _, dir := range s.dir {
		errs = append(errs, raw.Evict(dir))
	}
	return errors.Join(errs...)
}

// files opens all shards but those that are away. Who calls it closes them.
func (s *shards) files(fsys vfs.FS, away ...int) (out []coding.Shard, err error) {
	out = make([]coding.Shard, s.c.Shards())
	for i, home := range s.homes(fsys) {
		if slices.Contains(away, i) {
			continue
		}
		f, err := coding.Open(home, s.c, i)
		if err != nil {
			return nil, errors.Join(err, closeFiles(out))
		}
		out[i] = f
	}
	return out, nil
}

func closeFiles(all []coding.Shard) error {
	var errs []error
	for _, f := range all {
		if f != nil {
			errs = append(errs, f.(*coding.File).Close())
		}
	}
	return errors.Join(errs...)
}

// serve opens the coded volume without the shards that are away.
func (s *shards) serve(ctx context.Context, away ...int) (*coded.Volume, error) {
	files, err := s.files(vfs.OS{}, away...)
	if err != nil {
		return nil, err
	}
	var logs []coded.LogCopy
	for i, home := range s.homes(vfs.OS{}) {
		logs = append(logs, coded.LogCopy{Home: home, Disk: uint32(i + 1)})
	}
	return coded.Open(ctx, s.c, library.Ident.Class, files, logs, coded.Options{
		Tolerance: s.c.Parity,
		Unused:    func(f coding.Shard) { _ = f.(*coding.File).Close() }, // opened for reading only
	})
}

// order is reading needles out of shards, all cold.
func (s *shards) order(lib *library.Library) *library.Order {
	o := library.NewOrder(lib, 1)
	o.Dirs = append(o.Dirs, s.dir...)
	return o
}
