package coded

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"hayloft/internal/vfs"
	"hayloft/volume/coding"
)

// pageSize is the unit of reads that go straight into the engine's memory, in bytes.
const pageSize = 4096

var (
	errFixed   = errors.New("a coded volume's file never changes")
	errReading = errors.New("the file is open for reading")
)

// fixed is what files have in common that never change.
type fixed struct{ name string }

func (f fixed) refuse(op string) error { return &fs.PathError{Op: op, Path: f.name, Err: errFixed} }

// WriteVAt implements vfs.File.
func (f fixed) WriteVAt([][]byte, int64) (int, error) { return 0, f.refuse("write") }

// Allocate implements vfs.File.
func (f fixed) Allocate(int64, int64) error { return f.refuse("allocate") }

// Truncate implements vfs.File.
func (f fixed) Truncate(int64) error { return f.refuse("truncate") }

// Sync implements vfs.File: a shard was synced before it got its name.
func (fixed) Sync() error { return nil }

// Evict implements vfs.File: shards are read past the page cache.
func (fixed) Evict(int64, int64) error { return nil }

// Close implements vfs.File.
func (fixed) Close() error { return nil }

// volumeFile is the source, read out of the shards.
type volumeFile struct {
	fixed
	w *view
}

var _ vfs.Surer = volumeFile{}

// Size implements vfs.File.
func (f volumeFile) Size() (int64, error) { return f.w.c.SourceBytes, nil }

// ReadAt implements vfs.File. The bytes may be wrong where a shard has rotted: the
// records' checksums tell.
func (f volumeFile) ReadAt(b []byte, off int64) (int, error) {
	return f.read(b, off, (*coding.Reader).ReadInto)
}

// ReadAtSurely implements vfs.Surer: with the sums of the blocks. The superblocks
// are there as long as any shard is.
func (f volumeFile) ReadAtSurely(b []byte, off int64) (int, error) {
	n, err := f.read(b, off, (*coding.Reader).ReadSurely)
	if !errors.Is(err, coding.ErrLost) || off+int64(len(b)) > 2*pageSize {
		return n, err
	}
	one, heads := []byte(nil), error(nil)
	_, lost := f.read(b, off, func(r *coding.Reader, ctx context.Context, _ []byte, _ int64) (bool, error) {
		one, heads = r.Superblock(ctx)
		return false, heads
	})
	if lost != nil {
		return 0, err
	}
	return copy(b, append(one, one...)[off:]), nil
}

func (f volumeFile) read(b []byte, off int64, how func(*coding.Reader, context.Context, []byte, int64) (bool, error)) (int, error) {
	n := min(int64(len(b)), f.w.c.SourceBytes-off)
	if n <= 0 || off < 0 {
		return 0, end(len(b))
	}
	set, err := f.w.shards.use()
	if err != nil {
		return 0, err
	}
	defer f.w.shards.leave(set)
	if _, err := how(set.reader, f.w.ctx, b[:n], off); err != nil {
		return 0, err
	}
	if n < int64(len(b)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// end is the answer to a read of n bytes from the end on.
func end(n int) error {
	if n == 0 {
		return nil
	}
	return io.EOF
}

// indexFile is the sealed index, out of any shard that has it.
type indexFile struct {
	fixed
	w *view
}

// Size implements vfs.File.
func (f indexFile) Size() (int64, error) { return f.w.c.IndexBytes, nil }

// ReadAt implements vfs.File.
func (f indexFile) ReadAt(b []byte, off int64) (int, error) {
	n := min(int64(len(b)), f.w.c.IndexBytes-off)
	if n <= 0 || off < 0 {
		return 0, end(len(b))
	}
	set, err := f.w.shards.use()
	if err != nil {
		return 0, err
	}
	defer f.w.shards.leave(set)
	first := int(f.w.c.Epoch) % f.w.c.Shards() // not of all volumes on one disk
	if err := set.reader.ReadIndex(f.w.ctx, b[:n], off, first); err != nil {
		return 0, err
	}
	if n < int64(len(b)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// besideFile is a small file that belongs to the delete log. It is in memory until it
// is renamed: then every copy gets it.
type besideFile struct {
	fixed
	w    *view
	name string
	b    []byte
}

// Size implements vfs.File.
func (f *besideFile) Size() (int64, error) { return int64(len(f.b)), nil }

// ReadAt implements vfs.File.
func (f *besideFile) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(f.b)) {
		return 0, end(len(b))
	}
	n := copy(b, f.b[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteVAt implements vfs.File: from the end on.
func (f *besideFile) WriteVAt(bufs [][]byte, off int64) (int, error) {
	if off != int64(len(f.b)) {
		return 0, f.refuse("write")
	}
	n := 0
	for _, b := range bufs {
		f.b = append(f.b, b...)
		n += len(b)
	}
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.beside[f.name] = f.b
	return n, nil
}
