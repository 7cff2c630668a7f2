package tools

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// The files of a volume that is put together, in their order.
const (
	PartVolume  = "volume"
	PartIndex   = "index"
	PartDeletes = "deletes"
)

// DecodeSink takes a volume that is put together from shards, piece after piece, one
// part after the other. The bytes are the sink's for the call only.
type DecodeSink struct {
	Part   func(part string, b []byte) error
	Report func(Progress)
}

// Decoded is a volume that was put together.
type Decoded struct {
	Generation uint32 `json:"generation"`
	Epoch      uint32 `json:"epoch"`
	Bytes      int64  `json:"bytes"`       // of the file
	SHA256     string `json:"sha256"`      // of the file
	IndexBytes int64  `json:"index_bytes"` // of its index
	LogBytes   int64  `json:"log_bytes"`   // of its delete log
	DeleteKeys int64  `json:"delete_keys"` // in that
	Needles    int64  `json:"needles"`     // in the file, deleted ones too
}

// ErrNotCoded: what was asked for is for volumes that shards serve.
var ErrNotCoded = errors.New("the volume is not coded")

// Decode implements Keeper.
func (l *Local) Decode(ctx context.Context, v volume.ID, s DecodeSink) (d Decoded, err error) {
	all, err := l.replicas(v)
	if err != nil {
		return d, err
	}
	i := all[0]
	if i.Disk != 0 {
		return d, fmt.Errorf("%w: %d", ErrNotCoded, v)
	}
	d.Epoch = i.Epoch
	err = l.o.Blobs.Use(v, 0, func(vol *volume.Volume) error {
		d.Generation = vol.Identity().Generation
		total, sum := vol.Stats().FileBytes, sha256.New()
		rec, err := vol.Copy(ctx, l.slowly(i), func(b []byte) error {
			if err := s.Part(PartVolume, b); err != nil {
				return err
			}
			sum.Write(b)
			d.Bytes += int64(len(b))
			s.Report(Progress{Volume: v, Step: "decode", Done: d.Bytes, Total: total})
			return nil
		})
		if err != nil {
			return err
		}
		d.Needles, d.SHA256 = rec.Needles, hex.EncodeToString(sum.Sum(nil))
		index, err := vol.SealedIndex()
		if err == nil {
			d.IndexBytes, err = int64(len(index)), inPieces(s, PartIndex, index)
		}
		if err != nil {
			return err
		}
		// Last, so that it has what was deleted meanwhile.
		var keys []id.ID
		if _, err := vol.Deletes(ctx, 0, func(x volume.Delete) error { keys = append(keys, x.Key); return nil }); err != nil {
			return err
		}
		log, err := volume.EncodeDeleteLog(v, keys, l.o.Clock.Now())
		if err != nil {
			return err
		}
		d.LogBytes, d.DeleteKeys = int64(len(log)), int64(len(keys))
		return inPieces(s, PartDeletes, log)
	})
	return d, err
}

func inPieces(s DecodeSink, part string, b []byte) error {
	for ; len(b) > 0; b = b[min(len(b), pieceBytes):] {
		if err := s.Part(part, b[:min(len(b), pieceBytes)]); err != nil {
			return err
		}
	}
	return nil
}

// pieceBytes is the largest piece of a decoded file, in bytes.
const pieceBytes = 1 << 20

// DecodeTo has k put a volume together and makes it an ordinary sealed volume in the
// data directory dir, which is made if need be and may hold others. The files get
// their names when every byte was read back from the device and is what was sent, and
// Verify finds nothing. A directory that belongs to a server is refused, and a volume that is there
// already is fs.ErrExist.
func DecodeTo(ctx context.Context, k Keeper, v volume.ID, dir string, report func(Progress)) (d Decoded, name string, err error) {
	fsys := vfs.OS{}
	if _, err := fsys.Stat(filepath.Join(dir, diskIDName)); !errors.Is(err, fs.ErrNotExist) {
		return d, "", errors.Join(fmt.Errorf("%s is a data directory of a server: name another", dir), err)
	}
	volumes := filepath.Join(dir, volumesDirName)
	made := filepath.Join(dir, fmt.Sprintf("decoding-%08x", uint32(v)))
	if err := errors.Join(os.RemoveAll(made), fsys.MkdirAll(volumes), fsys.MkdirAll(filepath.Join(made, volumesDirName))); err != nil {
		return d, "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(made)) }()
	if there, err := volume.List(nil, volumes); err != nil {
		return d, "", err
	} else if i := indexOf(there, v); i >= 0 {
		return d, "", fmt.Errorf("%s: %w", filepath.Join(volumes, there[i].Name), fs.ErrExist)
	}
	w := &decodeWriter{fs: fsys, dir: filepath.Join(made, volumesDirName), v: v}
	d, err = k.Decode(ctx, v, DecodeSink{Part: w.write, Report: report})
	if err = errors.Join(err, w.close(err == nil, d)); err != nil {
		return d, "", err
	}
	if sum, err := deviceSum(fsys, filepath.Join(w.dir, volume.FileName(v, d.Generation))); err != nil || sum != d.SHA256 {
		return d, "", errors.Join(fmt.Errorf("%w: volume %d was damaged on its way to the disk: SHA-256 %s, not %s", volume.ErrCorrupt, v, sum, d.SHA256), err)
	}
	b := &bare{data: made, id: v, entries: []volume.Entry{{Volume: v, Generation: d.Generation, Name: volume.FileName(v, d.Generation)}}}
	row, err := b.verify(ctx, report)
	if err != nil {
		return d, "", err
	}
	if len(row.Findings) > 0 {
		return d, "", fmt.Errorf("%w: what was put together of volume %d is not sound: %v", volume.ErrCorrupt, v, row.Findings[0])
	}
	name = filepath.Join(volumes, volume.FileName(v, d.Generation))
	// The volume last: without its log it would show what is deleted.
	for _, n := range []string{volume.DeleteLogName(v), volume.IndexName(v, d.Generation), volume.FileName(v, d.Generation)} {
		if err := fsys.Rename(filepath.Join(w.dir, n), filepath.Join(volumes, n)); err != nil {
			return d, "", err
		}
		if err := fsys.SyncDir(volumes); err != nil {
			return d, "", err
		}
	}
	return d, name, nil
}

// deviceSum is the SHA-256 of a file as the device has it.
func deviceSum(fsys vfs.FS, name string) (string, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	size, err := f.Size()
	if err == nil {
		err = f.Evict(0, 0)
	}
	if err == nil {
		_, err = io.Copy(sum, io.NewSectionReader(f, 0, size))
	}
	return hex.EncodeToString(sum.Sum(nil)), errors.Join(err, f.Close())
}

func indexOf(all []volume.Entry, v volume.ID) int {
	for i, e := range all {
		if e.Volume == v {
			return i
		}
	}
	return -1
}

// decodeWriter writes the files of a volume. They have their names when its generation
// is known.
type decodeWriter struct {
	fs    vfs.FS
	dir   string
	v     volume.ID
	files map[string]*decodedFile // by part
}

type decodedFile struct {
	vfs.File
	size int64
}

func (w *decodeWriter) write(part string, b []byte) error {
	f := w.files[part]
	if f == nil {
		if part != PartVolume && part != PartIndex && part != PartDeletes {
			return fmt.Errorf("%w: part %q of volume %d", volume.ErrUnsupported, part, w.v)
		}
		file, err := w.fs.Create(filepath.Join(w.dir, part))
		if err != nil {
			return err
		}
		f = &decodedFile{File: file}
		if w.files == nil {
			w.files = make(map[string]*decodedFile)
		}
		w.files[part] = f
	}
	_, err := f.WriteVAt([][]byte{b}, f.size)
	f.size += int64(len(b))
	return err
}

// close ends the files and, when they are whole, makes them durable and gives them
// their names.
func (w *decodeWriter) close(whole bool, d Decoded) error {
	var errs []error
	for _, f := range w.files {
		if whole {
			errs = append(errs, f.Sync())
		}
		errs = append(errs, f.Close())
	}
	if err := errors.Join(errs...); err != nil || !whole {
		return err
	}
	for _, p := range []struct {
		part, name string
		size       int64
	}{{PartVolume, volume.FileName(w.v, d.Generation), d.Bytes}, {PartIndex, volume.IndexName(w.v, d.Generation), d.IndexBytes},
		{PartDeletes, volume.DeleteLogName(w.v), d.LogBytes}} {
		if f := w.files[p.part]; f == nil || f.size != p.size {
			return fmt.Errorf("%w: not all of volume %d came: its %s has %d bytes", volume.ErrCorrupt, w.v, p.part, p.size)
		}
		if err := w.fs.Rename(filepath.Join(w.dir, p.part), filepath.Join(w.dir, p.name)); err != nil {
			return err
		}
	}
	return nil
}
