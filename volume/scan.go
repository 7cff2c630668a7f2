package volume

import (
	"errors"
	"fmt"
	"io"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// Record is one record of a volume file as it lies on disk.
type Record struct {
	Offset, Size int64 // bytes of the file, header and padding included
	Kind         Kind  // 0: a gap, where no valid header was found
	Key          id.ID
	Alt          uint8
	Cookie       id.Cookie
	SyncedTo     int64
	Deletes      uint32 // written to the file before this record, modulo 2^32
	ETag         uint32 // of a needle: CRC32C of its data
	Master       *MasterInfo
	// Data of a needle, valid until the callback returns; also when it is
	// damaged, as far as it could be read (what could not is zero).
	Data []byte
	// Err says what is wrong with the record; nil means it is whole.
	Err error
}

// Scan calls fn for every record and every gap of a volume file in the order
// of the file, with nothing but the file: no index, no directory, no lock, no
// change to it. It ends early with fn's error. A damaged record does not end
// it. Scan does not apply tombstones: a key with one is deleted wherever it
// lies. Behind the last record, the rest of the file is one gap unless it is
// all zero. A nil fsys is the machine's.
func Scan(fsys vfs.FS, name string, fn func(Record) error) (Identity, error) {
	if fsys == nil {
		fsys = vfs.OS{}
	}
	file, err := fsys.Open(name)
	if err != nil {
		return Identity{}, err
	}
	size, err := file.Size()
	var o Origin
	if err == nil {
		o, err = ScanAt(file, size, true, fn)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		err = fmt.Errorf("scan %s: %w", name, err)
	}
	return o.Identity, err
}

// ScanAt is Scan of a file of size bytes that is reached in another way. Without
// data, headers alone are read: a record is whole when its header is valid, and
// has no Data.
func ScanAt(r io.ReaderAt, size int64, data bool, fn func(Record) error) (Origin, error) {
	o, err := ReadOrigin(r)
	if err != nil {
		return o, err
	}
	s := newSeal(o.sb)
	w := &walker{file: r, seal: &s, end: size}
	return o, w.scan(scanOptions{spare: true, data: data}, fn)
}

// scanOptions say what a walk over all records does.
type scanOptions struct {
	spare bool // zeros behind the last record are preallocated space and no gap
	data  bool // read and verify what the records hold
}

// scan calls fn for every record and gap.
func (w *walker) scan(o scanOptions, fn func(Record) error) error {
	end := w.end
	var buf []byte
	for pos := int64(dataStart); pos < end; {
		h, meta, err := w.header(pos)
		if fatal(err) {
			return err
		}
		if err != nil {
			next, walkErr := w.resync(pos + align)
			if walkErr != nil {
				return walkErr
			}
			if next == end && o.spare {
				if last, walkErr := w.lastNonZero(pos); walkErr != nil || last == pos && !w.unreadable(pos, end) {
					return walkErr
				}
			}
			if err := fn(Record{Offset: pos, Size: next - pos, Err: err}); err != nil {
				return err
			}
			pos = next
			continue
		}
		r := Record{Offset: pos, Size: h.size(), Kind: h.Kind, Key: h.Key, Alt: h.Alt, Cookie: h.Cookie,
			SyncedTo: h.SyncedTo, Deletes: h.Deletes, ETag: h.DataCRC}
		if buf, err = w.fillRecord(&r, &h, meta, buf, o.data); err != nil {
			return err
		}
		if err := fn(r); err != nil {
			return err
		}
		pos += r.Size
	}
	return nil
}

// fillRecord adds master info and, if asked, data to r. The error ends the walk.
func (w *walker) fillRecord(r *Record, h *header, meta, buf []byte, data bool) ([]byte, error) {
	r.Master, r.Err = h.master(meta)
	if r.Offset+r.Size > w.end {
		r.Size = w.end - r.Offset
		r.Err = fmt.Errorf("%w: record at %d is cut off", ErrCorrupt, r.Offset)
		return buf, nil
	}
	if h.Kind != KindNeedle || !data {
		return buf, nil
	}
	buf, err := w.data(h, meta, r.Offset, buf)
	if fatal(err) {
		return buf, err
	}
	r.Data = buf
	r.Err = errors.Join(r.Err, err)
	return buf, nil
}
