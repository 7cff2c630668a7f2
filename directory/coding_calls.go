package directory

import (
	"context"
	"fmt"
	"time"

	"hayloft/volume/coding/lifecycle"
)

// The calls of coding. Each applies a rule of package lifecycle to the row's Coding;
// what that refuses is ErrStale, and wraps lifecycle.ErrRefused. Those that name a
// term are refused so unless it is the row's: see KeepCoded.

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
func (d *Directory) CommitCoding(ctx context.Context, v VolumeID, epoch uint32, encoder uint64, digests []lifecycle.Digest, term uint32) (Volume, error) {
	if err := encodableDigests(v, digests); err != nil {
		return Volume{}, err
	}
	return d.asTerm(ctx, opCommitCoding, &commitCoding{v, epoch, encoder, digests, d.now()}, term)
}

// AbortCoding ends a run: its epoch is void. One that is committed is ErrStale.
func (d *Directory) AbortCoding(ctx context.Context, v VolumeID, epoch uint32, encoder uint64) (Volume, error) {
	row, _, err := propose[Volume](ctx, d, opAbortCoding, &abortCoding{v, epoch, encoder})
	return row, err
}

// RevokeCoding makes a committed epoch void whose source is not released: its
// shards turned out to be lost.
func (d *Directory) RevokeCoding(ctx context.Context, v VolumeID, epoch, term uint32) (Volume, error) {
	return d.asTerm(ctx, opRevokeCoding, &revokeCoding{v, epoch}, term)
}

// ReleaseSource lets the source of the committed epoch go, and the epoch before it:
// the row has no replica any more. verified are the digests of all shards, read
// from their disks since the commit, which must be at least grace ago.
func (d *Directory) ReleaseSource(ctx context.Context, v VolumeID, epoch uint32, verified []lifecycle.Digest, grace time.Duration, term uint32) (Volume, error) {
	if err := encodableDigests(v, verified); err != nil {
		return Volume{}, err
	}
	return d.asTerm(ctx, opReleaseSource, &releaseSource{v, epoch, verified, d.now(), span(grace)}, term)
}

// MoveShard gives a shard of the committed epoch another home, which has it already,
// read back from the disk, with the digest of the commit. A disk that would have
// more shards than may be lost is ErrInvalid.
func (d *Directory) MoveShard(ctx context.Context, v VolumeID, epoch uint32, shard int, to DiskID, verified lifecycle.Digest, term uint32) (Volume, error) {
	if shard < 0 || shard >= maxData+maxParity {
		return Volume{}, fmt.Errorf("%w: shard %d of volume %d", ErrInvalid, shard, v)
	}
	return d.asTerm(ctx, opMoveShard, &moveShard{v, epoch, uint8(shard), to, verified}, term)
}
