package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hayloft/bench/raw"
)

// room says how a file gets its space before it is written.
type room uint8

const (
	roomNone     room = iota // the file grows with each write
	roomKeepSize             // fallocate with KEEP_SIZE: space, but the size grows with each write
	roomSize                 // fallocate: space and size
	roomZeros                // zeros are written and synced ahead
)

// durability says how a write becomes durable.
type durability uint8

const (
	byFdatasync durability = iota
	byODsync               // the file is opened with O_DSYNC
	byRWFDsync             // pwritev2 with RWF_DSYNC
	byNothing              // not durable: what syncing costs
)

// method is one way to write batches durably.
type method struct {
	name   string
	room   room
	direct bool
	sync   durability
	huge   bool // from memory on huge pages
}

// methods are all that were compared for docs/decisions/100. The first four
// are the raw side of the write ratios.
var methods = []method{
	{name: "fallocate, buffered, fdatasync", room: roomSize},
	{name: "fallocate, O_DIRECT, fdatasync", room: roomSize, direct: true},
	{name: "fallocate, O_DIRECT, O_DSYNC", room: roomSize, direct: true, sync: byODsync},
	{name: "growing, buffered, fdatasync"},

	{name: "KEEP_SIZE, buffered, fdatasync", room: roomKeepSize},
	{name: "zeros, buffered, fdatasync", room: roomZeros},
	{name: "fallocate, buffered, O_DSYNC", room: roomSize, sync: byODsync},
	{name: "fallocate, buffered, RWF_DSYNC", room: roomSize, sync: byRWFDsync},
	{name: "growing, O_DIRECT, fdatasync", direct: true},
	{name: "KEEP_SIZE, O_DIRECT, fdatasync", room: roomKeepSize, direct: true},
	{name: "zeros, O_DIRECT, fdatasync", room: roomZeros, direct: true},
	{name: "zeros, O_DIRECT, O_DSYNC", room: roomZeros, direct: true, sync: byODsync},
	{name: "fallocate, O_DIRECT, RWF_DSYNC", room: roomSize, direct: true, sync: byRWFDsync},
	{name: "growing, buffered, no sync", sync: byNothing},
}

const rawMethods = 4

// hugeMethod is the one that is measured with memory of the engine's kind too.
var hugeMethod = method{name: "fallocate, O_DIRECT, fdatasync, huge pages", room: roomSize, direct: true, huge: true}

// log is a file that a method appends to.
type log struct {
	m      method
	f      *os.File
	align  int64 // of offsets and lengths; 1 for buffered writes
	direct bool
	chunk  int64 // room is made in steps of this
	end    int64
	room   int64 // end of the room
	zeros  []byte
}

// newLog makes the file, with room for ahead bytes; more room is made chunk by
// chunk.
func newLog(name string, m method, ahead, chunk int64) (*log, error) {
	flag := os.O_RDWR | os.O_CREATE | os.O_TRUNC
	if m.sync == byODsync {
		flag |= unix.O_DSYNC
	}
	l := &log{m: m, align: 1, chunk: chunk}
	var err error
	if m.direct {
		l.f, l.direct, err = raw.OpenDirect(name, flag)
	} else {
		l.f, err = os.OpenFile(name, flag, 0o640)
	}
	if err != nil {
		return nil, err
	}
	if l.direct {
		l.align = raw.MinAlign(l.f)
	}
	if m.room == roomZeros {
		if l.zeros, err = raw.AlignedBuf(1 << 20); err != nil {
			return nil, errors.Join(err, l.f.Close())
		}
	}
	if err = l.reserve(ahead); err == nil {
		err = syncBoth(l.f, filepath.Dir(name))
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// syncBoth makes a new file and its name durable.
func syncBoth(f *os.File, dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), d.Sync(), d.Close())
}

// reserve makes room up to end.
func (l *log) reserve(end int64) error {
	if end <= l.room || l.m.room == roomNone {
		return nil
	}
	to := (end + l.chunk - 1) / l.chunk * l.chunk
	switch l.m.room {
	case roomZeros:
		for at := l.room; at < to; {
			n, err := l.f.WriteAt(l.zeros[:min(int64(len(l.zeros)), to-at)], at)
			if err != nil {
				return err
			}
			at += int64(n)
		}
		if err := unix.Fdatasync(int(l.f.Fd())); err != nil {
			return err
		}
	default:
		mode := uint32(0)
		if l.m.room == roomKeepSize {
			mode = unix.FALLOC_FL_KEEP_SIZE
		}
		if err := unix.Fallocate(int(l.f.Fd()), mode, l.room, to-l.room); err != nil {
			return fmt.Errorf("fallocate %s: %w", l.f.Name(), err)
		}
	}
	l.room = to
	return nil
}

// append writes n bytes of buf (rounded up where direct I/O wants it, so buf
// must be a page longer) and returns when they are durable.
func (l *log) append(buf []byte, n int) error {
	b := buf[:raw.Cover(0, int64(n), l.align).Len]
	if err := l.reserve(l.end + int64(len(b))); err != nil {
		return err
	}
	fd := int(l.f.Fd())
	flags := 0
	if l.m.sync == byRWFDsync {
		flags = unix.RWF_DSYNC
	}
	for off := l.end; len(b) > 0; {
		done, err := unix.Pwritev2(fd, [][]byte{b}, off, flags)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", l.f.Name(), err)
		}
		b = b[done:]
		off += int64(done)
		l.end = off
	}
	if l.m.sync == byFdatasync {
		return unix.Fdatasync(fd)
	}
	return nil
}

// close closes and removes the file.
func (l *log) close() error {
	raw.FreeBuf(l.zeros)
	return errors.Join(l.f.Close(), os.Remove(l.f.Name()))
}
