package server_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

var errDead = errors.New("the machine is dead")

// reaper cuts the power before the call number at that changes a file system, or
// before or after a change of a volume's row. From then on nothing reaches disk
// or directory.
type reaper struct {
	h    *house
	mem  *vfs.Mem
	at   int
	seed uint64
	life context.Context // ends with the power
	end  context.CancelFunc

	mu    sync.Mutex // guards all below
	n     int
	after *vfs.Mem // what the cut left
	cutAt string
}

func (p *reaper) before(op vfs.Op) vfs.Outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch op.Kind {
	case vfs.OpCreate, vfs.OpRemove, vfs.OpRename, vfs.OpMkdirAll, vfs.OpSyncDir, vfs.OpWrite, vfs.OpSync, vfs.OpAllocate, vfs.OpTruncate:
		return vfs.Outcome{Err: p.count(fmt.Sprintf("%+v", op))}
	}
	if p.after != nil {
		return vfs.Outcome{Err: errDead}
	}
	return vfs.Outcome{}
}

// count counts a call, with p.mu held, and says whether it is too late for it.
func (p *reaper) count(call string) error {
	p.n++
	if p.after == nil && p.at > 0 && p.n >= p.at {
		p.h.wire.cut(errAway)
		p.after, p.cutAt = p.mem.Crash(p.seed), call
		p.end()
	}
	if p.after != nil {
		return errDead
	}
	return nil
}

// row is called before and after a change of a row.
func (p *reaper) row() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count("a change of a row")
}

func (p *reaper) dead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.after != nil
}

// spare lets the server live on, if it does.
func (p *reaper) spare() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = 0
	return p.after == nil
}

// arm has the next server die at a call, 0 for never.
func (h *house) arm(at int, seed uint64) *reaper {
	p := &reaper{h: h, mem: h.mem, at: at, seed: seed}
	p.life, p.end = context.WithCancel(context.Background())
	h.opts.FS = &vfs.Fault{FS: h.mem, Before: p.before}
	h.tell = p.row
	return p
}

// bury closes a dead server and goes on with what it left.
func (h *house) bury(p *reaper) {
	if h.s != nil {
		_ = h.s.Close(context.Background()) // nothing it says counts
	}
	h.s, h.mem = nil, p.after
}

// pickUp starts servers on what a cut left until one comes through, and settles. Now
// and then another cut comes, at one of the first calls up to most; it returns how
// many did.
func (h *house) pickUp(p *reaper, r *rand.Rand, most int, settle func(*reaper)) (again int) {
	h.t.Helper()
	for !p.spare() {
		h.bury(p)
		next := 0
		if r.IntN(3) == 0 {
			next = 1 + r.IntN(most)
			again++
		}
		p = h.arm(next, r.Uint64())
		var err error
		if h.s, err = h.tryStart(); err == nil {
			settle(p)
		} else if !p.dead() {
			h.t.Fatal(err)
		}
	}
	return again
}

// ledger is what was acknowledged.
type ledger struct {
	kept, dead []stored
	dying      []stored // deletes begun, without an answer
}

func (l *ledger) put(h *house, p *reaper, r *rand.Rand) {
	if p.dead() {
		return
	}
	if b, err := h.putIn(p.life, variants, 1+r.IntN(3000), 1+r.IntN(4)); err == nil && !p.dead() {
		l.kept = append(l.kept, b)
	}
}

func (l *ledger) delete(h *house, p *reaper, r *rand.Rand) {
	if p.dead() || len(l.kept) == 0 {
		return
	}
	i := r.IntN(len(l.kept))
	b := l.kept[i]
	l.kept = append(l.kept[:i], l.kept[i+1:]...)
	if err := h.s.Delete(context.Background(), b.blob); err == nil && !p.dead() {
		l.dead = append(l.dead, b)
	} else {
		l.dying = append(l.dying, b)
	}
}

func (l *ledger) check(h *house) {
	h.t.Helper()
	for _, b := range l.kept {
		h.check(b)
	}
	for _, b := range l.dead {
		h.gone(b)
	}
	for _, b := range l.dying {
		got, err := h.s.Read(context.Background(), b.blob, 0, b.cookie)
		if err != nil && !errors.Is(err, volume.ErrNotFound) {
			h.t.Errorf("dying %v: %v", b.blob, err)
		}
		got.Release()
	}
}

// live is a short life with every step a volume takes, and some twice.
func (l *ledger) live(h *house, p *reaper, r *rand.Rand) {
	for range 3 + r.IntN(6) {
		l.put(h, p, r)
	}
	l.delete(h, p, r)
	var v volume.ID
	for _, i := range h.volumes() {
		if i.Writing {
			v = i.Volume
		}
	}
	if p.dead() {
		return
	}
	if err := h.s.Seal(context.Background(), v, nil); err != nil && !p.dead() {
		h.t.Errorf("seal: %v", err)
	}
	for range 1 + r.IntN(2) {
		l.delete(h, p, r)
		l.put(h, p, r)
		if p.dead() {
			return
		}
		if _, err := h.s.Compact(context.Background(), v, nil); err != nil && !p.dead() {
			h.t.Errorf("compact: %v", err)
		}
		l.delete(h, p, r)
	}
}

// settle waits until every volume is as far as it can be.
func (h *house) settle(p *reaper) {
	h.t.Helper()
	looks := 0
	h.until("the upkeep", func() bool {
		if looks++; looks%20 == 0 {
			h.clock.Advance(time.Minute) // some rest after a failure
		}
		if p.dead() {
			return true
		}
		for _, i := range h.volumes() {
			row, ok := h.wire.Row(i.Volume)
			switch {
			case !ok || i.Sick != nil || i.Work != "" || i.State == "closing" || i.State == "void" || row.Attempt != nil ||
				i.State == "sealed" && (row.Volume.Generation != i.Generation || !h.alone(i)):
				return false
			}
		}
		return h.born() == nil
	})
}

// born checks that every row of the disk but void ones has a file that is known
// to be there, and that void ones have none.
func (h *house) born() (err error) {
	files, err := volume.List(h.mem, "/data/volumes")
	have := make(map[volume.ID]bool)
	for _, e := range files {
		have[e.Volume] = true
	}
	for _, row := range h.wire.Rows(h.s.Stats().Disks[0].Disk) {
		if v := row.Volume.Volume; row.Unconfirmed || have[v] == (row.State == server.StateVoid) {
			err = errors.Join(err, fmt.Errorf("%+v, has a file: %v", row, have[v]))
		}
	}
	return err
}

// alone reports whether a volume has one generation on the disk.
func (h *house) alone(i server.VolumeInfo) bool {
	name := volume.FileName(i.Volume, i.Generation)
	n := 0
	for _, f := range h.files(name[:9]) {
		if strings.HasSuffix(f, ".vol") {
			n++
		}
	}
	return n == 1
}

// tidy checks that nothing is left that belongs to no volume.
func (h *house) tidy() {
	h.t.Helper()
	have := make(map[string]bool)
	for _, f := range h.files("") {
		have[f] = true
	}
	for f := range have {
		base, _, _ := strings.Cut(f, ".")
		switch {
		case strings.HasSuffix(f, ".deletes"):
		case strings.HasSuffix(f, ".tmp") || !have[base+".vol"]:
			h.t.Errorf("%s is left over", f)
		case strings.HasSuffix(f, ".ckpt") && have[base+".idx"]:
			h.t.Errorf("%s of a sealed volume is left", f)
		}
	}
}

// The power goes before each call that changes a file or the directory, in lives of seal,
// compaction and removal, and now and then again while the next server picks up
// what it finds: what was acknowledged is there, what was deleted is not, and
// every volume comes to the end it was on the way to.
func TestLifecycleCrashes(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with: go test ./volume/server -run TestLifecycleCrashes -seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 5))
	h := newHouse(t, server.Options{VolumeBytes: 256 << 10, CompactBytes: 1 << 20})
	h.opts.DirectoryTimeout = 5 * time.Second
	h.opts.UpkeepEvery = 30 * time.Second
	cuts, again, at := 0, 0, 0
	for cuts < testenv.Rounds(300) {
		h.stop()
		h.clock.Advance(2 * time.Minute)
		h.machine(r.Uint64())
		at++
		p := h.arm(at, r.Uint64())
		l := &ledger{}
		var err error
		if h.s, err = h.tryStart(); err == nil {
			l.live(h, p, r)
		}
		if p.spare() { // the whole life is through
			l.check(h)
			at = 0
			continue
		}
		cuts++
		call := p.cutAt
		again += h.pickUp(p, r, 25, h.settle)
		l.check(h)
		h.check(h.mustPut(variants, 100, 1))
		h.stop()
		h.tidy()
		if t.Failed() {
			t.Fatalf("cut %d, before call %d, %s", cuts, at, call)
		}
	}
	testenv.Tell(t, "%d power cuts, %d more while it was picked up again", cuts, again)
}
