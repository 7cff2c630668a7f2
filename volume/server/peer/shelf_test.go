package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// shelfOwner gives out one shelf.
type shelfOwner struct {
	echo
	shelf server.Shelf
}

func (o *shelfOwner) Shelf(context.Context, uint32, volume.ID, uint32, uint32) (server.Shelf, error) {
	return o.shelf, nil
}

// TestShelvesAreFileSystems does the same things to a file system here and to one
// behind the wire: they say the same and end as the same.
func TestShelvesAreFileSystems(t *testing.T) {
	r := seeded(t)
	here, there := vfs.NewMem(1), vfs.NewMem(1)
	o := &shelfOwner{shelf: echoShelf{there, new(atomic.Bool)}}
	c := overTLS(t, o, HandlerOptions{}, Options{})
	far, err := c.Shelf(bg, 1, 2, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"a", "b.tmp", "00000007-00000002-00000003-05.shard"}
	type pair struct {
		here, there vfs.File
		unit        int64
	}
	var open []pair
	same := func(what string, a, b any, errA, errB error) {
		t.Helper()
		if fmt.Sprint(a) != fmt.Sprint(b) || fsKind(errA) != fsKind(errB) {
			t.Fatalf("%s: %v, %v here; %v, %v there", what, a, errA, b, errB)
		}
	}
	opened := func(what string, a, b vfs.File, unit int, errA, errB error) {
		same(what, 0, 0, errA, errB)
		if errA == nil {
			open = append(open, pair{a, b, int64(max(unit, 1))})
		}
	}
	for range 3000 {
		name, other := names[r.IntN(len(names))], names[r.IntN(len(names))]
		var f pair
		if len(open) > 0 {
			f = open[r.IntN(len(open))]
		}
		op := r.IntN(18)
		if f.here == nil && op >= 10 {
			continue
		}
		switch op {
		case 0:
			a, errA := here.Create(name)
			b, errB := far.Create(name)
			opened("create", a, b, 0, errA, errB)
		case 1:
			a, errA := here.Open(name)
			b, errB := far.Open(name)
			opened("open", a, b, 0, errA, errB)
		case 2:
			a, errA := here.OpenWrite(name)
			b, errB := far.OpenWrite(name)
			opened("open to write", a, b, 0, errA, errB)
		case 3:
			a, unit, errA := here.OpenDirect(name)
			b, unitB, errB := far.OpenDirect(name)
			same("units", unit, unitB, nil, nil)
			opened("open past the cache", a, b, unit, errA, errB)
		case 4:
			a, unit, errA := here.OpenDirectWrite(name)
			b, _, errB := far.OpenDirectWrite(name)
			opened("open to write past the cache", a, b, unit, errA, errB)
		case 5:
			same("remove", 0, 0, here.Remove(name), far.Remove(name))
		case 6:
			same("rename", 0, 0, here.Rename(name, other), far.Rename(name, other))
		case 7:
			same("sync", 0, 0, here.SyncDir("/"), far.SyncDir("/"))
		case 8:
			a, errA := here.ReadDir("/")
			b, errB := far.ReadDir("/")
			same("names", a, b, errA, errB)
		case 9:
			a, errA := here.Stat(name)
			b, errB := far.Stat(name)
			a.ID, b.ID = vfs.FileID{}, vfs.FileID{}
			same("stat", a, b, errA, errB)
		case 10, 11, 12:
			off, n := someRange(r, f.unit)
			a, b := aligned(n), aligned(n)
			gotA, errA := f.here.ReadAt(a, off)
			gotB, errB := f.there.ReadAt(b, off)
			same("read", gotA, gotB, errA, errB)
			if !bytes.Equal(a[:gotA], b[:gotB]) {
				t.Fatal("other bytes")
			}
		case 13, 14:
			off, n := someRange(r, f.unit)
			data := aligned(n)
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			bufs := [][]byte{data}
			if f.unit == 1 {
				at := r.IntN(n + 1)
				bufs = [][]byte{data[:at], nil, data[at:]}
			}
			a, errA := f.here.WriteVAt(bufs, off)
			b, errB := f.there.WriteVAt(bufs, off)
			same("write", a, b, errA, errB)
		case 15:
			same("sync", 0, 0, f.here.Sync(), f.there.Sync())
			off, n := someRange(r, 4096)
			same("allocate", 0, 0, f.here.Allocate(off, int64(n)), f.there.Allocate(off, int64(n)))
			same("evict", 0, 0, f.here.Evict(off, int64(n)), f.there.Evict(off, int64(n)))
		case 16:
			size := r.Int64N(10_000)
			same("truncate", 0, 0, f.here.Truncate(size), f.there.Truncate(size))
			a, errA := f.here.Size()
			b, errB := f.there.Size()
			same("size", a, b, errA, errB)
		case 17:
			for i := range open {
				if open[i] == f {
					open = append(open[:i], open[i+1:]...)
					break
				}
			}
			same("close", 0, 0, f.here.Close(), f.there.Close())
		}
	}
	for _, name := range names {
		a, errA := vfs.ReadFile(here, name, 1<<30)
		b, errB := vfs.ReadFile(there, name, 1<<30)
		same("in the end", 0, 0, errA, errB)
		if !bytes.Equal(a, b) {
			t.Errorf("%s has %d bytes here and %d there", name, len(a), len(b))
		}
	}
}

func someRange(r *rand.Rand, unit int64) (off int64, n int) {
	off = r.Int64N(20_000) / unit * unit
	return off, int((1 + r.Int64N(9000)/unit) * unit)
}

func aligned(n int) []byte {
	m, _ := (*volume.ReadBudget)(nil).Memory(bg, n) // begins on a page
	return m.Bytes()
}

// fsKind names what callers of a file system ask of an error.
func fsKind(err error) string {
	for _, e := range []error{fs.ErrNotExist, fs.ErrExist, io.EOF, vfs.ErrNoDirect, vfs.ErrLocked, unix.ENOSPC, unix.EINVAL, server.ErrShelf} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	if err != nil {
		return "error"
	}
	return ""
}

// TestLargePiecesAreDivided: more than goes into one call is several, with nothing
// missing between them.
func TestLargePiecesAreDivided(t *testing.T) {
	o := &shelfOwner{shelf: echoShelf{vfs.NewMem(1), new(atomic.Bool)}}
	c := overTLS(t, o, HandlerOptions{}, Options{})
	far, err := c.Shelf(bg, 1, 2, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	f, err := far.Create("large")
	if err != nil {
		t.Fatal(err)
	}
	var bufs [][]byte
	var all []byte
	for i := range 11 {
		b := bytes.Repeat([]byte{byte(i + 1)}, 1<<20+i)
		bufs, all = append(bufs, b), append(all, b...)
	}
	if n, err := f.WriteVAt(bufs, 5); n != len(all) || err != nil {
		t.Fatal(n, err)
	}
	got := make([]byte, len(all))
	if n, err := f.ReadAt(got, 5); n != len(all) || err != nil || !bytes.Equal(got, all) {
		t.Fatal(n, err)
	}
	if n, err := f.ReadAt(got, 6); n != len(all)-1 || err != io.EOF {
		t.Fatal(n, err)
	}
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if _, err := f.(*farFile).ReadAtContext(ctx, got, 0); !errors.Is(err, server.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestLostShelvesAreForgotten: numbers of shelves that are lost take no memory for ever.
func TestLostShelvesAreForgotten(t *testing.T) {
	o := &shelfOwner{}
	h := Handler(o, HandlerOptions{Caller: known})
	c := NewClients(as("a", h), Options{}).Node("echo")
	for i := range 1000 {
		o.shelf = echoShelf{vfs.NewMem(1), new(atomic.Bool)}
		if _, err := c.Shelf(bg, 1, volume.ID(i+1), 1, 1); err != nil {
			t.Fatal(err)
		}
		o.shelf.(echoShelf).lost.Store(i != 500)
	}
	l := &h.(*handler).lent
	if n := len(l.shelves); n > 300 || len(l.newest) != n || l.shelves[501] == nil {
		t.Errorf("%d shelves are kept, and %d names", n, len(l.newest))
	}
}

// TestShelvesAreOneHoldersOnly: when a shelf is given out anew, whoever had it is told
// so by every call, as is another node that names its number.
func TestShelvesAreOneHoldersOnly(t *testing.T) {
	o := &shelfOwner{shelf: echoShelf{vfs.NewMem(1), new(atomic.Bool)}}
	h := Handler(o, HandlerOptions{Caller: namedCaller})
	first := NewClients(as("a", h), Options{}).Node("echo")
	one, err := first.Shelf(bg, 1, 2, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	f, err := one.Create("x")
	if err != nil {
		t.Fatal(err)
	}
	stolen := &farShelf{c: NewClients(as("b", h), Options{}).Node("echo"), number: one.(*farShelf).number, disk: 1}
	if _, err := stolen.Stat("x"); !errors.Is(err, server.ErrShelf) || !stolen.Lost() {
		t.Errorf("another node: %v", err)
	}
	if one.Lost() {
		t.Error("lost too early")
	}
	two, err := NewClients(as("b", h), Options{}).Node("echo").Shelf(bg, 1, 2, 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteVAt([][]byte{{1}}, 0); !errors.Is(err, server.ErrShelf) {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error("closed already, and said", err)
	}
	if _, err := one.Open("x"); !errors.Is(err, server.ErrShelf) || !one.Lost() {
		t.Error(err)
	}
	if _, err := two.Stat("x"); err != nil || two.Lost() {
		t.Error(err)
	}
	if _, err := NewClients(as("b", h), Options{}).Node("echo").Shelf(bg, 1, 2, 4, 1); err != nil { // another folder
		t.Error(err)
	}
	if _, err := two.Stat("x"); err != nil {
		t.Error(err)
	}
	// A process that was started anew knows no number.
	h = Handler(o, HandlerOptions{Caller: namedCaller})
	gone := &farShelf{c: NewClients(as("b", h), Options{}).Node("echo"), number: two.(*farShelf).number, disk: 1}
	if _, err := gone.Stat("x"); !errors.Is(err, server.ErrShelf) {
		t.Error(err)
	}
}
