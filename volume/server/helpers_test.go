package server_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hayloft/directory"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("the directory is away")

// wire hands the real directory to a server, as cmd does. It can be cut.
type wire struct {
	d           *directory.Directory
	node        directory.NodeID
	incarnation uint64
	tell        func() error // before and after each change of a row, or nil

	listed atomic.Int64 // calls of CodedRows

	mu     sync.Mutex
	away   error
	lose   string // the change whose answer is lost, once
	stopAt string // the changes that are never made
}

func (w *wire) cut(err error) {
	w.mu.Lock()
	w.away = err
	w.mu.Unlock()
}

func (w *wire) gone() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away
}

func (w *wire) RegisterDisk(ctx context.Context, uuid [16]byte, capacity uint64) (uint32, error) {
	if err := w.gone(); err != nil {
		return 0, err
	}
	d, err := w.d.RegisterDisk(ctx, directory.DiskSpec{Node: w.node, UUID: uuid, Capacity: capacity})
	return uint32(d.ID), err
}

func (w *wire) Leaser(class volume.Class, worker uint16, disk uint32) id.Leaser {
	kind := directory.Variants
	if class == volume.ClassOriginals {
		kind = directory.Originals
	}
	return cutLeaser{w, w.d.Leaser(directory.AcquireRequest{
		Node: w.node, Incarnation: w.incarnation, Worker: worker, Kind: kind, Disk: directory.DiskID(disk),
	})}
}

type cutLeaser struct {
	w *wire
	id.Leaser
}

func (l cutLeaser) Acquire(ctx context.Context, now id.Millis) (id.Lease, error) {
	if err := l.w.gone(); err != nil {
		return id.Lease{}, err
	}
	return l.Leaser.Acquire(ctx, now)
}

func (l cutLeaser) Surrender(ctx context.Context, lease id.Lease, at id.Millis) error {
	if err := l.w.gone(); err != nil {
		return err
	}
	return l.Leaser.Surrender(ctx, lease, at)
}

func (w *wire) OpenVolume(ctx context.Context, l id.Lease, disks []uint32, target int, from id.Millis) (volume.Identity, error) {
	row, err := w.ask("open", func() (directory.Volume, error) { return w.d.OpenVolume(ctx, l, diskIDs(disks), target, from) })
	return row.Volume, err
}

func (w *wire) CloseTile(ctx context.Context, l id.Lease, at id.Millis) error {
	if err := w.gone(); err != nil {
		return err
	}
	return w.d.CloseTile(ctx, l, at)
}

func (w *wire) OpenTile(slot id.Slot) (server.Place, bool) {
	m := w.d.Map()
	t, ok := m.OpenTile(slot)
	if !ok {
		return server.Place{}, false
	}
	return place(m, t)
}

func (w *wire) Locate(blob id.ID) (server.Place, bool) { return locate(w.d.Map(), blob) }

func (w *wire) LocateFresh(ctx context.Context, blob id.ID) (server.Place, bool, error) {
	if err := w.gone(); err != nil {
		return server.Place{}, false, err
	}
	m, err := w.d.Fresh(ctx)
	if err != nil {
		return server.Place{}, false, err
	}
	p, ok := locate(m, blob)
	return p, ok, nil
}

func locate(m *directory.Map, blob id.ID) (server.Place, bool) {
	t, ok := m.TileAt(blob.Slot(), blob.Millis())
	if !ok {
		return server.Place{}, false
	}
	return place(m, t)
}

func place(m *directory.Map, t directory.Tile) (server.Place, bool) {
	v, ok := m.Volume(t.Volume)
	p := server.Place{Volume: identity(v), Slot: t.Slot, From: t.From, To: t.To, Sync: v.Sync, Target: int(v.Target), State: server.State(v.State)}
	p.Disks, p.InSync, p.Keeper = numbers(v.Replicas), numbers(v.InSync), server.KeeperOf(v.Coding, uint32(v.Keeper))
	return p, ok
}

func identity(v directory.Volume) volume.Identity {
	return volume.Identity{Volume: volume.ID(v.ID), Generation: v.Generation, Class: volume.Class(v.Class)}
}

// house is a directory, a file system and a server, which can be restarted.
type house struct {
	t     testing.TB
	clock *clock.Fake
	dir   *directory.Directory
	wire  *wire
	mem   *vfs.Mem
	ward  *ward // its FS, or nil
	opts  server.Options
	tell  func() error // of the next wires
	s     *server.Server

	mu     sync.Mutex
	events []server.Event
}

// newHouse opens a server on files in memory. Its directory is the real one, on
// the real disk, and survives every crash of the server.
func newHouse(t testing.TB, o server.Options) *house {
	t.Helper()
	h := &house{t: t, clock: clock.NewFake(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)), mem: vfs.NewMem(1)}
	if o.Clock == nil {
		o.Clock = h.clock
	}
	d, err := directory.Open(t.Context(), directory.Options{Dirs: []string{t.TempDir()}, Member: "m1", Clock: o.Clock})
	if err != nil {
		t.Fatal(err)
	}
	node, err := d.RegisterNode(t.Context(), directory.NodeSpec{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	h.dir = d
	h.wire = &wire{d: d, node: node.ID, incarnation: 100}
	if o.Dirs == nil {
		o.Dirs = []string{"/data"}
	}
	if o.FS == nil {
		o.FS = h.mem
	}
	if o.WatchEvery == 0 {
		o.WatchEvery = -1 // a clock that a test moves fast makes every disk look slow
	}
	if o.ScrubEvery == 0 {
		o.ScrubEvery = -1 // nothing is read that a test does not ask for
	}
	o.AllocChunk = 4096
	o.DirectoryTimeout = time.Minute // a busy machine must not fail a test
	if o.LogTimeout == 0 {
		o.LogTimeout = 1000 * time.Hour // the clock jumps
	}
	o.Events = func(e server.Event) {
		h.mu.Lock()
		h.events = append(h.events, e)
		h.mu.Unlock()
	}
	h.opts = o
	h.ward, _ = o.FS.(*ward)
	h.start()
	t.Cleanup(func() {
		h.stop()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// start opens a server as a new process.
func (h *house) start() {
	h.t.Helper()
	s, err := h.tryStart()
	if err != nil {
		h.t.Fatal(err)
	}
	h.s = s
}

func (h *house) tryStart() (*server.Server, error) {
	h.wire = &wire{d: h.dir, node: h.wire.node, incarnation: h.wire.incarnation + 1, tell: h.tell, lose: h.wire.lose}
	o := h.opts
	o.Directory = h.wire
	return server.Open(context.Background(), o)
}

func (h *house) stop() {
	h.t.Helper()
	if h.s == nil {
		return
	}
	if err := h.s.Close(context.Background()); err != nil {
		h.t.Error(err)
	}
	for _, d := range h.s.Stats().Disks {
		if d.Reading != 0 {
			h.t.Errorf("%s: %d bytes of reads were not released", d.Dir, d.Reading)
		}
	}
	h.s = nil
}

// crash leaves the running server to itself and starts another on what a power
// cut would have left of the files.
func (h *house) crash(seed uint64) {
	h.t.Helper()
	h.wire.cut(errAway) // the dead give nothing back, and the directory hears of nothing that the cut undid
	after := h.mem.Crash(seed)
	if err := h.s.Close(context.Background()); err != nil && !errors.Is(err, errAway) {
		h.t.Log("the dead server:", err)
	}
	h.s = nil
	h.mem, h.opts.FS = after, after
	h.start()
}

// until looks again and again until ok holds.
func (h *house) until(what string, ok func() bool) {
	h.t.Helper()
	limit, again := time.After(testenv.Patience), time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-limit:
			h.t.Fatalf("waited %v for %s", testenv.Patience, what)
		}
	}
}

// wait lets time go by, second by second, until ok holds.
func (h *house) wait(what string, ok func() bool) {
	h.t.Helper()
	h.until(what, func() bool {
		if ok() {
			return true
		}
		h.tick()
		return false
	})
}

func (h *house) saw(kind server.EventKind) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// stored is a blob that was acknowledged.
type stored struct {
	blob   id.ID
	cookie id.Cookie
	size   int
	alts   int
}

func content(blob id.ID, alt uint8, n int) []byte {
	x := crc32.ChecksumIEEE(fmt.Append(nil, blob, alt))
	b := make([]byte, n)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func group(blob id.ID, cookie id.Cookie, size, alts int) []volume.Needle {
	var g []volume.Needle
	for alt := range uint8(alts) {
		g = append(g, volume.Needle{Key: blob, Alt: alt, Cookie: cookie, Data: content(blob, alt, size)})
	}
	return g
}

// put stores a group the way every caller must: reserving again when moved.
func (h *house) put(class volume.Class, size, alts int) (stored, error) {
	return h.putIn(context.Background(), class, size, alts)
}

func (h *house) putIn(ctx context.Context, class volume.Class, size, alts int) (stored, error) {
	for range 50 {
		blob, cookie, err := h.s.Reserve(ctx, class)
		if err != nil {
			return stored{}, err
		}
		err = h.s.Write(ctx, blob, group(blob, cookie, size, alts))
		if !errors.Is(err, server.ErrMoved) {
			return stored{blob, cookie, size, alts}, err
		}
	}
	return stored{}, errors.New("moved 50 times")
}

// mustPut puts a blob. Where a test has moved its clock past a lease that was about to be
// renewed, the next one is waited for, as clients do.
func (h *house) mustPut(class volume.Class, size, alts int) stored {
	h.t.Helper()
	b, err := h.put(class, size, alts)
	for end := time.Now().Add(testenv.Patience); errors.Is(err, id.ErrLeaseLost) && time.Now().Before(end); b, err = h.put(class, size, alts) {
		<-time.After(time.Millisecond)
		h.clock.Advance(time.Second)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

// check reads every needle of a blob and compares all bytes.
func (h *house) check(b stored) {
	h.t.Helper()
	for alt := range uint8(b.alts) {
		got, err := h.s.Read(context.Background(), b.blob, alt, b.cookie)
		if err != nil {
			h.t.Errorf("read %v alt %d: %v", b.blob, alt, err)
			continue
		}
		if want := content(b.blob, alt, b.size); string(got.Data) != string(want) {
			h.t.Errorf("read %v alt %d: wrong bytes", b.blob, alt)
		}
		got.Release()
	}
}
