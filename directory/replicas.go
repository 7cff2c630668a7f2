package directory

import (
	"fmt"
	"slices"
)

// common returns those of all that are among some, in the order of all.
func common(all, some []DiskID) (out []DiskID) {
	for _, d := range all {
		if slices.Contains(some, d) {
			out = append(out, d)
		}
	}
	return out
}

// without returns all but d.
func without(all []DiskID, d DiskID) (out []DiskID) {
	for _, have := range all {
		if have != d {
			out = append(out, have)
		}
	}
	return out
}

// placed is v with other replicas or another in-sync set. The sync epoch is raised
// when that changes anything.
func (v Volume) placed(replicas, inSync []DiskID) Volume {
	inSync = common(replicas, inSync)
	if !slices.Equal(v.Replicas, replicas) || !slices.Equal(v.InSync, inSync) {
		v.Sync++
	}
	v.Replicas, v.InSync = replicas, inSync
	return v
}

// replicated returns a row whose replicas a command may change that knows the sync
// epoch sync. When the row has moved on, so that done says that nothing is left to
// do, repeated is true and the row the answer.
func (t *table) replicated(n VolumeID, sync uint32, done func(Volume) bool) (v Volume, repeated bool, err error) {
	v, err = t.volumeFor(n)
	switch {
	case err != nil:
		return v, false, err
	case v.Unconfirmed:
		return v, false, fmt.Errorf("%w: volume %d is not confirmed", ErrInvalid, n)
	case sync == 0 || sync > v.Sync:
		return v, false, fmt.Errorf("%w: volume %d has sync epoch %d, not %d", ErrInvalid, n, v.Sync, sync)
	case done(v):
		return v, true, nil
	case sync < v.Sync:
		return v, false, fmt.Errorf("%w: volume %d has sync epoch %d, not %d", ErrStale, n, v.Sync, sync)
	}
	return v, false, nil
}

// leaveSync takes a replica out of the in-sync set. It is a repetition only while the
// row is the next one after that which its sender knows: a primary may acknowledge a
// delete that a replica misses when that has left, and nothing else has happened.
type leaveSync struct {
	volume VolumeID
	disk   DiskID
	sync   uint32
}

func (c *leaveSync) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(uint32(c.disk))
	e.u32(c.sync)
}

func (c *leaveSync) decode(d *dec) { *c = leaveSync{VolumeID(d.u32()), DiskID(d.u32()), d.u32()} }

func (c *leaveSync) apply(t *table) (any, error) {
	v, repeated, err := t.replicated(c.volume, c.sync, func(v Volume) bool { return !v.Synced(c.disk) && v.Sync-c.sync <= 1 })
	switch {
	case err != nil || repeated:
		return v, err
	case len(v.InSync) == 1:
		return nil, fmt.Errorf("%w: disk %d has the last replica in sync of volume %d", ErrInvalid, c.disk, v.ID)
	}
	v = v.placed(v.Replicas, without(v.InSync, c.disk))
	t.setVolume(v)
	return v, nil
}

type joinSync struct {
	volume     VolumeID
	disk       DiskID
	generation uint32
	sync       uint32
}

func (c *joinSync) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(uint32(c.disk))
	e.u32(c.generation)
	e.u32(c.sync)
}

func (c *joinSync) decode(d *dec) {
	*c = joinSync{VolumeID(d.u32()), DiskID(d.u32()), d.u32(), d.u32()}
}

func (c *joinSync) apply(t *table) (any, error) { return c.by(t, 0) }

// by joins for the process with an incarnation, 0 for one of before they were named.
func (c *joinSync) by(t *table, incarnation uint64) (any, error) {
	v, repeated, err := t.replicated(c.volume, c.sync, func(v Volume) bool { return v.Synced(c.disk) && c.generation == v.Generation })
	switch {
	case err != nil || repeated:
		return v, err
	case c.generation < v.Generation:
		return nil, fmt.Errorf("%w: volume %d has generation %d, not %d", ErrStale, v.ID, v.Generation, c.generation)
	case v.Coding.Committed != nil:
		return nil, fmt.Errorf("%w: volume %d is served out of shards", ErrStale, v.ID)
	case c.generation > v.Generation || v.State != StateSealed || !v.On(c.disk):
		return nil, fmt.Errorf("%w: disk %d with generation %d of volume %d, state %d, which has generation %d on disks %v",
			ErrInvalid, c.disk, c.generation, v.ID, v.State, v.Generation, v.Replicas)
	}
	if err := t.usable(c.disk); err != nil {
		return nil, err
	}
	// What a process asked for before it ended knows nothing of the deletes since.
	if n, _ := t.NodeOf(v.InSync[0]); n.Incarnation != incarnation {
		return nil, fmt.Errorf("%w: the primary of volume %d is in process %x of node %d, not in %x", ErrStale, v.ID, n.Incarnation, n.ID, incarnation)
	}
	v = v.placed(v.Replicas, append(slices.Clone(v.InSync), c.disk))
	t.setVolume(v)
	return v, nil
}

type joinSyncAs struct {
	joinSync
	incarnation uint64
}

func (c *joinSyncAs) encode(e *enc) {
	c.joinSync.encode(e)
	e.u64(c.incarnation)
}

func (c *joinSyncAs) decode(d *dec) {
	c.joinSync.decode(d)
	c.incarnation = d.u64()
}

func (c *joinSyncAs) apply(t *table) (any, error) { return c.by(t, c.incarnation) }

type addReplica leaveSync

func (c *addReplica) encode(e *enc) { (*leaveSync)(c).encode(e) }

func (c *addReplica) decode(d *dec) { (*leaveSync)(c).decode(d) }

func (c *addReplica) apply(t *table) (any, error) {
	v, repeated, err := t.replicated(c.volume, c.sync, func(v Volume) bool { return v.On(c.disk) })
	switch {
	case err != nil || repeated:
		return v, err
	case v.Coding.Committed != nil:
		return nil, fmt.Errorf("%w: volume %d is served out of shards", ErrStale, v.ID)
	case v.State != StateSealed || len(v.Replicas) >= maxReplicas:
		return nil, fmt.Errorf("%w: another replica of volume %d, state %d, which has %d", ErrInvalid, v.ID, v.State, len(v.Replicas))
	}
	if err := t.usable(c.disk); err != nil {
		return nil, err
	}
	v = v.placed(append(slices.Clone(v.Replicas), c.disk), v.InSync)
	t.setVolume(v)
	return v, nil
}

type removeReplica leaveSync

func (c *removeReplica) encode(e *enc) { (*leaveSync)(c).encode(e) }

func (c *removeReplica) decode(d *dec) { (*leaveSync)(c).decode(d) }

func (c *removeReplica) apply(t *table) (any, error) {
	v, repeated, err := t.replicated(c.volume, c.sync, func(v Volume) bool { return !v.On(c.disk) })
	switch {
	case err != nil || repeated:
		return v, err
	case v.State == StateOpen:
		return nil, fmt.Errorf("%w: volume %d is open", ErrInvalid, v.ID)
	case len(without(v.InSync, c.disk)) == 0:
		return nil, fmt.Errorf("%w: without disk %d volume %d has no replica in sync", ErrInvalid, c.disk, v.ID)
	}
	v = v.placed(without(v.Replicas, c.disk), v.InSync)
	t.setVolume(v)
	return v, nil
}

// setTarget changes how many replicas there should be. No replica comes or goes by it,
// so the sync epoch stays.
type setTarget struct {
	volume VolumeID
	target uint8
	sync   uint32
}

func (c *setTarget) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u8(c.target)
	e.u32(c.sync)
}

func (c *setTarget) decode(d *dec) { *c = setTarget{VolumeID(d.u32()), d.u8(), d.u32()} }

func (c *setTarget) apply(t *table) (any, error) {
	v, repeated, err := t.replicated(c.volume, c.sync, func(v Volume) bool { return v.Target == c.target })
	switch {
	case err != nil || repeated:
		return v, err
	case v.Coding.Committed != nil:
		return nil, fmt.Errorf("%w: volume %d is served out of shards", ErrStale, v.ID)
	case v.State != StateSealed || c.target < 1 || c.target > maxReplicas:
		return nil, fmt.Errorf("%w: a target of %d replicas for volume %d, state %d", ErrInvalid, c.target, v.ID, v.State)
	}
	v.Target = c.target
	t.setVolume(v)
	return v, nil
}

// sealReplicas is sealVolume for those replicas that hold the same.
type sealReplicas struct {
	volume     VolumeID
	generation uint32
	disks      []DiskID
	seal       Seal
}

func (c *sealReplicas) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(c.generation)
	e.disks(c.disks)
	c.seal.encode(e)
}

func (c *sealReplicas) decode(d *dec) {
	*c = sealReplicas{VolumeID(d.u32()), d.u32(), d.disks(), *readSeal(d)}
}

func (c *sealReplicas) apply(t *table) (any, error) {
	v, err := t.sealable(c.volume, c.generation, &c.seal)
	switch {
	case err != nil:
		return nil, err
	case v.State == StateSealed:
		return v, nil // a repetition
	case len(common(v.Replicas, c.disks)) != len(c.disks):
		return nil, fmt.Errorf("%w: a seal by disks %v of volume %d, on disks %v", ErrInvalid, c.disks, v.ID, v.Replicas)
	case len(common(v.InSync, c.disks)) == 0:
		return nil, fmt.Errorf("%w: a seal of volume %d by disks %v, none of them in sync", ErrInvalid, v.ID, c.disks)
	}
	return t.sealed(v.placed(common(v.Replicas, c.disks), v.InSync), c.generation, &c.seal)
}

// commitReplicas is commitCompaction for those replicas that have made the same.
type commitReplicas sealReplicas

func (c *commitReplicas) encode(e *enc) { (*sealReplicas)(c).encode(e) }

func (c *commitReplicas) decode(d *dec) { (*sealReplicas)(c).decode(d) }

func (c *commitReplicas) apply(t *table) (any, error) {
	v, repeated, err := t.underWay(c.volume, c.generation, &c.seal)
	if err != nil || repeated {
		return v, err
	}
	switch {
	case v.Coding.Committed != nil: // it may have been made out of shards, anywhere
		if len(c.disks) == 0 {
			return nil, fmt.Errorf("%w: generation %d of volume %d is on no disk", ErrInvalid, c.generation, v.ID)
		}
		if err := t.usable(c.disks...); err != nil {
			return nil, err
		}
		v = v.placed(c.disks, c.disks)
	case len(common(v.Replicas, c.disks)) != len(c.disks) || len(common(v.InSync, c.disks)) == 0:
		return nil, fmt.Errorf("%w: generation %d by disks %v of volume %d, in sync on %v", ErrInvalid, c.generation, c.disks, v.ID, v.InSync)
	default:
		v = v.placed(v.Replicas, common(v.InSync, c.disks))
	}
	return t.replaced(v, c.generation, &c.seal)
}
