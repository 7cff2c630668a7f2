package coding

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"hayloft/internal/slab"
	"hayloft/internal/vfs"
)

// output is a file under way: it has the name with .tmp until it is proven.
type output struct {
	fs   vfs.FS
	name string   // that it will have
	lock vfs.File // holds the lock
	past vfs.File // past the page cache, or nil
}

// newOutput makes the file at its full size, so that a full disk shows before a
// byte is computed.
func newOutput(fsys vfs.FS, name string, size int64) (*output, error) {
	lock, err := fsys.Create(name + tmpExt)
	if err != nil {
		return nil, err
	}
	o := &output{fs: fsys, name: name, lock: lock}
	if err := lock.Allocate(0, size); err != nil {
		return nil, errors.Join(fmt.Errorf("make room for %s: %w", name, err), o.abandon())
	}
	past, unit, err := fsys.OpenDirectWrite(name + tmpExt)
	switch {
	case err == nil:
		// Some file systems open such files and do not write them. The first
		// page is written again at the end.
		_, err = past.WriteVAt([][]byte{slab.Alloc(pageSize)}, 0)
		if unit <= pageSize && err == nil {
			o.past = past
			return o, nil
		}
		if errors.Is(err, unix.EINVAL) {
			err = nil
		}
		err = errors.Join(err, past.Close())
	case errors.Is(err, vfs.ErrNoDirect):
		err = nil
	}
	if err != nil {
		return nil, errors.Join(err, o.abandon())
	}
	return o, nil
}

// write puts b, whose length and place are multiples of pageSize, at off.
func (o *output) write(b []byte, off int64) error {
	f := o.past
	if f == nil || !isAligned(b, off) {
		f = o.lock
	}
	if _, err := f.WriteVAt([][]byte{b}, off); err != nil {
		return fmt.Errorf("write %d bytes at %d of %s: %w", len(b), off, o.name, err)
	}
	return nil
}

// sync makes what was written durable. Of a sync that fails nothing is known:
// the file is given up.
func (o *output) sync() error {
	if err := o.lock.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", o.name, err)
	}
	return nil
}

// publish gives the file its name. It is durable after the directory's sync.
func (o *output) publish() error {
	if err := o.fs.Rename(o.name+tmpExt, o.name); err != nil {
		return err
	}
	return o.close()
}

func (o *output) close() error {
	err := error(nil)
	if o.past != nil {
		err = o.past.Close()
	}
	if o.lock != nil {
		err = errors.Join(err, o.lock.Close())
	}
	o.past, o.lock = nil, nil
	return err
}

// abandon removes the file unless it has its name. After publish it does nothing.
func (o *output) abandon() error {
	if o.lock == nil {
		return nil
	}
	return errors.Join(o.fs.Remove(o.name+tmpExt), o.close())
}

// target is a shard under way.
type target struct {
	*output
	head head
	raw  []uint32 // raw sums of the body's blocks
}

func newTarget(home Home, h head) (*target, error) {
	out, err := newOutput(home.FS, home.path(h.Plan, h.Shard), h.FileBytes())
	if err != nil {
		return nil, err
	}
	return &target{output: out, head: h, raw: make([]uint32, h.layout().blocks())}, nil
}

// putIndex writes the next part of the index copy. All parts but the last are
// a multiple of BlockSize, and each lies in memory that is filled up with zeros
// to a multiple of pageSize.
func (t *target) putIndex(b []byte, off int64) error {
	at := t.head.layout().payload + off
	sumColumn(t.raw, b, at)
	return t.write(b, headSize+at)
}

// seal writes what stands around the body, and syncs.
func (t *target) seal(sourceSum [32]byte) error {
	t.head.SourceSum = sourceSum
	l, bind := t.head.layout(), t.head.binding()
	sums := make([]uint32, len(t.raw))
	for b, raw := range t.raw {
		sums[b] = raw ^ bind.mask(int64(b))
	}
	t.head.Digest = t.head.digest(sums)
	page := slab.Alloc(pageSize)
	for q := range l.tablePages() {
		bind.putPage(page, q, pageSums(sums, q))
		if err := t.write(page, l.tableAt()+q*pageSize); err != nil {
			return err
		}
	}
	b := slab.Alloc(headSize)
	copy(b, t.head.encode())
	if err := errors.Join(t.write(b, l.tailAt()), t.write(b, 0)); err != nil {
		return err
	}
	return t.sync()
}

// readBack compares what the device holds with what was written. tee gets the
// payload.
func (t *target) readBack(ctx context.Context, w *work, tee func([]byte) error) error {
	var damage error
	got, err := inspect(ctx, w, t.fs, t.name+tmpExt, inspection{plan: t.head.Plan, shard: t.head.Shard, tee: tee,
		found: func(f Finding) { damage = errors.Join(damage, f.Err) }})
	if err == nil {
		err = damage
	}
	if err == nil && got.head.Digest != t.head.Digest {
		err = corrupt("it reads back as another shard")
	}
	if err != nil {
		return fmt.Errorf("read back %s: %w", t.name, err)
	}
	return nil
}
