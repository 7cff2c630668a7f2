package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// What a check found can be made good without the volume leaving service: what
// can be made again from what is in memory, and what another copy still has.

// Beside is what CheckBeside found.
type Beside struct {
	File  string // its name; "" when the volume has none
	Bytes int64
	Err   error // what is wrong with it, or nil
}

// CheckBeside reads the file beside the volume's own that spares the next Open
// going through all records, the checkpoint or the sealed index, as the device
// holds it. One that a newer program wrote is right. It is not to be called while
// the volume is being sealed. The error is a failure of the check itself.
func (v *Volume) CheckBeside(ctx context.Context) (Beside, error) {
	if err := v.acquire(ctx); err != nil {
		return Beside{}, err
	}
	defer v.release()
	if p := v.sealing.part.Load(); p != nil {
		return v.checkSealedIndex(p), nil
	}
	b := v.checkCheckpoint()
	if v.sealing.part.Load() != nil {
		return Beside{}, nil // sealing removes it
	}
	return b, nil
}

func (v *Volume) checkSealedIndex(p *sealedPart) Beside {
	if p.incomplete != nil {
		return Beside{} // none can be made
	}
	b := Beside{File: IndexName(v.sb.Volume, v.sb.Generation)}
	if b.Bytes, b.Err = v.evict(v.indexPath()); b.Err != nil {
		return b
	}
	idx, err := readSealIndex(v.o.FS, v.indexPath(), v.sealHead(&p.rec))
	switch {
	case isUnsupported(err):
	case err != nil:
		b.Err = err
	case idx.head.Needles != p.rec.Needles:
		b.Err = fmt.Errorf("%w: sealed index of %d needles, %d were sealed", ErrCorrupt, idx.head.Needles, p.rec.Needles)
	}
	return b
}

func (v *Volume) checkCheckpoint() Beside {
	path := v.checkpointPath()
	covered := v.checkpoints.covered.Load()
	b := Beside{File: filepath.Base(path)}
	b.Bytes, b.Err = v.evict(path)
	if errors.Is(b.Err, fs.ErrNotExist) && covered == 0 {
		return Beside{}
	}
	if b.Err != nil {
		return b
	}
	c, _, err := v.loadCheckpoint(v.synced.Load())
	if err == nil {
		err = c.matches(v.file, &v.seal)
	}
	if !isUnsupported(err) {
		b.Err = err
	}
	return b
}

// evict drops what is cached of a file, and returns its size.
func (v *Volume) evict(path string) (int64, error) {
	f, err := v.o.FS.Open(path)
	if err != nil {
		return 0, err
	}
	size, err := f.Size()
	return size, errors.Join(err, f.Evict(0, 0), f.Close())
}

// MendBeside makes the file again that CheckBeside looks at, and returns when it is
// on stable storage.
func (v *Volume) MendBeside(ctx context.Context) error {
	if err := v.acquire(ctx); err != nil {
		return err
	}
	defer v.release()
	if p := v.sealing.part.Load(); p != nil {
		if p.incomplete != nil {
			return p.incomplete
		}
		return classify(p.writeIndex(v))
	}
	var s snapshot
	if err := v.onWriter(ctx, func() error { s = v.snapshot(); return nil }); err != nil {
		return err
	}
	if !v.checkpointing() {
		return fmt.Errorf("%w: volume %d has no checkpoints", ErrInvalid, v.sb.Volume)
	}
	s.done = make(chan error, 1)
	select {
	case v.checkpoints.offers <- s: // it is not closed while the volume is acquired
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-s.done
}

// MendSuperblock writes a copy of the superblock that is damaged again from the
// other one, and returns when that is on stable storage. A write that fails
// poisons the volume.
func (v *Volume) MendSuperblock(ctx context.Context) error {
	if err := v.acquire(ctx); err != nil {
		return err
	}
	defer v.release()
	if v.sealing.part.Load() == nil {
		if err := v.onWriter(ctx, v.mendSuperblock); !errors.Is(err, ErrSealed) {
			return err
		}
	}
	v.sealing.mending.Lock() // nobody else writes a sealed file
	defer v.sealing.mending.Unlock()
	return v.mendSuperblock()
}

// mendSuperblock is called by the only one who writes the file.
func (v *Volume) mendSuperblock() error {
	if err := v.poisoned(); err != nil {
		return err
	}
	if err := v.file.Evict(0, dataStart); err != nil {
		return fmt.Errorf("drop cached pages: %w", err)
	}
	var copies [2][]byte
	var errs [2]error
	good := -1
	newest := v.sealing.head.Sequence // 0: it is not known, and there was one
	for i := range copies {
		copies[i] = make([]byte, superblockSize)
		n, _ := v.file.ReadAt(copies[i], int64(i)*superblockSize) // what cannot be read is damaged
		var sb superblock
		if sb, errs[i] = decodeSuperblock(copies[i][:n]); errs[i] == nil && (good < 0 || sb.Sequence > newest) {
			good, newest = i, max(newest, sb.Sequence)
		}
		if isUnsupported(errs[i]) {
			return errs[i]
		}
	}
	switch other := 1 - good; {
	case good < 0:
		return fmt.Errorf("%w: both superblock copies of volume %d", ErrCorrupt, v.sb.Volume)
	case errs[other] == nil:
		return nil
	default:
		return v.writeSurely(copies[good], int64(other)*superblockSize)
	}
}

// writeSurely writes and syncs. What fails poisons the volume.
func (v *Volume) writeSurely(b []byte, off int64) error {
	_, err := v.file.WriteVAt([][]byte{b}, off)
	if err == nil {
		err = v.file.Sync()
	}
	if err != nil {
		v.setPoison(classify(err))
		if v.sealing.part.Load() == nil {
			v.leaveMarker()
		}
		return v.poisoned()
	}
	return nil
}

// restoreStep is how much Restore writes at a time, in bytes.
const restoreStep = 1 << 20

// Restore writes n bytes of a sealed volume's file again, from off on, with what
// good fills in: the same bytes, as another copy has them. It is for what Check
// found damaged; who calls it checks again. A crash leaves what was damaged
// damaged, or right. A write that fails poisons the volume.
func (v *Volume) Restore(ctx context.Context, off, n int64, good func(b []byte, off int64) error) error {
	if err := v.acquire(ctx); err != nil {
		return err
	}
	defer v.release()
	p := v.sealing.part.Load()
	switch {
	case p == nil:
		return fmt.Errorf("%w: volume %d", ErrNotSealed, v.sb.Volume)
	case off < 0 || n < 0 || off+n > p.rec.End:
		return fmt.Errorf("%w: %d bytes at %d of volume %d", ErrInvalid, n, off, v.sb.Volume)
	case v.poisoned() != nil:
		return v.poisoned()
	}
	v.sealing.mending.Lock()
	defer v.sealing.mending.Unlock()
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := make([]byte, min(n, restoreStep))
		if err := good(b, off); err != nil {
			return fmt.Errorf("restore %d bytes at %d of volume %d: %w", len(b), off, v.sb.Volume, err)
		}
		if err := v.writeSurely(b, off); err != nil {
			return err
		}
		off, n = off+int64(len(b)), n-int64(len(b))
	}
	return nil
}
