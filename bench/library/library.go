package library

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hayloft/bench/raw"
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
	lib := &Library{Dir: dir, File: filepath.Join(dir, volume.FileName(ID, 1))}
	_, err = volume.Scan(nil, lib.File, func(r volume.Record) error {
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
