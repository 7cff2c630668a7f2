package ssd

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sync/atomic"
	"time"

	"hayloft/internal/slab"
	"hayloft/internal/vfs"
)

// device is the file from its opening to its first failure.
type device struct {
	t      *Tier
	file   deviceFile
	salt   uint64
	region int             // bytes of a region
	count  int             // regions that the file may have
	made   int             // regions that it has; the writer's alone
	seqs   []atomic.Uint64 // by region, of what was or is being written there; 0: nothing
	seq    uint64          // the last one given out; the writer's alone
	index  *index

	wrote  int64         // bytes; the writer's alone
	full   bool          // there was no room for one more region, at:
	fullAt time.Duration // then; the writer's alone

	strikes atomic.Int64
	reason  atomic.Pointer[error]
	gone    chan struct{} // closed with reason

	open openRegion // the writer's alone
}

// deviceFile is the file, through two descriptors where it can be read and
// written past the page cache: what is written then is on its way to the device
// when the call returns, so that its pace is the device's, and what is read
// takes no memory from anything else.
type deviceFile struct {
	locked vfs.File
	direct vfs.File // nil: there is no such way
}

func (f deviceFile) io() vfs.File {
	if f.direct != nil {
		return f.direct
	}
	return f.locked
}

func (f deviceFile) Close() error {
	if f.direct != nil {
		return errors.Join(f.direct.Close(), f.locked.Close())
	}
	return f.locked.Close()
}

var (
	errSlow   = errors.New("ssd: the device is slow")
	errSmall  = errors.New("ssd: no room for a single region")
	errBehind = errors.New("ssd: the device does not write")
)

// maxStrikes is how many reads may fail or be late, one after the other, before
// the device is left alone.
const maxStrikes = 8

// struck counts a read that failed.
func (d *device) struck(err error) {
	if d.strikes.Add(1) >= maxStrikes {
		d.fail(fmt.Errorf("ssd: %d reads failed, the last one: %w", maxStrikes, err))
	}
}

// fail takes the device out of use. Only the first reason counts.
func (d *device) fail(err error) {
	if err != nil && d.reason.CompareAndSwap(nil, &err) {
		close(d.gone)
	}
}

func (d *device) failed() bool { return d.reason.Load() != nil }

func (d *device) why() error {
	if p := d.reason.Load(); p != nil {
		return *p
	}
	return nil
}

func (d *device) place(region int, seq uint64, at uint16) place {
	return place{d.salt, seq, uint32(region), uint32(at)}
}

func (d *device) off(region int) int64 { return headerBytes + int64(region)*int64(d.region) }

// bytes is what the file takes.
func (d *device) bytes() int64 {
	n := int64(headerBytes)
	for i := range d.seqs {
		if d.seqs[i].Load() != 0 {
			n += int64(d.region)
		}
	}
	return n
}

// read returns the units of s, in b, which has room for the blocks they lie in.
func (d *device) read(b []byte, s slot) ([]byte, error) {
	off := int64(s.unit) * unit
	from := off &^ (blockBytes - 1)
	to := (off + int64(s.units)*unit + blockBytes - 1) &^ (blockBytes - 1)
	if to > int64(d.region) {
		return nil, errInvalid
	}
	b = b[:to-from]
	if _, err := d.file.io().ReadAt(b, d.off(int(s.region))+from); err != nil {
		return nil, err
	}
	return b[off-from : off-from+int64(s.units)*unit], nil
}

// openDevice opens or makes the file and restores what it holds.
func openDevice(t *Tier) (*device, error) {
	if err := t.o.FS.MkdirAll(t.o.Dir); err != nil {
		return nil, err
	}
	name := path.Join(t.o.Dir, fileName)
	f, err := t.o.FS.OpenWrite(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = t.o.FS.Create(name)
	}
	if err != nil {
		return nil, err
	}
	d := &device{t: t, file: deviceFile{locked: f}, gone: make(chan struct{}), index: newIndex(t.o.indexLimit())}
	if err := d.begin(name); err != nil {
		return nil, errors.Join(err, d.file.Close())
	}
	return d, nil
}

// begin reads the header, or makes one, and the rest.
func (d *device) begin(name string) error {
	h, err := readHeader(d.file.locked)
	if errors.Is(err, errInvalid) {
		h, err = makeHeader(d.file.locked, d.t.o.regionBytes)
	}
	if err != nil {
		return err
	}
	direct, alignment, err := d.t.o.FS.OpenDirectWrite(name)
	switch {
	case err == nil && alignment <= blockBytes:
		d.file.direct = direct
	case err == nil:
		err = direct.Close()
	case errors.Is(err, vfs.ErrNoDirect):
		err = nil
	}
	if err != nil {
		return err
	}
	d.salt, d.region = h.salt, h.region
	d.open.buf = slab.Alloc(batchBytes + d.maxObject() + blockBytes)
	d.open.region = -1
	return d.fit(d.t.o.Size)
}

// fit adapts the file to size, which may be another one than before, and
// restores what is in it.
func (d *device) fit(size int64) error {
	d.count = int(min((size-headerBytes)/int64(d.region), 1<<16))
	if d.count < 2 {
		return errSmall
	}
	d.seqs = make([]atomic.Uint64, d.count)
	has, err := d.file.locked.Size()
	if err != nil {
		return err
	}
	if most := d.off(d.count); has > most {
		if err := d.file.locked.Truncate(most); err != nil {
			return err
		}
		has = most
	}
	d.made = int(max(0, has-headerBytes) / int64(d.region))
	d.restore()
	return nil
}

func readHeader(f vfs.File) (header, error) {
	b := make([]byte, headerBytes)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return header{}, err
	}
	return decodeHeader(b[:n])
}

// makeHeader makes an empty file of what there is, which is a cache's or nothing.
func makeHeader(f vfs.File, region int) (header, error) {
	if err := f.Truncate(0); err != nil {
		return header{}, err
	}
	h := header{region: region}
	var salt [8]byte
	_, _ = rand.Read(salt[:]) // never fails
	h.salt = le.Uint64(salt[:])
	_, err := f.WriteVAt([][]byte{h.encode()}, 0)
	return h, err
}
