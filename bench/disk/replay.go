package disk

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/bench/raw"
	"hayloft/internal/vfs"
)

// replay does again what a recorder noted of a compaction, without an engine:
// the same calls with the same lengths at the same offsets, within the same
// budget. What was written goes to a scratch file. So both sides give the disk
// the same to do. Reads and writes of other files (an index, a delete log) are
// left out, which favours the replay.
type replay struct {
	ops    []vfs.Op
	src    *os.File // what was compacted
	out    *os.File // takes what was written
	direct *os.File // the same past the page cache; nil when the writes were not aligned for that
	source string
	buf    []byte
	pace   *contest.Pacer
}

// newFile is how the name of the file that a compaction is making ends.
const newFile = ".vol.tmp"

// newReplay opens the source and makes the scratch file.
func newReplay(ops []vfs.Op, source, scratch string, pace *contest.Pacer) (r *replay, err error) {
	r = &replay{source: source, pace: pace}
	longest, past := int64(0), true
	for _, op := range ops {
		if op.Name != source && !strings.HasSuffix(op.Name, newFile) {
			continue
		}
		r.ops = append(r.ops, op)
		if op.Kind == vfs.OpRead || op.Kind == vfs.OpWrite {
			longest = max(longest, op.Len)
		}
		past = past && (op.Kind != vfs.OpWrite || op.Len <= 64*kib || (op.Off|op.Len)%sector == 0)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if r.buf, err = raw.AlignedBuf(int(longest)); err != nil {
		return r, err
	}
	for at := 0; at < len(r.buf); {
		at += copy(r.buf[at:], library.Noise)
	}
	if r.src, err = os.Open(source); err != nil {
		return r, err
	}
	if r.out, err = os.OpenFile(scratch, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640); err != nil || !past {
		return r, err
	}
	var known bool
	if r.direct, known, err = raw.OpenDirect(scratch, os.O_RDWR); err == nil && !known {
		err = r.direct.Close()
		r.direct = nil
	}
	return r, err
}

// sector is what direct writes are aligned to at least.
const sector = 512

// run returns the bytes that were read and written.
func (r *replay) run(ctx context.Context) (n int64, err error) {
	for _, op := range r.ops {
		if op.Kind == vfs.OpRead || op.Kind == vfs.OpWrite {
			if err := r.pace.Wait(ctx, op.Len); err != nil {
				return n, err
			}
			n += op.Len
		}
		if err := errors.Join(ctx.Err(), r.do(op)); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (r *replay) do(op vfs.Op) error {
	f := r.out
	switch {
	case op.Name == r.source:
		f = r.src
	case r.direct != nil && op.Kind == vfs.OpWrite && (op.Off|op.Len)%sector == 0:
		f = r.direct
	}
	fd := int(f.Fd())
	switch op.Kind {
	case vfs.OpRead:
		if _, err := f.ReadAt(r.buf[:op.Len], op.Off); err != nil && err != io.EOF {
			return err
		}
	case vfs.OpWrite:
		_, err := f.WriteAt(r.buf[:op.Len], op.Off)
		return err
	case vfs.OpSync:
		return unix.Fdatasync(fd)
	case vfs.OpAllocate:
		return unix.Fallocate(fd, 0, op.Off, op.Len)
	case vfs.OpEvict:
		return unix.Fadvise(fd, op.Off, op.Len, unix.FADV_DONTNEED)
	}
	return nil
}

// close closes the files and removes the scratch file.
func (r *replay) close() (err error) {
	raw.FreeBuf(r.buf)
	for _, f := range []*os.File{r.src, r.out, r.direct} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	if r.out != nil {
		err = errors.Join(err, os.Remove(r.out.Name()))
	}
	return err
}
