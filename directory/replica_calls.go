package directory

import (
	"context"
	"fmt"
	"slices"
)

// The calls about replicas. Each names the sync epoch that the caller knows. When the
// row has moved on they are ErrStale, unless what they ask for is so already: then the
// row is the answer. A sync epoch that the row has not reached is ErrInvalid.

// LeaveSync takes the replica on disk out of the in-sync set; it stays a replica, to
// fill itself. For the last one in sync it is ErrInvalid. When the row is not the
// next one after sync it is ErrStale, even if the replica is not in sync any more: the
// caller may not be either.
func (d *Directory) LeaveSync(ctx context.Context, v VolumeID, disk DiskID, sync uint32) (Volume, error) {
	row, _, err := propose[Volume](ctx, d, opLeaveSync, &leaveSync{v, disk, sync})
	return row, err
}

// JoinSync puts the replica on disk into the in-sync set. The caller is the primary;
// the replica has the generation, which is the row's, and every delete that was
// acknowledged, and no other is acknowledged before the answer: after an unknown
// outcome (ErrUnavailable) the call is repeated until there is one. incarnation is that
// of the primary's process (StartNode); of one that has ended it is ErrStale. A volume
// with a committed epoch is ErrStale.
func (d *Directory) JoinSync(ctx context.Context, v VolumeID, disk DiskID, generation, sync uint32, incarnation uint64) (Volume, error) {
	row, _, err := propose[Volume](ctx, d, opJoinSyncAs, &joinSyncAs{joinSync{v, disk, generation, sync}, incarnation})
	return row, err
}

// AddReplica makes disk one that should hold a sealed volume. It is not in sync before
// JoinSync. A disk that is gone is ErrInvalid, and so is a ninth replica. A volume
// with a committed epoch is ErrStale.
func (d *Directory) AddReplica(ctx context.Context, v VolumeID, disk DiskID, sync uint32) (Volume, error) {
	row, _, err := propose[Volume](ctx, d, opAddReplica, &addReplica{v, disk, sync})
	return row, err
}

// RemoveReplica gives up the replica on disk, of a volume that is not open. When none
// in sync would remain it is ErrInvalid.
func (d *Directory) RemoveReplica(ctx context.Context, v VolumeID, disk DiskID, sync uint32) (Volume, error) {
	row, _, err := propose[Volume](ctx, d, opRemoveReplica, &removeReplica{v, disk, sync})
	return row, err
}

// SetTarget says how many replicas a sealed volume should have, 1 to 8. The sync epoch
// stays. A volume with a committed epoch is ErrStale.
func (d *Directory) SetTarget(ctx context.Context, v VolumeID, target int, sync uint32) (Volume, error) {
	if target < 1 || target > maxReplicas {
		return Volume{}, fmt.Errorf("%w: a target of %d replicas", ErrInvalid, target)
	}
	row, _, err := propose[Volume](ctx, d, opSetTarget, &setTarget{v, uint8(target), sync})
	return row, err
}

// SealVolume commits what the replicas on disks hold of a closing volume for good;
// each was read back, and one is in sync at least. Other disks have no replica from
// then on. A replica that was not in sync has to join. Repeating it is harmless, and
// changes nothing; another digest is ErrInvalid.
func (d *Directory) SealVolume(ctx context.Context, v VolumeID, generation uint32, disks []DiskID, s Seal) (Volume, error) {
	if err := encodableDisks(disks); err != nil {
		return Volume{}, err
	}
	row, _, err := propose[Volume](ctx, d, opSealReplicas, &sealReplicas{v, generation, disks, s})
	return row, err
}

// CommitCompaction makes a generation that was begun, lies whole on disks and was
// read back there, the one that is served. One of disks is in sync at least; what is in
// sync and not among them has fallen behind. A volume with a committed epoch may have
// been made again on any disks. A generation that was abandoned is ErrStale.
func (d *Directory) CommitCompaction(ctx context.Context, v VolumeID, generation uint32, disks []DiskID, s Seal) (Volume, error) {
	if err := encodableDisks(disks); err != nil {
		return Volume{}, err
	}
	row, _, err := propose[Volume](ctx, d, opCommitReplicas, &commitReplicas{v, generation, disks, s})
	return row, err
}

// encodableDisks refuses disks that have no place in a command.
func encodableDisks(disks []DiskID) error {
	if len(disks) == 0 || len(disks) > maxReplicas {
		return fmt.Errorf("%w: %d disks, 1 to %d", ErrInvalid, len(disks), maxReplicas)
	}
	for i, d := range disks {
		if slices.Contains(disks[:i], d) {
			return fmt.Errorf("%w: disk %d twice in %v", ErrInvalid, d, disks)
		}
	}
	return nil
}
