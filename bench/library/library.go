package library

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hayloft/bench/raw"
	"hayloft/internal/id"
	"hayloft/volume"
)

const buildGroup = 32 // needles in one Append of a volume that is made to be read

// ID is the number of every volume that a benchmark makes.
const ID = volume.ID(1)

// Ident says what such a volume is.
var Ident = volume.Identity{Volume: ID, Generation: 1, Class: volume.ClassVariants}

// Library is a volume made to be read.
type Library struct {
	Dir     string
	File    string
	Needles []Needle
	Bytes   int64 // of records
}

// Sizes returns the size of the i-th needle.
type Sizes func(i int) int

// Only is needles of one size, in bytes.
func Only(size int) Sizes { return func(int) int { return size } }

// Build makes a volume of about total bytes in dir, closes it, and
// finds out where its records lie.
func Build(ctx context.Context, dir string, total int64, size Sizes) (*Library, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	v, err := volume.Create(dir, Ident, volume.Options{})
	if err != nil {
		return nil, err
	}
	err = Fill(ctx, v, total, size)
	if err = errors.Join(err, v.Close()); err != nil {
		return nil, err
	}
	return Scan(ctx, dir, 1)
}

// Scan finds out where the records of a generation in dir lie. The volume is
// closed.
func Scan(ctx context.Context, dir string, generation uint32) (*Library, error) {
	lib := &Library{Dir: dir, File: filepath.Join(dir, volume.FileName(ID, generation))}
	_, err := volume.Scan(nil, lib.File, func(r volume.Record) error {
		if r.Err != nil {
			return fmt.Errorf("record at %d: %w", r.Offset, r.Err)
		}
		if r.Kind == volume.KindNeedle {
			lib.Needles = append(lib.Needles, Needle{Key: r.Key, Size: len(r.Data), Off: r.Offset, Span: r.Size, ETag: r.ETag})
			lib.Bytes += r.Size
		}
		return ctx.Err()
	})
	if err == nil && len(lib.Needles) < 2 {
		err = fmt.Errorf("%s holds %d needles", lib.File, len(lib.Needles))
	}
	if err != nil {
		return nil, err
	}
	return lib, raw.Evict(dir)
}

// Seal seals the volume in dir.
func Seal(ctx context.Context, dir string) error {
	v, err := volume.Open(dir, ID, volume.Options{})
	if err != nil {
		return err
	}
	_, err = v.Seal(ctx, volume.SealInfo{Slot: 64, To: id.MaxMillis})
	return errors.Join(err, v.Close())
}

// Compact replaces the sealed volume in dir by its second generation.
func Compact(ctx context.Context, dir string) error {
	v, err := volume.Open(dir, ID, volume.Options{})
	if err != nil {
		return err
	}
	next, err := v.Compact(ctx, volume.CompactOptions{Generation: 2})
	if err == nil {
		err = next.Close()
	}
	if err = errors.Join(err, v.Close()); err != nil {
		return err
	}
	return volume.RemoveSuperseded(ctx, dir, ID, 2, volume.Options{}, nil)
}

// Of returns the needles that take says, as a library of their own: in the same file.
func (l *Library) Of(take func(n *Needle) bool) *Library {
	some := &Library{Dir: l.Dir, File: l.File}
	for i := range l.Needles {
		if n := &l.Needles[i]; take(n) {
			some.Needles = append(some.Needles, *n)
			some.Bytes += n.Span
		}
	}
	return some
}

// Fill appends groups until v holds total bytes.
func Fill(ctx context.Context, v *volume.Volume, total int64, size Sizes) error {
	group := make([]volume.Needle, buildGroup)
	bufs := make([][]byte, buildGroup)
	for i := range bufs {
		bufs[i] = make([]byte, len(Noise))
	}
	at := 0
	for written := int64(0); written < total; {
		for i := range group {
			group[i] = MakeNeedle(bufs[i], at, size(at))
			written += int64(len(group[i].Data))
			at++
		}
		if err := v.Append(ctx, group); err != nil {
			return err
		}
	}
	return nil
}
