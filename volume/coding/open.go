package coding

import (
	"errors"
	"fmt"

	"hayloft/internal/slab"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// Head is what a shard file says of itself.
type Head struct {
	Plan
	Shard     int
	SourceSum [32]byte
	Digest    Digest
	// Superblock is the first copy of the source's, twice: the first bytes of the
	// source, as volume.ReadOrigin takes them.
	Superblock []byte
}

// OpenAny opens a shard file by its name, whatever shard it is, for who has no
// directory that says which epoch counts. One valid copy of the head is enough,
// also where the file has not the length that follows from it. Whether that shard
// is whole says Check; bytes of it prove themselves, or do not.
func OpenAny(fsys vfs.FS, name string) (*File, Head, error) {
	d, err := openDevice(fsys, name)
	if err != nil {
		return nil, Head{}, err
	}
	h, err := anyHead(d)
	if err != nil {
		return nil, Head{}, errors.Join(fmt.Errorf("%s: %w", name, err), d.close())
	}
	out := Head{Plan: h.Plan, Shard: h.Shard, SourceSum: h.SourceSum, Digest: h.Digest}
	out.Superblock = append(append(out.Superblock, h.Superblock[:]...), h.Superblock[:]...)
	return &File{d: d}, out, nil
}

// anyHead reads a head that is not known yet.
func anyHead(d *device) (*head, error) {
	size, err := d.f.Size()
	if err != nil {
		return nil, err
	}
	b := slab.Alloc(headSize)
	var first *head
	var errs []error
	for _, at := range []int64{0, (size - headSize) &^ (pageSize - 1)} {
		err := corrupt("shard file of %d bytes", size)
		if at >= 0 {
			err = d.read(b, at)
		}
		var h *head
		if err == nil {
			h, err = decodeHead(b)
		}
		switch {
		case errors.Is(err, volume.ErrUnsupported):
			return nil, err
		case err != nil:
			errs = append(errs, err)
		case first != nil && *first != *h:
			return nil, corrupt("two heads that differ")
		default:
			first = h
		}
	}
	if first == nil {
		return nil, fmt.Errorf("both copies of the head: %w", errors.Join(errs...))
	}
	return first, nil
}

// IndexAt is where the index copy begins in every shard file of the plan.
func (p Plan) IndexAt() int64 { return headSize + p.ShardBytes() }

// PayloadAt is where the payload begins in every shard file.
const PayloadAt = headSize
