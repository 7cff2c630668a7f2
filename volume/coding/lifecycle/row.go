package lifecycle

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// The errors of this package; test with errors.Is.
var (
	// ErrRefused: the row does not allow the command, and never will again or
	// not yet. Nothing has changed.
	ErrRefused = errors.New("the volume's row does not allow it")
	// ErrInvalid: the command makes no sense for any row.
	ErrInvalid = errors.New("invalid command")
)

// Digest is the digest of a set of needles, or of a shard.
type Digest [32]byte

// Disk names a disk of the directory.
type Disk uint32

// Source is a sealed generation of a volume.
type Source struct {
	Generation uint32
	Digest     Digest
	Bytes      int64 // of the file
}

// Run is an epoch that one encoder may write.
type Run struct {
	Epoch        uint32
	Encoder      uint64 // number of the run, drawn by the encoder that asked
	Data, Parity int
	Source       Source
	IndexBytes   int64  // of the source's sealed index, by the encoder's word
	Homes        []Disk // one for each shard, at most Parity on one disk
}

// Commit is an epoch that counts.
type Commit struct {
	Run
	Digests []Digest // of the shards
	At      time.Time
}

// Row is what the directory has committed about the coding of one volume. The
// zero Row is that of a volume that is not sealed.
type Row struct {
	Epoch uint32 // the largest given out; none is given out twice
	// Source is the newest sealed generation.
	Source Source
	// Released is the largest generation whose files may be removed.
	Released uint32
	// Run is the epoch under way.
	Run *Run
	// Committed is the epoch that serves when the source is released.
	Committed *Commit
	// Before is the epoch that Committed replaces. It serves on until the source
	// of Committed is released.
	Before *Commit
}

// State is where a volume stands.
type State string

// The states.
const (
	Unsealed State = "unsealed"
	Sealed   State = "sealed"   // the source serves
	Coding   State = "coding"   // the source serves, an encoder writes
	Coded    State = "coded"    // the source serves, and so may the shards
	Released State = "released" // the shards serve
)

// State derives where the volume stands.
func (r Row) State() State {
	switch {
	case r.Source.Generation == 0:
		return Unsealed
	case r.Run != nil:
		return Coding
	case r.Source.Generation <= r.Released:
		return Released
	case r.inGrace():
		return Coded
	}
	return Sealed
}

// Busy tells whether the newest source may not be replaced: an epoch is made from
// it, or was made and may still be revoked.
func (r Row) Busy() bool { return r.Run != nil || r.inGrace() }

// Validate tells whether the commands can lead to such a row, for one that was
// read.
func (r Row) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	c, b := r.Committed, r.Before
	switch {
	case r.Source.Generation == 0 && r != Row{}:
		return bad("epoch %d without a source", r.Epoch)
	case r.Source.Generation < r.Released:
		return bad("generation %d is released, the newest is %d", r.Released, r.Source.Generation)
	case r.Run != nil && (!r.Run.sound() || r.Run.Epoch != r.Epoch || r.Run.Source != r.Source || r.Source.Generation <= r.Released || r.inGrace()):
		return bad("run of epoch %d", r.Run.Epoch)
	case c == nil && (b != nil || r.Released != 0):
		return bad("generation %d is released, and no epoch committed", r.Released)
	case c == nil:
		return nil
	case !c.sound() || c.Epoch > r.Epoch || r.Run != nil && c.Epoch == r.Epoch || !r.inGrace() && c.Source.Generation != r.Released:
		return bad("committed epoch %d", c.Epoch)
	case c.Source.Generation == r.Source.Generation && c.Source != r.Source:
		return bad("epoch %d has another source of generation %d", c.Epoch, r.Source.Generation)
	case b == nil && r.inGrace() && r.Released != 0:
		return bad("generation %d is released by no epoch", r.Released)
	case b != nil && (!r.inGrace() || !b.sound() || b.Epoch >= c.Epoch || b.Source.Generation != r.Released):
		return bad("epoch %d before epoch %d", b.Epoch, c.Epoch)
	}
	return nil
}

// sound tells whether a run is one that Begin gives out.
func (r *Run) sound() bool {
	return r.Epoch != 0 && r.Encoder != 0 && r.Data > 0 && r.Parity > 0 && len(r.Homes) == r.Data+r.Parity && r.IndexBytes >= 0 &&
		r.Source.Generation != 0 && r.Source.Bytes > 0 && !crowded(r.Homes, r.Parity)
}

func (c *Commit) sound() bool { return c.Run.sound() && len(c.Digests) == len(c.Homes) }

// inGrace tells whether shards of the newest source are committed and the source
// is not released.
func (r Row) inGrace() bool {
	return r.Committed != nil && r.Committed.Source == r.Source && r.Source.Generation > r.Released
}

// refusal is an ErrRefused that is put into words when somebody reads it.
type refusal struct {
	format string
	args   []any
}

func refused(format string, args ...any) error { return &refusal{format, args} }

func (e *refusal) Error() string { return ErrRefused.Error() + ": " + fmt.Sprintf(e.format, e.args...) }
func (e *refusal) Unwrap() error { return ErrRefused }

// Replace makes s the newest sealed generation: the first one by sealing, later
// ones by compaction, of the source or out of the shards. It is refused while an
// epoch is made from the one there is, or was made and may still be revoked.
func (r Row) Replace(s Source) (Row, error) {
	switch {
	case s.Generation == 0 || s.Bytes <= 0:
		return r, fmt.Errorf("%w: source %+v", ErrInvalid, s)
	case s == r.Source:
		return r, nil
	case s.Generation <= r.Source.Generation:
		return r, refused("generation %d, the newest is %d", s.Generation, r.Source.Generation)
	case r.Busy():
		return r, refused("generation %d is in use by epoch %d", r.Source.Generation, r.Epoch)
	}
	r.Source = s
	return r, nil
}

// Begin gives out an epoch to an encoder, which asks for the next one: a request
// that comes late finds it taken. The run there was is void.
func (r Row) Begin(want Run) (Row, error) {
	switch {
	case want.Encoder == 0 || want.Data < 1 || want.Parity < 1 || len(want.Homes) != want.Data+want.Parity || want.IndexBytes < 0:
		return r, fmt.Errorf("%w: encoder %x, %d+%d with %d homes, index of %d bytes",
			ErrInvalid, want.Encoder, want.Data, want.Parity, len(want.Homes), want.IndexBytes)
	case crowded(want.Homes, want.Parity):
		return r, fmt.Errorf("%w: more than %d of the shards %v on one disk", ErrInvalid, want.Parity, want.Homes)
	case r.Run != nil && r.Run.equal(want):
		return r, nil
	case want.Epoch != r.Epoch+1 || want.Epoch == 0:
		return r, refused("epoch %d, the largest given out is %d", want.Epoch, r.Epoch)
	case want.Source != r.Source || r.Source.Generation == 0:
		return r, refused("the newest source is generation %d with digest %x", r.Source.Generation, r.Source.Digest)
	case r.Source.Generation <= r.Released:
		return r, refused("generation %d is released", r.Source.Generation)
	case r.inGrace():
		return r, refused("epoch %d is committed", r.Committed.Epoch)
	}
	r.Epoch = want.Epoch
	want.Homes = slices.Clone(want.Homes)
	r.Run = &want
	return r, nil
}

func (r Run) equal(o Run) bool {
	return r.Epoch == o.Epoch && r.Encoder == o.Encoder && r.Data == o.Data && r.Parity == o.Parity &&
		r.Source == o.Source && r.IndexBytes == o.IndexBytes && slices.Equal(r.Homes, o.Homes)
}

// crowded tells whether some disk is the home of more shards than may be lost.
func crowded(homes []Disk, parity int) bool {
	for _, d := range homes {
		n := 0
		for _, o := range homes {
			if o == d {
				n++
			}
		}
		if n > parity {
			return true
		}
	}
	return false
}

// Commit makes the epoch of a run count. digests are those of all shards, each
// read back from its device. This is the switch: later commands of other runs
// are refused.
func (r Row) Commit(epoch uint32, encoder uint64, digests []Digest, now time.Time) (Row, error) {
	if c := r.Committed; c != nil && c.Epoch == epoch && c.Encoder == encoder && slices.Equal(c.Digests, digests) {
		return r, nil
	}
	switch {
	case r.Run == nil || r.Run.Epoch != epoch || r.Run.Encoder != encoder:
		return r, refused("epoch %d of encoder %x is void", epoch, encoder)
	case len(digests) != len(r.Run.Homes):
		return r, fmt.Errorf("%w: %d digests for %d shards", ErrInvalid, len(digests), len(r.Run.Homes))
	}
	r.Before = r.Committed
	r.Committed = &Commit{Run: *r.Run, Digests: slices.Clone(digests), At: now}
	r.Run = nil
	return r, nil
}

// Abort ends a run. Its epoch is void.
func (r Row) Abort(epoch uint32, encoder uint64) (Row, error) {
	if c := r.Committed; c != nil && c.Epoch == epoch {
		return r, refused("epoch %d is committed", epoch)
	}
	if r.Run != nil && r.Run.Epoch == epoch && r.Run.Encoder == encoder {
		r.Run = nil
	}
	return r, nil
}

// Revoke makes a committed epoch void, for one whose shards turn out to be lost
// while the source is not released: the source, or the epoch before, goes on.
func (r Row) Revoke(epoch uint32) (Row, error) {
	c := r.Committed
	switch {
	case epoch != 0 && r.MayRemoveShards(epoch):
		return r, nil // void already
	case c == nil || c.Epoch != epoch:
		return r, refused("epoch %d is not the committed one", epoch)
	case !r.inGrace():
		return r, refused("the source of epoch %d is released", epoch)
	}
	r.Committed, r.Before = r.Before, nil
	return r, nil
}

// Release lets the source of a committed epoch go, and the epoch before it, when
// its grace is over. verified are the digests of all shards, read from their
// devices since the commit.
func (r Row) Release(epoch uint32, verified []Digest, now time.Time, grace time.Duration) (Row, error) {
	c := r.Committed
	switch {
	case c == nil || c.Epoch != epoch:
		return r, refused("epoch %d is not the committed one", epoch)
	case c.Source.Generation <= r.Released:
		return r, nil
	case !slices.Equal(verified, c.Digests):
		return r, refused("the shards of epoch %d are not verified", epoch)
	case now.Before(c.At.Add(grace)):
		return r, refused("the grace of epoch %d lasts until %v", epoch, c.At.Add(grace))
	}
	r.Released, r.Before = c.Source.Generation, nil
	return r, nil
}

// Move gives a shard of the committed epoch another home. The new one has it,
// read back from its device with the digest of the commit.
func (r Row) Move(epoch uint32, shard int, to Disk, verified Digest) (Row, error) {
	c := r.Committed
	switch {
	case c == nil || c.Epoch != epoch:
		return r, refused("epoch %d is not the committed one", epoch)
	case shard < 0 || shard >= len(c.Homes):
		return r, fmt.Errorf("%w: shard %d of %d", ErrInvalid, shard, len(c.Homes))
	case verified != c.Digests[shard]:
		return r, refused("shard %d of epoch %d has another digest", shard, epoch)
	case c.Homes[shard] == to:
		return r, nil
	}
	moved := *c
	moved.Homes = slices.Clone(c.Homes)
	moved.Homes[shard] = to
	if crowded(moved.Homes, c.Parity) {
		return r, fmt.Errorf("%w: more than %d of the shards %v on one disk", ErrInvalid, c.Parity, moved.Homes)
	}
	r.Committed = &moved
	return r, nil
}
