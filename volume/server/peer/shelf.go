package peer

import (
	"context"
	"fmt"
	"sync"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// What is asked of a file on a shelf, and of its names: the operation is in limit.
const (
	openCreate = iota + 1
	openRead
	openWrite
	openDirect
	openDirectWrite
)

const (
	fileSync = iota + 1
	fileAllocate
	fileTruncate
	fileSize
	fileEvict
	fileClose
)

const (
	nameRemove = iota + 1
	nameRename
	nameMkdir
	nameSync
	nameStat
	nameRead
)

// maxFiles bounds the files that one holder of a shelf has open.
const maxFiles = 256

// lent are the shelves that nodes have here, by number. A number is forgotten with
// the process, and when its folder is given out anew.
type lent struct {
	mu      sync.Mutex // guards all below
	last    uint64
	shelves map[uint64]*lentShelf
	newest  map[shelfKey]uint64
}

type shelfKey struct {
	disk  uint32
	v     volume.ID
	epoch uint32
}

// lentShelf is a shelf that a node has, and the files it has open there.
type lentShelf struct {
	fs   server.Shelf
	node string

	mu    sync.Mutex // guards all below
	last  uint64
	files map[uint64]vfs.File
}

func (l *lent) add(key shelfKey, s *lentShelf) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.shelves, l.newest[key]) // its files are closed
	if l.last++; l.last%256 == 0 {
		l.sweep()
	}
	l.shelves[l.last], l.newest[key] = s, l.last
	return l.last
}

// sweep forgets those whose folder is another's by now, or gone.
func (l *lent) sweep() {
	for key, n := range l.newest {
		if s := l.shelves[n]; s == nil || s.fs.Lost() {
			delete(l.shelves, n)
			delete(l.newest, key)
		}
	}
}

// of returns a shelf that a node has.
func (l *lent) of(number uint64, node string) (*lentShelf, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.shelves[number]
	if s == nil || s.node != node {
		return nil, fmt.Errorf("%w: number %d", server.ErrShelf, number)
	}
	return s, nil
}

func (s *lentShelf) add(f vfs.File) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) >= maxFiles {
		return 0, fmt.Errorf("%w: %d files are open on the shelf", volume.ErrInvalid, maxFiles)
	}
	s.last++
	s.files[s.last] = f
	return s.last, nil
}

func (s *lentShelf) file(number uint64) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[number]
	if f == nil {
		return nil, fmt.Errorf("%w: no file %d is open", server.ErrShelf, number)
	}
	return f, nil
}

func (e *exchange) shelf(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	a := &e.args
	fs, err := e.h.local.Shelf(ctx, a.disk, a.volume, a.generation, a.sync)
	if err != nil {
		return nil, err
	}
	n := e.h.lent.add(shelfKey{a.disk, a.volume, a.generation}, &lentShelf{fs: fs, node: e.node, files: make(map[uint64]vfs.File)})
	return le.AppendUint64(nil, n), nil
}

func (e *exchange) mend(ctx context.Context) ([]byte, error) {
	damage, err := announced(e, damageBytes, parseDamage)
	if err != nil {
		return nil, err
	}
	a := &e.args
	return nil, e.h.local.Mend(ctx, a.disk, a.volume, a.generation, damage)
}

const damageBytes = 20

func appendDamage(b []byte, d server.Damage) []byte {
	b = le.AppendUint32(b, uint32(d.Shard))
	return le.AppendUint64(le.AppendUint64(b, uint64(d.Offset)), uint64(d.Length))
}

func parseDamage(p *parser) server.Damage {
	d := server.Damage{Shard: int(p.u32()), Offset: int64(p.u64()), Length: int64(p.u64())}
	p.bad = p.bad || d.Shard > 1<<16 || d.Offset < 0 || d.Length < 0
	return d
}

// Mend implements server.Peer. So much damage that it does not go into one call is
// told of as far as it does.
func (c *Client) Mend(ctx context.Context, disk uint32, v volume.ID, epoch uint32, damage []server.Damage) error {
	damage = damage[:min(len(damage), maxList/damageBytes)]
	a := args{disk: disk, volume: v, generation: epoch, count: uint32(len(damage))}
	_, err := c.ask(ctx, request{call: callMend, args: a, send: func(b *body) {
		if len(damage) == 0 {
			return
		}
		b.add(kindList, func(buf []byte) []byte {
			for _, d := range damage {
				buf = appendDamage(buf, d)
			}
			return buf
		})
	}})
	return err
}

// held returns the shelf that a call is about.
func (e *exchange) held() (*lentShelf, error) { return e.h.lent.of(uint64(e.args.key), e.node) }

func (e *exchange) heldFile() (vfs.File, error) {
	s, err := e.held()
	if err != nil {
		return nil, err
	}
	return s.file(uint64(e.args.cookie))
}

func (e *exchange) open(context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	s, err := e.held()
	if err != nil {
		return nil, err
	}
	var f vfs.File
	unit, name := 0, e.args.names[0]
	switch e.args.limit {
	case openCreate:
		f, err = s.fs.Create(name)
	case openRead:
		f, err = s.fs.Open(name)
	case openWrite:
		f, err = s.fs.OpenWrite(name)
	case openDirect:
		f, unit, err = s.fs.OpenDirect(name)
	case openDirectWrite:
		f, unit, err = s.fs.OpenDirectWrite(name)
	default:
		err = fmt.Errorf("%w: way %d to open a file", volume.ErrInvalid, e.args.limit)
	}
	if err != nil {
		return nil, err
	}
	n, err := s.add(f)
	if err != nil {
		_ = f.Close() // nothing was done with it
		return nil, err
	}
	return le.AppendUint32(le.AppendUint64(nil, n), uint32(unit)), nil
}

func (e *exchange) get(ctx context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	f, err := e.heldFile()
	if err != nil {
		return nil, err
	}
	if e.args.n < 0 || e.args.n > maxPiece {
		return nil, fmt.Errorf("%w: %d bytes of a file", volume.ErrInvalid, e.args.n)
	}
	m, err := e.h.pieces.Memory(ctx, int(e.args.n))
	if err != nil {
		return nil, unavailable(err)
	}
	defer m.Release()
	n, err := f.ReadAt(m.Bytes(), e.args.off)
	if n > 0 {
		if err := e.out.data(m.Bytes()[:n], sum(m.Bytes()[:n])); err != nil {
			return nil, broken(err)
		}
	}
	return nil, err
}

func (e *exchange) put(ctx context.Context) ([]byte, error) {
	if e.args.bytes > maxPiece {
		return nil, broken(malformed("%d bytes of a file", e.args.bytes))
	}
	m, err := e.h.pieces.Memory(ctx, int(e.args.bytes))
	if err != nil {
		return nil, unavailable(err)
	}
	defer m.Release()
	room := m.Bytes()
	for len(room) > 0 {
		h, err := e.in.want(kindData)
		if err == nil && (h.n == 0 || h.n > len(room)) {
			err = malformed("%d bytes where %d are left", h.n, len(room))
		}
		if err == nil {
			err = e.in.into(h, room[:h.n])
		}
		if err != nil {
			return nil, broken(err)
		}
		room = room[h.n:]
	}
	if err := e.whole(); err != nil {
		return nil, err
	}
	f, err := e.heldFile()
	if err != nil {
		return nil, err
	}
	n, err := f.WriteVAt([][]byte{m.Bytes()}, e.args.off)
	return le.AppendUint64(nil, uint64(n)), err
}

func (e *exchange) file(context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	f, err := e.heldFile()
	if err != nil {
		return nil, err
	}
	size := int64(0)
	switch e.args.limit {
	case fileSync:
		err = f.Sync()
	case fileAllocate:
		err = f.Allocate(e.args.off, e.args.n)
	case fileTruncate:
		err = f.Truncate(e.args.n)
	case fileSize:
		size, err = f.Size()
	case fileEvict:
		err = f.Evict(e.args.off, e.args.n)
	case fileClose:
		err = e.closeFile(f)
	default:
		err = fmt.Errorf("%w: operation %d on a file", volume.ErrInvalid, e.args.limit)
	}
	return le.AppendUint64(nil, uint64(size)), err
}

func (e *exchange) closeFile(f vfs.File) error {
	s, err := e.held()
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.files, uint64(e.args.cookie))
	s.mu.Unlock()
	return f.Close()
}

func (e *exchange) name(context.Context) ([]byte, error) {
	if err := e.whole(); err != nil {
		return nil, err
	}
	s, err := e.held()
	if err != nil {
		return nil, err
	}
	var result []byte
	from, to := e.args.names[0], e.args.names[1]
	switch e.args.limit {
	case nameRemove:
		err = s.fs.Remove(from)
	case nameRename:
		err = s.fs.Rename(from, to)
	case nameMkdir:
		err = s.fs.MkdirAll(from)
	case nameSync:
		err = s.fs.SyncDir(from)
	case nameStat:
		var i vfs.Info
		i, err = s.fs.Stat(from)
		result = appendInfo(nil, i)
	case nameRead:
		var names []string
		names, err = s.fs.ReadDir(from)
		if result = appendList(nil, names); len(result) > maxEnd/2 {
			return nil, fmt.Errorf("%w: %d names in a folder", volume.ErrTooLarge, len(names))
		}
	default:
		err = fmt.Errorf("%w: operation %d on a name", volume.ErrInvalid, e.args.limit)
	}
	return result, err
}

func appendInfo(b []byte, i vfs.Info) []byte {
	b = putBool(le.AppendUint64(b, uint64(i.Size)), i.Dir)
	return le.AppendUint64(le.AppendUint64(b, i.ID.Device), i.ID.Inode)
}

func parseInfo(b []byte) (vfs.Info, error) {
	p := parser{b: b}
	i := vfs.Info{Size: int64(p.u64()), Dir: p.flag(), ID: vfs.FileID{Device: p.u64(), Inode: p.u64()}}
	p.bad = p.bad || i.Size < 0
	return i, p.end("what a name leads to")
}

func appendList(b []byte, names []string) []byte {
	for _, n := range names {
		n = n[:min(len(n), maxName)] // no file system has longer ones
		b = append(append(b, byte(len(n))), n...)
	}
	return b
}

func parseNames(b []byte) (names []string, err error) {
	p := parser{b: b}
	for len(p.b) > 0 && !p.bad {
		names = append(names, string(p.text(int(p.u8()))))
	}
	return names, p.end("names")
}

// Shelf implements server.Peer. Its files end with it; a read may be given a context
// (ReadAtContext), and no other call waits longer than Timing.Timeout.
func (c *Client) Shelf(ctx context.Context, disk uint32, v volume.ID, epoch, term uint32) (server.Shelf, error) {
	result, err := c.ask(ctx, request{call: callShelf, args: args{disk: disk, volume: v, generation: epoch, sync: term}})
	if err != nil {
		return nil, err
	}
	p := parser{b: result}
	n := p.u64()
	if err := p.end("number of a shelf"); err != nil {
		return nil, c.bad(callShelf, err)
	}
	return &farShelf{c: c, number: id.ID(n), disk: disk}, nil
}
