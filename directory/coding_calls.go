package directory

import (
	"context"
	"fmt"
	"time"

	"hayloft/internal/id"
	"hayloft/volume/coding/lifecycle"
)

// The calls of coding. Each applies a rule of package lifecycle to the row's Coding;
// what that refuses is ErrStale, and wraps lifecycle.ErrRefused.

// BeginCoding gives an epoch, the one after the largest that was given out, to one
// encoder. A run that was under way is void. The shards' homes are disks that the
// directory knows, at most run.Parity shards on each. While a compaction is under
// way it is ErrStale.
func (d *Directory) BeginCoding(ctx context.Context, v VolumeID, run lifecycle.Run) (Volume, error) {
	if err := encodable(v, run); err != nil {
		return Volume{}, err
	}
	row, _, err := propose[Volume](ctx, d, opBeginCoding, &beginCoding{v, run})
	return row, err
}

// CommitCoding makes the epoch of a run count. digests are those of all its shards,
// each of which was read back from its disk. The grace of its source begins.
func (d *Directory) CommitCoding(ctx context.Context, v VolumeID, epoch uint32, encoder uint64, digests []lifecycle.Digest) (Volume, error) {
	if err := encodableDigests(v, digests); err != nil {
		return Volume{}, err
	}
	row, _, err := propose[Volume](ctx, d, opCommitCoding, &commitCoding{v, epoch, encoder, digests, d.now()})
	return row, err
}

// AbortCoding ends a run: its epoch is void. One that is committed is ErrStale.
func (d *Directory) AbortCoding(ctx context.Context, v VolumeID, epoch uint32, encoder uint64) (Volume, error) {
	row, _, err := propose[Volume](ctx, d, opAbortCoding, &abortCoding{v, epoch, encoder})
	return row, err
}

// RevokeCoding makes a committed epoch void whose source is not released: its
// shards turned out to be lost.
func (d *Directory) RevokeCoding(ctx context.Context, v VolumeID, epoch uint32) (Volume, error) {
	row, _, err := propose[Volume](ctx, d, opRevokeCoding, &revokeCoding{v, epoch})
	return row, err
}

// ReleaseSource lets the source of the committed epoch go, and the epoch before it:
// the row has no replica any more. verified are the digests of all shards, read
// from their disks since the commit, which must be at least grace ago.
func (d *Directory) ReleaseSource(ctx context.Context, v VolumeID, epoch uint32, verified []lifecycle.Digest, grace time.Duration) (Volume, error) {
	if err := encodableDigests(v, verified); err != nil {
		return Volume{}, err
	}
	span := millis(grace)
	if grace > 0 && grace%time.Millisecond != 0 {
		span++
	}
	row, _, err := propose[Volume](ctx, d, opReleaseSource, &releaseSource{v, epoch, verified, d.now(), min(span, id.MaxMillis)})
	return row, err
}

// MoveShard gives a shard of the committed epoch another home, which has it already,
// read back from the disk, with the digest of the commit. A disk that would have
// more shards than may be lost is ErrInvalid.
func (d *Directory) MoveShard(ctx context.Context, v VolumeID, epoch uint32, shard int, to DiskID, verified lifecycle.Digest) (Volume, error) {
	if shard < 0 || shard >= maxData+maxParity {
		return Volume{}, fmt.Errorf("%w: shard %d of volume %d", ErrInvalid, shard, v)
	}
	row, _, err := propose[Volume](ctx, d, opMoveShard, &moveShard{v, epoch, uint8(shard), to, verified})
	return row, err
}
