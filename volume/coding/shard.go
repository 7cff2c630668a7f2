package coding

import (
	"context"
	"errors"
	"fmt"

	"hayloft/volume"
)

// Shard is how the bytes of a shard file are reached, here or on another
// machine. It is called by many goroutines.
type Shard interface {
	// ReadAt fills p with the bytes of the file from offset off, or fails.
	ReadAt(ctx context.Context, p []byte, off int64) error
}

// Committed is an epoch that the directory has committed.
type Committed struct {
	Plan
	Digests []Digest // one for each shard
}

// Validate holds it to the limits of the format.
func (c Committed) Validate() error {
	if err := c.Plan.Validate(); err != nil {
		return err
	}
	if len(c.Digests) != c.Shards() {
		return fmt.Errorf("%w: %d digests for %s", volume.ErrInvalid, len(c.Digests), c.Policy)
	}
	return nil
}

// File is a Shard on a disk of this machine, opened for reading.
type File struct{ d *device }

// Open opens shard i of a committed epoch. A file that is not that shard, as
// its head and digest say, is ErrForeign. Only the head is read: what else is
// wrong shows when it is read.
func Open(home Home, c Committed, i int) (*File, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if i < 0 || i >= c.Shards() {
		return nil, fmt.Errorf("%w: shard %d of %s", volume.ErrInvalid, i, c.Policy)
	}
	name := home.path(c.Plan, i)
	d, err := openDevice(home.FS, name)
	if err != nil {
		return nil, err
	}
	h, err := readHead(d, &inspection{plan: c.Plan, shard: i, found: func(Finding) {}})
	if err == nil {
		err = h.committed(c)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), d.close())
	}
	return &File{d: d}, nil
}

// committed says why a head that belongs to the plan is not that of the commit.
func (h *head) committed(c Committed) error {
	if h.Digest != c.Digests[h.Shard] {
		return fmt.Errorf("%w: shard %d of volume %d epoch %d has digest %x, committed is %x",
			ErrForeign, h.Shard, h.Volume, h.Epoch, h.Digest, c.Digests[h.Shard])
	}
	return nil
}

// ReadAt implements Shard.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.d.readFor(ctx, p, off)
}

// Close closes the file. Nobody may read any more.
func (f *File) Close() error { return f.d.close() }
