package directory

import (
	"fmt"

	"hayloft/internal/id"
	"hayloft/volume/coding/lifecycle"
)

// volumeFor returns a row that a command of this version may change.
func (t *table) volumeFor(n VolumeID) (Volume, error) {
	v, ok := t.Volume(n)
	switch {
	case !ok:
		return v, fmt.Errorf("%w: volume %d", ErrUnknown, n)
	case v.State == StateVoid:
		return v, fmt.Errorf("%w: volume %d is void", ErrStale, n)
	case v.State > StateVoid:
		return v, fmt.Errorf("%w: volume %d has state %d, of a later version", ErrInvalid, n, v.State)
	}
	return v, nil
}

type closeVolume struct {
	volume      VolumeID
	node        NodeID
	incarnation uint64
	now         id.Millis
}

func (c *closeVolume) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(uint32(c.node))
	e.u64(c.incarnation)
	e.millis(c.now)
}

func (c *closeVolume) decode(d *dec) {
	*c = closeVolume{VolumeID(d.u32()), NodeID(d.u32()), d.u64(), d.millis()}
}

func (c *closeVolume) apply(t *table) (any, error) {
	v, err := t.volumeFor(c.volume)
	if v.State == StateVoid {
		return v, nil // it was not confirmed when its tile ended
	}
	if err != nil || v.State != StateOpen {
		return v, err
	}
	tile, ok := t.OpenTile(v.Slot)
	if !ok || tile.Volume != v.ID {
		return nil, fmt.Errorf("%w: volume %d has no open tile", ErrInvalid, v.ID)
	}
	w := t.Window(v.Slot)
	ended := w.Node == uint32(c.node) && c.incarnation != 0 && w.Holder != c.incarnation
	if !w.Over(c.now) && !ended {
		return nil, fmt.Errorf("%w: slot %d is leased until %d", ErrInvalid, v.Slot, w.To)
	}
	t.closeTile(tile, w.To, c.now)
	// A renewal would let the holder mint inside the closed tile.
	w.Released = true
	t.setWindow(v.Slot, w)
	v, _ = t.Volume(v.ID)
	return v, nil
}

type sealVolume struct {
	volume     VolumeID
	generation uint32
	disk       DiskID
	seal       Seal
}

func (c *sealVolume) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(c.generation)
	e.u32(uint32(c.disk))
	c.seal.encode(e)
}

func (c *sealVolume) decode(d *dec) {
	*c = sealVolume{VolumeID(d.u32()), d.u32(), DiskID(d.u32()), *readSeal(d)}
}

func (c *sealVolume) apply(t *table) (any, error) {
	v, err := t.sealable(c.volume, c.generation, &c.seal)
	if err != nil || v.State == StateSealed {
		return v, err // a repetition
	}
	if err := v.soleReplica(c.disk); err != nil {
		return nil, err
	}
	return t.sealed(v, c.generation, &c.seal)
}

// sealable returns the row of a closing volume, or of one that is sealed with the
// same digest.
func (t *table) sealable(n VolumeID, generation uint32, s *Seal) (Volume, error) {
	v, err := t.volumeFor(n)
	switch {
	case err != nil:
	case generation < v.Generation:
		err = fmt.Errorf("%w: volume %d has generation %d, not %d", ErrStale, v.ID, v.Generation, generation)
	case generation > v.Generation || v.State == StateOpen:
		err = fmt.Errorf("%w: generation %d of volume %d, state %d, has generation %d", ErrInvalid, generation, v.ID, v.State, v.Generation)
	case v.State == StateSealed && v.Seal.Digest != s.Digest:
		err = fmt.Errorf("%w: volume %d is sealed with another digest", ErrInvalid, v.ID)
	}
	return v, err
}

// soleReplica refuses a disk that has not the only replica.
func (v Volume) soleReplica(d DiskID) error {
	if len(v.Replicas) != 1 || v.Replicas[0] != d {
		return fmt.Errorf("%w: disk %d is not the only replica of volume %d", ErrInvalid, d, v.ID)
	}
	return nil
}

// sealed stores a closing volume with its seal. Sealed where it lies, it needs no
// salvage any more.
func (t *table) sealed(v Volume, generation uint32, s *Seal) (any, error) {
	next, err := v.Coding.Replace(s.source(generation))
	if err != nil {
		return nil, refusal(v.ID, err)
	}
	v.State, v.Seal, v.Compaction, v.Coding = StateSealed, s, nil, next
	t.setVolume(v)
	return v, nil
}

type beginCompaction struct {
	volume      VolumeID
	generation  uint32
	digest      [32]byte
	deletes     uint32
	secret      [32]byte
	incarnation uint64
	now         id.Millis
}

func (c *beginCompaction) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(c.generation)
	e.bytes(c.digest[:])
	e.u32(c.deletes)
	e.bytes(c.secret[:])
	e.u64(c.incarnation)
	e.millis(c.now)
}

func (c *beginCompaction) decode(d *dec) {
	*c = beginCompaction{VolumeID(d.u32()), d.u32(), [32]byte(d.take(32)), d.u32(), [32]byte(d.take(32)), d.u64(), d.millis()}
}

func (c *beginCompaction) apply(t *table) (any, error) {
	v, err := t.volumeFor(c.volume)
	switch {
	case err != nil:
		return nil, err
	case c.generation < v.Generation:
		return nil, fmt.Errorf("%w: volume %d has generation %d, not %d", ErrStale, v.ID, v.Generation, c.generation)
	case c.generation > v.Generation || v.State != StateSealed || c.digest != v.Seal.Digest || c.secret == [32]byte{}:
		return nil, fmt.Errorf("%w: a compaction from generation %d of volume %d, state %d, generation %d",
			ErrInvalid, c.generation, v.ID, v.State, v.Generation)
	case v.Compaction != nil:
		return v, nil
	case v.Coding.Busy():
		return nil, fmt.Errorf("%w: %w: generation %d of volume %d is in use by epoch %d", ErrStale, lifecycle.ErrRefused, v.Generation, v.ID, v.Coding.Epoch)
	case c.deletes < v.Seal.Deletes || v.LastGeneration == 1<<32-1:
		return nil, fmt.Errorf("%w: a compaction over delete %d after one over %d, generation %d",
			ErrInvalid, c.deletes, v.Seal.Deletes, v.LastGeneration)
	}
	v.LastGeneration++
	v.Compaction = &Compaction{Generation: v.LastGeneration, Secret: c.secret, Time: c.now, Deletes: c.deletes, Incarnation: c.incarnation}
	t.setVolume(v)
	return v, nil
}

type commitCompaction struct {
	volume     VolumeID
	generation uint32
	disk       DiskID
	seal       Seal
}

func (c *commitCompaction) encode(e *enc) { (*sealVolume)(c).encode(e) }

func (c *commitCompaction) decode(d *dec) { (*sealVolume)(c).decode(d) }

func (c *commitCompaction) apply(t *table) (any, error) {
	v, repeated, err := t.underWay(c.volume, c.generation, &c.seal)
	if err != nil || repeated {
		return v, err
	}
	if v.Coding.Committed == nil {
		err = v.soleReplica(c.disk)
	} else { // it may have been made out of shards, anywhere
		err = t.knownHomes(lifecycle.Disk(c.disk))
	}
	if err != nil {
		return nil, err
	}
	return t.replaced(v.placed([]DiskID{c.disk}, []DiskID{c.disk}), c.generation, &c.seal)
}

// underWay returns the row of a volume that such a generation is being made of;
// when it was committed already, repeated is true.
func (t *table) underWay(n VolumeID, generation uint32, s *Seal) (v Volume, repeated bool, err error) {
	v, err = t.volumeFor(n)
	switch {
	case err != nil:
	case v.State == StateOpen || generation > v.LastGeneration:
		err = fmt.Errorf("%w: generation %d of volume %d, state %d, was never begun", ErrInvalid, generation, v.ID, v.State)
	case generation == v.Generation && v.Seal != nil && s.Digest == v.Seal.Digest:
		repeated = true
	case v.Compaction == nil || generation != v.Compaction.Generation:
		err = fmt.Errorf("%w: generation %d of volume %d is not under way", ErrStale, generation, v.ID)
	case s.Deletes != v.Compaction.Deletes:
		err = fmt.Errorf("%w: generation %d of volume %d was begun over delete %d, not %d",
			ErrInvalid, generation, v.ID, v.Compaction.Deletes, s.Deletes)
	}
	return v, repeated, err
}

// replaced stores a volume whose next generation, a salvage's too, has become the
// newest source. Its file lies on the replicas in sync.
func (t *table) replaced(v Volume, generation uint32, s *Seal) (any, error) {
	next, err := v.Coding.Replace(s.source(generation))
	if err != nil {
		return nil, refusal(v.ID, err)
	}
	v.State, v.Generation, v.Seal, v.Compaction, v.Coding = StateSealed, generation, s, nil, next
	t.setVolume(v)
	return v, nil
}

type abandonCompaction struct {
	volume     VolumeID
	generation uint32
}

func (c *abandonCompaction) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(c.generation)
}

func (c *abandonCompaction) decode(d *dec) { *c = abandonCompaction{VolumeID(d.u32()), d.u32()} }

func (c *abandonCompaction) apply(t *table) (any, error) {
	v, err := t.volumeFor(c.volume)
	switch {
	case err != nil:
		return nil, err
	case c.generation > v.LastGeneration:
		return nil, fmt.Errorf("%w: generation %d of volume %d was never begun", ErrInvalid, c.generation, v.ID)
	case c.generation <= v.Generation:
		return nil, fmt.Errorf("%w: volume %d has generation %d already", ErrStale, v.ID, v.Generation)
	case v.Compaction == nil || v.Compaction.Generation != c.generation:
		return v, nil // abandoned already
	}
	v.Compaction = nil
	t.setVolume(v)
	return v, nil
}
