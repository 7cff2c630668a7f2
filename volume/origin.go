package volume

import (
	"fmt"
	"io"
	"time"

	"hayloft/internal/id"
)

// Origin is what the superblock of a volume file says of it, for who has nothing
// but files.
type Origin struct {
	Identity
	Created   time.Time
	DeleteLog bool        // the file is the delete log of the volume, and Class that of none
	Seal      *SealRecord // of a sealed volume, else nil; not to be changed
	Logged    bool        // a fenced volume whose deletes are in a delete log too

	sb superblock
}

// ReadOrigin reads the superblock of a volume file or delete log, which begins at
// offset 0 of r. One damaged copy does no harm.
func ReadOrigin(r io.ReaderAt) (Origin, error) {
	sb, _, err := readSuperblock(r)
	return Origin{Identity: sb.Identity, Created: sb.Created, DeleteLog: sb.Class == classDeletes, Seal: sb.Seal, Logged: sb.Logged, sb: sb}, err
}

// Catalog is the sealed index of one volume file, read-only. It may be used by
// many goroutines.
type Catalog struct{ idx *sealIndex }

// Catalog reads a sealed index and verifies all of it. It is ErrCorrupt when it
// is not the index of the file. b is the catalog's from then on.
func (o Origin) Catalog(b []byte) (*Catalog, error) {
	if o.Seal == nil {
		return nil, fmt.Errorf("%w: volume %d", ErrNotSealed, o.Volume)
	}
	x, err := decodeSealIndex(b)
	if err != nil {
		return nil, err
	}
	want := sealIndexHead{Volume: o.Volume, Generation: o.Generation, Sign: newSeal(o.sb).sign, Digest: o.Seal.Digest, End: o.Seal.End}
	if !x.head.belongs(want) || x.head.Needles != o.Seal.Needles {
		return nil, fmt.Errorf("%w: sealed index of another file", ErrCorrupt)
	}
	return &Catalog{x}, nil
}

// Needles is how many it lists.
func (c *Catalog) Needles() int64 { return c.idx.head.Needles }

// Has tells whether a needle is listed.
func (c *Catalog) Has(key id.ID, alt uint8) bool {
	_, ok := c.idx.get(key, alt)
	return ok
}

// Each calls fn for every needle that was live when the file was sealed, by (key,
// alt), with the place of its record, until fn returns false.
func (c *Catalog) Each(fn func(key id.ID, alt uint8, off, size int64) bool) {
	c.idx.each(func(key id.ID, alt uint8, p place) bool { return fn(key, alt, p.off, p.size) })
}
