package tools

import (
	"context"
	"errors"

	"hayloft/internal/admin"
	"hayloft/volume"
)

// Source is where volumes can be looked at. A volume that is not there is
// volume.ErrNoVolume.
type Source interface {
	// List returns every volume, by number. One that cannot be opened has a row
	// that says so.
	List(ctx context.Context) ([]Row, error)
	// Show tells what is known of one, replica by replica.
	Show(ctx context.Context, v volume.ID) ([]Detail, error)
	// Dump gives the records of its files to s, in the order of the files.
	Dump(ctx context.Context, v volume.ID, q Query, s DumpSink) error
	// Verify reads every replica from the device. What is wrong with one is in
	// its row; the error is one of the verification itself.
	Verify(ctx context.Context, v volume.ID, report func(Progress)) ([]Verified, error)
	// Export gives every live needle to s, verified.
	Export(ctx context.Context, v volume.ID, s ExportSink) error
}

// Keeper is a Source whose volumes it can change.
type Keeper interface {
	Source
	// Seal fixes the contents of a volume, and returns when it is done. One that
	// is sealed already is left alone. When ctx ends the work goes on.
	Seal(ctx context.Context, v volume.ID, report func(Progress)) error
	// Compact makes the next generation of a sealed volume, without what is
	// deleted, and returns when it serves and the former one is gone. When ctx
	// ends the work goes on.
	Compact(ctx context.Context, v volume.ID, report func(Progress)) (Compacted, error)
	// Coded describes every volume that is coded, or is being coded.
	Coded(ctx context.Context) (CodedList, error)
	// Encode makes shards of a volume, which it seals first, and returns when they
	// serve. One that is coded is left alone. When ctx ends the work goes on.
	Encode(ctx context.Context, v volume.ID, report func(Progress)) error
	// Rebuild makes the lost shards of a coded volume again, and returns when it is
	// done. When ctx ends the work goes on.
	Rebuild(ctx context.Context, v volume.ID, report func(Progress)) error
	// Decode gives the file that a coded volume was made of to s, and its delete log of
	// now. Nothing is changed. See DecodeTo.
	Decode(ctx context.Context, v volume.ID, s DecodeSink) (Decoded, error)
	// Why tells everything that is known of a volume, a blob or a photo.
	Why(ctx context.Context, what string) (Why, error)
	// Cluster tells how everything is.
	Cluster(ctx context.Context) (Cluster, error)
}

// Compacted is what a compaction made.
type Compacted struct {
	Generation uint32 `json:"generation"`
	Needles    int64  `json:"needles"`
	Before     int64  `json:"before_bytes"` // of the file
	After      int64  `json:"after_bytes"`
}

// OfVolume reports whether an error says something of the volume that was asked
// for, rather than that nobody answers: then the next one may fare better.
func OfVolume(err error) bool {
	var p *admin.Problem
	if errors.As(err, &p) {
		return !p.Named(admin.Unauthorized) && !p.Named(admin.Stopped)
	}
	return errors.Is(err, volume.ErrNoVolume) || ProblemOf(err) != nil
}
