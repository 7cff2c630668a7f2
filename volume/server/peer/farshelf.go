package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// farShelf is a shelf on a disk of another node.
type farShelf struct {
	c      *Client
	number id.ID // where other calls have a key
	disk   uint32
	lost   atomic.Bool
}

var _ server.Shelf = (*farShelf)(nil)

func isLost(err error) bool { return errors.Is(err, server.ErrShelf) }
func isEnd(err error) bool  { return errors.Is(err, io.EOF) && !errors.Is(err, server.ErrUnavailable) }

// Lost implements server.Shelf.
func (s *farShelf) Lost() bool { return s.lost.Load() }

// base is the context of calls that are given none.
func (s *farShelf) base() context.Context { return context.Background() }

// ask makes a call on the shelf and notes when it is lost.
func (s *farShelf) ask(ctx context.Context, q request) ([]byte, error) {
	q.args.key, q.args.disk = s.number, s.disk
	result, err := s.c.ask(ctx, q)
	if isLost(err) {
		s.lost.Store(true)
	}
	return result, err
}

func (s *farShelf) open(way uint32, name string) (vfs.File, int, error) {
	if err := fitNames(name); err != nil {
		return nil, 0, err
	}
	result, err := s.ask(s.base(), request{call: callOpen, args: args{limit: way, names: [2]string{name}}})
	if err != nil {
		return nil, 0, err
	}
	p := parser{b: result}
	f := &farFile{s: s, number: id.Cookie(p.u64())}
	unit := int(p.u32())
	if err := p.end("number of a file"); err != nil {
		return nil, 0, s.c.bad(callOpen, err)
	}
	return f, unit, nil
}

// fitNames refuses names that have no place in a call.
func fitNames(names ...string) error {
	if slices.ContainsFunc(names, func(n string) bool { return len(n) > maxName }) {
		return fmt.Errorf("%w: a name of more than %d bytes", volume.ErrInvalid, maxName)
	}
	return nil
}

func (s *farShelf) plain(way uint32, name string) (vfs.File, error) {
	f, _, err := s.open(way, name)
	return f, err
}

// Create implements vfs.FS.
func (s *farShelf) Create(name string) (vfs.File, error) { return s.plain(openCreate, name) }

// Open implements vfs.FS.
func (s *farShelf) Open(name string) (vfs.File, error) { return s.plain(openRead, name) }

// OpenWrite implements vfs.FS.
func (s *farShelf) OpenWrite(name string) (vfs.File, error) { return s.plain(openWrite, name) }

// OpenDirect implements vfs.FS.
func (s *farShelf) OpenDirect(name string) (vfs.File, int, error) { return s.open(openDirect, name) }

// OpenDirectWrite implements vfs.FS.
func (s *farShelf) OpenDirectWrite(name string) (vfs.File, int, error) {
	return s.open(openDirectWrite, name)
}

// on does something with names.
func (s *farShelf) on(what uint32, from, to string) ([]byte, error) {
	if err := fitNames(from, to); err != nil {
		return nil, err
	}
	return s.ask(s.base(), request{call: callName, args: args{limit: what, names: [2]string{from, to}}})
}

// Remove implements vfs.FS.
func (s *farShelf) Remove(name string) error {
	_, err := s.on(nameRemove, name, "")
	return err
}

// Rename implements vfs.FS.
func (s *farShelf) Rename(from, to string) error {
	_, err := s.on(nameRename, from, to)
	return err
}

// MkdirAll implements vfs.FS.
func (s *farShelf) MkdirAll(name string) error {
	_, err := s.on(nameMkdir, name, "")
	return err
}

// SyncDir implements vfs.FS.
func (s *farShelf) SyncDir(name string) error {
	_, err := s.on(nameSync, name, "")
	return err
}

// ReadDir implements vfs.FS.
func (s *farShelf) ReadDir(name string) ([]string, error) {
	result, err := s.on(nameRead, name, "")
	if err != nil {
		return nil, err
	}
	names, err := parseNames(result)
	return names, s.c.bad(callName, err)
}

// Stat implements vfs.FS. The identity is that which the node of the disk gives.
func (s *farShelf) Stat(name string) (vfs.Info, error) {
	result, err := s.on(nameStat, name, "")
	if err != nil {
		return vfs.Info{}, err
	}
	info, err := parseInfo(result)
	return info, s.c.bad(callName, err)
}

// farFile is a file on it.
type farFile struct {
	s      *farShelf
	number id.Cookie
}

// ReadAt implements vfs.File.
func (f *farFile) ReadAt(b []byte, off int64) (int, error) {
	return f.ReadAtContext(f.s.base(), b, off)
}

// ReadAtContext implements vfs.ContextReader.
func (f *farFile) ReadAtContext(ctx context.Context, b []byte, off int64) (n int, err error) {
	for {
		k, err := f.readPiece(ctx, b[n:min(len(b), n+maxPiece)], off+int64(n))
		n += k
		if err != nil || n == len(b) {
			return n, err
		}
	}
}

// readPiece reads what goes into one call.
func (f *farFile) readPiece(ctx context.Context, b []byte, off int64) (n int, err error) {
	q := request{call: callGet, args: args{cookie: f.number, off: off, n: int64(len(b))}}
	q.got = func(_ context.Context, in *frames, h head) error {
		if h.kind != kindData || n > 0 || h.n > len(b) {
			return malformed("frame of kind %d with %d bytes", h.kind, h.n)
		}
		n = h.n
		return in.into(h, b[:h.n])
	}
	_, err = f.s.ask(ctx, q)
	switch {
	case err != nil && !isEnd(err):
		return 0, err
	case err != nil:
		return n, io.EOF
	case n < len(b):
		return 0, f.s.c.bad(callGet, malformed("%d bytes of %d", n, len(b)))
	}
	return n, nil
}

// WriteVAt implements vfs.File.
func (f *farFile) WriteVAt(bufs [][]byte, off int64) (n int, err error) {
	for {
		part, rest := pieceOf(bufs)
		k, err := f.writePiece(part, off+int64(n))
		n += k
		if bufs = rest; err != nil || len(bufs) == 0 {
			return n, err
		}
	}
}

// pieceOf takes from bufs what goes into one call.
func pieceOf(bufs [][]byte) (part, rest [][]byte) {
	room := maxPiece
	for i, b := range bufs {
		if len(b) > room {
			rest = append([][]byte{b[room:]}, bufs[i+1:]...)
			return append(part, b[:room]), rest
		}
		part, room = append(part, b), room-len(b)
	}
	return part, nil
}

func (f *farFile) writePiece(bufs [][]byte, off int64) (int, error) {
	a := args{cookie: f.number, off: off}
	for _, b := range bufs {
		a.bytes += int64(len(b))
	}
	result, err := f.s.ask(f.s.base(), request{call: callPut, args: a, send: func(body *body) {
		for _, b := range bufs {
			if len(b) > 0 {
				body.addData(b, sum(b))
			}
		}
	}})
	n, bad := parseSize(result)
	switch {
	case err == nil && (bad != nil || n != a.bytes):
		err = f.s.c.bad(callPut, malformed("%d of %d bytes were written, without an error", n, a.bytes))
	case bad != nil || n > a.bytes:
		n = 0
	}
	return int(n), err
}

func parseSize(b []byte) (int64, error) {
	p := parser{b: b}
	n := int64(p.u64())
	p.bad = p.bad || n < 0
	return n, p.end("size")
}

func (f *farFile) do(what uint32, off, n int64) (int64, error) {
	result, err := f.s.ask(f.s.base(), request{call: callFile, args: args{cookie: f.number, limit: what, off: off, n: n}})
	if err != nil {
		return 0, err
	}
	size, err := parseSize(result)
	return size, f.s.c.bad(callFile, err)
}

// Sync implements vfs.File.
func (f *farFile) Sync() error {
	_, err := f.do(fileSync, 0, 0)
	return err
}

// Allocate implements vfs.File.
func (f *farFile) Allocate(off, n int64) error {
	_, err := f.do(fileAllocate, off, n)
	return err
}

// Truncate implements vfs.File.
func (f *farFile) Truncate(size int64) error {
	_, err := f.do(fileTruncate, 0, size)
	return err
}

// Size implements vfs.File.
func (f *farFile) Size() (int64, error) { return f.do(fileSize, 0, 0) }

// Evict implements vfs.File.
func (f *farFile) Evict(off, n int64) error {
	_, err := f.do(fileEvict, off, n)
	return err
}

// Close implements vfs.File. Of a shelf that is lost the files are closed already.
func (f *farFile) Close() error {
	if _, err := f.do(fileClose, 0, 0); err != nil && !isLost(err) {
		return err
	}
	return nil
}
