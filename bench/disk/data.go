package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

const (
	kib = 1 << 10
	// stampEvery is the distance of the stamps that make the bytes of each
	// needle its own.
	stampEvery = 4096
	buildGroup = 32 // needles in one Append of a volume that is made to be read
	benchID    = volume.ID(1)
)

var ident = volume.Identity{Volume: benchID, Generation: 1, Class: volume.ClassVariants}

// castagnoli is the polynomial of ETags.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// noise is what all needles are cut from: incompressible, equal in every run.
var noise = func() []byte {
	b := make([]byte, 256*kib)
	r := rand.NewChaCha8([32]byte{'h', 'a', 'y'})
	r.Read(b) //nolint:errcheck // never fails
	return b
}()

// needle is what a reader must know and what it should get.
type needle struct {
	key       id.ID
	size      int
	off, span int64 // of the record in the file
	etag      uint32
}

// keyOf spreads keys as a running system makes them: eight slots, many ids in
// each millisecond.
func keyOf(i int) id.ID {
	const slots, perMilli = 8, 64
	return id.Make(id.Millis(1+i/perMilli), id.Slot(i%slots), uint16(i%perMilli/slots))
}

// photoKey is the i-th key of a system that takes twenty photos a second, on
// eight slots: what an index has to hold in the end. Ascending, no key twice.
func photoKey(i int) id.ID {
	const slots, every = 8, 50 // milliseconds
	h := (uint64(i) + 1) * 0x9e3779b97f4a7c15 >> 32
	return id.Make(id.Millis(1+i*every+int(h%every)), id.Slot(h>>8%slots), uint16(h>>16%3))
}

func cookieOf(key id.ID) id.Cookie { return id.Cookie(uint64(key)*0x9e3779b97f4a7c15 | 1) }

// stamp makes buf, a copy of noise, the data of key.
func stamp(buf []byte, key id.ID) {
	for at := 0; at+8 <= len(buf); at += stampEvery {
		binary.LittleEndian.PutUint64(buf[at:], uint64(key))
	}
	if len(buf) >= 8 {
		binary.LittleEndian.PutUint64(buf[len(buf)-8:], uint64(key))
	}
}

var errWrongData = errors.New("read data that was not written")

// checkFast compares what can be compared without reading everything again.
func checkFast(n *needle, b volume.Blob) error {
	if len(b.Data) != n.size || n.etag != 0 && b.ETag != n.etag ||
		binary.LittleEndian.Uint64(b.Data) != uint64(n.key) ||
		binary.LittleEndian.Uint64(b.Data[n.size-8:]) != uint64(n.key) {
		return fmt.Errorf("%w: key %v", errWrongData, n.key)
	}
	return nil
}

func etag(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

// checkAll compares every byte.
func checkAll(n *needle, b volume.Blob, scratch []byte) error {
	want := scratch[:n.size]
	copy(want, noise)
	stamp(want, n.key)
	if !bytes.Equal(b.Data, want) || b.ETag != etag(want) {
		return fmt.Errorf("%w: key %v", errWrongData, n.key)
	}
	return nil
}

// library is a volume made to be read.
type library struct {
	dir     string
	file    string
	needles []needle
	bytes   int64 // of records
}

// sizeMix returns the size of the i-th needle.
type sizeMix func(i int) int

func only(size int) sizeMix { return func(int) int { return size } }

// mix7030 is workload B: 70 % of 8 KiB and 30 % of 64 KiB.
func mix7030(i int) int {
	if i*7%10 < 7 {
		return 8 * kib
	}
	return 64 * kib
}

// buildLibrary makes a volume of about total bytes in dir, closes it, and
// finds out where its records lie.
func buildLibrary(ctx context.Context, dir string, total int64, size sizeMix) (*library, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	v, err := volume.Create(dir, ident, volume.Options{})
	if err != nil {
		return nil, err
	}
	err = fill(ctx, v, total, size)
	if err = errors.Join(err, v.Close()); err != nil {
		return nil, err
	}
	lib := &library{dir: dir, file: filepath.Join(dir, volume.FileName(benchID, 1))}
	_, err = volume.Scan(nil, lib.file, func(r volume.Record) error {
		if r.Err != nil {
			return fmt.Errorf("record at %d: %w", r.Offset, r.Err)
		}
		if r.Kind == volume.KindNeedle {
			lib.needles = append(lib.needles, needle{key: r.Key, size: len(r.Data), off: r.Offset, span: r.Size, etag: r.ETag})
			lib.bytes += r.Size
		}
		return ctx.Err()
	})
	if err == nil && len(lib.needles) < 2 {
		err = fmt.Errorf("%s holds %d needles", lib.file, len(lib.needles))
	}
	if err != nil {
		return nil, err
	}
	return lib, evict(dir)
}

// fill appends groups until v holds total bytes.
func fill(ctx context.Context, v *volume.Volume, total int64, size sizeMix) error {
	group := make([]volume.Needle, buildGroup)
	bufs := make([][]byte, buildGroup)
	for i := range bufs {
		bufs[i] = make([]byte, len(noise))
	}
	at := 0
	for written := int64(0); written < total; {
		for i := range group {
			group[i] = makeNeedle(bufs[i], at, size(at))
			written += int64(len(group[i].Data))
			at++
		}
		if err := v.Append(ctx, group); err != nil {
			return err
		}
	}
	return nil
}

// makeNeedle is the i-th needle, with its data in buf.
func makeNeedle(buf []byte, i, size int) volume.Needle {
	copy(buf[:size], noise) // an earlier needle of another size left its stamps
	key := keyOf(i)
	stamp(buf[:size], key)
	return volume.Needle{Key: key, Cookie: cookieOf(key), Data: buf[:size]}
}

// evict drops the pages of every file in dir from the page cache.
func evict(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		f, err := vfs.OS{}.Open(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a file that the engine replaced meanwhile
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Evict(0, 0), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
